"""From what users pass to what programs read: one conversion, at the door."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .errors import ArgumentError, DTypeError, ShapeError
from .ops.base import Spec

__all__ = ["as_float32", "as_inputs"]

_FLOAT32 = np.dtype(np.float32)


def as_float32(array: object, name: str) -> np.ndarray:
    """``array`` as C-contiguous, aligned float32: itself where it is that already, else one converted copy.

    Raises `DTypeError` for anything that is not numbers.
    """
    if type(array) is np.ndarray and array.dtype is _FLOAT32 and array.flags.carray:
        return array
    try:
        array = np.asarray(array)
    except ValueError as error:
        raise DTypeError(f"`{name}` must be an array of numbers: {error}") from error
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"`{name}` must be an array of numbers. Received dtype {array.dtype}.")
    return np.require(array, np.float32, ["C", "A"]).reshape(array.shape)


def as_inputs(x: object, specs: Sequence[Spec]) -> list[np.ndarray]:
    """One float32 array for each of the network's inputs, all with the same batch.

    ``x`` is an array, or a list of arrays where there are several inputs. Raises `ArgumentError`,
    `DTypeError` or `ShapeError`.
    """
    several = len(specs) > 1
    if several and not (isinstance(x, (list, tuple)) and len(x) == len(specs)):
        raise ArgumentError(f"`x` must be a list of {len(specs)} arrays, one for each input.")
    arrays = [as_float32(a, "x") for a in (x if several else [x])]
    for array, spec in zip(arrays, specs, strict=True):
        fits = array.ndim == spec.rank and all(
            d in (None, s) for d, s in zip(spec.shape[1:], array.shape[1:], strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if d is None else str(d) for d in spec.shape[1:])
            raise ShapeError(
                f"`x` must have shape (batch, {wanted}). Received shape {array.shape}."
            )
    if len({a.shape[0] for a in arrays}) != 1:
        raise ShapeError(f"All inputs must have one batch. Received {[a.shape for a in arrays]}.")
    return arrays
