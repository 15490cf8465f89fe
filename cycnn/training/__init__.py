"""Training: losses, optimizers, metrics, the loop and the programs of a step."""

from . import losses, metrics, optimizers
from .loop import History

__all__ = ["History", "losses", "metrics", "optimizers"]
