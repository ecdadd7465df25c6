"""Plans over time on real demand: cost, moves, bound, and what forecasts miss.

24 streams of a production inference service over two weeks (Alibaba's ServeGen), scaled to a shipped instance as
``igniter-opt instances scale-demand`` does; or, with ``--generated``, curves that `instances generate --demand` draws.
All costs are in hours of the (one) GPU type, so that a move's price is, too. Known demand: one plan for the peak, each
step afresh, the greedy again in each step, and schedules at several prices of a move. Forecasts: planned on the past
only, over the second half, beside the schedule that knows it.

Run: python -m bench.schedule [--demand CSV] [--instance NAME] [--scale X] [--generated SEED] [--steps N] [--workers N]
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bench.provenance import ROOT, header, write
from igniter_opt.base.stop import StopRequest
from igniter_opt.data.demand import Demand, read_demand, scaled_to
from igniter_opt.data.instance import Instance
from igniter_opt.data.instance_files import read_instance
from igniter_opt.generate_demand import generate_demand
from igniter_opt.options import SolveOptions
from igniter_opt.schedule import Scheduling
from igniter_opt.scheduling.account import Totals
from igniter_opt.scheduling.lateness import late_requests
from igniter_opt.scheduling.outcome import Scheduled
from igniter_opt.scheduling.terms import ScheduleTerms

REAL = ROOT.parent / "shared" / "reference" / "traffic" / "demand-two-weeks.csv"
# Prices of a move in GPU-hours.
MOVE_PRICES = (0.0, 0.1, 1.0)
STEP_S = 3600.0
# So that no result depends on how busy the machine is.
TIME_LIMIT_S = 3600.0


class Forecast(NamedTuple):
    """A way to forecast, and how often."""

    kind: str
    quantile: float
    every_s: float

    @property
    def words(self) -> str:
        """Name it."""
        return f"{self.kind}, {100 * self.quantile:g} %, every {self.every_s / 3600:g} h"


FORECASTS = (
    Forecast("seasonal", 0.95, 86400.0),
    Forecast("smoothed", 0.95, 86400.0),
    Forecast("naive", 0.95, 3600.0),
)
FORECAST_PRICE = 0.1


def scheduling(instance: Instance, demand: Demand, terms: ScheduleTerms, workers: int | None) -> Scheduling:
    """Solve all steps."""
    options = SolveOptions(time_limit=TIME_LIMIT_S)
    run = Scheduling(instance, demand, terms, options, workers, lambda moment: _say(str(moment)), StopRequest())
    run.solve()
    return run


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def _at(entry: Totals, gpu_hour: float, price: float) -> float:
    """What a sequence costs in GPU-hours where a move costs so many."""
    weighted = entry.moves + 0.2 * entry.restarts + 0.1 * entry.resizes
    return entry.gpu_cost / gpu_hour + price * weighted


def _row(name: str, entry: Totals, gpu_hour: float, bound: float) -> str:
    costs = [_at(entry, gpu_hour, price) for price in MOVE_PRICES]
    gaps = " | ".join(f"{cost:.1f} ({100 * max(0.0, cost - bound) / cost:.2f} %)" for cost in costs)
    return (
        f"| {name} | {entry.gpu_cost / gpu_hour:.1f} | {entry.most_gpus} | {entry.gpu_starts} | {entry.moves}"
        f" | {entry.restarts} | {entry.resizes} | {gaps} |"
    )


def known_table(run: Scheduling, gpu_hour: float) -> tuple[str, Scheduled]:
    """Return the table of known demand, and the schedule at the price that forecasts are planned with."""
    lines, chosen, others = [], None, None
    seconds = []
    for price in MOVE_PRICES:
        run.terms = replace(run.terms, move_cost=price * gpu_hour)
        began = time.process_time()
        found = run.build()
        seconds.append(time.process_time() - began)
        others = found.totals
        lines.append(_row(f"schedule, a move at {price:g}", found.totals["schedule"], gpu_hour, found.bound / gpu_hour))
        if price == FORECAST_PRICE:
            chosen = found
    if chosen is None or others is None:
        raise ValueError("no schedule")
    bound = chosen.bound / gpu_hour
    names = {"peak": "one plan for the peak", "afresh": "each step afresh", "greedy": "greedy in each step"}
    first = [_row(words, others[name], gpu_hour, bound) for name, words in names.items() if name in others]
    titles = "| plans | GPU-hours | most GPUs | GPU starts | moves | restarts | resizes |"
    titles += "".join(f" cost, a move at {price:g} (gap) |" for price in MOVE_PRICES)
    table = "\n".join([titles, "| --- |" + " --- |" * (6 + len(MOVE_PRICES)), *first, *lines])
    afresh, best = others.get("afresh"), chosen.totals["schedule"]
    said = f"Bound: {bound:.1f} GPU-hours; {chosen.proven} of {chosen.steps} steps proven by themselves"
    said += f" ({', '.join(f'{chosen.solved.count(how)} {how}' for how in ('heuristic', 'inherited', 'exact'))})."
    if afresh is not None:
        said += (
            f" At a price of {FORECAST_PRICE:g} the schedule has {afresh.moves / max(1, best.moves):.1f} times fewer"
            f" moves than solving afresh, at {100 * (best.gpu_cost / afresh.gpu_cost - 1):.2f} % more GPU-hours, and is"
            f" within {100 * chosen.gap:.2f} % of the bound."
        )
    said += f" Building a schedule took {max(seconds):.0f} s of CPU at most."
    return f"{table}\n\n{said}\n", chosen


def forecast_table(instance: Instance, demand: Demand, gpu_hour: float, workers: int | None, past_s: float) -> str:
    """Return the table of forecasts over what follows the past."""
    titles = (
        "| planned on | GPU-hours | moves | cost | missed (workloads × steps) | steps with any | late requests |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
    )
    rows = []
    terms = ScheduleTerms(step_s=STEP_S, move_cost=FORECAST_PRICE * gpu_hour, history_s=past_s)
    known = scheduling(instance, demand, terms, workers).build()
    rows.append(_forecast_row("the demand itself", known, gpu_hour))
    for way in FORECASTS:
        own = replace(terms, forecast=way.kind, quantile=way.quantile, replan_s=way.every_s)
        rows.append(_forecast_row(way.words, scheduling(instance, demand, own, workers).build(), gpu_hour))
    count = known.steps * len(instance.workloads)
    return titles + "\n".join(rows) + f"\n\n{known.steps} steps, {count:,} workloads × steps.\n"


def _forecast_row(name: str, found: Scheduled, gpu_hour: float) -> str:
    entry, late = found.totals["schedule"], late_requests(found)
    cost = _at(entry, gpu_hour, FORECAST_PRICE)
    return (
        f"| {name} | {entry.gpu_cost / gpu_hour:.1f} | {entry.moves} | {cost:.1f} | {entry.violations}"
        f" ({100 * entry.violations / (found.steps * len(found.instance.workloads)):.2f} %) | {late.steps}"
        f" | {100 * late.part:.3f} % |"
    )


def main() -> int:
    """Make the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demand", type=Path, default=REAL)
    parser.add_argument("--instance", default="uniform-24-1")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--generated", type=int, metavar="SEED")
    parser.add_argument("--steps", type=int, help="only the first so many")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--no-forecasts", action="store_true")
    given = parser.parse_args()
    instance = read_instance(given.instance)
    if given.generated is not None:
        demand = generate_demand(instance, 14.0, given.generated, scale=given.scale)
        source = f"generated curves, seed {given.generated}"
    elif given.demand.is_file():
        demand = scaled_to(read_demand(given.demand), instance, scale=given.scale)
        source = "24 streams of ServeGen (Alibaba, arXiv 2505.09999)"
    else:
        print(f"{given.demand}: no such file; skipped", file=sys.stderr)
        return 0
    if given.steps:
        demand = replace(demand, rates=demand.rates[: round(given.steps * STEP_S / demand.step_s)])
    gpu_hour = instance.gpu_types[0].price_per_hour
    began, cpu = time.perf_counter(), time.process_time()
    run = scheduling(instance, demand, ScheduleTerms(step_s=STEP_S), given.workers)
    solved_s, cpu = time.perf_counter() - began, time.process_time() - cpu
    known, chosen = known_table(run, gpu_hour)
    days = demand.steps * demand.step_s / 86400.0
    text = header("Plans over time: cost, moves, bounds and forecasts", ("igniter-opt", "numpy", "highspy"))
    text += (
        f"- demand: {source}, {days:g} days in steps of {STEP_S / 3600:g} h, each with the highest of its rows; scaled"
        f" to {instance.name} (percentile 99.9 to the workload's rate, times {given.scale:g})\n"
        f"- solving {chosen.steps} steps and windows of them: {solved_s:.0f} s with the processors shared, {cpu:.0f} s"
        " of CPU in this process\n"
        "\nCosts in GPU-hours; a restart counts 0.2 of a move, a resize 0.1. The gap is to the bound, of all schedules"
        f" whatever moves cost.\n\n{known}"
    )
    name = "schedule" if given.generated is None else "schedule-generated"
    # Written before forecasts, too: an interrupted run keeps what it has.
    write(name, text)
    if not given.no_forecasts:
        past_s = demand.steps // 2 * demand.step_s // 86400.0 * 86400.0
        text += (
            f"\n## Forecasts\n\nThe first {past_s / 86400:g} days are past; a move costs {FORECAST_PRICE:g} GPU-hours."
            " Missed: over SLO or rate at the demand that came, by the predictor; late requests: by simulation of the"
            f" steps with any.\n\n{forecast_table(instance, demand, gpu_hour, given.workers, past_s)}"
        )
        write(name, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
