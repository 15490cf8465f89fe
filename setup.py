"""Build every kernel once per instruction-set tier: one .pyx, one .c, one shared object a tier.

Switches (environment):
    CYCNN_SANITIZE=address,undefined   instrument the C code
    CYCNN_DEBUG=1                      bounds checks and None checks in Cython, no optimisation
"""

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
# decide between the FMA peak and a third of it (gcc 12).
OPTIMISE = [
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "--param=max-completely-peel-times=64",
    "--param=max-completely-peeled-insns=4000",
]
COMPILE = ["-g0", *OPTIMISE]
LINK = ["-Wl,-s"]
if DEBUG:
    COMPILE, LINK = ["-O1", "-g"], []
if SANITIZE:
    COMPILE = ["-O1", "-g", f"-fsanitize={SANITIZE}"]
    LINK = [f"-fsanitize={SANITIZE}"]

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


def translate(paths):
    """Cythonize ``paths`` and return the C file of each."""
    extensions = [
        Extension(".".join(p.with_suffix("").parts), [str(p)]) for p in paths
    ]
    done = cythonize(extensions, build_dir="build/c", compiler_directives=DIRECTIVES)
    return [e.sources[0] for e in done]


def extension(name, c_file, flags):
    return Extension(
        name,
        [c_file],
        include_dirs=[str(KERNELS), numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        extra_compile_args=COMPILE + flags,
        extra_link_args=LINK + (OPENMP if flags is OPENMP else []),
        depends=[str(p) for p in (*KERNELS.glob("*.h"), *KERNELS.glob("*.pxd"))],
    )


def extensions():
    os.chdir(ROOT)
    kernels = sorted(KERNELS.glob("*.pyx"))
    baseline = sorted(p for p in Path("cycnn").rglob("*.pyx") if p.parent != KERNELS)
    c_kernels, c_baseline = translate(kernels), translate(baseline)
    for tier, flags in TIERS.items():
        (KERNELS / tier).mkdir(exist_ok=True)  # where an in-place build puts the shared objects
        for source, c_file in zip(kernels, c_kernels):
            yield extension(f"cycnn.kernels.{tier}.{source.stem}", c_file, flags)
    for source, c_file in zip(baseline, c_baseline):
        yield extension(".".join(source.with_suffix("").parts), c_file, OPENMP)


class PerTier(build_ext):
    """Give every extension an object folder of its own, since tiers share their C files."""

    def build_extension(self, ext):
        shared, self.build_temp = self.build_temp, os.path.join(self.build_temp, ext.name)
        try:
            super().build_extension(ext)
        finally:
            self.build_temp = shared


setup(
    ext_modules=list(extensions()),
    cmdclass={"build_ext": PerTier},
    options={"build_ext": {"parallel": os.cpu_count()}},
)
