"""Model files: weights and architecture in one safetensors file, with no code in it.

The tensors are named ``layer/weight``; the file's metadata holds the architecture as JSON under the key
"cycnn". A file is written beside its target and renamed, so that the target is whole or untouched.
"""

from __future__ import annotations

import json
import math
import os
import stat
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from . import layers
from .errors import ArgumentError, CycnnError, ModelFileError
from .graph.build import in_call_order
from .layers.base import Layer, Tensor
from .layers.input import Input

if TYPE_CHECKING:
    from .model import Model

__all__ = ["architecture", "from_architecture", "load", "save", "write_whole"]

FORMAT = 1
KEY = "cycnn"
LAYERS = {
    name: cls
    for name in layers.__all__
    if isinstance(cls := getattr(layers, name), type) and issubclass(cls, Layer)
}


def architecture(model: Model) -> dict[str, object]:
    """The network without its weights, as plain JSON values."""
    tensors = in_call_order([*model.inputs, *model.outputs])
    number = {t: i for i, t in enumerate(tensors)}
    return {
        "format": FORMAT,
        "kind": type(model).__name__,
        "layers": [
            {"class": type(layer).__name__, "name": layer.name, "config": layer.config()}
            for layer in model.layers
        ],
        "tensors": [
            {"input": list(t.shape[1:]), "name": t.name}
            if t.layer is None
            else {"layer": model.layers.index(t.layer), "of": [number[i] for i in t.inputs]}
            for t in tensors
        ],
        "inputs": [number[t] for t in model.inputs],
        "outputs": [number[t] for t in model.outputs],
        "class_names": _class_names(model.class_names),
        "input_scaling": _input_scaling(model.input_scaling),
    }


def _class_names(value: object) -> list[str] | None:
    if value is None:
        return None
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ArgumentError(f"`class_names` must be a list of names. Received: {value!r}.")
    return [str(name) for name in value]


def _input_scaling(value: object) -> tuple[float, float] | None:
    if value is None:
        return None
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        scale, offset = map(float, value)
    except (TypeError, ValueError, OverflowError):
        scale = offset = math.nan
    if not (math.isfinite(scale) and math.isfinite(offset)):
        raise ArgumentError(
            f"`input_scaling` must be two numbers, (scale, offset). Received: {value!r}."
        )
    return scale, offset


def save(model: Model, path: str | os.PathLike) -> None:
    """Write ``model`` to ``path``; see `Model.save`. Raises `OSError` or `ArgumentError`."""
    for layer in model.layers:
        if LAYERS.get(type(layer).__name__) is not type(layer):
            raise ArgumentError(
                f"`{layer.name}` is a {type(layer).__name__}, which is not a layer of cycnn and "
                "cannot be saved."
            )
    from safetensors.numpy import save as to_bytes

    with model._guard:
        tensors = {
            f"{layer.name}/{p.name}": p.value for layer in model.layers for p in layer.parameters
        }
        data = to_bytes(tensors, {KEY: json.dumps(architecture(model))})
    write_whole(path, data)


def write_whole(path: str | os.PathLike, data: bytes) -> None:
    """Write ``data`` to ``path`` by way of a temporary file beside it: all of it or nothing.

    What is no file, or has no name (a device, a pipe), is written to.
    """
    target = os.path.realpath(path)  # a link stays one
    if os.path.exists(path) and not os.path.isfile(target):
        Path(path).write_bytes(data)
        return
    path = Path(target)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    handle = os.open(temporary, flags, 0o666 if mode is None else mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def load(path: str | os.PathLike) -> Model:
    """The model saved at ``path``. Raises `ModelFileError`, or `OSError` where it cannot be read."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No model file at {str(path)!r}.")
    try:
        with safe_open(path, framework="numpy") as file:
            described = json.loads((file.metadata() or {}).get(KEY, "null"))
            if described is None:
                raise ModelFileError(f"{str(path)!r} is a safetensors file but not a cycnn model.")
            model = from_architecture(described)
            _fill(model, file, path)
    except (SafetensorError, MemoryError, json.JSONDecodeError, RecursionError) as error:
        raise ModelFileError(f"{str(path)!r} is not a cycnn model: {error}.") from error
    except ModelFileError:
        raise
    except (CycnnError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ModelFileError(f"{str(path)!r} describes no valid network: {error}") from error
    return model


def _fill(model: Model, file: safe_open, path: Path) -> None:
    wanted = {f"{layer.name}/{p.name}": p for layer in model.layers for p in layer.parameters}
    found = set(file.keys())
    if found != set(wanted):
        odd = sorted(found ^ set(wanted))
        raise ModelFileError(
            f"{str(path)!r} does not hold the weights of its architecture; missing or not expected: "
            f"{', '.join(odd[:5])}."
        )
    for name, parameter in wanted.items():
        header = file.get_slice(name)
        if tuple(header.get_shape()) != parameter.shape or header.get_dtype() != "F32":
            raise ModelFileError(
                f"{str(path)!r} holds {name} as {header.get_dtype()} {header.get_shape()}; "
                f"its architecture needs F32 {list(parameter.shape)}."
            )
    for name, parameter in wanted.items():
        parameter.assign(file.get_tensor(name))


def from_architecture(described: dict[str, object]) -> Model:
    """A new network of that architecture, with initial weights. Raises `ModelFileError`."""
    from .model import Model, Sequential

    if not isinstance(described, dict) or described.get("format") != FORMAT:
        found = described.get("format") if isinstance(described, dict) else described
        raise ModelFileError(f"A model file has format {FORMAT}. Found: {found!r}.")
    made = [_layer(d) for d in described["layers"]]
    tensors: list[Tensor] = []
    for d in described["tensors"]:
        if "input" in d:
            tensors.append(Input(tuple(d["input"]), name=d["name"]))
        else:
            if any(not 0 <= i < len(tensors) for i in d["of"]):
                raise ModelFileError("A tensor of the file depends on one that comes after it.")
            tensors.append(made[d["layer"]](*(tensors[i] for i in d["of"])))
    inputs = [tensors[i] for i in described["inputs"]]
    outputs = [tensors[i] for i in described["outputs"]]
    model = Model(inputs, outputs)
    if described["kind"] == Sequential.__name__:
        model.__class__ = Sequential
    model.class_names = _class_names(described["class_names"])
    model.input_scaling = _input_scaling(described["input_scaling"])
    return model


def _layer(described: dict[str, object]) -> Layer:
    cls = LAYERS.get(described["class"])
    if cls is None:
        raise ModelFileError(
            f"The file has a layer {described['class']!r} that this version does not know."
        )
    return cls(**described["config"], name=described["name"])
