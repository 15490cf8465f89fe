"""Tuning: what a plan can do in several ways is measured on this machine, and remembered.

`search` tries the options of one network and shape, `memory` keeps what was found in a file.
"""

from .search import Tuning, tune

__all__ = ["Tuning", "tune"]
