"""The cost of truth: what plans cost under every SLO rule, and what random arrivals make of each of them.

All shipped instances, by iGniter's greedy and by `patterns`, under the rules that assume constant arrivals (`half`,
`deadline`) and under the one that does not (`p99`). Every plan is sent Poisson arrivals of its own rates; and where a
plan of the first two rules fails, other settings of its batchers are tried on the same GPUs and shares.

Run: taskset -c 1 python -m bench.truth [--time-limit S] [--output DIR] [INSTANCE...]

Writes ``truth-DATE.md`` and ``.csv``, anew after every row, so an interrupted run keeps what it has.
"""

import argparse
import sys
import time
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from bench.provenance import PACKAGES, RESULTS, header, today
from bench.truth.table import Rescue, Row, check_bounds, line, markdown, write_csv
from igniter_opt.base.errors import InfeasibleError
from igniter_opt.base.files import write_bytes_atomically
from igniter_opt.data.instance import Instance, SloRule
from igniter_opt.data.instance_files import read_instance, shipped_instances
from igniter_opt.data.plan import Placement, Plan
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.simulate import simulate
from igniter_opt.simulation.results import Simulation
from igniter_opt.solve import solve
from igniter_opt.verify import verify

METHODS = ("igniter", "patterns")


class Case(NamedTuple):
    """A rule and the most replicas of a workload, on instances of at most so many workloads (None: all)."""

    rule: SloRule
    replicas: int
    most_workloads: int | None


# Sizes in workloads.
SMALL, LARGE, HUGE = 24, 100, 300
CASES = (
    Case("half", 1, None),
    Case("deadline", 1, HUGE),
    Case("p99", 1, HUGE),
    Case("p99", 3, None),
    Case("half", 3, SMALL),
    Case("deadline", 3, SMALL),
)
# Seconds for `patterns`, and on instances beyond `LARGE`.
TIME_LIMIT_S, TIME_LIMIT_LARGE_S = 20.0, 60.0
# Runs, and requests per workload and run, and these on instances beyond `HUGE`.
SEEDS, REQUESTS, REQUESTS_HUGE = 3, 100_000, 20_000
# Other batcher settings for a plan that fails, all without queue delay: how the largest batch follows from the plan's.
# None is the largest that was profiled.
POLICIES: MappingProxyType[str, int | None] = MappingProxyType({"planned": 1, "doubled": 2, "profiled": None})
# Compiles what all runs use.
WARM_UP, WARM_UP_S = "igniter-three", 5.0

NOTES = f"""
*Plans.* `igniter` is the placer of the iGniter paper with the rule in question, `patterns` the exact method of this
package, whose bound is proven. *Replicas*: how many a workload may have at most. Rules `half` and `deadline` with 3
replicas were run up to {SMALL} workloads; beyond {HUGE} workloads there is only `half` with 1 and `p99` with 3. Every
plan was judged by `igniter_opt.verify`; after every row all bounds are compared with all plans of the same instance and
rule that have no more replicas, the best known ones included, and a bound above a plan ends the run. Seconds are those
of the whole solve, compilation left out, and CPU seconds say how much of the core the run had meanwhile. Under `p99`
the first method on an instance also makes the limits that both use, and "optimal" means: of the plans that these
limits, which are on the safe side, admit.

*Simulation.* Poisson arrivals at the planned rates, {SEEDS} runs of {REQUESTS:,} requests per workload
({REQUESTS_HUGE:,} beyond {HUGE} workloads), a tenth more before them not counted; largest batch and queue delay are as
the plan's rule assumes. *Over SLO*: part of all requests later than their SLO, workloads weighted by their rates. A
workload *holds* if the estimate of its P99 is within its SLO; it is *surely over* if the 95 % interval (over the runs)
of its part of requests over the SLO lies above 1 % altogether. Plans of `p99` use their SLOs up, so that some of their
estimates come out slightly over by chance; `verify` computes the P99 of their queues without sampling, and it is within
the SLO. `patterns` also makes the total share as small as it can at the least cost, so its `half` and `deadline` plans
have less slack than the greedy's, and fail harder even at equal cost. Where a queue grows without end, P99 depends on
the length of the run.

*Rescue.* The same GPUs, shares and replicas as planned under `half` or `deadline`, but no queue delay, and a largest
batch that is as planned, doubled, or the largest profiled one, in one way for the whole plan; the best of the three
is shown (most workloads that hold, then least over SLO). Service times are those of `batch_service_times` at
the new batches *for every placement*: neighbours are taken to run their new, larger, full batches all the time, which
draw more power, lower the clock and use more cache. That is consistent, and on the safe side: a real neighbour whose
queue is short runs smaller batches and disturbs less, so that a rescue shown here is one under the model's assumptions,
while a failure may be too harsh. Memory is not checked (the V100 profile states none). A rescued plan is no plan of its
rule any more, whose latency limit larger full batches may miss: a remedy for what is deployed, not a way to plan.
"""


def time_limit(workloads: int, given: float | None) -> float:
    """Return the seconds for an exact solve."""
    if given is not None:
        return given
    return TIME_LIMIT_LARGE_S if workloads > LARGE else TIME_LIMIT_S


def rebatched(plan: Plan, factor: int | None) -> Plan:
    """Return a plan with its largest batches multiplied, or the largest profiled, and no queue delays."""
    profiles = {gpu.name: fit_coefficients(gpu.profile) for gpu in plan.instance.gpu_types}

    def changed(placement: Placement, gpu_type: str) -> Placement:
        most = profiles[gpu_type].models[placement.model].max_batch
        batch = most if factor is None else min(most, factor * placement.batch)
        return placement.model_copy(update={"batch": batch, "queue_delay_us": 0})

    gpus = tuple(
        gpu.model_copy(update={"placements": tuple(changed(entry, gpu.type) for entry in gpu.placements)})
        for gpu in plan.gpus
    )
    return plan.model_copy(update={"gpus": gpus})


def simulated(plan: Plan, requests: int | None = None) -> Simulation:
    """Send a plan Poisson arrivals."""
    if requests is None:
        requests = REQUESTS_HUGE if len(plan.instance.workloads) > HUGE else REQUESTS
    return simulate(plan, "poisson", requests=requests, seeds=SEEDS)


def held(simulation: Simulation) -> int:
    """Number of workloads whose P99 is within their SLO."""
    return len(simulation.workloads) - len(simulation.workloads_over_slo)


def surely_over(simulation: Simulation) -> int:
    """Number of workloads of which more than the allowed part of requests is late, by the whole interval."""
    found = ((entry.estimates["violation_ratio"].low, 1.0 - entry.percentile) for entry in simulation.workloads)
    return sum(low is not None and low > allowed for low, allowed in found)


def rescues(plan: Plan, requests: int | None = None) -> list[Rescue]:
    """Simulate a plan with every policy, the best first."""
    found = []
    for policy, factor in POLICIES.items():
        simulation = simulated(rebatched(plan, factor), requests)
        found.append(
            Rescue(
                policy=policy,
                held=held(simulation),
                violation_ratio=simulation.violation_ratio,
                worst_p99_over_slo=simulation.worst_p99_over_slo,
            )
        )
    return sorted(found, key=lambda entry: (-entry.held, entry.violation_ratio))


def run(instance: Instance, method: str, limit: float, requests: int | None = None) -> Row:
    """Solve an instance by one method, judge the plan, simulate it, and try to rescue it if it fails."""
    row = Row(
        instance=instance.name,
        workloads=len(instance.workloads),
        rule=instance.slo_rule,
        replicas=max(workload.max_replicas or 1 for workload in instance.workloads),
        method=method,
    )
    began, used = time.perf_counter(), time.process_time()
    try:
        result = solve(instance, method, time_limit=limit)
    except InfeasibleError as error:
        row.status = "infeasible" if error.proven else "no plan"
        row.message = "; ".join(str(error).splitlines())
        return row
    finally:
        row.seconds, row.cpu_seconds = time.perf_counter() - began, time.process_time() - used
    if result.interrupted:
        raise KeyboardInterrupt
    verification = verify(result.plan)
    if not verification.ok:
        fault = verification.violations[0]
        raise AssertionError(f"{instance.name}, {method}: the predictor rejects the plan: {fault}")
    row.status, row.gpus, row.cost_per_hour = result.status, len(result.plan.gpus), result.cost
    row.bound_per_hour, row.total_share_percent = result.lower_bound, result.total_share_percent
    simulation = simulated(result.plan, requests)
    row.violation_ratio, row.worst_p99_over_slo = simulation.violation_ratio, simulation.worst_p99_over_slo
    row.held = held(simulation)
    row.surely_over = surely_over(simulation)
    if instance.slo_rule != "p99" and not simulation.ok:
        row.rescues = rescues(result.plan, requests)
    return row


class Table:
    """The files of one benchmark run."""

    def __init__(self, folder: Path, given_limit: float | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"truth-{today()}.md"
        limits = f"{TIME_LIMIT_S:g} s, {TIME_LIMIT_LARGE_S:g} s beyond {LARGE} workloads"
        limits = limits if given_limit is None else f"{given_limit:g} s"
        packages = (*PACKAGES, "numba")
        # Made at the beginning: what is measured is what is checked out then.
        self.head = header("The cost of truth: plans by SLO rule, and what random arrivals make of them", packages)
        self.head += f"- time limit of `patterns`: {limits} (the last step may take some seconds longer)\n"
        self.rows: list[Row] = []

    def add(self, row: Row) -> None:
        """Add a row and write all files anew; raise ContradictionError if a bound is above a plan."""
        self.rows.append(row)
        problem = ""
        try:
            check_bounds(self.rows)
        except AssertionError as error:
            problem = f"\n**CONTRADICTION: {error}**\n"
            raise
        finally:
            text = self.head + problem + markdown(self.rows, NOTES)
            write_bytes_atomically(self.path, text.encode())
            write_csv(self.rows, self.path.with_suffix(".csv"))


def jobs(names: list[str]) -> list[tuple[Instance, Case]]:
    """Return what is to be run: small instances first, and the huge ones last of all."""
    found = [
        (len(instance.workloads), number, instance, case)
        for instance in map(read_instance, names)
        for number, case in enumerate(CASES)
        if case.most_workloads is None or len(instance.workloads) <= case.most_workloads
    ]

    def turn(job: tuple[int, int, Instance, Case]) -> tuple[bool, bool, int, str, int]:
        size, number, instance, case = job
        return size > HUGE, case.most_workloads == SMALL, size, instance.name, number

    return [(instance, case) for _, _, instance, case in sorted(found, key=turn)]


def run_all(names: list[str], limit: float | None, folder: Path) -> Table:
    """Run everything and write the files."""
    table = Table(folder, limit)
    for case in CASES:
        print(f"compiling: {case.rule}, {case.replicas} replicas", flush=True)
        small = read_instance(WARM_UP).with_options(case.rule, case.replicas)
        simulate(solve(small, "patterns", time_limit=WARM_UP_S).plan, requests=100)
    for instance, case in jobs(names):
        changed = instance.with_options(case.rule, case.replicas)
        for method in METHODS:
            row = run(changed, method, time_limit(len(instance.workloads), limit))
            table.add(row)
            print(line(row), flush=True)
    return table


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time-limit", type=float, metavar="S", help="for every exact solve")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR", help="folder of the files")
    parser.add_argument("instances", nargs="*", metavar="INSTANCE", help="shipped instances (default: all)")
    arguments = parser.parse_args()
    run_all(arguments.instances or shipped_instances(), arguments.time_limit, arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
