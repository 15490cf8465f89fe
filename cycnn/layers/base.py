"""What every layer is: parameters, a way to put its ops into a graph, and a config to save."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import initializers
from ..errors import ArgumentError, ShapeError
from ..geometry import Window
from ..graph.ir import Graph, Value
from ..locks import Guards
from ..ops.base import Spec

__all__ = ["Block", "Layer", "Parameter", "Tensor"]


class Block:
    """Contiguous float32 memory of one or many parameters; ``version`` counts its changes."""

    def __init__(self, array: np.ndarray):
        self.array = array
        self.version = 0


class Parameter:
    """An array of a layer. It is initialised when its value is first asked for.

    Optimizers update those that are ``trainable``; the others are state that training keeps.
    """

    dtype = "float32"

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        initializer: str,
        seed: tuple[int, int] | None,
        trainable: bool = True,
    ):
        self.name, self.shape, self.trainable = name, tuple(shape), trainable
        self._initialise = initializers.get(initializer)
        self._seed = seed
        self._value: np.ndarray | None = None
        self._shown: np.ndarray | None = None
        self.block: Block | None = None

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def value(self) -> np.ndarray:
        """The live array, which training writes in place; read-only, since `assign` is how to set it."""
        if self._value is None:
            self.assign(self._initialise(self.shape, np.random.default_rng(self._seed)))
        return self._shown

    def assign(self, array: np.ndarray) -> None:
        """Copy ``array`` in. Raises `ShapeError` where the shape differs."""
        array = np.asarray(array)
        if array.shape != self.shape:
            raise ShapeError(
                f"`{self.name}` has shape {self.shape}. Received an array of shape {array.shape}."
            )
        if self._value is None:
            block = Block(np.array(array, np.float32, order="C"))
            self._live_in(block, block.array)
        else:
            self._value[...] = array
        self.block.version += 1

    def move(self, block: Block, offset: int) -> None:
        """Live in ``block`` from now on, at ``offset`` floats, with the same value."""
        view = block.array[offset : offset + self.size].reshape(self.shape)
        view[...] = self.value
        self._live_in(block, view)
        block.version += 1

    def _live_in(self, block: Block, value: np.ndarray) -> None:
        self._value, self.block = value, block
        self._shown = value.view()
        self._shown.flags.writeable = False

    def __getstate__(self) -> dict[str, object]:
        """For copies and pickles, which get memory of their own."""
        return {**self.__dict__, "_value": self.value.copy(), "_shown": None, "block": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._live_in(Block(self._value), self._value)


@dataclass(eq=False)
class Tensor:
    """A symbolic result of calling a layer; ``layer`` is None for a network's input."""

    spec: Spec
    layer: Layer | None = None
    inputs: tuple[Tensor, ...] = ()
    name: str = ""

    @property
    def shape(self) -> tuple[int | None, ...]:
        """``(batch, ...)``, None where a dim is not known."""
        return self.spec.shape


class Layer:
    """Base of all layers.

    A subclass keeps each constructor argument in an attribute of the same name, creates its parameters
    in ``build`` and adds its ops in ``call``. Calling a layer on symbolic tensors connects it.
    """

    inputs_taken: ClassVar[int | None] = 1

    def __init__(self, *, name: str | None = None, seed: int | None = None):
        if name is not None and (not isinstance(name, str) or not name or "/" in name):
            raise ArgumentError(
                f"`name` must be a non-empty string without '/'. Received: name={name!r}."
            )
        if seed is not None and (not hasattr(seed, "__index__") or seed < 0):
            raise ArgumentError(
                f"`seed` must be an integer of at least 0. Received: seed={seed!r}."
            )
        self.name = name
        self.named_by_model = False
        self.seed = seed
        self.parameters: list[Parameter] = []
        self.built = False
        self.guards: Guards | None = None  # from the first model on that the layer is part of

    @property
    def window(self) -> Window | None:
        """The window that slides over the input; None for layers without one."""
        return None

    def build(self, *specs: Spec) -> None:
        """Create the parameters for inputs of these specs."""

    def call(self, graph: Graph, *inputs: Value, training: bool) -> Value:
        """Add this layer's ops to ``graph`` and return its output."""
        raise NotImplementedError

    def parameter(
        self, name: str, shape: tuple[int, ...], initializer: str, *, trainable: bool = True
    ) -> Parameter:
        """Create a parameter; to be called in ``build``."""
        seed = None if self.seed is None else (self.seed, len(self.parameters))
        parameter = Parameter(name, shape, initializer, seed, trainable)
        self.parameters.append(parameter)
        return parameter

    def config(self) -> dict[str, object]:
        """The constructor's arguments, as plain JSON values."""
        names = [n for n in inspect.signature(type(self)).parameters if n not in ("name", "seed")]
        return {name: getattr(self, name) for name in names}

    def count_params(self) -> int:
        """Number of weights, biases and moving statistics included.

        Raises `ArgumentError` before the layer is connected.
        """
        if not self.built and type(self).build is not Layer.build:
            raise ArgumentError(f"{type(self).__name__} has no weights before it is connected.")
        return sum(p.size for p in self.parameters)

    def __call__(self, *inputs: Tensor | list[Tensor]) -> Tensor:
        """Connect this layer to ``inputs`` and return its symbolic output."""
        if len(inputs) == 1 and isinstance(inputs[0], (list, tuple)):
            inputs = tuple(inputs[0])
        if not inputs or not all(isinstance(t, Tensor) for t in inputs):
            received = ", ".join(type(t).__name__ for t in inputs) or "nothing"
            raise ArgumentError(
                f"A layer is called on tensors made by layers.Input or other layers; use "
                f"model.predict for arrays. Received: {received}."
            )
        if self.inputs_taken is not None and len(inputs) != self.inputs_taken:
            raise ArgumentError(
                f"{type(self).__name__} takes {self.inputs_taken} input. Received: {len(inputs)}."
            )
        specs = [t.spec for t in inputs]
        return Tensor(self.output_spec(*specs), self, tuple(inputs))

    def output_spec(self, *specs: Spec) -> Spec:
        """The spec of the output for inputs of these specs; builds the layer when it is new."""
        if not self.built:
            self.build(*specs)
            self.built = True
        graph = Graph()
        values = [graph.input(s.shape, s.dtype) for s in specs]
        return self.call(graph, *values, training=False).spec
