"""Choose one tier of kernels at import, and load it.

The best tier that the CPU supports is taken; ``CYCNN_ISA=v2|v3|v4`` forces one. A tier that was forced
or detected and does not load is an error, never a silent slow path.
"""

from __future__ import annotations

import importlib
import os
import platform
from pathlib import Path
from types import ModuleType

from ..errors import InstructionSetError

__all__ = ["TIERS", "Kernels", "load", "supported_tiers"]

# best first: name -> the CPU flags of /proc/cpuinfo that it needs
TIERS = {
    "v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "v3": {"avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"},
    "v2": {"cx16", "popcnt", "sse4_1", "sse4_2", "ssse3"},
}


class Kernels:
    """The kernel modules of one tier, as attributes: ``kernels.pool.max_forward(...)``."""

    def __init__(self, tier: str):
        self.tier = tier

    def __getattr__(self, name: str) -> ModuleType:
        try:
            module = importlib.import_module(f"{__package__}.{self.tier}.{name}")
        except ModuleNotFoundError as error:
            raise AttributeError(f"tier {self.tier} has no kernel module {name!r}") from error
        except ImportError as error:
            raise InstructionSetError(
                f"The kernels of tier {self.tier} cannot be loaded: {error}"
            ) from error
        setattr(self, name, module)
        return module


def _cpu_flags() -> set[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split(":", 1)[1].split())
    return set()


def supported_tiers() -> list[str]:
    """The tiers that this CPU can run, best first."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return ["generic"]
    flags = _cpu_flags()
    tiers, needed = [], set()
    for tier, extra in reversed(TIERS.items()):
        needed |= extra
        if needed <= flags:
            tiers.insert(0, tier)
    return tiers


def load(tier: str | None = None) -> Kernels:
    """The kernels of ``tier``, by default of ``CYCNN_ISA`` or else the best the CPU supports.

    Raises `InstructionSetError` where that tier is unknown, unsupported or not built.
    """
    tiers = supported_tiers()
    asked = tier or os.environ.get("CYCNN_ISA") or (tiers[0] if tiers else None)
    if asked not in tiers:
        raise InstructionSetError(
            f"`CYCNN_ISA` must name a tier that this CPU can run: {', '.join(tiers) or 'none'}. "
            f"Received: {asked!r}."
        )
    kernels = Kernels(asked)
    try:
        _ = kernels.pointwise
    except AttributeError as error:
        raise InstructionSetError(f"The kernels of tier {asked} were not built.") from error
    return kernels
