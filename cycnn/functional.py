"""Every kernel as a function from NumPy arrays to NumPy arrays, forward and backward.

Each call runs a cached plan of one op: the same kernels, and the same bits, as a network. Images are
``(N, H, W, C)``, convolution weights ``kh x kw x C / groups x filters``, dense weights ``(inputs,
units)``; arrays are converted to float32 once. All raise `ShapeError`, `DTypeError` or `ArgumentError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from . import threads
from .arrays import as_float32
from .errors import ShapeError
from .geometry import Window, to_axes
from .graph.ir import Graph
from .kernels import dispatch
from .layers.activation import check_activation
from .layers.regularisation import check_rate
from .locks import Lock
from .ops import conv, loss, pointwise, pool, weight_gradient
from .ops import dense as dense_ops
from .ops.base import Op
from .ops.dropout import Dropout
from .plan.cache import LRU
from .plan.executor import Program
from .plan.plan import Plan
from .plan.weights import Weights
from .training.losses import SparseCategoricalCrossentropy
from .training.optimizers import SGD

__all__ = [
    "PackedWeights",
    "add",
    "avg_pool2d",
    "avg_pool2d_backward",
    "bias_gradient",
    "conv2d",
    "conv2d_backward_data",
    "conv2d_backward_weight",
    "dense",
    "dense_backward_data",
    "dense_backward_weight",
    "dropout",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "global_max_pool2d",
    "global_max_pool2d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "pack",
    "relu",
    "relu_backward",
    "sgd_update",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
]

_programs: LRU[tuple, Program] = LRU(limit=64)
_guard = Lock()


@dataclass(eq=False)
class PackedWeights:
    """Weights that keep what kernels make of them, made by `pack`; changing ``value`` has no effect."""

    value: np.ndarray
    name: str = "w"
    dtype: str = "float32"
    programs: LRU[tuple, Program] = field(default_factory=lambda: LRU(limit=16))
    weights: Weights = field(default_factory=lambda: Weights(frozen=True))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape


def pack(w: object) -> PackedWeights:
    """Weights to be used many times: the functions that take ``w`` then prepare them only once."""
    value = as_float32(w, "w").copy()
    value.flags.writeable = False
    return PackedWeights(value)


def _compute(op: Op, *operands: object) -> np.ndarray | tuple:
    """Run ``op`` on arrays, packed weights or None."""
    packed = next((a for a in operands if isinstance(a, PackedWeights)), None)
    arrays = [
        a if a is None or isinstance(a, (PackedWeights, np.ndarray)) else np.asarray(a)
        for a in operands
    ]
    key = (op, tuple(_signature(a) for a in arrays))
    with _guard:
        programs = _programs if packed is None else packed.programs
        program = programs.get(key)
        if program is None:
            weights = Weights(frozen=True) if packed is None else packed.weights
            program = _plan(op, arrays).bind(weights)
            programs.put(key, program)
    outputs = program.empty_outputs()
    program.run([a for a in arrays if isinstance(a, np.ndarray)], outputs, threads.resolve(None))
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _signature(array: object) -> object:
    if isinstance(array, np.ndarray):
        return array.shape, array.dtype.str
    return array  # packed weights stand for themselves


def _plan(op: Op, arrays: Sequence[object]) -> Plan:
    graph = Graph()
    values = []
    for array in arrays:
        if isinstance(array, PackedWeights):
            values.append(graph.parameter(array))
        else:
            values.append(None if array is None else graph.input(array.shape, str(array.dtype)))
    result = graph.add(op, *values)
    graph.outputs = list(result) if isinstance(result, tuple) else [result]
    return Plan(graph, dispatch.load())


def _array(value: object, name: str) -> np.ndarray | PackedWeights | None:
    return value if value is None or isinstance(value, PackedWeights) else as_float32(value, name)


def _window(w: np.ndarray | tuple, strides: object, padding: object, dilation: object) -> Window:
    shape = w if isinstance(w, tuple) else w.shape
    if len(shape) != 4:
        raise ShapeError(f"`w` must have shape (kh, kw, C / groups, filters). Received: {shape}.")
    return Window.make(shape[:2], strides, padding, dilation)


def conv2d(
    x: object,
    w: object,
    b: object | None = None,
    *,
    strides: int | tuple[int, int] = 1,
    padding: object = 0,
    dilation_rate: int | tuple[int, int] = 1,
    groups: int = 1,
    activation: str | None = None,
    algorithm: str = "auto",
) -> np.ndarray:
    """Cross-correlation of ``x`` with the filters ``w``, plus ``b``, then ``activation``.

    ``y[n,p,q,k] = b[k] + sum_{r,s,c} x[n, p*sh + r*dh - ph, q*sw + s*dw - pw, c] * w[r,s,c,k]``.
    """
    x, w, b = _array(x, "x"), _array(w, "w"), _array(b, "b")
    window = _window(w, strides, padding, dilation_rate)
    (groups,) = to_axes(groups, "groups", 1)
    op = conv.Conv2D(window, groups, check_activation(activation), algorithm)
    return _compute(op, x, w, b)


def conv2d_backward_data(
    dy: object,
    w: object,
    x_shape: tuple[int, int, int, int],
    *,
    strides: int | tuple[int, int] = 1,
    padding: object = 0,
    dilation_rate: int | tuple[int, int] = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> np.ndarray:
    """The gradient of `conv2d` with respect to ``x`` of shape ``x_shape``, given that of its output."""
    dy, w = _array(dy, "dy"), _array(w, "w")
    window = _window(w, strides, padding, dilation_rate)
    (groups,) = to_axes(groups, "groups", 1)
    shape = to_axes(x_shape, "x_shape", 4, least=0)
    return _compute(conv.Conv2DBackwardData(window, groups, shape, algorithm), dy, w)


def conv2d_backward_weight(
    x: object,
    dy: object,
    w_shape: tuple[int, int, int, int],
    *,
    strides: int | tuple[int, int] = 1,
    padding: object = 0,
    dilation_rate: int | tuple[int, int] = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> np.ndarray:
    """The gradient of `conv2d` with respect to ``w`` of shape ``w_shape``: summed over all positions."""
    x, dy = _array(x, "x"), _array(dy, "dy")
    shape = to_axes(w_shape, "w_shape", 4)
    window = _window(shape, strides, padding, dilation_rate)
    (groups,) = to_axes(groups, "groups", 1)
    conv.check_algorithm(algorithm)  # there is one so far
    op = weight_gradient.Conv2DBackwardWeight(window, groups, shape)
    return _compute(op, x, dy)


def bias_gradient(dy: object) -> np.ndarray:
    """The sum of ``dy`` over all axes but the last: the gradient of a bias."""
    return _compute(weight_gradient.BiasGradient(), _array(dy, "dy"))


def dense(
    x: object, w: object, b: object | None = None, *, activation: str | None = None
) -> np.ndarray:
    """``x w + b``, then ``activation``; ``x`` of shape ``(N, inputs)``, ``w`` ``(inputs, units)``."""
    op = dense_ops.Dense(check_activation(activation))
    return _compute(op, _array(x, "x"), _array(w, "w"), _array(b, "b"))


def dense_backward_data(dy: object, w: object) -> np.ndarray:
    """``dy w^T``: the gradient of `dense` with respect to ``x``."""
    return _compute(dense_ops.DenseBackwardData(), _array(dy, "dy"), _array(w, "w"))


def dense_backward_weight(x: object, dy: object) -> np.ndarray:
    """``x^T dy``: the gradient of `dense` with respect to ``w``."""
    return _compute(weight_gradient.DenseBackwardWeight(), _array(x, "x"), _array(dy, "dy"))


def _pooling(pool_size: object, strides: object, padding: object) -> Window:
    strides = pool_size if strides is None else strides
    return Window.make(pool_size, strides, padding, kernel_name="pool_size")


def max_pool2d(
    x: object,
    pool_size: int | tuple[int, int] = 2,
    *,
    strides: int | tuple[int, int] | None = None,
    padding: object = 0,
) -> np.ndarray:
    """Largest value in each window; ties and NaN go to the first in row order."""
    return _compute(pool.MaxPool2D(_pooling(pool_size, strides, padding)), _array(x, "x"))


def max_pool2d_backward(
    x: object,
    dy: object,
    pool_size: int | tuple[int, int] = 2,
    *,
    strides: int | tuple[int, int] | None = None,
    padding: object = 0,
) -> np.ndarray:
    """The gradient of `max_pool2d` with respect to ``x``: each ``dy`` goes to its window's maximum."""
    op = pool.MaxPool2DBackward(_pooling(pool_size, strides, padding))
    return _compute(op, _array(x, "x"), _array(dy, "dy"))


def avg_pool2d(
    x: object,
    pool_size: int | tuple[int, int] = 2,
    *,
    strides: int | tuple[int, int] | None = None,
    padding: object = 0,
    count_include_pad: bool = False,
) -> np.ndarray:
    """Mean of each window; padding is not counted unless ``count_include_pad``."""
    window = _pooling(pool_size, strides, padding)
    return _compute(pool.AveragePool2D(window, bool(count_include_pad)), _array(x, "x"))


def avg_pool2d_backward(
    dy: object,
    x_shape: tuple[int, int, int, int],
    pool_size: int | tuple[int, int] = 2,
    *,
    strides: int | tuple[int, int] | None = None,
    padding: object = 0,
    count_include_pad: bool = False,
) -> np.ndarray:
    """The gradient of `avg_pool2d` with respect to ``x`` of shape ``x_shape``."""
    window = _pooling(pool_size, strides, padding)
    shape = to_axes(x_shape, "x_shape", 4, least=0)
    op = pool.AveragePool2DBackward(window, shape, bool(count_include_pad))
    return _compute(op, _array(dy, "dy"))


def global_avg_pool2d(x: object) -> np.ndarray:
    """Mean of each channel over the image: ``(N, H, W, C) -> (N, C)``."""
    return _compute(pool.GlobalAveragePool2D(), _array(x, "x"))


def global_max_pool2d(x: object) -> np.ndarray:
    """Largest value of each channel over the image: ``(N, H, W, C) -> (N, C)``."""
    return _compute(pool.GlobalMaxPool2D(), _array(x, "x"))


def global_avg_pool2d_backward(dy: object, x_shape: tuple[int, int, int, int]) -> np.ndarray:
    """The gradient of `global_avg_pool2d` with respect to ``x`` of shape ``x_shape``."""
    shape = to_axes(x_shape, "x_shape", 4, least=0)
    return _compute(pool.GlobalAveragePool2DBackward(shape), _array(dy, "dy"))


def global_max_pool2d_backward(x: object, dy: object) -> np.ndarray:
    """The gradient of `global_max_pool2d` with respect to ``x``."""
    return _compute(pool.GlobalMaxPool2DBackward(), _array(x, "x"), _array(dy, "dy"))


def add(a: object, b: object) -> np.ndarray:
    """``a + b`` for arrays of one shape."""
    return _compute(pointwise.Add(), _array(a, "a"), _array(b, "b"))


def relu(x: object) -> np.ndarray:
    """``max(x, 0)``; NaN stays NaN."""
    return _compute(pointwise.Relu(), _array(x, "x"))


def relu_backward(y: object, dy: object) -> np.ndarray:
    """``dy`` where the output ``y`` of `relu` is above 0, else 0."""
    return _compute(pointwise.ReluBackward(), _array(y, "y"), _array(dy, "dy"))


def softmax(x: object) -> np.ndarray:
    """``exp(x) / sum exp(x)`` over the last axis."""
    return _compute(loss.Softmax(), _array(x, "x"))


def softmax_backward(y: object, dy: object) -> np.ndarray:
    """The gradient of `softmax` with respect to ``x``, given its output ``y``."""
    return _compute(loss.SoftmaxBackward(), _array(y, "y"), _array(dy, "dy"))


def dropout(x: object, rate: float, *, seed: int, step: int = 0, stream: int = 0) -> np.ndarray:
    """``x`` with a share ``rate`` of its elements 0 and the rest divided by ``1 - rate``.

    The mask depends on ``seed``, ``step``, ``stream`` and the place alone; applied to ``dy`` with the
    same ones it is the gradient.
    """
    for name, value in (("seed", seed), ("step", step), ("stream", stream)):
        to_axes(value, name, 1, least=0)
    counters = np.array([seed, step], np.uint64)
    return _compute(Dropout(check_rate(rate), stream=stream), _array(x, "x"), counters)


def sgd_update(
    w: object,
    g: object,
    velocity: object | None = None,
    *,
    learning_rate: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Weights and velocity after one step of `optimizers.SGD`; the velocity starts as zeros."""
    sgd = SGD(learning_rate, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
    new, g = as_float32(w, "w").copy(), as_float32(g, "g").copy()
    start = np.zeros(new.shape) if velocity is None else velocity
    v = as_float32(start, "velocity").copy() if sgd.slots else None
    if g.shape != new.shape or (v is not None and v.shape != new.shape):
        raise ShapeError(
            f"`w`, `g` and `velocity` must have one shape. Received: {new.shape}, {g.shape}."
        )
    rate = np.array([sgd.learning_rate], np.float32)
    # the op writes where it reads: into the copies made here
    operands = (new.ravel(), g.ravel(), None if v is None else v.ravel())
    _compute(sgd.op(), *operands, rate)
    return new, v


def softmax_cross_entropy(logits: object, labels: object) -> tuple[float, np.ndarray]:
    """The mean over N of ``-log softmax(logits)[n, labels[n]]``, and its gradient ``(N, classes)``."""
    logits = as_float32(logits, "logits")
    if logits.ndim != 2:
        raise ShapeError(f"`logits` must have shape (N, classes). Received: {logits.shape}.")
    labels = SparseCategoricalCrossentropy().targets(labels, logits.shape)
    if len(labels) != len(logits):
        raise ShapeError(
            f"`logits` and `labels` must have one length. Received: {len(logits)}, {len(labels)}."
        )
    scale = np.array([1 / max(len(labels), 1)], np.float32)
    value, gradient = _compute(loss.SoftmaxCrossEntropy(), logits, labels, scale)
    return float(value[0]), gradient
