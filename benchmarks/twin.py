"""The same network for PyTorch, with the same weights: what peers are timed and answers are checked with.

cycnn keeps kernels of convolutions HWIO, of dense layers (inputs, units), and flattens images in the order
height, width, channel. PyTorch wants OIHW, (units, inputs) and channel, height, width: kernels are
transposed, and the rows of a dense kernel behind `Flatten` put in its order.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import fx, nn

import cycnn
from cycnn.graph.build import in_call_order
from cycnn.layers.base import Layer, Parameter, Tensor


@dataclass(frozen=True)
class Pair:
    """One array in both; ``hwio`` is the shape in which its axes are exchanged."""

    ours: Parameter
    theirs: torch.Tensor
    hwio: tuple[int, int, int, int]

    def copy(self) -> None:
        """Give PyTorch the values that cycnn has now."""
        oihw = self.ours.value.reshape(self.hwio).transpose(3, 2, 0, 1)
        with torch.no_grad():
            self.theirs.copy_(torch.tensor(oihw).reshape(self.theirs.shape))

    def gradient(self) -> np.ndarray:
        """PyTorch's gradient, in the shape of cycnn's parameter."""
        h, w, i, o = self.hwio
        hwio = self.theirs.grad.reshape(o, i, h, w).permute(2, 3, 1, 0)
        return hwio.reshape(self.ours.shape).numpy()


class Twin:
    """``network``: a module that takes images (N, C, H, W); ``pairs``: how its weights are the model's.

    In evaluation mode at first. Raises `KeyError` for a layer that has no counterpart.
    """

    def __init__(self, model: cycnn.Model, dtype: torch.dtype = torch.float32):
        self.dtype = dtype
        self.pairs: list[Pair] = []
        self._modules, self._graph = nn.Module(), fx.Graph()
        nodes: dict[Tensor, fx.Node] = {}
        for tensor in in_call_order(model.outputs):
            nodes[tensor] = self._add(tensor, [nodes[t] for t in tensor.inputs])
        self._graph.output(nodes[model.outputs[0]])
        self.network = fx.GraphModule(self._modules, self._graph).eval()
        _work_in_place(self.network)
        for pair in self.pairs:
            pair.copy()

    def _add(self, tensor: Tensor, inputs: list[fx.Node]) -> fx.Node:
        layer = tensor.layer
        if layer is None:
            return self._graph.placeholder("x")
        kind = type(layer).__name__
        if kind in MERGES:
            return MERGES[kind](self._graph, inputs)
        modules = [m.to(self.dtype) for m in MODULES[kind](layer, tensor) + _activation(layer)]
        self.pairs += [_pair(parameter, modules, tensor) for parameter in layer.parameters]
        (x,) = inputs
        for i, module in enumerate(modules):
            self._modules.add_module(f"{layer.name}_{i}", module)
            x = self._graph.call_module(f"{layer.name}_{i}", (x,))
        return x


def _work_in_place(network: fx.GraphModule) -> None:
    """Let activations overwrite what nobody else reads, as the networks of torchvision do."""
    for node in network.graph.nodes:
        module = network.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(module, (nn.ReLU, nn.ReLU6, nn.SiLU)):
            (source,) = node.args
            module.inplace = len(source.users) == 1 and source.op != "placeholder"


NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _pair(parameter: Parameter, modules: list[nn.Module], tensor: Tensor) -> Pair:
    module = next(m for m in modules if hasattr(m, "weight"))
    theirs, shape = getattr(module, NAMES[parameter.name]), parameter.shape
    before = tensor.inputs[0]
    if len(shape) == 2 and type(before.layer).__name__ == "Flatten":
        shape = (*before.inputs[0].shape[1:], shape[1])
    return Pair(parameter, theirs, (1,) * (4 - len(shape)) + shape)


# ---- what each layer is in PyTorch


def _activation(layer: Layer) -> list[nn.Module]:
    name = getattr(layer, "activation", None)
    return [] if name is None else [ACTIVATIONS[name]()]


def _split(pads: tuple) -> tuple[list[int], list[nn.Module]]:
    """What a module pads by itself, and the padding before it where two sides differ."""
    (top, bottom), (left, right) = pads
    if (top, left) == (bottom, right):
        return [top, left], []
    return [0, 0], [nn.ZeroPad2d((left, right, top, bottom))]


def _conv(layer: Layer, tensor: Tensor) -> list[nn.Module]:
    size, channels = tensor.inputs[0].shape[1:3], tensor.inputs[0].shape[3]
    padding, modules = _split(layer.window.pads(size))
    window = (layer.kernel_size, layer.strides, padding, layer.dilation_rate)
    filters = tensor.shape[-1]
    return [*modules, nn.Conv2d(channels, filters, *window, layer.groups, layer.use_bias)]


def _dense(layer: Layer, tensor: Tensor) -> list[nn.Module]:
    return [nn.Linear(*layer.kernel.shape, layer.use_bias)]


def _norm(layer: Layer, tensor: Tensor) -> list[nn.Module]:
    return [nn.BatchNorm2d(tensor.shape[-1], layer.epsilon, 1 - layer.momentum)]


def _max_pool(layer: Layer, tensor: Tensor) -> list[nn.Module]:
    pads = layer.window.pads(tensor.inputs[0].shape[1:3])
    rounded_up = any(after > before for before, after in pads)
    padding = [before for before, _ in pads]
    return [nn.MaxPool2d(layer.pool_size, layer.strides, padding, ceil_mode=rounded_up)]


def _average_pool(layer: Layer, tensor: Tensor) -> list[nn.Module]:
    padding, modules = _split(layer.window.pads(tensor.inputs[0].shape[1:3]))
    window = (layer.pool_size, layer.strides, padding)
    return [*modules, nn.AvgPool2d(*window, count_include_pad=layer.count_include_pad)]


def _global_average(layer: Layer, tensor: Tensor) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), *([] if layer.keepdims else [nn.Flatten()])]


class StochasticDepth(nn.Module):
    """Samples times 0, or 1 / (1 - rate), in training."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        kept = 1 - self.rate
        return x * x.new_empty((len(x), 1, 1, 1)).bernoulli_(kept).div_(kept)


MODULES: dict[str, Callable[[Layer, Tensor], list[nn.Module]]] = {
    "Activation": lambda layer, tensor: [],
    "AveragePooling2D": _average_pool,
    "BatchNormalization": _norm,
    "Conv2D": _conv,
    "Dense": _dense,
    "DropPath": lambda layer, tensor: [StochasticDepth(layer.rate)],
    "Dropout": lambda layer, tensor: [nn.Dropout(layer.rate)],
    "Flatten": lambda layer, tensor: [nn.Flatten()],
    "GlobalAveragePooling2D": _global_average,
    "MaxPooling2D": _max_pool,
    "ReLU": lambda layer, tensor: [nn.ReLU()],
}
ACTIVATIONS = {"relu": nn.ReLU, "relu6": nn.ReLU6, "sigmoid": nn.Sigmoid, "silu": nn.SiLU}


def _pairwise(function: Callable) -> Callable[[fx.Graph, list[fx.Node]], fx.Node]:
    return lambda graph, inputs: functools.reduce(
        lambda a, b: graph.call_function(function, (a, b)), inputs
    )


MERGES = {
    "Add": _pairwise(operator.add),
    "Concatenate": lambda graph, inputs: graph.call_function(torch.cat, (inputs, 1)),
    "Multiply": _pairwise(operator.mul),
}
