"""Where data comes in."""

from __future__ import annotations

from ..errors import ArgumentError
from ..ops.base import Spec
from .base import Tensor

__all__ = ["Input"]


def Input(shape: tuple[int | None, ...], *, name: str = "input") -> Tensor:
    """A network's input of ``shape``, without the batch: ``(height, width, channels)`` for images.

    Height and width may be None, to take images of any size.
    """
    good = isinstance(shape, (tuple, list)) and all(
        d is None or (hasattr(d, "__index__") and not isinstance(d, bool) and 0 < d < 2**31)
        for d in shape
    )
    if not good or not shape or shape[-1] is None:
        raise ArgumentError(
            "`shape` must be a tuple of positive integers, without the batch; all but the last may "
            f"be None. Received: shape={shape!r}."
        )
    if not isinstance(name, str) or not name or name.startswith("$"):
        raise ArgumentError(
            f"`name` must be a string, without a leading $. Received: name={name!r}."
        )
    dims = tuple(None if d is None else int(d) for d in shape)
    return Tensor(Spec((None, *dims)), name=name)
