"""What plans for one kind of traffic are worth under every other, and what each kind costs.

`patterns` plans instances under rules `half` and `deadline`, and under `p99` for Poisson, gamma and mmpp arrivals, for
half of a recorded hour, and for streams made of recorded demand. Every plan is then sent each of these kinds.

Run: taskset -c 1 python -m bench.truth.traffic --traffic DIR [--time-limit S] [--output DIR] [--continue]
     [INSTANCE...]

Writes ``truth-traffic-DATE.md`` and ``.csv``, anew after every row. Without ``--traffic`` (the folder that `streams`
describes) recorded kinds are left out.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench.provenance import PACKAGES, RESULTS, earlier, header, today
from bench.truth.streams import REQUESTS as STREAM_REQUESTS
from bench.truth.streams import as_observed, clients, drawn, hour
from bench.truth.traffic_table import Cell, Row, check_bounds, line, markdown, read_rows, write_csv
from igniter_opt.base.errors import InfeasibleError, InputError
from igniter_opt.base.files import write_bytes_atomically
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.instance import Instance, SloRule
from igniter_opt.data.instance_files import read_instance
from igniter_opt.data.plan import Plan
from igniter_opt.data.split import Split
from igniter_opt.simulate import simulate
from igniter_opt.simulation.results import Simulation
from igniter_opt.simulation.statistics import estimate
from igniter_opt.solve import solve
from igniter_opt.verify import verify

INSTANCES = ("igniter-table3", "uniform-24-1", "today-24-1", "uniform-50-1", "uniform-100-1", "today-100-1")
TIME_LIMIT_S = 20.0
# Most replicas of a workload under p99; half and deadline keep the instance's.
REPLICAS = 8
# Judging: runs, requests per workload and run, and what random numbers begin with. Planning samples others: streams are
# drawn with `PLANNED_DRAW`, and the library's own samples have seeds of their own.
RUNS, REQUESTS, SEED = 3, 100_000, 1000
PLANNED_DRAW = 1
HEADROOM = 0.25


class Case(NamedTuple):
    """How to plan: a name in words, the rule, and under p99 which traffic, split and headroom."""

    words: str
    rule: SloRule
    traffic: str | None = None
    split: Split | None = None
    headroom: float | None = None


# In this order, on all instances each: what takes longest is last.
CASES = (
    Case("`half`", "half"),
    Case("`deadline`", "deadline"),
    Case("`p99`, Poisson", "p99", "poisson"),
    Case("`p99`, gamma", "p99", "gamma"),
    Case("`p99`, mmpp", "p99", "mmpp"),
    Case("`p99`, gamma, headroom 25 %", "p99", "gamma", None, HEADROOM),
    Case("`p99`, gamma, in turn", "p99", "gamma", "round-robin"),
    Case("`p99`, streams as gamma with headroom", "p99", "observed"),
    Case("`p99`, first half hour", "p99", "hour 1"),
    Case("`p99`, first half hour, in turn", "p99", "hour 1", "round-robin"),
    Case("`p99`, mmpp, in turn", "p99", "mmpp", "round-robin"),
    Case("`p99`, streams", "p99", "streams"),
    Case("`p99`, streams, in turn", "p99", "streams", "round-robin"),
)
DRAWN = ("poisson", "gamma", "mmpp")
RECORDED = ("hour 1", "hour 2", "streams")


@dataclass(frozen=True)
class Kinds:
    """Every kind of traffic, for planning and for judging; recorded ones need a folder."""

    folder: Path | None

    @property
    def judged(self) -> tuple[str, ...]:
        """The kinds that plans are sent."""
        return DRAWN if self.folder is None else (*DRAWN, *RECORDED)

    def can_plan(self, case: Case) -> bool:
        """Whether there is what a case plans for."""
        return case.traffic in {None, *DRAWN} or self.folder is not None

    def planned(self, instance: Instance, case: Case) -> Instance:
        """Return an instance as a case plans for it."""
        replicas = REPLICAS if case.rule == "p99" else None
        types = tuple(gpu.model_copy(update={"count": None}) for gpu in instance.gpu_types)
        changed = instance.model_copy(update={"gpu_types": types}).with_options(
            case.rule, replicas, split=case.split, headroom=case.headroom
        )
        if case.traffic is None:
            return changed
        if case.traffic == "observed":
            return as_observed(changed, clients(self._folder))
        return changed.with_options(arrivals=self._arrivals(case.traffic, instance, PLANNED_DRAW))

    def sent(self, kind: str, instance: Instance) -> list[Arrivals]:
        """Return a kind's arrivals for judging: one, of which there are runs, or the streams of every run."""
        if kind == "streams":
            return [self._arrivals(kind, instance, SEED + run) for run in range(RUNS)]
        return [self._arrivals(kind, instance, SEED)]

    @property
    def _folder(self) -> Path:
        if self.folder is None:
            raise InputError("recorded kinds of traffic need --traffic DIR")
        return self.folder

    def _arrivals(self, kind: str, instance: Instance, draw: int) -> Arrivals:
        if kind == "poisson":
            return Arrivals()
        if kind == "gamma":
            return Arrivals("gamma")
        if kind == "mmpp":
            return Arrivals("mmpp")
        if kind == "streams":
            return drawn(clients(self._folder), [workload.name for workload in instance.workloads], draw)
        return hour(self._folder, int(kind[-1]) - 1)


def judged(plan: Plan, arrivals: Sequence[Arrivals], requests: int = REQUESTS) -> Cell:
    """Send a plan traffic: of one kind in several runs, or of several draws in a run each."""
    runs = RUNS if len(arrivals) == 1 else 1
    # A record has its own number of requests.
    simulations = [
        simulate(plan, own, requests=None if own.kind == "trace" else requests, seeds=runs, seed=SEED + number)
        for number, own in enumerate(arrivals)
    ]
    return cell(simulations)


def cell(simulations: Sequence[Simulation]) -> Cell:
    """Count the workloads that hold: by the mean of P99 over all runs, as `simulate` does."""
    held = sure = 0
    for same in zip(*(simulation.workloads for simulation in simulations), strict=True):
        allowed = 1.0 - same[0].percentile
        if len(same) == 1:
            holds, late = same[0].holds, same[0].estimates["violation_ratio"]
        else:
            holds = estimate([entry.estimates["percentile_ms"].value for entry in same]).value <= same[0].slo_ms
            late = estimate([entry.estimates["violation_ratio"].value for entry in same])
        held += holds
        sure += (late.value if late.low is None else late.low) > allowed
    part = sum(simulation.violation_ratio for simulation in simulations) / len(simulations)
    return Cell(held=held, surely_over=sure, violation_ratio=part)


def run(instance: Instance, case: Case, kinds: Kinds, limit: float, requests: int = REQUESTS) -> Row:
    """Plan an instance for one case, judge the plan, and send it every kind of traffic."""
    row = Row(instance=instance.name, workloads=len(instance.workloads), case=case.words)
    began = time.perf_counter()
    try:
        result = solve(kinds.planned(instance, case), "patterns", time_limit=limit)
    except InfeasibleError as error:
        row.status = "infeasible" if error.proven else "no plan"
        row.message = "; ".join(str(error).splitlines())
        return row
    finally:
        row.seconds = time.perf_counter() - began
    if result.interrupted:
        raise KeyboardInterrupt
    verification = verify(result.plan)
    if not verification.ok:
        raise AssertionError(f"{instance.name}, {case.words}: the judge refuses it: {verification.violations[0]}")
    row.status, row.gpus, row.cost_per_hour = result.status, len(result.plan.gpus), result.cost
    row.bound_per_hour = result.lower_bound
    row.cells = {kind: judged(result.plan, kinds.sent(kind, instance), requests) for kind in kinds.judged}
    return row


NOTES = f"""
*Plans.* By `patterns`, up to {REPLICAS} replicas a workload under `p99`, one under `half` and `deadline`, and as many
GPUs as it takes, whatever the instance says: the price is the result. "optimal" means under `p99`: of the plans that
the limits on the safe side admit. Every plan was judged by `igniter_opt.verify`. *In turn*: replicas take turns
(`split: round-robin`), in planning and in simulation. *Headroom 25 %*: planned for rates that are higher by it, sent
the rates that users said. Seconds are those of the whole solve, on a machine that had other work, compilation
included where it was the first of its kind.

*Traffic.* Poisson; gamma gaps of squared variation 4; mmpp at the usual burst ratio (4) and length (1 s); the first
and the second half of a recorded hour, whose times are compressed until the rate is the workload's (every workload
gets the same record, from about 5.4 requests/s; Azure's 2023 inference trace, conversation: Patel et al., Splitwise,
ISCA 2024, CC-BY-4.0); *streams*: workload k gets the k-th recorded client in turn (ServeGen, Alibaba, arXiv
2505.09999, Apache-2.0), of its two weeks the six hours with most requests, whose mean rate is stretched to the
workload's; the rate follows the client's 10-minute steps, gaps have the client's own (median) variation, and steps
last as long as makes {STREAM_REQUESTS:,} requests in all. Two of the 24 clients, whose squared variation is 120 and
31, are left out. "streams as gamma with headroom" plans every workload for gamma gaps of its client's variation and
the headroom that P95 of its client's steps asks for, as `instances from-trace` would; "streams" plans for one draw as
recorded.

*Judging.* {RUNS} runs of {REQUESTS:,} requests per workload, a tenth more before them not counted, by seeds other
than those of planning; streams are drawn anew for every run. Half hours have the 9,700 or so requests that they have,
so that their P99 rests on 97 late ones; the first half is what was planned for, the second is not. *Hold*: workloads
whose estimate of P99 is within the SLO. In brackets those that are *surely over*: the 95 % interval over the runs of
their part of late requests lies above 1 % altogether (where runs cannot differ: the part is above 1 %). Plans of
`p99` use their SLOs up, so that some estimates are slightly over by chance without being surely so.
"""


class Table:
    """The files of one run, or of several on one day, of which later ones go on where earlier ones ended."""

    def __init__(self, folder: Path, limit: float, kinds: Kinds, go_on: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"truth-traffic-{today()}.md"
        self.kinds = kinds
        # Made at the beginning: what is measured is what is checked out then.
        self.head = header("What plans for one kind of traffic are worth under every other", (*PACKAGES, "numba"))
        self.head += f"- time limit of `patterns`: {limit:g} s after limits are made\n"
        self.rows: list[Row] = []
        if go_on and self.path.exists():
            self.rows = read_rows(self.path.with_suffix(".csv"))
            self.head += earlier(self.path, len(self.rows))

    def has(self, instance: Instance, case: Case) -> bool:
        """Whether there is this row already."""
        return any((row.instance, row.case) == (instance.name, case.words) for row in self.rows)

    def add(self, row: Row) -> None:
        """Add a row and write all files anew; raise ContradictionError if a bound is above its plan."""
        check_bounds([row])
        self.rows.append(row)
        write_bytes_atomically(self.path, (self.head + markdown(self.rows, self.kinds.judged, NOTES)).encode())
        write_csv(self.rows, self.kinds.judged, self.path.with_suffix(".csv"))


def run_all(names: Sequence[str], table: Table, limit: float, said: Callable[[str], object] = print) -> None:
    """Run everything and write the files."""
    kinds = table.kinds
    for case in CASES:
        for instance in map(read_instance, names):
            if kinds.can_plan(case) and not table.has(instance, case):
                row = run(instance, case, kinds, limit)
                table.add(row)
                said(f"{row.instance} {line(row, kinds.judged)}")


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traffic", type=Path, metavar="DIR", help="folder of the recorded traffic")
    parser.add_argument("--time-limit", type=float, default=TIME_LIMIT_S, metavar="S", help="for every solve")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR", help="folder of the files")
    parser.add_argument("--continue", dest="go_on", action="store_true", help="keep the rows of today's file")
    parser.add_argument("instances", nargs="*", metavar="INSTANCE", help=f"default: {' '.join(INSTANCES)}")
    asked = parser.parse_args()
    table = Table(asked.output, asked.time_limit, Kinds(asked.traffic), asked.go_on)
    run_all(asked.instances or INSTANCES, table, asked.time_limit, partial(print, flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
