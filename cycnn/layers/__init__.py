"""Layers: what a network is made of. Keras 3's vocabulary, images as ``(N, H, W, C)``."""

from .activation import Activation, HardSwish, ReLU, ReLU6, Sigmoid, SiLU
from .base import Layer, Tensor
from .conv import Conv2D, DepthwiseConv2D
from .dense import Dense
from .input import Input
from .merge import Add, Concatenate, Multiply
from .norm import BatchNormalization
from .pool import AveragePooling2D, GlobalAveragePooling2D, GlobalMaxPooling2D, MaxPooling2D
from .regularisation import Dropout, DropPath
from .shape import Flatten, Reshape, ZeroPadding2D

__all__ = [
    "Activation",
    "Add",
    "AveragePooling2D",
    "BatchNormalization",
    "Concatenate",
    "Conv2D",
    "Dense",
    "DepthwiseConv2D",
    "DropPath",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "HardSwish",
    "Input",
    "Layer",
    "MaxPooling2D",
    "Multiply",
    "ReLU",
    "ReLU6",
    "Reshape",
    "SiLU",
    "Sigmoid",
    "Tensor",
    "ZeroPadding2D",
]
