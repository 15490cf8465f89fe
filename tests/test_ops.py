"""What every op owes to its base class: equal fields make equal ops, which nothing changes."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, fields, replace

import pytest

from cases import CASES
from cycnn.ops.base import Op

OPS = sorted({case.op for case in CASES}, key=repr)


@pytest.mark.parametrize("name", sorted({op.name for op in OPS}))
def test_ops_are_values(name):
    ops = [op for op in OPS if op.name == name]
    for op in ops:
        same = pickle.loads(pickle.dumps(op))
        assert same == op == replace(op)
        assert hash(same) == hash(op)
        assert repr(op).startswith(f"{name}(")
        assert all(f"{f.name}={getattr(op, f.name)!r}" in repr(op) for f in fields(op))
    assert len(set(ops)) == len({repr(op) for op in ops})


@pytest.mark.parametrize("name", sorted({op.name for op in OPS}))
def test_ops_do_not_change(name):
    op = next(op for op in OPS if op.name == name)
    with pytest.raises(FrozenInstanceError):
        op.another = 1
    for field in fields(op):
        with pytest.raises(FrozenInstanceError):
            setattr(op, field.name, None)


def test_ops_of_other_classes_differ():
    class Some(Op):
        size: int = 1

    class Other(Op):
        size: int = 1

    assert Some() == Some(1)
    assert Some() != Some(2)
    assert Some() != Other()
    assert Some() != 1
    assert len({Some(), Some(1), Some(2), Other()}) == 3
