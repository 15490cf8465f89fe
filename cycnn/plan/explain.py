"""What a plan does, and how long each step takes, as text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .executor import Program
from .plan import Plan

__all__ = ["Profile", "balance", "explain", "profile"]

TEAMS = (4, 16, 64)  # threads for which `explain` shows the balance


def balance(plan: Plan, threads: int) -> float:
    """Mean over maximum of the threads' work, for the whole plan: 1 where all are always busy.

    The items of a step are equal parts of its estimated time; one that is not worth sharing is done by
    one thread.
    """
    alone = together = 0.0
    for step in plan.steps:
        seconds = step.seconds * step.turns
        alone += seconds
        together += seconds * most_items(step.kernel.items, threads if step.shared else 1)
    return alone / (threads * together) if together else 1.0


def most_items(items: int, threads: int) -> float:
    """The largest share of ``items`` that falls to one of ``threads``: each begins with its own run."""
    return -(-items // threads) / items if items else 1.0


def explain(plan: Plan) -> str:
    """One line a step: layer, kernel, output, work items, estimated work, place in the arena.

    Where a step takes the batch in several turns, all but their number is for one of them. At the end,
    what `tune` chose that is not the default.
    """
    lines = [
        f"plan of {len(plan.steps)} steps, tier {plan.kernels.tier}, for {plan.purpose}; arena "
        f"{plan.arena.nbytes:,} bytes; {len(plan.prologue)} steps on weights alone, run once",
        "load balance " + ", ".join(f"{balance(plan, n):.2f} at {n} threads" for n in TEAMS),
        f"{'layer':<20} {'kernel':<34} {'output':>18} {'items':>6} {'turns':>5} {'MFLOP':>9} "
        f"{'MB':>8}  place",
    ]
    for step in plan.steps:
        label = step.node.label if step.node else ""
        shape = "x".join(map(str, step.node.output.spec.shape)) if _has_output(step) else "-"
        places = ", ".join(plan.place_of(b) for b in step.writes)
        lines.append(
            f"{label:<20} {step.kernel.name:<34} {shape:>18} {step.kernel.items:>6} {step.turns:>5} "
            f"{step.cost.flops / 1e6:>9.2f} {step.cost.nbytes / 1e6:>8.2f}  {places}"
        )
    tuned = [str(choice) for choice in plan.choices if choice.option != choice.default]
    return "\n".join([*lines, *(["chosen by tune:", *tuned] if tuned else [])])


def _has_output(step) -> bool:
    return bool(step.node and step.node.outputs)


@dataclass(frozen=True)
class Profile:
    """Best time of each step, in seconds. Printing it gives the table."""

    plan: Plan
    seconds: np.ndarray
    threads: int

    def __str__(self) -> str:
        total = float(self.seconds.sum())
        lines = [f"{'layer':<20} {'kernel':<34} {'ms':>9} {'share':>6} {'GFLOP/s':>9} {'GB/s':>7}"]
        for step, s in zip(self.plan.steps, self.seconds, strict=True):
            label = step.node.label if step.node else ""
            s = max(float(s), 1e-9) / step.turns
            lines.append(
                f"{label:<20} {step.kernel.name:<34} {1e3 * s * step.turns:>9.4f} "
                f"{s * step.turns / max(total, 1e-9):>6.1%} "
                f"{step.cost.flops / s / 1e9:>9.1f} {step.cost.nbytes / s / 1e9:>7.1f}"
            )
        lines.append(f"{'all':<55} {1e3 * total:>9.4f}  ({self.threads} threads)")
        return "\n".join(lines)


def profile(
    plan: Plan, program: Program, arrays: list[np.ndarray], repeats: int, threads: int
) -> Profile:
    """Run ``program`` ``repeats`` times and keep the best time of each step."""
    outputs = program.empty_outputs()
    times = [program.profile(arrays, outputs, threads) for _ in range(max(repeats, 1))]
    return Profile(plan, np.min(times, axis=0), threads)
