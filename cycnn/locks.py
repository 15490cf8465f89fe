"""Locks that a forked child finds free.

A child made by fork has one thread; a lock that another thread held at that moment would stay held for
ever in it. (What the lock guarded is only ever replaced whole, so the child finds it in order.)
"""

from __future__ import annotations

import os
import threading
import weakref

__all__ = ["Lock"]

_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


class Lock:
    """A reentrant lock, for ``with``; copies and pickles are new locks."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
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


def _after_fork_in_child() -> None:
    for lock in list(_locks):
        lock.renew()


os.register_at_fork(after_in_child=_after_fork_in_child)
