"""What show_config prints and get_config returns."""

from __future__ import annotations

import json

import numpy as np

import cycnn
from cycnn import config
from cycnn.kernels import dispatch


def test_get_config_is_plain_and_true():
    with cycnn.threads(2):
        values = config.get_config()
    assert json.loads(json.dumps(values)) == values
    assert values["version"] == cycnn.__version__
    assert values["tier"] == dispatch.load().tier
    assert values["tier"] in values["supported_tiers"]
    assert (values["threads"], values["threads_source"]) == (2, "with cycnn.threads")
    assert values["numpy"] == np.__version__
    assert any(character.isdigit() for character in values["compiler"])
    assert any("omp" in pool["name"] for pool in values["thread_pools"])


def test_show_config_prints_every_part(capsys):
    with cycnn.threads(2):
        assert cycnn.show_config() is None
    out = capsys.readouterr().out
    lines = dict(line.split(": ", 1) for line in out.splitlines())
    assert lines["cycnn"].strip() == cycnn.__version__
    assert lines["tier"].strip().startswith(dispatch.load().tier)
    assert lines["threads"].strip() == "2 (from with cycnn.threads)"
    assert {"CPU quota", "compiler", "Python", "NumPy"} <= lines.keys()
    assert any(name.endswith("omp pool") for name in lines)


def test_show_config_names_the_quota(capsys, monkeypatch):
    monkeypatch.setattr(config.threads, "cpu_quota", lambda: 1.5)
    cycnn.show_config()
    assert "1.5 CPUs" in capsys.readouterr().out
