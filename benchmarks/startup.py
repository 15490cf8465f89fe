"""What does it cost to have cycnn? Seconds that `import cycnn` adds to `import numpy`, and megabytes.

Every import is done in a process of its own, in turns, after one that is not counted and leaves compiled
bytecode behind, as an installed package has it. ``--wheel`` tells the size of what tools/wheel built.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import timing

PROGRAM = """
import sys, time
import numpy
start = time.perf_counter()
import {module}
print(time.perf_counter() - start)
"""


ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def run(program: str) -> str:
    """What a new interpreter prints."""
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=ENVIRONMENT
    ).stdout.strip()


def import_seconds(module: str) -> float:
    """Seconds of importing ``module`` in a new process that has numpy already."""
    return float(run(PROGRAM.format(module=module)))


def installed_bytes(module: str) -> int:
    """Bytes of an installed package's own folder."""
    folder = Path(run(f"import {module}; print({module}.__path__[0])"))
    files = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return sum(p.stat().st_size for p in files)


def main() -> None:
    parser = timing.arguments(__doc__)
    parser.add_argument("--wheel", type=Path, help="the wheel whose size is to be told")
    parser.add_argument("--rounds", type=int, default=15)
    args = timing.parse(parser)
    modules = ["cycnn", *filter(timing.peer, ("onnxruntime", "openvino", "ncnn", "torch"))]
    seconds = {module: [] for module in modules}
    for round_ in range(args.rounds + 1):
        for module in modules:
            spent = import_seconds(module)
            if round_:
                seconds[module].append(spent)
    rows = []
    for module in modules:
        times = timing.Times(tuple(seconds[module]))
        row = {"module": module, "median_seconds": times.median, "best_seconds": times.best}
        row["installed_bytes"] = installed_bytes(module)
        rows.append(row)
        print(
            f"{module:12s} import {times.median * 1e3:6.1f} ms over numpy at the median,"
            f" {times.best * 1e3:6.1f} at best   installed {row['installed_bytes'] / 1e6:7.1f} MB"
        )
    if args.wheel:
        rows[0]["wheel_bytes"] = args.wheel.stat().st_size
        print(f"{args.wheel.name}: {rows[0]['wheel_bytes'] / 1e6:.2f} MB")
    timing.write(args, rows)


if __name__ == "__main__":
    main()
