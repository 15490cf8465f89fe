"""Lines of every file and function against their budgets, and the sizes of what was built.

A file or function over its budget is printed, as a warning: a reviewer may waive it, with a reason.

    python tools/size.py [--all]        # --all: every file, not only those over budget
"""

import ast
import re
import sys
from pathlib import Path

FILE_BUDGETS = {"setup.py": 150, "__init__.py": 60, ".py": 400, ".pyx": 500, ".pxd": 200, ".h": 300}
FUNCTION_BUDGET = 40
FOLDERS = ("cycnn", "tests", "benchmarks", "tools")
PYX_FUNCTION = re.compile(r"^( *)(?:def|cdef|cpdef)\b[^=]*?(\w+)\(")


def python_functions(text):
    """Name and lines of each function, without its docstring."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0]
            doc = first if ast.get_docstring(node, clean=False) is not None else None
            skipped = doc.end_lineno - doc.lineno + 1 if doc else 0
            yield node.name, node.end_lineno - node.lineno + 1 - skipped


def cython_functions(text):
    """The same for Cython, by indentation; blank lines between functions do not count."""
    name, indent, lines, pending = None, 0, 0, 0
    text = re.sub(r'^( +)"""(?:.|\n)*?"""\n', "", text, flags=re.MULTILINE)
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip())
        if name and line.strip() and depth <= indent and not line.lstrip().startswith(")"):
            yield name, lines
            name = None
        if name is None and (start := PYX_FUNCTION.match(line)):
            name, indent, lines, pending = start[2], len(start[1]), 0, 0
        lines, pending = (lines + pending + 1, 0) if line.strip() else (lines, pending + 1)
    if name:
        yield name, lines


def check(path, everything):
    """Print what is over budget in one file; return how much that is."""
    text = path.read_text()
    lines = len(text.splitlines())
    budget = FILE_BUDGETS.get(path.name, FILE_BUDGETS[path.suffix])
    functions = {".py": python_functions, ".pyx": cython_functions}.get(path.suffix, lambda t: ())
    long = [(name, n) for name, n in functions(text) if n > FUNCTION_BUDGET]
    if everything or lines > budget:
        print(f"{lines:5} lines  {path}" + f"  (budget {budget})" * (lines > budget))
    for name, n in long:
        print(f"{n:5} lines  {path}: {name}  (budget {FUNCTION_BUDGET})")
    return (lines > budget) + len(long)


def main():
    root = Path(__file__).resolve().parents[1]
    paths = [p for folder in FOLDERS for p in sorted((root / folder).rglob("*"))]
    paths = [p.relative_to(root) for p in (root / "setup.py", *paths) if p.suffix in FILE_BUDGETS]
    over = sum([check(path, "--all" in sys.argv[1:]) for path in paths])
    print(f"{len(paths)} files, {over} over budget")
    for kind in ("cycnn/**/*.so", "dist/*.whl", "build/wheels/*.whl"):
        for path in sorted(root.glob(kind)):
            print(f"{path.stat().st_size / 1e3:8.0f} kB  {path.relative_to(root)}")


if __name__ == "__main__":
    main()
