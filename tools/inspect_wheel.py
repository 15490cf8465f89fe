"""Check what is in a source distribution and a wheel: `inspect_wheel.py SDIST WHEEL`."""

import sys
import tarfile
import zipfile
from pathlib import Path

LIMIT = 5_000_000  # bytes
SOURCES = {".pyx", ".pxd", ".h", ".c"}


def suffixes(names):
    return {Path(name).suffix for name in names}


def check_sdist(names):
    top = {name.split("/")[1] for name in names if name.count("/")}
    assert {"cycnn", "tests", "benchmarks", "tools", "setup.py", "README.md"} <= top, top
    assert {".pyx", ".pxd", ".h", ".py"} <= suffixes(names)
    package = [name for name in names if name.split("/")[1:2] == ["cycnn"]]
    assert not suffixes(package) & {".c", ".so"}, "products of a build in the sdist"
    assert any(name.endswith("benchmarks/peak.c") for name in names), "the loops of benchmarks"


def check_wheel(names, size):
    assert not suffixes(names) & SOURCES, "sources in the wheel"
    assert {"cycnn/py.typed", "cycnn/LICENSE"} <= set(names)
    assert any(name.startswith("cycnn/data/") and name.endswith(".gz") for name in names), "digits"
    assert any("libgomp" in name for name in names), "the wheel does not carry its libgomp"
    modules = {tier: [n for n in names if f"/kernels/{tier}/" in n] for tier in ("v2", "v3", "v4")}
    assert len({len(files) for files in modules.values()}) == 1, modules
    assert modules["v4"], "no kernels"
    assert size < LIMIT, f"{size} bytes"


def main(sdist, wheel):
    with tarfile.open(sdist) as archive:
        check_sdist(archive.getnames())
    size = Path(wheel).stat().st_size
    with zipfile.ZipFile(wheel) as archive:
        check_wheel(archive.namelist(), size)
    print(f"{Path(wheel).name}: {size / 1e6:.2f} MB")


main(*sys.argv[1:])
