"""The tools that watch the code: no Python without the GIL, accumulators in registers, sizes."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import cycnn

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(cycnn.__file__).parent
INSTRUMENTED = any(os.environ.get(name) for name in ("CYCNN_SANITIZE", "CYCNN_DEBUG"))
x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="tools/asm.py reads x86 code")

WITH_PYTHON = """
cdef void uses_python(int a,
                      int b) noexcept nogil:
    cdef int c = a + b
    with gil:
        print(c)

def section(list x):
    cdef int k
    with nogil:
        k = 3
        with gil:
            x.append(k)
    x.append(4)
"""

SPILLING = """
void sum(float *y, const float *x, long n)
{
    typedef float v __attribute__((vector_size(16)));
    v a = {}, b = {}, c = {}, d = {};
    volatile v kept[4];
    for (long i = 0; i < n; i++, x += 16) {
        a += *(v *)x * *(v *)x;
        b += *(v *)(x + 4) * *(v *)x;
        c += *(v *)(x + 8) * *(v *)x;
        d += *(v *)(x + 12) * *(v *)x;
        kept[0] = a;
    }
    *(v *)y = a + b + c + d + kept[0];
}
"""


def tool(name: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "tools" / name, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_executor_uses_no_python_without_the_gil():
    done = tool("annotate.py", "cycnn/plan/executor.pyx", "cycnn/plan/team.pyx")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" 0 use Python") == 2


def test_annotate_finds_python(tmp_path):
    path = tmp_path / "with_python.pyx"
    path.write_text(WITH_PYTHON)
    done = tool("annotate.py", path)
    assert done.returncode == 1
    assert [line.split(":")[0].strip() for line in done.stdout.splitlines()[1:]] == [
        "5",
        "6",
        "12",
        "13",
    ]


@x86
@pytest.mark.skipif(INSTRUMENTED, reason="an instrumented build keeps nothing in registers")
def test_accumulators_stay_in_registers():
    done = tool("asm.py", PACKAGE / "kernels")
    assert done.returncode == 0, done.stdout + done.stderr
    gemm = [line.split() for line in done.stdout.splitlines() if " gemm " in line]
    assert gemm
    # one for each height of each width of its tiles, at least
    assert all(int(words[2]) > 14 for words in gemm), "loops of multiply-adds were not found"


@x86
def test_asm_finds_a_spill(tmp_path):
    (tmp_path / "tier").mkdir()
    (tmp_path / "sum.c").write_text(SPILLING)
    target = tmp_path / "tier" / "sum.so"
    command = ["gcc", "-O2", "-shared", "-fPIC", "-o", target, tmp_path / "sum.c"]
    subprocess.run(command, check=True)
    done = tool("asm.py", tmp_path)
    assert done.returncode == 1
    assert "1 spill" in done.stdout


def test_asm_without_a_build_says_so(tmp_path):
    done = tool("asm.py", tmp_path)
    assert done.returncode == 1
    assert "no built kernels" in done.stderr


def test_size_counts_every_file():
    done = tool("size.py", "--all")
    assert done.returncode == 0, done.stderr
    assert "tests/test_tools.py" in done.stdout
    assert "over budget" in done.stdout
