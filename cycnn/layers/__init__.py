"""Layers: what a network is made of. Keras 3's vocabulary, images as ``(N, H, W, C)``."""

from .activation import Activation, ReLU
from .base import Layer, Tensor
from .conv import Conv2D
from .dense import Dense
from .input import Input
from .merge import Add
from .norm import BatchNormalization
from .pool import AveragePooling2D, GlobalAveragePooling2D, GlobalMaxPooling2D, MaxPooling2D
from .regularisation import Dropout
from .shape import Flatten

__all__ = [
    "Activation",
    "Add",
    "AveragePooling2D",
    "BatchNormalization",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "Input",
    "Layer",
    "MaxPooling2D",
    "ReLU",
    "Tensor",
]
