"""From a command line to the verb that serves it, and from an exception to a sentence."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..errors import CycnnError
from . import bench, demo, info, predict, train

__all__ = ["main"]

VERBS = {"demo": demo, "train": train, "predict": predict, "info": info, "bench": bench}
WRONG, INTERRUPTED, PIPE_CLOSED = 2, 130, 141  # the last two: 128 + the signal's number


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG, f"{self.prog}: {message} ({self.prog} --help says more).\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``cycnn`` with ``arguments``, by default the process's; gives the exit code."""
    verb = "cycnn"
    try:
        chosen = _parser().parse_args(arguments)
        verb = f"cycnn {chosen.verb}"
        chosen.run(chosen)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit would fail
        return PIPE_CLOSED
    except (CycnnError, OSError, MemoryError) as error:
        print(f"{verb}: {_sentence(error)}", file=sys.stderr)
        return WRONG


def _parser() -> Parser:
    parser = Parser(prog="cycnn", description="Convolutional networks on CPUs.")
    parser.add_argument("--version", action="version", version=f"cycnn {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, module in VERBS.items():
        text = (module.__doc__ or "").strip()
        verb = verbs.add_parser(
            name,
            help=text.partition("\n")[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(verb)
        verb.set_defaults(run=module.run)
    return parser


def _sentence(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "This does not fit into memory."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.strerror}: {error.filename}"
    return " ".join(str(error).split())
