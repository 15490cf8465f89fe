"""The package as it is installed: its metadata, its files, and a build for machines without a tier."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest

import cycnn

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(cycnn.__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
KERNELS = sorted(path.stem for path in (ROOT / "cycnn/kernels").glob("*.pyx"))


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}


def test_the_version_is_that_of_the_installed_package():
    try:
        installed = importlib.metadata.version("cycnn")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("not installed, only built in place")
    assert cycnn.__version__ == installed


def test_few_run_time_dependencies():
    assert names(PROJECT["dependencies"]) == {"numpy", "safetensors", "threadpoolctl", "tqdm"}


def test_the_second_oracle_is_an_extra_of_its_own():
    extras = PROJECT["optional-dependencies"]
    assert extras["oracle"] == ["torch==2.13.0"]
    assert "torch" not in names(extras["test"])


@pytest.mark.parametrize("name", ["py.typed", "LICENSE"])
def test_files_beside_the_modules(name):
    assert (PACKAGE / name).is_file()


def test_licence():
    text = (PACKAGE / "LICENSE").read_text()
    assert PROJECT["license"] == "BSD-3-Clause"
    assert "BSD 3-Clause License" in text


@pytest.mark.skipif(platform.machine() != "x86_64", reason="builds with x86-64 flags")
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_compile_without_any_instruction_set(kernel, tmp_path):
    """What other machines build: the generic branches of isa.h."""
    c_file = ROOT / f"build/c-release/cycnn/kernels/{kernel}.c"
    if not c_file.exists():
        assert os.environ.get("CI") != "true", "the editable install leaves its C files in build/"
        pytest.skip("not built here")
    include = [f"-I{ROOT / 'cycnn/kernels'}", f"-I{sysconfig.get_path('include')}"]
    generic = ["-march=x86-64", "-U__SSE2__", "-fsyntax-only"]
    command = ["gcc", *generic, *include, str(c_file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
