"""cycnn: convolutional neural networks on CPUs.

    layers ---------> graph ---------> plan ----------> kernels
    Conv2D, Dense     nodes over       kernel calls     one source, one build for each
    parameters,       values; ops      in one arena,    instruction set; tiles and
    no arithmetic     say what they    walked without   drivers, no threads
       |              mean             the GIL
       |                 |
    model, training   gradient: graph to graph, so a training step
    session, saving   is a program like any other

No arrow runs back. `cycnn.functional` offers every kernel on NumPy arrays; `cycnn.threads` is the only
door to threads, `cycnn.geometry` the only copy of the window arithmetic.
"""

import importlib as _importlib

from . import data, errors, functional, geometry, layers, threads, training, zoo
from .config import show_config
from .errors import CycnnError
from .geometry import strict_tiling
from .model import Model, Sequential
from .plan.exact import exact
from .saving import load
from .session import Session
from .threads import get_num_threads, set_num_threads
from .training import losses, metrics, optimizers

__version__ = "0.1.0"

__all__ = [
    "CycnnError",
    "Model",
    "Sequential",
    "Session",
    "data",
    "errors",
    "exact",
    "functional",
    "geometry",
    "get_num_threads",
    "layers",
    "load",
    "losses",
    "metrics",
    "optimizers",
    "set_num_threads",
    "show_config",
    "strict_tiling",
    "threads",
    "training",
    "zoo",
]

_LAZY = ("cli", "plot")  # parts that nothing else needs


def __getattr__(name):
    if name in _LAZY:
        return _importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
