"""Well-known networks, as short functions over layers."""

from .lenet import lenet5

__all__ = ["lenet5"]
