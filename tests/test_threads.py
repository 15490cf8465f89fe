"""How many threads: environment, affinity mask, CPU quota, blocks, threadpoolctl's limits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from types import ModuleType

import pytest
import threadpoolctl

import cycnn
from cycnn import threads
from cycnn.errors import ArgumentError
from cycnn.plan import team


@pytest.fixture(autouse=True)
def _forget_settings(monkeypatch):
    """Each test starts as a process does, and leaves the team as the other tests have it."""
    for name in ("CYCNN_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_process", None)
    monkeypatch.setattr(threads, "_unlimited", None)
    size = team.get_team_size()
    yield
    team.set_team_size(size)


def tree(root, groups: str, files: dict[str, str]):
    """A fake ``/``: what proc says of this process's control groups, and files below cgroup's mount."""
    for name, text in {"proc/self/cgroup": groups}.items() | {
        f"sys/fs/cgroup/{name}": text for name, text in files.items()
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V1 = "5:devices:/pod\n4:cpu,cpuacct:/pod/box\n1:name=systemd:/\n"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("0::/\n", {"cpu.max": "765000 100000\n"}, 7.65),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "200000\n"}, 2),
        ("0::/\n", {"cpu.max": "lots of it\n"}, None),
        ("0::/\n", {"cpu.max": "200000 0\n"}, None),
        ("0::/\n", {"cpu.max": ""}, None),
        ("0::/\n", {}, None),
        ("", {}, None),
        ("no colons here", {"cpu.max": "1 1"}, None),
        # nested: the strictest of all levels, and a level without the file
        ("0::/pod/box\n", {"pod/cpu.max": "150000 100000", "pod/box/cpu.max": "max 100000"}, 1.5),
        ("0::/pod/box\n", {"pod/box/cpu.max": "4 1", "cpu.max": "3 1"}, 3),
        ("0::/not/seen/from/inside\n", {"cpu.max": "3 1"}, 3),
        ("0::/../../host\n", {"cpu.max": "3 1"}, 3),
        ("0::/pod\n", {"unified/pod/cpu.max": "2 1"}, 2),
        (V1, {"cpu,cpuacct/pod/cpu.cfs_quota_us": "-1\n"}, None),
        (V1, {"cpu/pod/box/cpu.cfs_quota_us": "250000\n"}, None),  # no period
        (V1.replace("cpu,cpuacct", "cpu"), {"cpu.max": "1 1"}, None),
    ],
)
def test_cpu_quota(tmp_path, groups, files, expected):
    assert threads.cpu_quota(tree(tmp_path, groups, files)) == expected


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_cpu_quota_v1(tmp_path, mount):
    files = {
        f"{mount}/pod/cpu.cfs_quota_us": "350000\n",
        f"{mount}/pod/cpu.cfs_period_us": "100000\n",
        f"{mount}/pod/box/cpu.cfs_quota_us": "-1\n",
        f"{mount}/pod/box/cpu.cfs_period_us": "100000\n",
    }
    assert threads.cpu_quota(tree(tmp_path, V1, files)) == 3.5


def test_unreadable_groups_are_no_limit(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_bytes(b"0::/\xff\xfe\n")
    assert threads.cpu_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("quota", "cpus", "n", "source"),
    [
        (None, 6, 6, "CPU affinity mask"),
        (7.65, 16, 7, "control group's CPU quota"),
        (0.5, 16, 1, "control group's CPU quota"),
        (8.0, 4, 4, "CPU affinity mask"),
        (None, 5000, threads.MOST, "CPU affinity mask"),
    ],
)
def test_default_is_the_smaller_of_mask_and_quota(monkeypatch, quota, cpus, n, source):
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: range(cpus))
    monkeypatch.setattr(threads.team, "pool_limit", lambda: threads.MOST)
    assert (threads.get_num_threads(), threads.num_threads_source()) == (n, source)


def test_the_mask_of_a_process_is_respected():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "import cycnn; print(cycnn.get_num_threads())"
    )
    environment = {k: v for k, v in os.environ.items() if not k.endswith("NUM_THREADS")}
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert out.stdout == "1\n"


@pytest.mark.parametrize(
    ("variables", "n", "source"),
    [
        ({"CYCNN_NUM_THREADS": "3"}, 3, "CYCNN_NUM_THREADS"),
        ({"CYCNN_NUM_THREADS": " 3 ", "OMP_NUM_THREADS": "5"}, 3, "CYCNN_NUM_THREADS"),
        ({"CYCNN_NUM_THREADS": "", "OMP_NUM_THREADS": "5"}, 5, "OMP_NUM_THREADS"),
        ({"OMP_NUM_THREADS": "4,2"}, 4, "OMP_NUM_THREADS"),
        ({"OMP_NUM_THREADS": " 4 , 2"}, 4, "OMP_NUM_THREADS"),
    ],
)
def test_environment(monkeypatch, variables, n, source):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (threads.get_num_threads(), threads.num_threads_source()) == (n, source)


@pytest.mark.parametrize("name", ["CYCNN_NUM_THREADS", "OMP_NUM_THREADS"])
@pytest.mark.parametrize("value", ["two", "0", "-1", "1.5", "99999", ",2", "٣x"])
def test_bad_environment_is_named_at_first_use(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ArgumentError, match=rf"`{name}` must be an integer from 1 to 1024\. Rec"):
        threads.get_num_threads()


@pytest.mark.parametrize("n", [0, -1, 1.0, "2", None, True, 1025])
@pytest.mark.parametrize("setter", [threads.set_num_threads, threads.threads])
def test_bad_number(setter, n):
    with pytest.raises(
        ArgumentError, match=r"`n` must be an integer from 1 to 1024\. Received: n="
    ):
        setter(n)


def test_bad_number_of_a_call():
    with pytest.raises(ArgumentError, match=r"`threads` must be .* Received: threads=0\."):
        threads.resolve(0)


def test_set_num_threads_above_the_machine():
    cycnn.set_num_threads(7)
    assert cycnn.get_num_threads() == threads.resolve(None) == 7
    assert threads.num_threads_source() == "set_num_threads"
    assert threads.resolve(9) == 9


def test_module_is_callable_and_still_a_module():
    assert isinstance(cycnn.threads, ModuleType)
    assert cycnn.threads.get_num_threads is cycnn.get_num_threads
    with cycnn.threads(3) as n:
        assert n == cycnn.get_num_threads() == 3


def test_blocks_nest_and_end_with_an_error():
    cycnn.set_num_threads(2)
    with cycnn.threads(5):
        with contextlib.suppress(KeyError), cycnn.threads(3):
            assert cycnn.get_num_threads() == 3
            raise KeyError
        assert cycnn.get_num_threads() == 5
        assert threads.num_threads_source() == "with cycnn.threads"
    assert cycnn.get_num_threads() == 2
    assert threads.num_threads_source() == "set_num_threads"


def test_a_block_ends_with_the_team_as_large_as_the_process():
    cycnn.set_num_threads(2)
    with cycnn.threads(5):
        team.set_team_size(5)  # as a call of five threads does
        with cycnn.threads(8):
            team.set_team_size(8)
        assert team.get_team_size() == 5
    assert team.get_team_size() == 2


def in_thread(function):
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def test_a_block_is_of_its_own_thread():
    cycnn.set_num_threads(2)
    with cycnn.threads(5):
        alone = in_thread(lambda: threads._block.get())
    inherits = getattr(sys.flags, "thread_inherit_context", 0)  # Python 3.14 without the GIL
    assert alone == (5 if inherits else None)


def test_a_block_is_of_its_own_task():
    async def task(n):
        with cycnn.threads(n):
            await asyncio.sleep(0)
            return cycnn.get_num_threads(), await asyncio.to_thread(cycnn.get_num_threads)

    async def both():
        return await asyncio.gather(task(3), task(4))

    assert asyncio.run(both()) == [(3, 3), (4, 4)]


def test_threadpoolctl_limits_what_was_asked_for():
    if threads._pool_size() == 1:
        pytest.skip("OpenMP has one thread here: a limit of 1 cannot be told from none")
    cycnn.set_num_threads(4)
    with threadpoolctl.threadpool_limits(1):
        assert cycnn.get_num_threads() == threads.resolve(6) == 1
        assert threads.num_threads_source() == "set_num_threads, limited by threadpoolctl"
        with cycnn.threads(3):
            assert cycnn.get_num_threads() == 1
    assert cycnn.get_num_threads() == 4
