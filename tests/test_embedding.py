"""A program inside other programs: forks, many Python threads, the GIL, odd arrays."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from cycnn.plan.executor import Program

from cycnn.kernels import dispatch
from cycnn.plan import team

SIZE = 200_000
KERNELS = dispatch.load()
X = np.random.default_rng(0).standard_normal(SIZE, np.float32)
Y = np.maximum(X, 0)
# Python 3.12 and later warn when a process with threads forks; that it works is what is tested
forks = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def chain(length: int, size: int = SIZE, parallel: bool = True, outputs: int = 1) -> Program:
    """relu, then copies through the arena and out: every step shared, serial where n % 3 == 2."""
    relu, copy = KERNELS.pointwise.activation("relu", size, 1), KERNELS.pointwise.copy(size)
    steps = [(relu[1], relu[2], relu[4], (1, 3), parallel, 1)]
    for n in range(length):
        operands = (3 + n % 2, 3 + (n + 1) % 2)
        steps.append((copy[1], copy[2], copy[4], operands, parallel and n % 3 != 2, 1))
    last = 3 + length % 2
    steps += [(copy[1], copy[2], copy[4], (last, 5 + k), parallel, 1) for k in range(outputs)]
    results = [(5 + k, (size,), "float32") for k in range(outputs)]
    arena = {3: 0, 4: (size * 4 + 63) // 64 * 64}
    return Program(
        steps, 5 + outputs, {}, arena, [(1, (size,), "float32")], results, 2 * arena[4], 128, {}
    )


def together(n: int, function) -> None:
    """Call ``function`` from ``n`` Python threads at once; an error in one of them is raised here."""
    errors = []
    start = threading.Barrier(n)

    def body():
        try:
            start.wait()
            function()
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=body) for _ in range(n)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("length", [0, 1, 7])
@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_same_bits_for_any_number_of_threads(threads, length):
    program = chain(length)
    for _ in range(5):
        assert program.call(X, threads).tobytes() == Y.tobytes()
    out = np.full_like(X, np.nan)
    program.run([X], [out], threads)
    assert out.tobytes() == Y.tobytes()


@pytest.mark.parametrize("threads", [1, 2])
def test_many_python_threads_share_a_program(threads):
    """More callers than workspaces: some wait for one, and none for ever."""
    program = chain(4)

    def calls():
        for k in range(30):
            x = np.full(SIZE, k + 1, np.float32)
            assert (program.call(x, threads) == k + 1).all()

    together(40, calls)


def test_the_team_serves_any_thread_after_a_busy_time():
    program = chain(2)
    together(8, lambda: program.call(X, 2))
    together(1, lambda: program.call(X, 2))
    assert program.call(X, 2).tobytes() == Y.tobytes()


def predict_in_child() -> int:
    """Fork; the child runs on two threads and ends with 0 when the answer is right."""
    program = chain(3)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            right = all(program.call(X, 2).tobytes() == Y.tobytes() for _ in range(5))
            together(4, lambda: program.call(X, 2))
            status = 0 if right else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@forks
@pytest.mark.parametrize("run_first_in", ["main thread", "other thread", "neither"])
def test_a_forked_child_predicts(run_first_in):
    program = chain(3)
    if run_first_in == "main thread":
        program.call(X, 2)
    elif run_first_in == "other thread":
        together(1, lambda: program.call(X, 2))
    assert predict_in_child() == 0
    assert program.call(X, 2).tobytes() == Y.tobytes(), "the parent goes on"


@forks
def test_fork_while_other_threads_predict():
    program = chain(3)
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            program.call(X, 2)

    workers = [threading.Thread(target=busy) for _ in range(3)]
    for worker in workers:
        worker.start()
    try:
        assert [predict_in_child() for _ in range(3)] == [0, 0, 0]
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def child_of_a_pool(k: int) -> float:
    return float(chain(1).call(np.full(SIZE, k, np.float32), 2).sum())


@forks
def test_multiprocessing_fork():
    chain(1).call(X, 2)
    with warnings.catch_warnings(), multiprocessing.get_context("fork").Pool(2) as pool:
        warnings.simplefilter("ignore", DeprecationWarning)
        assert pool.map(child_of_a_pool, range(4)) == [k * SIZE for k in range(4)]


@pytest.mark.parametrize("threads", [1, 2])
def test_another_python_thread_makes_progress_during_one_run(threads):
    program = chain(3000)
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(None)
            time.sleep(0)  # let the GIL go

    interval = sys.getswitchinterval()
    other = threading.Thread(target=tick)
    try:
        other.start()
        sys.setswitchinterval(100)  # from here on the other thread runs only when the GIL is let go
        progress = []
        while (
            max(progress, default=0) <= 10 and len(progress) < 50
        ):  # a busy machine may give it no CPU
            before = len(ticks)
            program.call(X, threads)
            progress.append(len(ticks) - before)
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        other.join()
    assert max(progress) > 10


@pytest.mark.parametrize("threads", [1, 2])
def test_denormals_are_flushed_inside_and_kept_outside(threads):
    """Every member reads them as zero; the caller's floating-point state is as it was."""
    tiny = np.full(SIZE, 1e-40, np.float32)
    assert not chain(1).call(tiny, threads).any()
    assert (tiny * np.float32(0.5)).all()


SUB_INTERPRETER = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
from test_embedding import X, Y, chain
name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
importlib.import_module(name).create()
print(chain(1).call(X, 2).tobytes() == Y.tobytes())
"""


def in_a_new_process(code: str, **variables: str) -> str:
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    environment = os.environ | variables
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_beside_a_sub_interpreter():
    """Python 3.11 does not know who holds the GIL once there is one; a program does not ask."""
    assert in_a_new_process(SUB_INTERPRETER) == "True"


def test_importing_leaves_the_environment_as_it_was():
    code = "import os; before = dict(os.environ); import cycnn; print(before == dict(os.environ))"
    assert in_a_new_process(code) == "True"
    assert in_a_new_process(code, GOMP_SPINCOUNT="100") == "True"


def test_several_outputs_come_as_a_list():
    first, second = chain(1, outputs=2).call(X, 2)
    assert first.tobytes() == second.tobytes() == Y.tobytes()
    assert not np.shares_memory(first, second)


def test_takes_says_what_call_accepts():
    program = chain(0, size=6)
    x = np.zeros(6, np.float32)
    read_only = x.copy()
    read_only.flags.writeable = False
    assert program.takes(x)
    assert program.takes(read_only)
    unaligned = np.zeros(25, np.uint8)[1:].view(np.float32)
    for wrong in (
        x.astype(np.float64),
        x.astype(">f4"),
        np.zeros(12, np.float32)[::2],
        unaligned,
        np.zeros(7, np.float32),
        x.reshape(2, 3),
        [0.0] * 6,
        None,
    ):
        assert not program.takes(wrong)
        with pytest.raises(ValueError, match=r"C-contiguous float32 array of shape \(6,\)\. Rec"):
            program.call(wrong)


def test_run_refuses_what_it_cannot_write():
    program = chain(0, size=6)
    x, y = np.zeros(6, np.float32), np.zeros(6, np.float32)
    y.flags.writeable = False
    with pytest.raises(ValueError, match=r"C-contiguous float32 array of shape \(6,\)"):
        program.run([x], [y])
    with pytest.raises(ValueError, match="the plan takes 1 arrays, received 2"):
        program.run([x, x], [x])


def test_a_bad_step_is_refused():
    relu = KERNELS.pointwise.activation("relu", 4, 1)
    io = [(1, (4,), "float32")], [(2, (4,), "float32")]
    for operands in ((1, 3), (-1, 2)):
        with pytest.raises(ValueError, match="a step names a buffer that does not exist"):
            Program([(relu[1], relu[2], relu[4], operands, 0, 1)], 3, {}, {}, *io, 0, 0, {})
    with pytest.raises(ValueError, match="at most 16 operands"):
        Program([(relu[1], relu[2], relu[4], (1,) * 17, 0, 1)], 3, {}, {}, *io, 0, 0, {})
    with pytest.raises(ValueError, match="no such buffer, or too many axes"):
        Program([], 3, {}, {}, [(3, (4,), "float32")], [], 0, 0, {})


def test_no_memory_is_an_error_and_the_pool_survives():
    """Every block of the pool fails once, none is lost."""
    relu = KERNELS.pointwise.activation("relu", 4, 1)
    io = [(1, (4,), "float32")], [(2, (4,), "float32")]
    huge = Program([(relu[1], relu[2], relu[4], (1, 2), 0, 1)], 3, {}, {}, *io, 1 << 60, 0, {})
    x = np.ones(4, np.float32)
    for _ in range(40):
        with pytest.raises(MemoryError, match="cannot allocate a workspace"):
            huge.call(x)
    together(30, lambda: chain(1).call(X, 2))


@pytest.mark.parametrize("threads", [1, 2])
def test_profile_times_every_step(threads):
    program = chain(3)
    seconds = program.profile([X], program.empty_outputs(), threads)
    assert seconds.shape == (5,)
    assert (seconds > 0).all()


def test_the_team_grows_and_is_set_back():
    size = team.get_team_size()
    chain(0).call(X, size + 2)
    assert team.get_team_size() == size + 2
    team.set_team_size(size)
    assert team.get_team_size() == size
