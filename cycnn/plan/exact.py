"""Whether convolutions may be computed by transforms that have a rounding error of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

__all__ = ["exact", "is_exact"]

_exact: ContextVar[bool] = ContextVar("cycnn_exact", default=False)


@contextlib.contextmanager
def exact(enabled: bool = True) -> Iterator[None]:
    """Compute every convolution directly, without transforms (Winograd's), inside the block.

    It holds for what runs in the block: `predict`, `fit`, `evaluate` and `cycnn.functional`. A
    `Session` keeps what held when it was made. Layers have ``algorithm="direct"`` for the same.
    """
    token = _exact.set(bool(enabled))
    try:
        yield
    finally:
        _exact.reset(token)


def is_exact() -> bool:
    """Whether an `exact` block is around."""
    return _exact.get()
