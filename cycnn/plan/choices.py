"""What a plan can do in several ways, and which way was chosen.

Lowering asks, by name and problem, for one of a few options (`Target.choose`). The answer is the default,
which follows from shapes alone, unless a table has another: one that `tune` measured on this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from ..graph.ir import Graph, Node

__all__ = ["UNTUNED", "Choice", "Chooser", "Chosen", "Option"]

Option = bool | int | str
Chosen = Mapping[str, Option]  # by `Choice.id`

UNTUNED: Chosen = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Choice:
    """A question that came up in a plan, and its answer.

    ``problem`` says all that the best option can depend on, but for the machine and its threads.
    ``node`` asked it; None: it concerns the whole plan. All options give the same bits where
    ``same_bits`` is true.
    """

    name: str
    problem: object
    options: tuple[Option, ...]
    default: Option
    option: Option
    node: Node | None = None
    same_bits: bool = True

    @cached_property
    def id(self) -> str:
        """Name and problem in a short string, the same in every process."""
        return _id(self.name, self.problem)

    def __str__(self) -> str:
        label = self.node.label if self.node else "plan"
        return f"{label:<20} {self.name}: {self.option} (by default {self.default})"


class Chooser:
    """Answers the questions of one plan, for ``graph``, from the table ``chosen``, and notes them."""

    def __init__(self, graph: Graph, chosen: Chosen = UNTUNED):
        self.choices: list[Choice] = []
        self._graph, self._chosen = graph, chosen

    def choose(
        self,
        name: str,
        problem: object,
        options: tuple[Option, ...],
        default: Option,
        *,
        node: Node | None = None,
        same_bits: bool = True,
    ) -> Option:
        """The option chosen for ``problem``, or ``default``, which may be none of ``options``."""
        options = tuple(dict.fromkeys((default, *options)))
        if len(options) == 1:
            return default
        option = self._answer(name, problem, options)
        self.choices.append(Choice(name, problem, options, default, option, node, same_bits))
        return option

    def choose_for_all(self, name: str, options: tuple[Option, ...], default: Option) -> Option:
        """The same for a question that concerns the whole plan."""
        for choice in self.choices:
            if choice.name == name:
                return choice.option
        return self.choose(name, _network(self._graph), options, default)

    def _answer(self, name: str, problem: object, options: tuple[Option, ...]) -> Option:
        found = self._chosen.get(_id(name, problem)) if self._chosen else None
        return options[options.index(found)] if found in options else options[0]


def _id(name: str, problem: object) -> str:
    import hashlib  # here, for it loads OpenSSL

    return f"{name} {hashlib.blake2b(repr(problem).encode(), digest_size=12).hexdigest()}"


def _network(graph: Graph) -> tuple:
    """All ops and shapes of ``graph``."""
    return tuple(
        (node.op, tuple(None if v is None else v.spec.shape for v in node.inputs))
        for node in graph.nodes
    )
