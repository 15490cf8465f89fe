"""Every op computes what its formula says: kernels of every tier, which agree, and the interpreter."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

import pytest

import oracle
import runner
from cases import CASES
from cycnn import ops
from cycnn.ops.base import Op

grid = pytest.mark.parametrize("case", CASES, ids=str)


def test_every_op_is_on_the_grid():
    modules = [
        importlib.import_module(f"cycnn.ops.{m.name}") for m in pkgutil.iter_modules(ops.__path__)
    ]
    public = [getattr(module, name) for module in modules for name in module.__all__]
    names = {
        c.__name__ for c in public if isinstance(c, type) and issubclass(c, Op) and c is not Op
    }
    assert names == {case.op.name for case in CASES}
    assert names == {*oracle.ORACLE}


@cache
def expected(case):
    return oracle.expected(case.op, case.arrays())


@grid
def test_kernels_compute_the_formula(case):
    results = {tier: runner.run(case.op, case.arrays(), tier=tier) for tier in runner.TIERS}
    for tier, result in results.items():
        with runner.named(tier):
            runner.assert_close(result, expected(case))
            runner.assert_close(result, results[runner.TIERS[0]])


@grid
def test_interpreter_computes_the_formula_in_the_shapes_that_inference_tells(case):
    outputs = runner.evaluate(case.op, case.arrays())
    runner.assert_close(outputs, expected(case))
    told = [(s.shape, s.dtype) for s in runner.specs(case.op, case.arrays())]
    assert not told or told == [(y.shape, str(y.dtype)) for y in outputs]
