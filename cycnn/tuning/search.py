"""Which options of a plan are fastest here, with this number of threads.

All steps are timed where they are: in the whole network, with what the steps before left in the caches.
A network asks many questions of one name (how each product is cut into blocks, say); its first trial has
the default of all of them, the second the first other option of all, and so on. Trials take turns,
and each question takes the option whose steps were fastest. Then come the questions of the next name.
"""

from __future__ import annotations

import math
import numbers
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import as_inputs
from ..errors import ArgumentError
from ..plan.choices import Choice, Chosen, Option
from ..plan.executor import Program
from ..plan.plan import Plan
from ..plan.weights import Weights
from ..training.progress import progress_bar
from . import memory

if TYPE_CHECKING:
    from ..session import Inference

__all__ = ["Search", "Trial", "Tuning", "tune"]

GAIN = 0.97  # of the default's time is to be undercut by another option
LEAST, MOST = 3, 30  # rounds in which trials take turns
SEARCHING = 0.9  # of the time; the rest is to compare before and after


@dataclass(eq=False)
class Trial:
    """One way to run a network, and the best time of each step so far."""

    plan: Plan
    program: Program
    best: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.best = np.full(len(self.plan.steps), math.inf)

    @property
    def seconds(self) -> float:
        """Of the whole network: the sum of its steps."""
        return float(self.best.sum())

    @cached_property
    def _nodes(self) -> dict[str, set]:
        nodes: dict[str, set] = {}
        for choice in self.plan.choices:
            nodes.setdefault(choice.id, set()).add(choice.node)
        return nodes

    def steps_of(self, choice: Choice) -> list[int]:
        """The numbers of the steps that ``choice`` concerns: all, or those of the nodes that asked."""
        nodes = self._nodes.get(choice.id, set())
        steps = enumerate(self.plan.steps)
        return [k for k, step in steps if None in nodes or step.node in nodes]

    def kernels(self, numbers: Sequence[int]) -> list[tuple]:
        """What those steps do."""
        steps = [self.plan.steps[k] for k in numbers]
        return [(s.kernel.name, s.kernel.items, s.kernel.attributes, s.turns) for s in steps]


@dataclass(frozen=True)
class Tuning:
    """What `tune` found; printing it says so.

    ``before`` and ``after`` are seconds of one call, step by step the best of many taken in turns; None
    where nothing was measured. ``choices`` are those of the plan now, ``left`` the number of them for which
    there was no time.
    """

    before: float | None
    after: float | None
    choices: tuple[Choice, ...]
    left: int
    threads: int
    chosen: Chosen = field(repr=False)

    def __str__(self) -> str:
        changed = [str(c) for c in self.choices if c.option != c.default]
        if self.before is None or self.after is None:
            head = "nothing measured"
        else:
            head = f"{1e3 * self.before:.3f} ms before, {1e3 * self.after:.3f} ms after"
        head += f" (threads: {self.threads}); choices that are not the default: {len(changed)}"
        more = [f"not measured, for want of time: {self.left}"] if self.left else []
        return "\n".join([head, *changed, *more])


class Search:
    """The search for one network and one shape.

    ``make`` plans the network with other choices, ``measure`` runs a trial once and returns the seconds
    of each step. ``chosen`` begins with what holds now and ends with what is to hold, ``known`` is what
    need not be measured again and belongs to what was before, ``settled`` what was used of it or measured.
    """

    def __init__(
        self,
        make: Callable[[Chosen], Trial],
        measure: Callable[[Trial], np.ndarray],
        *,
        chosen: Chosen,
        known: Chosen,
        algorithms: bool,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._make, self._measure, self._clock = make, measure, clock
        self._algorithms, self._known = algorithms, known
        self._before, self.chosen = dict(chosen), dict(chosen)
        self.settled: dict[str, Option] = {}
        self._measured: dict[str, Option] = {}  # by id, the default
        self.given_up: set[str] = set()

    def run(self, seconds: float) -> tuple[float | None, float | None]:
        """Settle what is open, in about so many seconds; the network's time before and after."""
        deadline = self._clock() + SEARCHING * seconds
        while (trial := self._next_open()) is not None:
            options: dict[str, int] = {}  # at most, of a name
            for choice in self.open(trial.plan):
                options[choice.name] = max(options.get(choice.name, 0), len(choice.options))
            name = next(iter(options))
            asked = {c.id: c for c in self.open(trial.plan) if c.name == name}
            limit = (deadline - self._clock()) * options[name] / sum(options.values())
            if limit <= 0 or not self._settle(trial, asked, limit):
                self.given_up.update(asked)
        if not self._measured:
            return None, None
        return self._compare((1 - SEARCHING) * seconds)

    def open(self, plan: Plan) -> list[Choice]:
        """The choices of ``plan`` that are still to be made."""
        return [
            c
            for c in plan.choices
            if (c.same_bits or self._algorithms)
            and c.id not in self.chosen
            and c.id not in self.given_up
        ]

    def _next_open(self) -> Trial | None:
        """A trial with what is chosen so far; what is known is taken as it comes up."""
        while True:
            trial = self._make(self.chosen)
            still = self.open(trial.plan)
            known = {c.id: self._known[c.id] for c in still if c.id in self._known}
            recalled = {c.id: known[c.id] for c in still if known.get(c.id) in c.options}
            if not recalled:
                return trial if still else None
            for answers in (self._before, self.chosen, self.settled):
                answers.update(recalled)

    def _settle(self, base: Trial, asked: dict[str, Choice], limit: float) -> bool:
        """Measure the options of ``asked`` and take the best; whether there was time for it."""
        others = {id: c.options[1:] for id, c in asked.items()}  # the default comes first
        trials = [base]
        for turn in range(max(map(len, others.values()))):
            tried = {id: options[turn] for id, options in others.items() if turn < len(options)}
            trials.append(self._make({**self.chosen, **tried}))
        if not self._take_turns(trials, limit):
            return False
        for id, choice in asked.items():
            option = _fastest(trials, choice)
            self.chosen[id] = self.settled[id] = option
            self._measured[id] = choice.default
        return True

    def _take_turns(self, trials: list[Trial], limit: float) -> bool:
        """Run every trial once a round; whether `LEAST` rounds fit in ``limit`` seconds.

        The first round, in memory that is new, does not foretell what others take.
        """
        started = self._clock()
        for done in range(1, MOST + 1):
            first = done % len(trials)
            for trial in trials[first:] + trials[:first]:
                np.minimum(trial.best, self._measure(trial), out=trial.best)
            spent = self._clock() - started
            rounds = max(LEAST, done + 1) if done > 1 else 1
            if spent * rounds / done > limit:
                return done >= LEAST
        return True

    def _compare(self, limit: float) -> tuple[float, float]:
        """Before and after; what did not gain as a whole is taken back."""
        before, after = self._make(self._before), self._make(self.chosen)
        whole = range(len(before.plan.steps)), range(len(after.plan.steps))
        if before.kernels(whole[0]) == after.kernels(whole[1]):
            after = before
        self._take_turns([before] if after is before else [before, after], limit)
        if after.seconds > before.seconds:
            self.chosen = {**self._before, **self._measured}
            self.settled.update(self._measured)
            after = before
        return before.seconds, after.seconds


def _fastest(trials: list[Trial], choice: Choice) -> Option:
    """The option of least time; the default unless another is clearly faster and not the same thing."""
    usual = trials[0].steps_of(choice)
    best, least = choice.default, GAIN * float(trials[0].best[usual].sum())
    for option, trial in zip(choice.options[1:], trials[1:], strict=False):
        steps = trial.steps_of(choice)
        seconds = float(trial.best[steps].sum())
        if seconds < least and trial.kernels(steps) != trials[0].kernels(usual):
            best, least = option, seconds
    return best


def tune(
    engine: Inference,
    x: object,
    threads: int,
    *,
    seconds: float,
    algorithms: bool,
    verbose: int,
) -> Tuning:
    """Tune ``engine`` for a batch like ``x``; see `Session.tune`. It is left to the caller to use it."""
    limit = _check_seconds(seconds)
    arrays = as_inputs(x, engine.specs)
    if not len(arrays[0]):
        raise ArgumentError(f"`x` must have at least one sample. Received: {arrays[0].shape}.")
    shapes, weights = tuple(a.shape for a in arrays), Weights(frozen=True)
    machine = memory.machine(engine.tier, threads)

    def make(chosen: Chosen) -> Trial:
        return Trial(*engine.trial(shapes, chosen, weights))

    def measure(trial: Trial) -> np.ndarray:
        times = trial.program.profile(arrays, trial.program.empty_outputs(), threads)
        bar.update(min(float(times.sum()), max(0.0, limit - bar.n)))
        return times

    search = Search(
        make,
        measure,
        chosen=engine.chosen,
        known=memory.recall(machine),
        algorithms=bool(algorithms),
    )
    total = limit if math.isfinite(limit) else None
    with progress_bar(total, "tune", verbose, unit="s") as bar:
        before, after = search.run(limit)
    if search.settled:
        memory.keep(machine, search.settled)
    plan = make(search.chosen).plan
    left = len({c.id for c in search.open(plan)} | search.given_up)
    return Tuning(before, after, plan.choices, left, threads, search.chosen)


def _check_seconds(seconds: object) -> float:
    number = isinstance(seconds, numbers.Real) and not isinstance(seconds, bool)
    if not (number and seconds >= 0):
        raise ArgumentError(
            f"`seconds` must be a number of at least 0. Received: seconds={seconds!r}."
        )
    return float(seconds)
