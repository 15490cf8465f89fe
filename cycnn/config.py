"""What this installation consists of and what it runs on: `get_config`, `show_config`."""

from __future__ import annotations

import platform

import numpy as np
from threadpoolctl import threadpool_info

from . import threads
from .kernels import dispatch
from .plan import executor

__all__ = ["get_config", "show_config"]


def get_config() -> dict[str, object]:
    """Version, instruction-set tier, threads, compiler, NumPy and thread pools, as plain values."""
    from . import __version__

    return {
        "version": __version__,
        "tier": dispatch.load().tier,
        "supported_tiers": dispatch.supported_tiers(),
        "threads": threads.get_num_threads(),
        "threads_source": threads.num_threads_source(),
        "cpu_quota": threads.cpu_quota(),
        "compiler": executor.compiler,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "thread_pools": [_pool(info) for info in threadpool_info()],
    }


def show_config() -> None:
    """Print `get_config`, one line an entry."""
    config = get_config()
    supported = ", ".join(config["supported_tiers"])
    quota = "none" if config["cpu_quota"] is None else f"{config['cpu_quota']:g} CPUs"
    lines = {
        "cycnn": config["version"],
        "tier": f"{config['tier']} (this CPU runs {supported})",
        "threads": f"{config['threads']} (from {config['threads_source']})",
        "CPU quota": quota,
        "compiler": config["compiler"],
        "Python": config["python"],
        "NumPy": config["numpy"],
    }
    for pool in config["thread_pools"]:
        lines[f"{pool['name']} pool"] = f"{pool['threads']} threads, {pool['path']}"
    for name, value in lines.items():
        print(f"{name + ':':21} {value}")


def _pool(info: dict) -> dict[str, object]:
    name = info["prefix"].removeprefix("lib")
    return {"name": name, "threads": info["num_threads"], "path": info["filepath"]}
