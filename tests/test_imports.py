"""The layout of the package: which part may import which, public names, file names."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import cycnn
import runner

ROOT = Path(cycnn.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

# part -> what it may import of cycnn. layers -> graph -> plan -> kernels; no arrow runs back.
ALLOWED = {
    "errors": set(),
    "locks": set(),
    "geometry": {"errors"},
    "kernels": {"errors"},
    "ops": {"errors", "geometry"},
    "graph": {"errors", "ops.base"},
    "threads": {"errors", "plan.team", "plan.workspace"},
    "plan": {"errors", "graph", "kernels", "ops.base", "threads"},
    "arrays": {"errors", "ops.base"},
    "initializers": {"errors"},
    "layers": {"errors", "geometry", "graph", "initializers", "locks", "ops"},
    "data": {"errors", "geometry"},
    "training": {
        "arrays",
        "data",
        "errors",
        "geometry",
        "graph",
        "kernels",
        "layers",
        "ops",
        "plan",
    },
    "zoo": {"errors", "layers", "model"},
}
# what users call: may import anything, and nothing above may import it
TOP = {
    "__init__",
    "__main__",
    "cli",
    "config",
    "functional",
    "model",
    "plot",
    "saving",
    "session",
    "summary",
    "tuning",
}


def name_of(path: Path) -> str:
    """Dotted name below the package: ``plan/lower.py`` is ``plan.lower``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


FILES = {name_of(path): path for path in MODULES}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def is_import(node: ast.AST) -> bool:
    return isinstance(node, (ast.Import, ast.ImportFrom))


def run_time_imports(tree: ast.AST):
    """Import statements anywhere but under ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if is_import(node):
            yield node
        elif not is_type_checking(node):
            yield from run_time_imports(node)


def imports(path: Path, statements) -> set[tuple[str, str | None]]:
    """(module of cycnn, name taken from it) for each import; dotted, below the package."""
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in statements:
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.split(".")[0] == "cycnn"]
            found.update((".".join(n.split(".")[1:]), None) for n in names)
        elif node.level or (node.module or "").split(".")[0] == "cycnn":
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = node.module.split(".") if node.module else []
            whole = [*base, *(module if node.level else module[1:])]
            for name in (a.name for a in node.names):
                submodule = is_module([*whole, name])
                found.add(
                    (".".join([*whole, name] if submodule else whole), None if submodule else name)
                )
    return found


def imported(path: Path) -> set[str]:
    """The modules of cycnn that ``path`` imports when it runs."""
    return {m for m, _ in imports(path, run_time_imports(ast.parse(path.read_text())))}


def is_module(parts: list[str]) -> bool:
    path = ROOT.joinpath(*parts)
    return path.is_dir() or any(path.parent.glob(path.name + ".py*"))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path):
    part = name_of(path).split(".")[0]
    assert part in {*ALLOWED, *TOP}, f"say in ALLOWED what {part} may import"
    if part in TOP:
        return
    for module in imported(path):
        same = module.split(".")[0] == part
        allowed = any(module == a or module.startswith(a + ".") for a in ALLOWED[part])
        assert same or allowed, f"{name_of(path)} may not import {module}"


def test_the_walk_sees_imports():
    assert "ops.base" in imported(ROOT / "graph" / "ir.py")
    assert "plan.lower" not in imported(ROOT / "ops" / "base.py")
    assert "errors" in imported(ROOT / "geometry.py")


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.pyx")) + sorted(ROOT.rglob("*.pxd")), ids=str)
def test_kernels_import_kernels_alone(path):
    """`cimport` binds a name to one tier, so that kernel modules share inline `.pxd` files only."""
    for line in path.read_text().splitlines():
        words = line.split()
        if path.parent.name == "kernels" and words[:1] == ["from"] and "cimport" in words:
            relative = words[1].startswith(".")
            assert not words[1].startswith("cycnn"), line
            assert not relative or (path.parent / f"{words[1][1:]}.pxd").exists(), line


def names_of_all(path: Path) -> list[str] | None:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return None


def isort_style(name: str) -> tuple:
    """CONSTANTS, then Classes, then functions: the order that the linter keeps."""
    return not name.isupper(), not name[0].isupper(), name


@pytest.mark.parametrize("path", [p for p in MODULES if p.name != "__main__.py"], ids=name_of)
def test_all_is_sorted_and_exists(path):
    names = names_of_all(path) or []
    assert names == sorted(names, key=isort_style)
    module = importlib.import_module(f"cycnn.{name_of(path)}".removesuffix(".__init__"))
    assert all(hasattr(module, name) for name in names)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_others_import_is_in_all(path):
    """What one module takes from another is public there."""
    everything = [n for n in ast.walk(ast.parse(path.read_text())) if is_import(n)]
    for module, name in imports(path, everything):
        if name is not None and module in FILES and FILES[module].suffix == ".py":
            assert name in (names_of_all(FILES[module]) or [name]), (
                f"{module} does not offer {name}"
            )
            assert not name.startswith("_")


@pytest.mark.parametrize("path", [p for p in MODULES if p.name != "__main__.py"], ids=name_of)
def test_public_things_are_documented(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a module says what it is"
    for node in tree.body:
        public = isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name[0] != "_"
        assert not public or ast.get_docstring(node), node.name


@pytest.mark.parametrize("tier", runner.TIERS)
def test_every_kernel_is_built_for_every_tier(tier):
    sources = {p.stem for p in (ROOT / "kernels").glob("*.pyx")}
    package = importlib.import_module("cycnn.kernels")
    folders = [str(Path(p) / tier) for p in package.__path__]
    assert sources <= {m.name for m in pkgutil.iter_modules(folders)}
    for source in sources:
        assert getattr(runner.KERNELS[tier], source)


def test_names_say_what_is_inside():
    vague = {"utils", "util", "helpers", "helper", "misc", "common", "core"}
    for path in ROOT.rglob("*"):
        assert path.stem not in vague, path


def test_files_are_short():
    for path in ROOT.rglob("*.py*"):
        limit = {".py": 400, ".pyx": 500, ".pxd": 400}.get(path.suffix)
        assert limit is None or len(path.read_text().splitlines()) <= limit, path
