"""Optimiser updates, as ops on the contiguous blocks of all parameters, gradients and slots."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..errors import ShapeError
from .base import Cost, Op, Spec

__all__ = ["SGDUpdate"]


class SGDUpdate(Op):
    """Stochastic gradient descent, in place, by PyTorch's rule; ``g`` is zero afterwards.

    ``(w, g, v, lr) -> ()`` with 1-D ``w``, ``g``, ``v`` of one size (``v`` None without momentum) and
    ``lr`` of shape (1,)::

        d = g + weight_decay * w
        v = momentum * v + d                      where there is momentum
        w = w - lr * (d                           without momentum
                      v                           with momentum
                      d + momentum * v)           with Nesterov momentum

    Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013. With
    ``v`` zero at first this is ``torch.optim.SGD`` from the first step on.
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    updates_state: ClassVar[bool] = True

    def infer(self, w: Spec, g: Spec, v: Spec | None, lr: Spec) -> tuple[()]:
        slots = (w, g) if v is None else (w, g, v)
        if w.rank != 1 or any(s.shape != w.shape for s in slots):
            raise ShapeError(
                f"`{self.name}` takes w, g and v of one size and rank 1. "
                f"Received shapes {', '.join(str(s.shape) for s in slots)}."
            )
        if (v is None) != (self.momentum == 0):
            raise ShapeError(
                f"`{self.name}` takes v where there is momentum, and only there. "
                f"Received: momentum={self.momentum}, v={v}."
            )
        if lr.shape != (1,):
            raise ShapeError(f"`{self.name}` takes lr of shape (1,). Received shape {lr.shape}.")
        return ()

    def evaluate(self, w: np.ndarray, g: np.ndarray, v: np.ndarray | None, lr: np.ndarray):
        """Updates its arguments, as the kernel does."""
        d = g + self.weight_decay * w
        if v is not None:
            v[...] = self.momentum * v + d
            d = d + self.momentum * v if self.nesterov else v
        w -= lr * d
        g[...] = 0
        return ()

    def cost(self, w: Spec, g: Spec, v: Spec | None, lr: Spec) -> Cost:
        return Cost(6 * w.size, (6 if v is not None else 4) * w.nbytes)

    def lower(self, node, target):
        reads = target.reads(node)
        kernel = target.kernels.optimizer.sgd(
            node.inputs[0].spec.size, self.momentum, self.nesterov, self.weight_decay
        )
        target.emit(kernel, reads, [b for b in reads[:3] if b is not None])
