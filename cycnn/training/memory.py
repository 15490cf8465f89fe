"""How much memory a training step, or a prediction, needs: known before it runs."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Memory"]


@dataclass(frozen=True)
class Memory:
    """Bytes by use; printing it gives a line.

    ``weights`` (with what is derived from them once and kept), ``gradients`` and ``slots`` of the
    optimizer, ``workspace`` for activations, gradients of activations and the kernels' scratch, and
    ``batch``, the inputs and outputs.
    """

    weights: int = 0
    gradients: int = 0
    slots: int = 0
    workspace: int = 0
    batch: int = 0

    @property
    def total(self) -> int:
        return sum(getattr(self, f.name) for f in fields(self))

    def __str__(self) -> str:
        parts = ((f.name, getattr(self, f.name)) for f in fields(self))
        listed = ", ".join(f"{name} {nbytes / 2**20:,.1f}" for name, nbytes in parts if nbytes)
        return f"{self.total / 2**20:,.1f} MiB ({listed})"
