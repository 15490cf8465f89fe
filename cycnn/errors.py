"""Every exception that cycnn raises on purpose.

CycnnError
 +- ArgumentError         (ValueError)           a value that is not allowed
 |   +- ShapeError                               shapes that do not fit each other
 +- DTypeError            (TypeError)            an array or argument of the wrong type
 +- UnsupportedOp         (NotImplementedError)  something this version cannot compute
 +- ModelFileError        (ValueError)           a file that is not a model, or not a whole one
 +- DataFileError         (ValueError)           a data file that is truncated or mislabelled
 +- InstructionSetError   (ImportError)          a tier of kernels that cannot be loaded
 +- MissingExtra          (ImportError)          an optional dependency that is not installed
"""

__all__ = [
    "ArgumentError",
    "CycnnError",
    "DTypeError",
    "DataFileError",
    "InstructionSetError",
    "MissingExtra",
    "ModelFileError",
    "ShapeError",
    "UnsupportedOp",
]


class CycnnError(Exception):
    """Base of all errors raised by cycnn."""


class ArgumentError(CycnnError, ValueError):
    """An argument has a value that is not allowed."""


class ShapeError(ArgumentError):
    """Shapes do not fit each other or the layer."""


class DTypeError(CycnnError, TypeError):
    """An array or an argument has the wrong type."""


class UnsupportedOp(CycnnError, NotImplementedError):
    """This version cannot compute what was asked."""


class ModelFileError(CycnnError, ValueError):
    """A file is not a cycnn model, or not a whole one."""


class DataFileError(CycnnError, ValueError):
    """A data file is truncated, mislabelled or of another kind."""


class InstructionSetError(CycnnError, ImportError):
    """A tier of kernels was asked for, or detected, and cannot be loaded."""


class MissingExtra(CycnnError, ImportError):
    """An optional dependency is needed and not installed."""
