"""What margins, confidences and headrooms cost, and what their plans survive.

Plans by several methods and settings, whose latencies, rates and burstiness are then 1.1, 1.25 and 1.5 times the
plan's. A plan of rule `half` is judged by the predictor, one of `p99` by simulation. For every such perturbation there
is the least cost that survives it, with its proven bound (docs/robust.md says why it is one).

Run: taskset -c 1 python -m bench.stress [--rules R,R] [--time-limit S] [--output DIR] [--continue]
     [INSTANCE...]

Writes ``stress-DATE.md``, ``.csv`` and ``.svg``, anew after every row.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench.provenance import RESULTS, earlier, header, today
from bench.stress.figure import draw
from bench.stress.table import PERTURBATIONS, Held, Perturbation, Row, check, line, markdown, read_rows, write_csv
from igniter_opt.base.errors import InfeasibleError, InputError
from igniter_opt.base.files import write_bytes_atomically
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.instance import Instance, SloRule
from igniter_opt.data.instance_files import read_instance
from igniter_opt.data.plan import Plan
from igniter_opt.simulate import simulate
from igniter_opt.solve import solve
from igniter_opt.verify import verify

INSTANCES = ("igniter-table3", "uniform-24-1", "today-24-1")
RULES: tuple[SloRule, ...] = ("half", "p99")
METHODS = ("igniter", "bestfit", "patterns")
REPLICAS = 3
TIME_LIMIT_S = 10.0
# Of simulations, per workload.
RUNS, REQUESTS, SEED = 3, 30_000, 1000


class Setting(NamedTuple):
    """How carefully to plan: margin on latencies or confidence in them, headroom of rates, burstiness of gaps."""

    margin: float = 0.0
    headroom: float = 0.0
    confidence: float | None = None
    burstiness: float = 1.0

    @property
    def words(self) -> str:
        """The setting in a few words."""
        found = [f"{name} {value:g}" for name, value in (("margin", self.margin), ("headroom", self.headroom)) if value]
        found += [] if self.confidence is None else [f"confidence {self.confidence:g}"]
        found += [f"burstiness {self.burstiness:g}"] if self.burstiness != 1.0 else []
        return ", ".join(found) or "as predicted"


STEPS = (0.1, 0.25, 0.5)
SETTINGS = (
    Setting(),
    *(Setting(margin=step) for step in STEPS),
    *(Setting(headroom=step) for step in STEPS),
    *(Setting(margin=step, headroom=step) for step in STEPS),
    *(Setting(confidence=level) for level in (0.9, 0.99)),
    *(Setting(burstiness=1.0 + step) for step in STEPS),
)


def matching(perturbation: Perturbation) -> Setting:
    """Return the setting whose cheapest plan is the cheapest one that survives a perturbation."""
    return Setting(perturbation.latency - 1.0, perturbation.rate - 1.0, burstiness=perturbation.burstiness)


def perturbations(rule: SloRule) -> list[Perturbation]:
    """Return what plans of a rule are put to: the predictor knows no bursts."""
    return [entry for entry in PERTURBATIONS if rule == "p99" or entry.burstiness == 1.0]


def by_predictor(plan: Plan, perturbation: Perturbation) -> Held:
    """Judge a plan whose latencies and rates are higher than it says, by the predictor."""
    instance = plan.instance
    gpus = tuple(
        gpu.model_copy(
            update={
                "placements": tuple(
                    entry.model_copy(
                        update={
                            "rate_rps": instance.without_headroom(entry.workload, entry.rate_rps) * perturbation.rate
                        }
                    )
                    for entry in gpu.placements
                )
            }
        )
        for gpu in plan.gpus
    )
    harder = instance.with_options(scale=perturbation.rate, headroom=0.0)
    solver = plan.solver.model_copy(update={"margin": perturbation.latency - 1.0, "confidence": None})
    found = verify(plan.model_copy(update={"instance": harder, "gpus": gpus, "solver": solver}))
    over = len(found.workloads_over_slo)
    return Held(held=len(instance.workloads) - over, over=over)


def by_simulation(plan: Plan, perturbation: Perturbation, requests: int = REQUESTS) -> Held:
    """Judge a plan by requests of the rates that users said, times the factor; over is who is so for certain."""
    burstiness = perturbation.burstiness
    found = simulate(
        plan,
        Arrivals() if burstiness == 1.0 else Arrivals("gamma", burstiness=burstiness),
        requests=requests,
        seeds=RUNS,
        seed=SEED,
        scale=perturbation.rate,
        margin=perturbation.latency - 1.0,
    )
    late = [(entry.estimates["violation_ratio"].low or 0.0, 1.0 - entry.percentile) for entry in found.workloads]
    held = len(found.workloads) - len(found.workloads_over_slo)
    return Held(held=held, over=sum(low > allowed for low, allowed in late))


def planned(instance: Instance, rule: SloRule, setting: Setting) -> Instance:
    """Return an instance as it is planned: as many GPUs as it takes, for the price is the result."""
    types = tuple(gpu.model_copy(update={"count": None}) for gpu in instance.gpu_types)
    arrivals = None if setting.burstiness == 1.0 else Arrivals("gamma", burstiness=setting.burstiness)
    changed = instance.model_copy(update={"gpu_types": types})
    return changed.with_options(rule, REPLICAS, headroom=setting.headroom, arrivals=arrivals)


def run(
    instance: Instance, rule: SloRule, method: str, setting: Setting, limit: float, requests: int = REQUESTS
) -> Row | None:
    """Plan and judge; None where the profiles have no margin for the confidence."""
    row = Row(
        instance=instance.name, workloads=len(instance.workloads), rule=rule, method=method, setting=setting.words
    )
    if setting.confidence is not None:
        try:
            row.margin = max(gpu.profile.margin_at(setting.confidence) for gpu in instance.gpu_types)
        except InputError:
            return None
    else:
        row.margin = setting.margin
    row.headroom, row.burstiness = setting.headroom, setting.burstiness
    began = time.perf_counter()
    try:
        result = solve(planned(instance, rule, setting), method, margin=row.margin, time_limit=limit)
    except InfeasibleError as error:
        row.status, row.message = "infeasible" if error.proven else "no plan", "; ".join(str(error).splitlines())
        return row
    finally:
        row.seconds = time.perf_counter() - began
    if result.interrupted:
        raise KeyboardInterrupt
    row.status, row.gpus, row.cost_per_hour = result.status, len(result.plan.gpus), result.cost
    row.bound_per_hour = result.lower_bound
    judge = by_predictor if rule == "half" else partial(by_simulation, requests=requests)
    row.held = {entry.words: judge(result.plan, entry) for entry in perturbations(rule)}
    return row


def jobs(rules: Sequence[SloRule], names: Sequence[str]) -> list[tuple[Instance, SloRule, str, Setting]]:
    """Return what is to be run; burstiness is a setting of `p99` and `patterns` only, which need it for their bound."""
    return [
        (instance, rule, method, setting)
        for rule in rules
        for instance in map(read_instance, names)
        for setting in SETTINGS
        for method in METHODS
        if setting.burstiness == 1.0 or (rule == "p99" and method == "patterns")
    ]


NOTES = f"""
*Plans.* Up to {REPLICAS} replicas a workload, as many GPUs as it takes; under `p99` for Poisson arrivals unless
a burstiness is named. A confidence is planned with the margin that the profiles are calibrated to have. Bounds
under `p99` are those of plans that the limits on the safe side admit.

*Perturbations.* Every GPU latency, every rate, or both, are the factor times those of the plan; *burstiness*:
gamma gaps of this squared variation instead of Poisson ones. Rates are those that users said, without headroom.
Under `half` the predictor judges; nothing is drawn. Under `p99` {RUNS} runs of {REQUESTS:,} requests per
workload are simulated, and in brackets are the workloads that are surely over: the 95 % interval of their part
of late requests is above 1 %. Such plans use their SLOs up, so that a few P99s are over by chance, even where
nothing is perturbed; a plan *survives* if none is surely over.

*Least cost.* The cheapest plan that survives a perturbation is the cheapest one with the margin and the
headroom that equal it ([why](../../docs/robust.md)), found by `patterns` with its bound; under `half` the bound
of a smaller perturbation is one of a larger one, too. Every plan of `half` in this table that survives is
compared with that bound, and one below it ends the run.
"""


class Table:
    """The files of one run, or of several on one day, of which later ones go on where earlier ones ended."""

    def __init__(self, folder: Path, limit: float, go_on: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"stress-{today()}.md"
        self.head = header("Cost of plans against what they survive") + f"- time limit of `patterns`: {limit:g} s\n"
        self.rows: list[Row] = []
        if go_on and self.path.exists():
            self.rows = read_rows(self.path.with_suffix(".csv"))
            self.head += earlier(self.path, len(self.rows))

    def has(self, instance: Instance, rule: SloRule, method: str, setting: Setting) -> bool:
        """Whether there is this row already."""
        wanted = (instance.name, rule, method, setting.words)
        return any((row.instance, row.rule, row.method, row.setting) == wanted for row in self.rows)

    def add(self, row: Row) -> None:
        """Add a row and write all files anew; raise ContradictionError if a surviving plan is below a bound."""
        self.rows.append(row)
        matched = {entry.words: matching(entry).words for entry in PERTURBATIONS}
        check(self.rows, matched)
        write_bytes_atomically(self.path, (self.head + markdown(self.rows, matched, NOTES)).encode())
        write_csv(self.rows, self.path.with_suffix(".csv"))


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", default=",".join(RULES), metavar="R,R", help="half, p99")
    parser.add_argument("--time-limit", type=float, default=TIME_LIMIT_S, metavar="S", help="for every exact solve")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR", help="folder of the files")
    parser.add_argument("--continue", dest="go_on", action="store_true", help="keep the rows of today's file")
    parser.add_argument("instances", nargs="*", metavar="INSTANCE", help=f"default: {' '.join(INSTANCES)}")
    asked = parser.parse_args()
    table = Table(asked.output, asked.time_limit, asked.go_on)
    try:
        for instance, rule, method, setting in jobs(asked.rules.split(","), asked.instances or INSTANCES):
            if table.has(instance, rule, method, setting):
                continue
            row = run(instance, rule, method, setting, asked.time_limit)
            if row is not None:
                table.add(row)
                print(f"{instance.name} {rule} {line(row)}", flush=True)
    finally:
        draw(table.rows, table.path.with_suffix(".svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
