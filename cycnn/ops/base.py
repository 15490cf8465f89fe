"""What every op says about itself.

An op's fields are its attributes, its methods its meaning. The graph, the planner and the interpreter
know ops by this interface alone and none of them by name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, dataclass_transform

import numpy as np

from ..errors import ShapeError, UnsupportedOp

if TYPE_CHECKING:
    from ..graph.ir import Graph, Node, Value
    from ..plan.lower import Target

__all__ = ["Cost", "Op", "Shape", "Spec", "require_rank", "require_same_shape"]

Dim = int | None
Shape = tuple[Dim, ...]


@dataclass(frozen=True)
class Spec:
    """Shape and dtype of a value; a dim of None is not known until the plan is made."""

    shape: Shape
    dtype: str = "float32"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def concrete(self) -> bool:
        """True when every dim is known."""
        return None not in self.shape

    def fits(self, other: Spec) -> bool:
        """Whether the shapes are the same, as far as their dims are known."""
        pairs = zip(self.shape, other.shape, strict=True) if self.rank == other.rank else [(0, 1)]
        return all(a == b or None in (a, b) for a, b in pairs)

    @property
    def size(self) -> int:
        """Number of elements; every dim must be known."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * np.dtype(self.dtype).itemsize

    @property
    def pixels(self) -> int:
        """Product of all dims but the last: positions of an ``N, H, W, C`` tensor."""
        return math.prod(self.shape[:-1])


class Cost(NamedTuple):
    """Arithmetic (a multiply-add counts two) and memory traffic of one execution."""

    flops: int
    nbytes: int


# Methods that `dataclass` writes are compiled at import, for each of some fifty ops: what can be
# inherited is.
_as_op = dataclass(frozen=True, eq=False, repr=False)


@dataclass_transform(frozen_default=True)
@_as_op
class Op:
    """Base of all ops, which makes frozen dataclasses of them: they are not to be decorated.

    Two of the same class and fields are equal.
    """

    onnx: ClassVar[str | None] = None
    # True for an op whose gradient computes again what its activation was applied to
    recomputes: ClassVar[bool] = False
    # True for the op that is the sum of its two inputs (`fuse_residual`)
    sums: ClassVar[bool] = False
    # True for the op whose output holds its inputs' channels side by side (`plan.joins`)
    joins: ClassVar[bool] = False
    # True for the op that adds its first input to its second (`fuse_accumulate`)
    accumulates: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        _as_op(cls)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{self.name}({values})"

    @property
    def linear(self) -> bool:
        """Whether inputs are x, w, b and channel k is linear in ``w[..., k]``, plus ``b[k]``."""
        return False

    @property
    def folds(self) -> bool:
        """Whether `fold` works the op into the weights of a `linear` one before it."""
        return False

    @property
    def epilogue(self) -> str | None:
        """The activation that this op is, where other ops can apply it as they store."""
        return None

    @property
    def from_output(self) -> bool:
        """Whether the gradient of this activation can be computed from its output."""
        return False

    @property
    def takes_residual(self) -> bool:
        """Whether a fourth input can be added to the result as it is stored (`fuse_residual`)."""
        return False

    @property
    def updates_state(self) -> bool:
        """True when running the op changes one of its inputs, which is then a state value."""
        return self.accumulates or getattr(self, "accumulate", False)

    @property
    def name(self) -> str:
        return type(self).__name__

    def infer(self, *specs: Spec) -> Spec | tuple[Spec, ...]:
        """The spec of each output. Raises `ShapeError` with a sentence that helps."""
        raise NotImplementedError

    def gradient(
        self, graph: Graph, node: Node, dys: tuple[Value | None, ...]
    ) -> list[Value | None]:
        """Add the nodes that compute the gradient of each input; None where there is none.

        ``dys`` holds the gradient of each output, None for an output nothing depends on. The graph is
        concrete: every spec is known.
        """
        raise UnsupportedOp(f"{self.name} has no gradient.")

    def fold(self, graph: Graph, node: Node, w: Value, b: Value | None) -> tuple[Value, Value]:
        """Add the nodes that make from ``w`` and ``b`` those that spare ``node`` (`fold_batch_norm`)."""
        raise UnsupportedOp(f"{self.name} cannot be folded.")

    def evaluate(self, *arrays: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """The outputs, by plain NumPy in the arrays' own precision: slow, obvious, the oracle."""
        raise NotImplementedError

    def cost(self, *specs: Spec) -> Cost:
        """Cost of one execution; by default one operation an output element and each tensor once."""
        outputs = self.infer(*specs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        traffic = sum(s.nbytes for s in (*specs, *outputs))
        return Cost(sum(s.size for s in outputs), traffic)

    def takes_step(self, node: Node, value: Value) -> bool:
        """Whether its kernels read or write ``value`` also where pixels lie apart (`Target.step`)."""
        return False

    def lower(self, node: Node, target: Target) -> None:
        """Emit the kernels that compute ``node`` on this machine, see `plan.lower.Target`."""
        raise UnsupportedOp(f"{self.name} has no kernel.")


def require_rank(op: str, name: str, spec: Spec, rank: int, axes: str) -> None:
    """Raise `ShapeError` unless ``spec`` has ``rank`` dims."""
    if spec.rank != rank:
        raise ShapeError(f"`{op}` takes {name} of rank {rank} {axes}. Received shape {spec.shape}.")


def require_same_shape(op: str, a: Spec, b: Spec, names: str) -> None:
    """Raise `ShapeError` unless ``a`` and ``b``, called ``names``, agree in every known dim."""
    if a.rank != b.rank or any(
        m != n for m, n in zip(a.shape, b.shape, strict=True) if None not in (m, n)
    ):
        raise ShapeError(
            f"`{op}` takes {names} of the same shape. Received shapes {a.shape} and {b.shape}."
        )
