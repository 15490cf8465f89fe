"""What does it cost to have cycnn? Seconds that `import cycnn` adds to `import numpy`, and megabytes.

Every import is done in a process of its own, in turns. The size is that of the wheel named (tools/wheel
builds it), else of the installed files.
"""

from __future__ import annotations

import statistics
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


def import_seconds(module: str) -> float:
    """Seconds of importing ``module`` in a new process that has numpy already."""
    command = [sys.executable, "-c", PROGRAM.format(module=module)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def installed_bytes(module: str) -> int:
    """Bytes of an installed package's own folder."""
    program = f"import {module}; print({module}.__path__[0])"
    command = [sys.executable, "-c", program]
    folder = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    files = (p for p in Path(folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return sum(p.stat().st_size for p in files)


def main() -> None:
    parser = timing.arguments(__doc__)
    parser.add_argument("--wheel", type=Path, help="the wheel whose size is to be told")
    parser.add_argument("--rounds", type=int, default=15)
    args = timing.parse(parser)
    modules = ["cycnn", *(m for m in ("onnxruntime", "torch") if timing.peer(m))]
    seconds = {module: [] for module in modules}
    for _ in range(args.rounds):
        for module in modules:
            seconds[module].append(import_seconds(module))
    rows = []
    for module in modules:
        row = {"module": module, "import_seconds": statistics.median(seconds[module])}
        row["installed_bytes"] = installed_bytes(module)
        rows.append(row)
        print(
            f"{module:12s} import {row['import_seconds'] * 1e3:6.1f} ms over numpy"
            f"   installed {row['installed_bytes'] / 1e6:7.1f} MB"
        )
    if args.wheel:
        rows[0]["wheel_bytes"] = args.wheel.stat().st_size
        print(f"{args.wheel.name}: {rows[0]['wheel_bytes'] / 1e6:.2f} MB")
    timing.write(args, rows)


if __name__ == "__main__":
    main()
