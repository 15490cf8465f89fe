"""From a concrete graph to a flat program on one block of memory, and its executor."""

import os

__all__: list[str] = []


def _load_openmp() -> None:
    """Load the team, and with it OpenMP, so that idle workers spin for less than a millisecond.

    Three milliseconds, the default, keep a CPU from NumPy's own threads: a program that alternates with
    ``np.matmul`` took four times as long. OpenMP reads the variable when it is loaded and only then, so
    it is not left for the processes that this one starts.
    """
    quiet = not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys()
    if quiet:
        os.environ["GOMP_SPINCOUNT"] = "20000"
    try:
        from . import team  # noqa: F401
    finally:
        if quiet:
            del os.environ["GOMP_SPINCOUNT"]


_load_openmp()
