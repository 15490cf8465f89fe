"""Optimizers: how gradients change weights."""

from __future__ import annotations

import numbers

from ..errors import ArgumentError
from ..graph.ir import Graph, Value
from ..ops.optimizer import SGDUpdate

__all__ = ["SGD", "Optimizer", "get"]


class Optimizer:
    """Base of optimizers; ``learning_rate`` may be changed between steps."""

    slots: tuple[str, ...] = ()

    def __init__(self, learning_rate: float):
        self.learning_rate = learning_rate

    @property
    def learning_rate(self) -> float:
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = _at_least_zero(value, "learning_rate")

    def update(self, graph: Graph, w: Value, g: Value, slots: list[Value], lr: Value) -> None:
        """Add the op that updates all weights ``w`` from all gradients ``g``, each one block."""
        raise NotImplementedError

    def config(self) -> dict[str, object]:
        """The constructor's arguments, as plain JSON values."""
        raise NotImplementedError


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, Nesterov's variant and weight decay.

    PyTorch's rule: ``g += weight_decay * w; v = momentum * v + g; d = g + momentum * v if nesterov else
    v; w -= learning_rate * d``. Sutskever et al., "On the importance of initialization and momentum in
    deep learning", 2013. Weight decay acts on every weight, biases included. Raises `ArgumentError`.
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ):
        super().__init__(learning_rate)
        self.momentum = _at_least_zero(momentum, "momentum")
        self.weight_decay = _at_least_zero(weight_decay, "weight_decay")
        self.nesterov = bool(nesterov)
        if self.nesterov and not self.momentum:
            raise ArgumentError(
                "`nesterov` needs a `momentum` above 0. Received: nesterov=True, momentum=0."
            )
        self.slots = ("velocity",) if self.momentum else ()

    def op(self) -> SGDUpdate:
        """The op of one update."""
        return SGDUpdate(self.momentum, self.nesterov, self.weight_decay)

    def update(self, graph: Graph, w: Value, g: Value, slots: list[Value], lr: Value) -> None:
        graph.add(self.op(), w, g, slots[0] if slots else None, lr)

    def config(self) -> dict[str, object]:
        names = ("learning_rate", "momentum", "nesterov", "weight_decay")
        return {"optimizer": "sgd", **{name: getattr(self, name) for name in names}}


def get(optimizer: str | Optimizer) -> Optimizer:
    """An optimizer by name, or the one given. Raises `ArgumentError`."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if optimizer == "sgd":
        return SGD()
    raise ArgumentError(
        f'`optimizer` must be "sgd" or an instance from cycnn.optimizers. '
        f"Received: optimizer={optimizer!r}."
    )


def _at_least_zero(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= value < 1e30:
        raise ArgumentError(f"`{name}` must be a number of at least 0. Received: {name}={value!r}.")
    return float(value)
