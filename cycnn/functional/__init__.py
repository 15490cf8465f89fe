"""Every kernel as a function from NumPy arrays to NumPy arrays, forward and backward.

Each call runs a cached plan of one op: the same kernels, and the same bits, as a network. Images are
``(N, H, W, C)``, convolution weights ``kh x kw x C / groups x filters``, dense weights ``(inputs,
units)``; arrays are converted to float32 once. All raise `ShapeError`, `DTypeError` or `ArgumentError`.
"""

from __future__ import annotations

from .activation import (
    hard_sigmoid,
    hard_sigmoid_backward,
    hard_swish,
    hard_swish_backward,
    relu,
    relu6,
    relu6_backward,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softmax,
    softmax_backward,
)
from .compute import PackedWeights
from .conv import (
    bias_gradient,
    conv2d,
    conv2d_backward_data,
    conv2d_backward_weight,
    dense,
    dense_backward_data,
    dense_backward_weight,
    pack,
)
from .merge import (
    add,
    concatenate,
    crop2d,
    drop_path,
    dropout,
    multiply,
    multiply_backward,
    slice_channels,
    zero_pad2d,
)
from .norm import batch_norm, batch_norm_backward, batch_norm_training
from .pool import (
    avg_pool2d,
    avg_pool2d_backward,
    global_avg_pool2d,
    global_avg_pool2d_backward,
    global_max_pool2d,
    global_max_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
)
from .training import sgd_update, softmax_cross_entropy

__all__ = [
    "PackedWeights",
    "add",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_training",
    "bias_gradient",
    "concatenate",
    "conv2d",
    "conv2d_backward_data",
    "conv2d_backward_weight",
    "crop2d",
    "dense",
    "dense_backward_data",
    "dense_backward_weight",
    "drop_path",
    "dropout",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "global_max_pool2d",
    "global_max_pool2d_backward",
    "hard_sigmoid",
    "hard_sigmoid_backward",
    "hard_swish",
    "hard_swish_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "multiply",
    "multiply_backward",
    "pack",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "sgd_update",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "slice_channels",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "zero_pad2d",
]
