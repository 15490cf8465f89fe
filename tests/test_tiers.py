"""The best tier is taken unless another is asked for, and one that cannot be loaded is an error."""

from __future__ import annotations

import pytest

from cycnn.errors import InstructionSetError
from cycnn.kernels import dispatch


def test_best_tier_by_default(monkeypatch):
    monkeypatch.delenv("CYCNN_ISA", raising=False)
    assert dispatch.load().tier == dispatch.supported_tiers()[0]


@pytest.mark.parametrize("tier", dispatch.supported_tiers())
def test_environment_forces_a_tier(monkeypatch, tier):
    monkeypatch.setenv("CYCNN_ISA", tier)
    assert dispatch.load().tier == tier


@pytest.mark.parametrize("tier", ["v1", "avx2", "V3", "v99"])
def test_unknown_tier_is_an_error(monkeypatch, tier):
    monkeypatch.setenv("CYCNN_ISA", tier)
    with pytest.raises(InstructionSetError, match=rf"`CYCNN_ISA` must name .*Received: '{tier}'"):
        dispatch.load()


def test_tier_beyond_the_cpu_is_an_error(monkeypatch):
    monkeypatch.setattr(dispatch, "_cpu_flags", lambda: dispatch.TIERS["v2"])
    monkeypatch.setattr(dispatch.platform, "machine", lambda: "x86_64")
    assert dispatch.supported_tiers() == ["v2"]
    with pytest.raises(InstructionSetError, match="this CPU can run: v2"):
        dispatch.load("v4")


def test_tier_without_modules_is_an_error(monkeypatch):
    monkeypatch.setattr(dispatch, "supported_tiers", lambda: ["v9"])
    with pytest.raises(InstructionSetError, match="tier v9 were not built"):
        dispatch.load("v9")


def test_missing_module_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no kernel module 'absent'"):
        _ = dispatch.load().absent
