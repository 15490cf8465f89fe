"""What ``--model`` may name: a network of the zoo, a function in a Python file, a saved model."""

from __future__ import annotations

import ast
import inspect
import runpy
from collections.abc import Callable
from pathlib import Path

from .. import layers, saving, zoo
from ..errors import ArgumentError, CycnnError
from ..model import Model, Sequential

__all__ = ["layer_network", "load_network", "make_network"]


def make_network(
    name: str, input_shape: tuple[int, int, int], classes: int, *, seed: int | None = None
) -> Model:
    """A new network: ``name`` is one of the zoo's or ``FILE.py:function``.

    The function is called with the input's shape and the number of classes, and with ``seed=`` where
    it takes that. Raises `ArgumentError`, or what says why the network cannot be made.
    """
    if name in zoo.__all__:
        return getattr(zoo, name)(input_shape, classes, seed=seed)
    path, colon, function = name.rpartition(":")
    if not colon or not path.endswith(".py"):
        raise ArgumentError(
            f"`--model` must be {', '.join(zoo.__all__)} or FILE.py:function. Received: {name}."
        )
    try:
        model = _call(_find(path, function), input_shape, classes, seed)
    except (CycnnError, OSError):
        raise
    except Exception as error:  # the user's own code may raise anything
        raise ArgumentError(f"{name} raised {type(error).__name__}: {error}") from error
    if not isinstance(model, Model):
        raise ArgumentError(f"{name} must return a cycnn model. Received: {type(model).__name__}.")
    return model


def _find(path: str, function: str) -> Callable[..., Model]:
    Path(path).stat()  # a missing file is named by the error
    found = runpy.run_path(path).get(function)
    if not callable(found):
        raise ArgumentError(f"{path} has no function {function!r}.")
    return found


def _call(function: Callable[..., Model], input_shape, classes: int, seed: int | None) -> Model:
    if "seed" in inspect.signature(function).parameters:
        return function(input_shape, classes, seed=seed)
    return function(input_shape, classes)


def load_network(
    name: str, input_shape: tuple[int, int, int], classes: int, *, seed: int | None = None
) -> Model:
    """Like `make_network`, and the path of a saved model will do as well."""
    if name not in zoo.__all__ and Path(name).is_file():
        return saving.load(name)
    return make_network(name, input_shape, classes, seed=seed)


def layer_network(text: str, input_shape: tuple[int, int, int]) -> Model:
    """A network of one layer, written as in Python: ``Conv2D(64, 3, padding="same")``.

    Only literals are taken for arguments; nothing is evaluated. Raises `ArgumentError`.
    """
    names = [n for n in layers.__all__ if n not in ("Input", "Layer", "Tensor", "Add")]
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call):
            call = ast.Call(call, [], [])
        if not isinstance(call.func, ast.Name) or call.func.id not in names:
            raise ValueError("no such layer")
        values = [ast.literal_eval(a) for a in call.args]
        named = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
        layer = getattr(layers, call.func.id)(*values, **named)
    except CycnnError:
        raise
    except (SyntaxError, TypeError, ValueError) as error:
        raise ArgumentError(
            f"`--layer` must be a layer with literal arguments, among {', '.join(names)}. "
            f"Received: {text} ({error})."
        ) from error
    return Sequential([layers.Input(input_shape), layer])
