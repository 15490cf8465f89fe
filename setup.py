"""Build every kernel once per instruction-set tier: one .pyx, one .c, one shared object a tier.

Switches (environment); changing one makes the next build start afresh:
    CYCNN_SANITIZE=address,undefined   instrument the C code
    CYCNN_DEBUG=1                      bounds checks and None checks in Cython, little optimisation
"""

import copy
import os
import platform
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

X86 = {
    "v2": ["-march=x86-64-v2"],
    "v3": ["-march=x86-64-v3"],
    "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}
TIERS = X86 if platform.machine() in ("x86_64", "AMD64") else {"generic": []}

DEBUG = os.environ.get("CYCNN_DEBUG") == "1"
SANITIZE = os.environ.get("CYCNN_SANITIZE", "")

# Tiles are loops of constant length that must become straight-line code: -O3 and the peel limits
# decide between the FMA peak and a third of it (gcc 12). One region for the register allocator keeps
# all 28 accumulators of the tallest tile in registers inside its nested loops.
OPTIMISE = [
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "--param=max-completely-peel-times=64",
    "--param=max-completely-peeled-insns=4000",
    "-fira-region=all",
]
COMPILE = ["-g0", *OPTIMISE]
LINK = ["-Wl,-s"]
PLAIN = [
    "-O1",
    "-g",
    "-fexpensive-optimizations",
]  # the last fuses multiply-adds: results need them
if DEBUG:
    COMPILE, LINK = PLAIN, []
if SANITIZE:
    COMPILE = [*PLAIN, f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer"]
    LINK = [f"-fsanitize={SANITIZE}"]

VARIANT = "-".join(["debug"] * DEBUG + [s for s in SANITIZE.split(",") if s]) or "release"

OPENMP = ["-fopenmp"]  # only the executor opens parallel regions; kernels know nothing of threads

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": DEBUG,
    "nonecheck": DEBUG,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "freethreading_compatible": True,
}
ROOT = Path(__file__).parent
KERNELS = Path("cycnn/kernels")
PLAN = Path("cycnn/plan")


def tree(*folders, kinds=None):
    """Every file in ``folders``, of the given suffixes only, that is not the product of a build."""
    files = (p for folder in folders for p in Path(folder).rglob("*") if p.is_file())
    return sorted(str(p) for p in files if p.suffix in (kinds or {p.suffix} - {".so", ".pyc"}))


def translate(paths):
    """Cythonize ``paths``; return the C file of each."""
    extensions = [Extension(".".join(p.with_suffix("").parts), [str(p)]) for p in paths]
    done = cythonize(
        extensions,
        build_dir=f"build/c-{VARIANT}",
        compiler_directives=DIRECTIVES,
        nthreads=os.cpu_count(),
    )
    return {path: e.sources[0] for path, e in zip(paths, done, strict=True)}


def variant_stamp():
    """A file as old as the last change of variant: what was built before it is out of date."""
    stamp = Path("build/variant")
    stamp.parent.mkdir(exist_ok=True)
    if not stamp.exists() or stamp.read_text() != VARIANT:
        stamp.write_text(VARIANT)
    return str(stamp)


def extension(name, c_file, flags):
    return Extension(
        name,
        [c_file],
        include_dirs=[str(KERNELS), str(PLAN), numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        extra_compile_args=COMPILE + flags,
        extra_link_args=LINK + (OPENMP if flags is OPENMP else []),
        depends=[variant_stamp(), *tree(KERNELS, PLAN, kinds={".pxd", ".h"})],
    )


def extensions():
    os.chdir(ROOT)
    c_files = translate(sorted(Path("cycnn").rglob("*.pyx")))
    for path, c_file in c_files.items():
        name = ".".join(path.with_suffix("").parts)
        if path.parent != KERNELS:
            yield extension(name, c_file, OPENMP)
            continue
        for tier, flags in TIERS.items():
            (KERNELS / tier).mkdir(exist_ok=True)  # where an in-place build puts the shared objects
            yield extension(f"cycnn.kernels.{tier}.{path.stem}", c_file, flags)


class BuildTiers(build_ext):
    def build_extension(self, ext):
        """Build in an object folder of its own: tiers share C files, and are built in parallel."""
        own = copy.copy(self)
        own.build_temp = os.path.join(self.build_temp, ext.name)
        super(BuildTiers, own).build_extension(ext)

    def get_source_files(self):
        """What the source distribution holds besides the Python files of the package."""
        return tree("cycnn", "tests", "benchmarks", "tools", ".ci")


setup(
    ext_modules=list(extensions()),
    cmdclass={"build_ext": BuildTiers},
    options={"build_ext": {"parallel": os.cpu_count()}},
)
