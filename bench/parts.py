"""What each part of `patterns` is worth: the same instances with one part left out at a time, and on one processor.

Every run is a process of its own. A part is left out by an option of the tuning, or by a constant of the module that
has it.

Run: python -m bench.parts [--instances A,B] [--time-limit S]
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from bench.instances import build
from bench.provenance import ROOT, header, write
from bench.tables import markdown_row
from igniter_opt.formulations.columns import vectors
from igniter_opt.options import PatternsTuning
from igniter_opt.packing import pricing
from igniter_opt.packing.local_search import LocalSearch
from igniter_opt.result import Progress
from igniter_opt.solve import solve

INSTANCES = ("cards-100-1", "today-100-1")
COLUMNS = ("left out", "cost/h", "proven bound/h", "gap %", "plan after s", "bound after s")


def _all() -> PatternsTuning:
    return PatternsTuning()


def _without_steps() -> PatternsTuning:
    plain: Callable[..., Any] = pricing.close_cell

    def close_cell(*given: Any) -> Any:
        by_steps = 8
        return plain(*given[:by_steps], False, *given[by_steps + 1 :])

    setattr(pricing, "close_cell", close_cell)  # noqa: B010
    return PatternsTuning()


def _without_longer_searches() -> PatternsTuning:
    setattr(pricing, "_MOST_DOUBLINGS", 0)  # noqa: B010
    return PatternsTuning()


def _without_repacking() -> PatternsTuning:
    return PatternsTuning(repackings=0)


def _without_counts() -> PatternsTuning:
    return PatternsTuning(counts_until=(0.0, 0.0, 0.0, 0.0))


def _without_cuts() -> PatternsTuning:
    setattr(vectors.CountVectors, "cut", lambda *_: None)  # noqa: B010
    return PatternsTuning()


def _without_plans_on_one_type() -> PatternsTuning:
    setattr(LocalSearch, "on_one_type", lambda *_: None)  # noqa: B010
    return PatternsTuning()


def _on_one_processor() -> PatternsTuning:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return PatternsTuning()


PARTS: MappingProxyType[str, Callable[[], PatternsTuning]] = MappingProxyType(
    {
        "nothing": _all,
        "an aggregate in steps": _without_steps,
        "longer searches of split cells": _without_longer_searches,
        "annealing on given GPUs": _without_repacking,
        "exclusion of count vectors": _without_counts,
        "cuts on counts": _without_cuts,
        "local search over plans on one type": _without_plans_on_one_type,
        "all processors but one": _on_one_processor,
    }
)


def run_one(part: str, instance: str, seconds: float) -> dict[str, float | None]:
    """Solve with a part left out; return cost, bound, and when they were first known."""
    tuning = PARTS[part]()
    plans: list[tuple[float, float]] = []
    bounds: list[tuple[float, float]] = []
    began = time.perf_counter()

    def progress(moment: Progress) -> None:
        at = time.perf_counter() - began
        if moment.cost is not None and (not plans or moment.cost < plans[-1][1] - 1e-9):
            plans.append((at, moment.cost))
        if moment.lower_bound is not None and (not bounds or moment.lower_bound > bounds[-1][1] + 1e-9):
            bounds.append((at, moment.lower_bound))

    result = solve(build(instance), "patterns", time_limit=seconds, tuning=tuning, on_progress=progress)
    return {
        "cost": result.cost,
        "bound": result.lower_bound,
        "plan_s": plans[-1][0] if plans else None,
        "bound_s": bounds[-1][0] if bounds else None,
    }


def row(part: str, found: dict[str, float | None]) -> str:
    """Render a row of the table."""
    cost, bound = found["cost"], found["bound"]
    gap = "-" if cost is None or bound is None else f"{100 * (cost - bound) / cost:.2f}"
    cells = [f"{value:.2f}" if value is not None else "-" for value in (cost, bound)]
    times = [f"{value:.1f}" if value is not None else "-" for value in (found["plan_s"], found["bound_s"])]
    return markdown_row([part, *cells, gap, *times])


def main() -> int:
    """Make the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", default=",".join(INSTANCES))
    parser.add_argument("--time-limit", type=float, default=60.0)
    parser.add_argument("--one", nargs=2, metavar=("PART", "INSTANCE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run_one(*given.one, given.time_limit)))
        return 0
    text = header("What each part of `patterns` is worth", ("igniter-opt", "numpy", "highspy", "numba"))
    text += f"- {given.time_limit:g} s each; a second objective has a part of them\n"
    for instance in given.instances.split(","):
        text += f"\n## {instance}\n\n{markdown_row(COLUMNS)}\n{markdown_row(['---'] * len(COLUMNS))}\n"
        for part in PARTS:
            command = [sys.executable, "-m", "bench.parts", "--one", part, instance]
            done = subprocess.run(
                [*command, "--time-limit", repr(given.time_limit)], cwd=ROOT, capture_output=True, text=True, check=True
            )
            text += row(part, json.loads(done.stdout.splitlines()[-1])) + "\n"
            write("parts", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
