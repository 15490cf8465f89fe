"""How many threads: the only door to every thread setting.

The number for a call is, in this order,

1. the call's or session's own ``threads=n``,
2. the innermost ``with cycnn.threads(n):`` around it,
3. what ``cycnn.set_num_threads(n)`` set for the process,
4. the environment variable ``CYCNN_NUM_THREADS``, else ``OMP_NUM_THREADS`` (of a list, the first),
5. the smaller of the CPUs this process may run on and its control group's CPU quota, rounded down.

An ``n`` that was asked for is taken as given, above the number of CPUs too. threadpoolctl's limits come
on top: it lowers what OpenMP allows the calling thread, and no number above that is used. (A limit equal
to ``OMP_NUM_THREADS`` cannot be told from no limit, and so does not lower an ``n`` above it.)

A ``with`` block holds for the current context: this thread, or this asyncio task and what it starts with
``asyncio.to_thread``; other threads are not affected. The number never changes a result.

This module is callable, so that ``cycnn.threads(2)`` is the block and ``cycnn.threads`` still the module.
"""

from __future__ import annotations

import contextlib
import operator
import os
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType

from .errors import ArgumentError
from .plan import team, workspace

__all__ = [
    "MOST",
    "check",
    "cpu_quota",
    "get_num_threads",
    "num_threads_source",
    "resolve",
    "set_num_threads",
    "threads",
]

MOST = 1024  # OpenMP ends the process when the system refuses it a thread

_block: ContextVar[int | None] = ContextVar("cycnn_threads", default=None)
_process: tuple[int, str] | None = None
_unlimited: int | None = None


def check(n: object, name: str = "threads") -> int:
    """``n`` as an int. Raises `ArgumentError` unless it is an integer from 1 to 1024."""
    try:
        number = 0 if isinstance(n, bool) else operator.index(n)
    except TypeError:
        number = 0
    if not 1 <= number <= MOST:
        raise ArgumentError(
            f"`{name}` must be an integer from 1 to {MOST}. Received: {name}={n!r}."
        )
    return number


def set_num_threads(n: int) -> None:
    """Set the number of threads of this process. Raises `ArgumentError` for a bad ``n``."""
    global _process
    _process = check(n, "n"), "set_num_threads"
    team.set_team_size(n)


def get_num_threads() -> int:
    """The number of threads that a call made here and now may use.

    Raises `ArgumentError` when an environment variable that decides it has a value that is not allowed.
    """
    return _limited(_block.get() or _process_number()[0])


def resolve(n: int | None) -> int:
    """The number of threads for a call whose ``threads`` argument is ``n``."""
    return get_num_threads() if n is None else _limited(check(n))


def num_threads_source() -> str:
    """Where `get_num_threads` has its number from, in words."""
    number, source = _process_number()
    if (inner := _block.get()) is not None:
        number, source = inner, "with cycnn.threads"
    return source if get_num_threads() == number else f"{source}, limited by threadpoolctl"


def threads(n: int) -> contextlib.AbstractContextManager[int]:
    """``with cycnn.threads(n):`` calls in the block use ``n`` threads.

    Blocks nest. Raises `ArgumentError` for a bad ``n``.
    """
    return _held(check(n, "n"))


@contextlib.contextmanager
def _held(n: int) -> Iterator[int]:
    token = _block.set(n)
    try:
        yield n
    finally:
        _block.reset(token)
        # a team that grew above the machine's CPUs slows every later region down
        team.set_team_size(max(_block.get() or 1, _process_number()[0]))


def _process_number() -> tuple[int, str]:
    global _process
    if _process is None:
        _process = _from_environment() or _from_machine()
        team.set_team_size(_process[0])
    return _process


def _from_environment() -> tuple[int, str] | None:
    for name in ("CYCNN_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "").strip()
        if value:
            first = value.split(",")[0].strip() if name.startswith("OMP") else value
            return check(int(first) if first.isdecimal() else value, name), name
    return None


def _from_machine() -> tuple[int, str]:
    cpus, quota = _cpus(), cpu_quota()
    if quota is not None and quota < cpus:
        return max(1, min(MOST, int(quota))), "control group's CPU quota"
    return min(MOST, cpus), "CPU affinity mask"


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# ---- control groups ------------------------------------------------------------------------------


def cpu_quota(root: str | os.PathLike = "/") -> float | None:
    """How many CPUs' time this process may use, by its control groups (v1 and v2); None: no limit.

    A limit holds for the groups below it, so every level up to the mount is read. ``root`` is where
    ``proc`` and ``sys`` are. What cannot be read or understood counts as no limit.
    """
    quotas = [
        quota
        for folder in _group_folders(Path(root))
        for read in (_quota_v2, _quota_v1)
        if (quota := read(folder)) is not None
    ]
    return min(quotas, default=None)


def _group_folders(root: Path) -> Iterator[Path]:
    mounts = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if line.startswith("0::"):
            places = [mounts, mounts / "unified"]
        elif "cpu" in controllers.split(","):
            places = [mounts / "cpu", mounts / controllers]
        else:
            continue
        # a container may see the host's path, of which it has only the end or nothing: skip what is not
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for mount in places:
            for depth in range(len(parts) + 1):
                yield mount.joinpath(*parts[:depth])


def _quota_v2(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    return _ratio(quota, period or "100000")


def _quota_v1(folder: Path) -> float | None:
    return _ratio(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    """quota / period, where both are positive numbers; "max" and -1 mean no limit."""
    quota, period = quota.strip(), period.strip()
    if not (quota.isdecimal() and period.isdecimal()) or int(quota) == 0 or int(period) == 0:
        return None
    return int(quota) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


# ---- OpenMP --------------------------------------------------------------------------------------


def _limited(n: int) -> int:
    """``n`` or less, where threadpoolctl (or omp_set_num_threads) lowered this thread's limit."""
    if n == 1:
        return 1
    limit = team.pool_limit()
    return min(n, limit) if limit < _pool_size() else n


def _pool_size() -> int:
    """What OpenMP allows a thread for which nobody has changed it: a new one."""
    global _unlimited
    if _unlimited is None:
        sizes: list[int] = []
        fresh = threading.Thread(target=lambda: sizes.append(team.pool_limit()))
        fresh.start()
        fresh.join()
        _unlimited = sizes[0]
    return _unlimited


def _after_fork_in_child() -> None:
    team.forget_team()
    workspace.forget_calls()


os.register_at_fork(before=team.release_team, after_in_child=_after_fork_in_child)


class _Threads(ModuleType):
    def __call__(self, n: int) -> contextlib.AbstractContextManager[int]:
        return threads(n)


sys.modules[__name__].__class__ = _Threads
