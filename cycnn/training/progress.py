"""The progress bar of fit, evaluate and predict: tqdm's, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ArgumentError

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["check_verbose", "progress_bar"]


def check_verbose(verbose: object) -> int:
    """``verbose`` if it is 0, 1 or 2. Raises `ArgumentError`."""
    if verbose not in (0, 1, 2):
        raise ArgumentError(f"`verbose` must be 0, 1 or 2. Received: verbose={verbose!r}.")
    return int(verbose)


def progress_bar(total: float | None, label: str, verbose: int, unit: str = "img") -> tqdm:
    """A bar over ``total`` images, or other units, shown when ``verbose`` is 1."""
    from tqdm import tqdm  # here, because it takes longer to import than all of cycnn

    return tqdm(
        total=total,
        desc=label,
        unit=unit,
        unit_scale=True,
        disable=check_verbose(verbose) != 1,
        dynamic_ncols=True,
    )
