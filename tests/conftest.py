"""Fixtures and settings that every test shares."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from cycnn.plan import team

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_finish():
    """A hundred thousand collected tests are not looked through again at every collection of garbage."""
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ``shared`` beside the checkout: data sets and texts. Skips where it is missing."""
    if not SHARED.is_dir():
        missing = f"no folder {SHARED}"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def _three_threads():
    """Steps may run on up to three threads, on any machine."""
    team.set_team_size(3)
