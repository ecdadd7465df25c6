"""What taking neighbours as they are saves under rule p99: plans, bounds, and whether P99s hold on other requests.

Every instance is solved with ever busy neighbours and with `--neighbours actual`, by `patterns`. Every plan of the
latter is then simulated beside actual neighbours on seeds that neither search nor judge has used.

Run: python -m bench.neighbours [--time-limit S] [INSTANCE[:REPLICAS]...]

Writes ``neighbours-DATE.md``, anew after every row.
"""

import argparse
import math
import time
from typing import NamedTuple

import numpy as np

from bench.provenance import PACKAGES, RESULTS, header, today
from igniter_opt.base.files import write_bytes_atomically
from igniter_opt.base.stop import StopRequest
from igniter_opt.beside.solve_beside import solve_beside
from igniter_opt.data.instance import Instance
from igniter_opt.data.instance_files import read_instance
from igniter_opt.data.plan import Plan
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.options import SolveOptions
from igniter_opt.problem.configurations import Problem
from igniter_opt.result import Result
from igniter_opt.simulation.gpu_sample import GpuSample
from igniter_opt.simulation.lateness import bounds_of, smallest_sample
from igniter_opt.simulation.second_judge import CONFIDENCE, tenants_of
from igniter_opt.solve import solve
from igniter_opt.verify import verify

CASES = ("igniter-table3:3", "today-24-1:3", "cards-24-1:3", "uniform-50-1:3", "uniform-24-1:3")
TIME_LIMIT_S = 60.0
# Neither the search's purposes nor the judge's.
CHECKING, RUNS = 1_000, 20

NOTES = f"""
*Busy*: the plan for neighbours that run full batches all the time, and its proven bound. *Actual*: with `--neighbours
actual`; the bound is that of the same workloads without interference, which no plan can undercut that holds beside
neighbours as they are. *Simulated*: GPUs that hold by simulation only, of all. Seconds are those of the search for the
latter (what comes before its clock included), and of `verify` on what comes out. *Late*: the plan beside actual
neighbours on other requests, {RUNS} runs with at least {smallest_sample(0.01):,} requests of every GPU's slowest
placement; the most late placement, in percent of its requests (1 % may be), for the busy plan and for the new one; and
of how many placements of the latter the P99 is within the SLO, by this estimate, and surely is not, with 99 %
confidence for each. Placements that are computed to use their SLO up are over it in half of all estimates.
"""
TITLES = (
    "instance (replicas)", "busy: GPUs", "cost/h", "bound", "status", "actual: GPUs", "cost/h", "bound", "status",
    "saved %", "simulated", "seconds", "verify", "late % busy", "late % actual", "P99s hold", "surely over",
)  # fmt: skip


class Checked(NamedTuple):
    """A plan beside actual neighbours: placements that hold, that surely do not, all, and the largest late part."""

    held: int
    over: int
    placements: int
    most_late: float


def checked(plan: Plan) -> Checked:
    """Simulate every GPU of a plan on requests that nobody has used."""
    types = {gpu.name: gpu for gpu in plan.instance.gpu_types}
    sample = GpuSample(plan.instance, 1, CHECKING)
    requests = smallest_sample(1.0 - plan.instance.required_percentile)
    shares: list[float] = []
    over, allowed = 0, 1.0 - plan.instance.required_percentile
    for gpu in plan.gpus:
        coefficients = fit_coefficients(types[gpu.type].profile)
        late = sample.late(coefficients, tenants_of(plan, gpu), requests, range(RUNS), plan.solver.margin)
        shares += [math.nan] * len(gpu.placements) if late is None else late.share.mean(axis=0).tolist()
        over += 0 if late is None else int(np.sum(bounds_of(late, 1.0 - CONFIDENCE).low > allowed))
    return Checked(sum(share <= allowed for share in shares), over, len(shares), float(np.max(shares)))


def row(name: str, instance: Instance, limit: float, seed: int) -> str:
    """Solve an instance both ways and return a line of the table."""
    busy = solve(instance, "patterns", time_limit=limit, seed=seed)
    began = time.perf_counter()
    # What `solve` does with `--neighbours actual`, from this very plan.
    options = SolveOptions(time_limit=limit, seed=seed, neighbours="actual")
    actual = solve_beside(Problem(instance), busy, options, StopRequest(), lambda _: None)
    solved = time.perf_counter()
    if not verify(actual.plan).ok:
        raise AssertionError(f"{name}: the judge rejects the plan")
    judged = time.perf_counter()
    simulated = 0 if actual.plan.neighbours is None else len(actual.plan.neighbours.simulated)
    before, after = checked(busy.plan), checked(actual.plan)
    saved = 100.0 * (busy.cost - actual.cost) / busy.cost
    cells = (
        name, _plan(busy), _plan(actual), f"{saved:.1f}", f"{simulated} of {len(actual.plan.gpus)}",
        f"{solved - began:.0f}", f"{judged - solved:.1f}", f"{100 * before.most_late:.2f}",
        f"{100 * after.most_late:.2f}", f"{after.held} of {after.placements}", str(after.over),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _plan(result: Result) -> str:
    bound = math.nan if result.lower_bound is None else result.lower_bound
    return f"{len(result.plan.gpus)} | {result.cost:.3f} | {bound:.3f} | {result.status}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("instances", nargs="*", metavar="INSTANCE[:REPLICAS]", default=CASES)
    parser.add_argument("--time-limit", type=float, default=TIME_LIMIT_S, metavar="S", help="for each of the two parts")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    text = header("Neighbours as they are: plans under rule p99", (*PACKAGES, "numba"))
    text += f"- time limit: {options.time_limit:g} s for the plan, and as much for what follows\n{NOTES}\n"
    text += f"| {' | '.join(TITLES)} |\n|{' --- |' * len(TITLES)}\n"
    for case in options.instances:
        name, _, replicas = case.partition(":")
        instance = read_instance(name).with_options("p99", int(replicas) if replicas else None)
        text += row(case, instance, options.time_limit, options.seed) + "\n"
        print(text.splitlines()[-1], flush=True)
        write_bytes_atomically(RESULTS / f"neighbours-{today()}.md", text.encode())


if __name__ == "__main__":
    main()
