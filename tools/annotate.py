"""Show that no line inside a `nogil` function or section interacts with Python.

Runs Cython's annotation over every .pyx file, prints the lines that do, and fails if there are any.

    python tools/annotate.py [FILE...]      # by default every .pyx of the package
"""

import html
import re
import sys
import tempfile
from pathlib import Path

from Cython.Compiler.Main import CompilationOptions, compile
from Cython.Compiler.Options import get_directive_defaults

SCORED = re.compile(r'line score-([1-9]\d*)".*?>\+<span class="">0*(\d+)</span>: (.*?)</pre>')
HEADER = re.compile(r"^( *)(cdef\b.*|with\b.*)\bnogil\b.*:\s*(#.*)?$")

# Cython marks every `prange`, for releasing the GIL where it is held; with this it never asks.
NO_GIL = "#define PyGILState_Check() 0"
PRANGE = re.compile(r"^ *for \w+ in prange\(")


def logical_lines(text):
    """Pairs of line number (of the last physical line) and source, with signatures on one line."""
    pending = ""
    for number, line in enumerate(text.splitlines(), start=1):
        pending = f"{pending} {line.strip()}" if pending else line
        if pending.count("(") > pending.count(")") and re.match(r" *(cdef|cpdef|with)\b", pending):
            continue
        yield number, pending
        pending = ""


def nogil_lines(text):
    """Numbers of the lines in the bodies of nogil functions and sections."""
    inside, indent = set(), None
    for number, line in logical_lines(text):
        depth = len(line) - len(line.lstrip())
        if line.strip() and indent is not None and depth <= indent:
            indent = None
        if indent is not None:
            inside.add(number)
        elif header := HEADER.match(line):
            indent = len(header[1])
    return inside


def interactions(path):
    """Line number and source of the lines of ``path`` that Cython marks as using Python."""
    directives = get_directive_defaults() | {
        "language_level": 3,
        "boundscheck": False,
        "wraparound": False,
        "initializedcheck": False,
        "cdivision": True,
    }
    with tempfile.TemporaryDirectory() as folder:
        c_file = Path(folder) / "module.c"
        options = CompilationOptions(
            annotate=True,
            output_file=str(c_file),
            compiler_directives=directives,
            include_path=["."],
        )
        if compile(str(path), options).num_errors:
            sys.exit(f"{path} does not compile")
        text = c_file.with_suffix(".html").read_text()
    found = {
        int(number): html.unescape(re.sub("<.*?>", "", code))
        for _, number, code in SCORED.findall(text)
    }
    if NO_GIL in path.read_text():
        found = {number: code for number, code in found.items() if not PRANGE.search(code)}
    return found


def main():
    paths = [Path(p) for p in sys.argv[1:]] or sorted(Path("cycnn").rglob("*.pyx"))
    failures = 0
    for path in paths:
        inside = nogil_lines(path.read_text())
        bad = {n: code for n, code in interactions(path).items() if n in inside}
        print(f"{path}: {len(inside)} lines without the GIL, {len(bad)} use Python")
        for number, code in bad.items():
            print(f"    {number}: {code.strip()}")
        failures += len(bad)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
