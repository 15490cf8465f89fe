"""Locks that a forked child finds free.

A child made by fork has one thread; a lock that another thread held at that moment would stay held for
ever in it. (What the lock guarded is only ever replaced whole, so the child finds it in order.)
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import weakref
from collections.abc import Iterable, Sequence
from typing import Protocol

__all__ = ["Guards", "Lock", "share_guards", "together"]

_locks: weakref.WeakSet[Lock] = weakref.WeakSet()
_numbers = itertools.count()


class Lock:
    """A reentrant lock, for ``with``; copies and pickles are new locks."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.number = next(_numbers)
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple:
        return Lock, ()

    def renew(self) -> None:
        """Be free, whoever held it."""
        self._lock = threading.RLock()


class _Together:
    """Several locks, for ``with``; all callers take them in the order in which they were made."""

    def __init__(self, locks: list[Lock]):
        self._locks = locks

    def __enter__(self) -> None:
        with contextlib.ExitStack() as taken:  # an interrupt may come while one waits
            for lock in self._locks:
                taken.enter_context(lock)
            taken.pop_all()

    def __exit__(self, *_: object) -> None:
        for lock in reversed(self._locks):
            lock.__exit__()


def together(locks: Iterable[Lock]) -> Lock | _Together:
    """One that holds all ``locks``."""
    found = sorted(set(locks), key=lambda lock: lock.number)
    return found[0] if len(found) == 1 else _Together(found)


class Guarded(Protocol):
    """What has guards once it belongs to a model: a layer."""

    guards: Guards | None


class Guards:
    """The locks of layers that belong together: held to read or change weights, and to train them.

    A model of layers from several others holds the locks of all.
    """

    def __init__(self) -> None:
        self.weights, self.training = Lock(), Lock()


_connecting = Lock()


def share_guards(layers: Sequence[Guarded]) -> list[Guards]:
    """The guards that each of ``layers`` has from now on: those that it had, or new ones."""
    guards = Guards()
    with _connecting:
        for layer in layers:
            layer.guards = layer.guards or guards
    return [layer.guards for layer in layers] or [guards]


def _after_fork_in_child() -> None:
    for lock in list(_locks):
        lock.renew()


os.register_at_fork(after_in_child=_after_fork_in_child)
