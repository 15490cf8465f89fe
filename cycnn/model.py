"""Networks: layers connected from inputs to outputs, trained, evaluated, saved and served."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from . import saving
from . import threads as thread_budget
from .arrays import as_float32, as_inputs
from .errors import ArgumentError, ShapeError
from .geometry import to_axes
from .graph.build import build, in_call_order
from .graph.ir import Value
from .kernels import dispatch
from .layers.base import Layer, Parameter, Tensor
from .locks import Lock, share_guards, together
from .plan.choices import UNTUNED, Chosen
from .plan.exact import is_exact
from .plan.explain import Profile, profile
from .plan.plan import Plan
from .session import Inference
from .summary import summary
from .training import losses, optimizers
from .training.loop import History, Trainer
from .training.memory import Memory
from .training.progress import progress_bar
from .tuning import Tuning, tune

__all__ = ["Model", "Sequential"]


class Model:
    """A network from symbolic ``inputs`` to ``outputs``: ``Model(x, y)`` with ``x = layers.Input(...)``.

    ``class_names`` and ``input_scaling`` travel with a saved model: names of the classes, and
    ``(scale, offset)`` such that ``scale * pixel + offset`` is what the network was trained on.
    """

    def __init__(self, inputs: Tensor | Sequence[Tensor], outputs: Tensor | Sequence[Tensor]):
        self.class_names: list[str] | None = None
        self.input_scaling: tuple[float, float] | None = None
        self._connect(_tensors(inputs, "inputs"), _tensors(outputs, "outputs"))

    def _connect(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        if any(t.layer is not None for t in inputs):
            raise ArgumentError("`inputs` must be made by layers.Input.")
        self.inputs, self.outputs = inputs, outputs
        build(inputs, outputs, training=False)  # finds an input that is missing
        connected = (t.layer for t in in_call_order(outputs) if t.layer is not None)
        self.layers: list[Layer] = list(dict.fromkeys(connected))
        _name(self.layers)
        held = share_guards(self.layers)
        self._guard = together(g.weights for g in held)
        self._training = together(g.training for g in held)
        self._kernels = dispatch.load()
        self._trainer: Trainer | None = None
        self._engines: dict[str, Inference] = {}
        self._chosen: Chosen = UNTUNED

    def __getstate__(self) -> dict[str, object]:
        """For copies and pickles: layers with their weights, flat. A copy has to be compiled anew.

        Weights are read one by one: beside a `fit` in another thread they may be of different steps, where
        `save` and `get_weights` wait for the end of one.
        """
        tensors = in_call_order([*self.inputs, *self.outputs])
        number = {t: i for i, t in enumerate(tensors)}
        own = {k: v for k, v in self.__dict__.items() if k not in _CONNECTED}
        flat = [(t.spec, t.layer, [number[i] for i in t.inputs], t.name) for t in tensors]
        ends = [number[t] for t in self.inputs], [number[t] for t in self.outputs]
        return {**own, "tensors": flat, "ends": ends}

    def __setstate__(self, state: dict[str, object]) -> None:
        tensors: list[Tensor] = []
        for spec, layer, inputs, name in state.pop("tensors"):
            tensors.append(Tensor(spec, layer, tuple(tensors[i] for i in inputs), name))
        inputs, outputs = state.pop("ends")
        self.__dict__.update(state)
        self._connect([tensors[i] for i in inputs], [tensors[i] for i in outputs])

    # ---- weights

    @property
    def parameters(self) -> list[Parameter]:
        """All weights, layers in call order, each layer's in its own order."""
        return [p for layer in self.layers for p in layer.parameters]

    def count_params(self) -> int:
        """Number of weights, biases and moving statistics included."""
        return sum(p.size for p in self.parameters)

    def get_layer(self, name: str) -> Layer:
        """The layer of that name. Raises `ArgumentError`."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        names = ", ".join(layer.name for layer in self.layers)
        raise ArgumentError(f"`name` must be a layer: {names}. Received: name={name!r}.")

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all weights: layers in call order; kernel before bias, gamma, beta, moving mean and
        variance."""
        with self._guard:
            return [p.value.copy() for p in self.parameters]

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Set all weights, in the order of `get_weights`; nothing changes where one does not fit.

        Raises `ShapeError`.
        """
        parameters = self.parameters
        weights = [as_float32(w, "weights") for w in weights]
        shapes = [w.shape for w in weights]
        wanted = [p.shape for p in parameters]
        if shapes != wanted:
            raise ShapeError(f"`weights` must have the shapes {wanted}. Received: {shapes}.")
        with self._guard:
            for parameter, array in zip(parameters, weights, strict=True):
                parameter.assign(array)

    # ---- inference

    def inference(self, purpose: str, *, freeze: bool = True) -> Inference:
        """A new engine (the way a `Session` starts), with copies of the weights as they are now, unless
        ``freeze`` is False: then nobody may change them any more."""
        engine = Inference(
            self.inputs,
            self.outputs,
            self._kernels,
            purpose=purpose,
            guard=Lock(),
            exact=is_exact(),
        )
        with self._guard:
            engine.use(self._chosen)
            if freeze:
                engine.freeze()
        return engine

    def _versions(self) -> tuple:
        for parameter in self.parameters:
            _ = parameter.value  # made now, if it was not yet
        return tuple((p.block, p.block.version) for p in self.parameters)

    @property
    def _current(self) -> Inference:
        """The engine of `predict`, which follows the weights from one finished step to the next."""
        return self._engine("outputs")

    @property
    def _logits(self) -> Inference:
        """Like `_current`, with a last softmax left out: what the loss is computed from."""
        return self._engine("logits", losses.before_softmax)

    def _engine(self, name: str, select: Callable[[Value], Value] | None = None) -> Inference:
        with self._guard:
            if name not in self._engines:
                self._engines[name] = Inference(
                    self.inputs,
                    self.outputs,
                    self._kernels,
                    purpose="throughput",
                    guard=self._guard,
                    version=self._versions,
                    select=select,
                    chosen=self._chosen,
                )
            return self._engines[name]

    def predict(
        self, x: object, *, batch_size: int = 128, threads: int | None = None, verbose: int = 0
    ) -> np.ndarray | list[np.ndarray]:
        """Outputs for ``x`` (batch, ...), computed ``batch_size`` samples at a time.

        Arrays of float64, integers or odd strides are converted once. During `fit` it sees the weights
        of a finished step. Raises `ShapeError`, `DTypeError` or `ArgumentError`.
        """
        (batch_size,) = to_axes(batch_size, "batch_size", 1)
        arrays = as_inputs(x, [t.spec for t in self.inputs])
        with progress_bar(len(arrays[0]), "predict", verbose) as bar:
            outputs = self._current.run_batches(
                arrays, thread_budget.resolve(threads), batch_size, bar.update
            )
        return outputs[0] if len(self.outputs) == 1 else outputs

    def plan(self, *shapes: tuple[int, ...]) -> Plan:
        """The inference plan for inputs of these shapes, batch included; `Plan.explain` prints it."""
        return self._current.plan(shapes)

    def profile(self, x: object, *, repeats: int = 10, threads: int | None = None) -> Profile:
        """Time a forward pass of ``x`` step by step: the best of ``repeats``."""
        arrays = as_inputs(x, [t.spec for t in self.inputs])
        shapes = tuple(a.shape for a in arrays)
        program = self._current.programs([shapes])[shapes]
        plan = self._current.plan(shapes)
        return profile(plan, program, arrays, repeats, thread_budget.resolve(threads))

    def tune(
        self,
        x: object,
        *,
        seconds: float = 60.0,
        algorithms: bool = False,
        threads: int | None = None,
        verbose: int = 1,
    ) -> Tuning:
        """Measure what is fastest for `predict` of batches like ``x``, and use it; see `Session.tune`.

        It holds for this model and for sessions made of it from now on, not for training.
        """
        found = tune(
            self._current,
            x,
            thread_budget.resolve(threads),
            seconds=seconds,
            algorithms=algorithms,
            verbose=verbose,
        )
        with self._guard:
            self._chosen = {**self._chosen, **found.chosen}
            for engine in self._engines.values():
                engine.use(self._chosen)
        return found

    # ---- training

    def compile(
        self,
        optimizer: str | optimizers.Optimizer = "sgd",
        loss: str | losses.Loss = "sparse_categorical_crossentropy",
        metrics: Sequence[str] = (),
    ) -> None:
        """Choose how to train. Raises `ArgumentError`."""
        if len(self.outputs) != 1:
            raise ArgumentError(
                f"Training takes a network with 1 output. Received: {len(self.outputs)}."
            )
        with self._training, self._guard:  # weights move, which other models may share
            self._trainer = Trainer(self, optimizer, loss, metrics)

    @property
    def trainer(self) -> Trainer:
        """What `compile` made. Raises `ArgumentError` before it."""
        if self._trainer is None:
            raise ArgumentError("Call `compile` before training or evaluating.")
        return self._trainer

    @property
    def optimizer(self) -> optimizers.Optimizer:
        """The optimizer given to `compile`."""
        return self.trainer.optimizer

    def fit(
        self,
        x: object,
        y: object,
        *,
        batch_size: int = 32,
        epochs: int = 1,
        validation_data: tuple[object, object] | None = None,
        validation_split: float = 0.0,
        shuffle: bool = True,
        seed: int | None = None,
        verbose: int = 1,
        threads: int | None = None,
    ) -> History:
        """Train on ``x`` (N, ...) and ``y`` (N,) for ``epochs`` passes in mini-batches.

        ``validation_split`` holds back that share from the end of the data. ``seed`` fixes the order of
        the samples and the dropout masks: training repeats to the bit. ``verbose``: 0 silent, 1 a
        progress bar, 2 a line an epoch. Ctrl-C stops between steps and leaves a valid model. Raises
        `ShapeError`, `DTypeError` or `ArgumentError`.
        """
        return self.trainer.fit(
            x,
            y,
            batch_size=batch_size,
            epochs=epochs,
            validation_data=validation_data,
            validation_split=validation_split,
            shuffle=shuffle,
            seed=seed,
            verbose=verbose,
            threads=thread_budget.resolve(threads),
        )

    def train_on_batch(
        self, x: object, y: object, *, threads: int | None = None
    ) -> dict[str, float]:
        """One step on one batch: the loss and metrics before the update."""
        return self.trainer.train_on_batch(x, y, threads=thread_budget.resolve(threads))

    def evaluate(
        self,
        x: object,
        y: object,
        *,
        batch_size: int = 128,
        verbose: int = 0,
        threads: int | None = None,
    ) -> dict[str, float]:
        """Loss and metrics over all samples, without changing anything."""
        return self.trainer.evaluate(
            x, y, batch_size=batch_size, verbose=verbose, threads=thread_budget.resolve(threads)
        )

    # ---- looking and keeping

    def memory(
        self, batch_size: int = 1, *, training: bool | None = None, threads: int | None = None
    ) -> Memory:
        """The memory of a training step (of a prediction where ``training`` is False) in bytes.

        Found without running one. By default of a training step if the model is compiled. Sizes of the
        input that the network leaves open are not allowed. Raises `ArgumentError` or `ShapeError`.
        """
        (batch_size,) = to_axes(batch_size, "batch_size", 1)
        open_sizes = [t.shape for t in self.inputs if None in t.shape[1:]]
        if open_sizes:
            raise ShapeError(
                f"`memory` takes a network whose input sizes are known. Received: {open_sizes[0]}."
            )
        shapes = tuple((batch_size, *t.shape[1:]) for t in self.inputs)
        threads = thread_budget.resolve(threads)
        if self._trainer is not None if training is None else training:
            return self.trainer.step.memory(shapes, threads)
        weights = sum(p.value.nbytes for p in self.parameters)
        found = self._current.memory(shapes, threads)
        return replace(found, weights=found.weights + weights)

    def summary(self, *, print_fn=print) -> None:
        """Print each layer's output shape, weights, receptive field, multiply-adds and bytes."""
        print_fn(summary(self))

    def save(self, path: str | os.PathLike) -> None:
        """Write architecture and weights to one safetensors file, whole or not at all."""
        saving.save(self, path)


class Sequential(Model):
    """A network that is a list of layers, the first of them `layers.Input`."""

    def __init__(self, layers: Sequence[Tensor | Layer]):
        layers = list(layers)
        if not layers or not isinstance(layers[0], Tensor):
            raise ArgumentError("`layers` must begin with layers.Input(shape).")
        x = layers[0]
        for layer in layers[1:]:
            if not isinstance(layer, Layer):
                raise ArgumentError(f"`layers` must be layers. Received: {type(layer).__name__}.")
            x = layer(x)
        super().__init__(layers[0], x)


_CONNECTED = {  # what `Model._connect` makes
    *("inputs", "outputs", "layers", "_guard", "_training", "_kernels"),
    *("_trainer", "_engines", "_chosen"),
}


def _tensors(value: Tensor | Sequence[Tensor], name: str) -> list[Tensor]:
    tensors = [value] if isinstance(value, Tensor) else value
    good = isinstance(tensors, (list, tuple)) and tensors
    if not good or not all(isinstance(t, Tensor) for t in tensors):
        raise ArgumentError(
            f"`{name}` must be symbolic tensors, made by layers.Input or by calling layers. "
            f"Received: {value!r}."
        )
    return list(tensors)


def _name(layers: list[Layer]) -> None:
    """Name the layers that the user did not: conv2d, conv2d_1, ... A name that an earlier model gave is
    kept where it is free. Raises `ArgumentError` where the user gave one twice."""
    taken = [layer.name for layer in layers if layer.name and not layer.named_by_model]
    for name in taken:
        if taken.count(name) > 1:
            raise ArgumentError(f"Two layers have the name {name!r}; `name` must be unique.")
    names = set(taken)
    for layer in layers:
        if layer.named_by_model and layer.name not in names:
            names.add(layer.name)
            continue
        if layer.name and not layer.named_by_model:
            continue
        layer.named_by_model = True
        base = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower()
        name, count = base, 0
        while name in names:
            count += 1
            name = f"{base}_{count}"
        layer.name = name
        names.add(name)
