"""Gradients of the weights and biases of convolution and dense layers.

With ``accumulate=True`` an op takes one input more, the place of that gradient in the model's gradient
block, and adds to it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ShapeError
from ..geometry import Window
from .base import Cost, Op, Spec, require_rank
from .conv import check_applies
from .weight_gradient_candidates import emit_chunks, lower_gradient
from .weight_gradient_problem import Problem

if TYPE_CHECKING:
    from ..graph.ir import Node
    from ..plan.lower import Target

__all__ = ["BiasGradient", "Conv2DBackwardWeight", "DenseBackwardWeight"]

BIAS_CHUNK_BYTES = 128 * 1024


class WeightGradient(Op):
    """What the ops of this file share: they can add to what is there."""

    def check_into(self, spec: Spec, into: tuple[Spec, ...]) -> Spec:
        """``spec``, once the place to add to is given exactly when needed, and of its shape."""
        if len(into) != self.accumulate or any(i != spec for i in into):
            expected = f"`into` of shape {spec.shape}" if self.accumulate else "no `into`"
            raise ShapeError(
                f"`{self.name}` with accumulate={self.accumulate} takes {expected}. "
                f"Received: {[i.shape for i in into]}."
            )
        return spec


class Conv2DBackwardWeight(WeightGradient):
    """Gradient of a convolution's weights, summed over every position of each depth slice.

    ``dw[r, s, c, k] = sum over n, p, q of x[n, p*sh + r*dh - ph, q*sw + s*dw - pw, c] * dy[n, p, q, k]``

    ``algorithm`` is that of `Conv2D`.
    """

    window: Window
    groups: int
    w_shape: tuple[int, ...]
    accumulate: bool = False
    algorithm: str = "auto"

    def infer(self, x: Spec, dy: Spec, *into: Spec) -> Spec:
        require_rank(self.name, "x", x, 4, "(N, H, W, C)")
        require_rank(self.name, "dy", dy, 4, "(N, P, Q, K)")
        check_applies(self.name, self.algorithm, self.window, self.groups)
        channels, filters = self.w_shape[2] * self.groups, self.w_shape[3]
        if self.groups < 1 or filters % self.groups or self.w_shape[:2] != self.window.kernel:
            raise ShapeError(
                f"`{self.name}` takes filters that `groups` divides and a window of "
                f"{self.window.kernel}. Received: groups={self.groups}, w_shape={self.w_shape}."
            )
        expected = (x.shape[0], *self.window.output(x.shape[1:3]), filters)
        if x.shape[3] != channels or any(
            a != b and None not in (a, b) for a, b in zip(dy.shape, expected, strict=True)
        ):
            raise ShapeError(
                f"`{self.name}` of weights {self.w_shape} in {self.groups} group(s) takes x with "
                f"{channels} channels and dy of shape {expected}. "
                f"Received: x.shape={x.shape}, dy.shape={dy.shape}."
            )
        return self.check_into(Spec(self.w_shape, x.dtype), into)

    def evaluate(self, x: np.ndarray, dy: np.ndarray, *into: np.ndarray) -> np.ndarray:
        (above, below), (left, right) = self.window.pads(x.shape[1:3])
        x = np.pad(x, ((0, 0), (above, below), (left, right), (0, 0)))
        x = x.reshape(*x.shape[:3], self.groups, x.shape[3] // self.groups)
        dy = dy.reshape(*dy.shape[:3], self.groups, dy.shape[3] // self.groups)
        (_, p, q), (sh, sw), (dh, dw) = dy.shape[:3], self.window.strides, self.window.dilation
        out = np.empty(self.w_shape, np.result_type(x, dy))
        for r, s in np.ndindex(*self.window.kernel):
            seen = x[:, r * dh :, s * dw :][:, : p * sh : sh, : q * sw : sw]
            out[r, s] = np.einsum("npqgc,npqgk->cgk", seen, dy).reshape(out.shape[2:])
        return out + into[0] if self.accumulate else out

    def cost(self, x: Spec, dy: Spec, *into: Spec) -> Cost:
        w = Spec(self.w_shape, x.dtype)
        return Cost(2 * dy.pixels * w.size, x.nbytes + dy.nbytes + (1 + len(into)) * w.nbytes)

    def lower(self, node: Node, target: Target) -> None:
        x, dy = (v.spec.shape for v in node.inputs[:2])
        (above, _), (left, _) = self.window.pads(x[1:3])
        window, strides = self.window, self.window.strides
        every = window.taps == 1 and (above, left) == (0, 0) and x[:3] == dy[:3]
        if every:
            strides = (1, 1)  # whatever they were, one pixel an axis or all of them were taken
        problem = Problem(
            x, dy, window.kernel, strides, window.dilation, (above, left), self.groups
        )
        if every and self.groups == 1:
            problem = problem.in_one_row
        lower_gradient(node, target, problem, self.accumulate, self.algorithm)


class DenseBackwardWeight(WeightGradient):
    """Gradient of a dense layer's weights: ``dw[i, o] = sum over n of x[n, i] * dy[n, o]``."""

    accumulate: bool = False

    def infer(self, x: Spec, dy: Spec, *into: Spec) -> Spec:
        require_rank(self.name, "x", x, 2, "(N, I)")
        require_rank(self.name, "dy", dy, 2, "(N, O)")
        if x.shape[0] != dy.shape[0]:
            raise ShapeError(
                f"`{self.name}` takes x and dy of equally many rows. "
                f"Received: x.shape={x.shape}, dy.shape={dy.shape}."
            )
        return self.check_into(Spec((x.shape[1], dy.shape[1]), x.dtype), into)

    def evaluate(self, x: np.ndarray, dy: np.ndarray, *into: np.ndarray) -> np.ndarray:
        dw = x.T @ dy
        return dw + into[0] if self.accumulate else dw

    def cost(self, x: Spec, dy: Spec, *into: Spec) -> Cost:
        w = self.infer(x, dy, *into)
        return Cost(2 * x.shape[0] * w.size, x.nbytes + dy.nbytes + (1 + len(into)) * w.nbytes)

    def lower(self, node: Node, target: Target) -> None:
        (n, i), (_, o) = (v.spec.shape for v in node.inputs[:2])
        problem = Problem((1, 1, n, i), (1, 1, n, o), (1, 1), (1, 1), (1, 1), (0, 0), 1)
        lower_gradient(node, target, problem, self.accumulate)


class BiasGradient(WeightGradient):
    """Gradient of a bias: the sum of dy over all axes but the last."""

    accumulate: bool = False

    def infer(self, dy: Spec, *into: Spec) -> Spec:
        return self.check_into(Spec(dy.shape[-1:], dy.dtype), into)

    def evaluate(self, dy: np.ndarray, *into: np.ndarray) -> np.ndarray:
        db = dy.reshape(-1, dy.shape[-1]).sum(axis=0)
        return db + into[0] if self.accumulate else db

    def cost(self, dy: Spec, *into: Spec) -> Cost:
        return Cost(dy.size, dy.nbytes)

    def lower(self, node: Node, target: Target) -> None:
        dy, k = target.read(node.inputs[0]), node.output.spec.size
        size = node.inputs[0].spec.size
        vector, wide = target.kernels.reduce.WIDTHS
        columns = whole_vectors(k, size // k, vector, wide)
        chunks = max(1, min(64, 4 * size // BIAS_CHUNK_BYTES))
        sums = target.temporary(4 * chunks * columns)
        target.emit(target.kernels.reduce.columns(size, columns, chunks), [dy], [sums])
        emit_chunks(node, target, sums, chunks * columns // k, self.accumulate)


def whole_vectors(k: int, rows: int, vector: int, wide: int) -> int:
    """A multiple of ``k`` that is whole vectors, and wide, if there are rows enough to read so."""
    together = vector // math.gcd(k, vector)
    together *= max(1, wide // (k * together))
    return k * together if together * 8 <= rows else k
