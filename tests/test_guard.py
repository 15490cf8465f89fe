"""Guard words notice a write outside a buffer; test_same_bits.py checks them on the whole grid."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import runner


def test_guard_words_notice():
    block = runner.Guarded(12)
    block.check()
    block.raw[block.end] = 0
    with pytest.raises(AssertionError, match="wrote behind"):
        block.check()
    block = runner.Guarded(12, shift=1)
    block.raw[block.begin - 1] = 0
    with pytest.raises(AssertionError, match="wrote before"):
        block.check()


def test_nothing_beyond_a_buffer_is_read():
    """Every buffer lies against a page that may not be touched, see fences.py."""
    script = Path(__file__).with_name("fences.py")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
