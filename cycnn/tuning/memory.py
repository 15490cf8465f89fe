"""What was measured on this machine: one file in the user's cache directory, safe to delete.

It is ``cycnn/tuned.json`` in ``$XDG_CACHE_HOME``, by default ``~/.cache``; ``CYCNN_TUNE_CACHE`` names
another file, or none where it is empty. It holds at most `LIMIT` answers, each for one CPU, instruction-set
tier, version of cycnn and number of threads; those used least recently are dropped first. Processes that
add to it take turns, by a lock on the file beside it that ends in ``.lock``. A file that is something else,
or cannot be read, is left alone, with a warning.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from ..plan.choices import Chosen, Option
from ..saving import write_whole

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

__all__ = ["LIMIT", "keep", "location", "machine", "recall"]

PATIENCE = 5.0  # seconds
LIMIT = 4096
FORMAT = "cycnn tuning 1"
BROKEN = (OSError, ValueError, RecursionError)
CPU_LINES = ("model name", "cpu family", "model", "stepping", "cache size")


def location() -> Path | None:
    """The path of the file; None where there is to be none. Raises `OSError` without a home."""
    named = os.environ.get("CYCNN_TUNE_CACHE")
    if named is not None:
        return Path(os.path.abspath(named)) if named.strip() else None
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):  # as its specification says
        cache = os.path.expanduser("~/.cache")
    if not os.path.isabs(cache):
        raise FileNotFoundError("there is no home directory")
    return Path(cache) / "cycnn" / "tuned.json"


def machine(tier: str, threads: int) -> str:
    """What measurements depend on besides the problem, in words."""
    from .. import __version__

    return f"{_cpu()}, {tier}, cycnn {__version__}, {threads} threads"


def recall(machine: str) -> dict[str, Option]:
    """The answers for ``machine`` by `Choice.id`; none, and a warning, where the file is no good."""
    try:
        path = location()
        entries = {} if path is None else _read(path)
    except BROKEN as error:
        _warn("cannot be used", error)
        return {}
    begin = f"{machine}: "
    return {k.removeprefix(begin): v for k, v in entries.items() if k.startswith(begin)}


def keep(machine: str, answers: Chosen) -> None:
    """Add ``answers`` to the file, or make them the most recent; a warning where that fails."""
    try:
        path = location()
        if path is None:
            return
        _read(path)
    except BROKEN:
        return  # `recall` has said so
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _turn(path):
            entries = _read(path)  # what other processes wrote meanwhile is kept
            for id, option in answers.items():
                entries.pop(f"{machine}: {id}", None)
                entries[f"{machine}: {id}"] = option
            entries = dict(list(entries.items())[-LIMIT:])
            data = json.dumps({"format": FORMAT, "answers": entries}, indent=0)
            write_whole(path, data.encode())
    except BROKEN as error:
        _warn("cannot be written", error)


@contextlib.contextmanager
def _turn(path: Path) -> Iterator[None]:
    """One process, and one thread of it, at a time, where the system has locks for files.

    Nobody waits longer than `PATIENCE`: answers are worth less than a process that hangs.
    """
    if fcntl is None:
        yield
        return
    file = os.open(path.with_name(path.name + ".lock"), os.O_RDONLY | os.O_CREAT, 0o666)
    try:
        _lock(file)
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)  # a child made by fork shares what is open
        os.close(file)


def _lock(file: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:  # a file system without locks
            return
        else:
            return


def _read(path: Path) -> dict[str, Option]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    entries = data.get("answers") if isinstance(data, dict) else None
    if not isinstance(entries, dict) or data.get("format") != FORMAT:
        raise ValueError("it holds something else")
    if not all(isinstance(v, (bool, int, str)) for v in entries.values()):
        raise ValueError("it holds what is no answer")
    return entries


def _warn(what: str, error: Exception) -> None:
    try:
        name = f"`{location()}`"
    except OSError:
        name = "of tuning"
    warnings.warn(
        f"The file {name} {what} ({error}); what is measured holds for this process only.",
        RuntimeWarning,
        stacklevel=5,  # the caller of `Model.tune` or `Session.tune`
    )


def _cpu() -> str:
    """The first processor's name, and what tells apart those that share a name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except (OSError, UnicodeDecodeError):
        text = ""
    pairs = (line.partition(":") for line in text.splitlines())
    values = {key.strip(): value.strip() for key, _, value in pairs}
    found = " ".join(values[key] for key in CPU_LINES if key in values)
    return found or platform.processor() or platform.machine()
