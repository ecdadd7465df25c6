"""One instance by one method, for `bench.exact`: in a process of its own, so that peak memory is the run's.

The clock starts when the instance is read and all modules are imported; the time of every event is taken where the
caller of `igniter_opt.solve` sees it, so compiling the instance and making the starting plan count.
"""

import importlib
import importlib.util
import resource
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bench.instances import build
from igniter_opt.base.errors import InfeasibleError, UnsuitableError
from igniter_opt.data.instance import Instance
from igniter_opt.data.plan import Plan
from igniter_opt.formulations.solvers.table import MIP_SOLVERS
from igniter_opt.methods import is_exact
from igniter_opt.result import Progress
from igniter_opt.solve import solve
from igniter_opt.verify import verify

CPSAT = "cpsat"
# What a row calls `assignment` by other solvers than HiGHS, and what ``--mip-solver`` calls these.
SOLVERS = {CPSAT: "cp-sat", "scip": "scip", "cbc": "cbc"}
METHODS = ("igniter", "bestfit", "assignment", "patterns", *SOLVERS)
# These are not tried beyond this many workloads: `assignment` and CP-SAT take very long to build their models.
MOST_WORKLOADS = {"assignment": 60, "scip": 60, "cbc": 60, CPSAT: 100}
# Replicas of one workload have equal rates, up to this relative difference.
_SAME_RATE = 1e-9


class Event(BaseModel):
    """Cost of the best plan and proven bound after some seconds; None while unknown."""

    seconds: float
    cost: float | None
    bound: float | None


class Row(BaseModel):
    """What one method did on one instance.

    Attributes
    ----------
    status
        ``optimal`` (proven), ``feasible`` (bound known), ``heuristic``, ``no plan``, ``infeasible`` (proven),
        ``skipped`` or ``failed``; `message` says more.
    bound_per_hour
        Proven lower bound.
    first_s, best_s, proof_s, total_s
        Seconds until the first plan, until a plan of the final cost, until its optimality was proven, and in all.
    peak_mib
        Largest resident memory of the process, Python and libraries included.
    compiled
        Functions that numba compiled in this run; 0 means that no compilation is in the seconds.
    searched
        Whether the plan is one of those that exact methods search (equal replicas, no more than allowed); only
        then is no bound above its cost.
    """

    group: str = ""
    instance: str
    workloads: int = 0
    kinds: int = 0
    method: str
    status: str = "failed"
    gpus: int | None = None
    cost_per_hour: float | None = None
    bound_per_hour: float | None = None
    total_share_percent: float | None = None
    first_s: float | None = None
    best_s: float | None = None
    proof_s: float | None = None
    total_s: float | None = None
    peak_mib: float | None = None
    time_limit_s: float | None = None
    compiled: int = 0
    searched: bool = True
    message: str = ""
    history: list[Event] = []

    @property
    def gap_percent(self) -> float | None:
        """Relative distance of the cost from the bound."""
        if self.cost_per_hour is None or self.bound_per_hour is None:
            return None
        return 100.0 * (1.0 - self.bound_per_hour / self.cost_per_hour)


def why_skipped(method: str, workloads: int) -> str | None:
    """Say why a method is not run on instances of this size, or None if it is."""
    package = MIP_SOLVERS[SOLVERS[method]].package if method in SOLVERS else None
    if package is not None and importlib.util.find_spec(package) is None:
        return f"{package} is not installed"
    most = MOST_WORKLOADS.get(method)
    return f"more than {most} workloads" if most is not None and workloads > most else None


def run(name: str, method: str, time_limit: float) -> Row:
    """Solve one instance by one method and verify the plan."""
    instance = build(name)
    kinds = {(entry.model, entry.slo_ms, entry.rate_rps) for entry in instance.workloads}
    row = Row(
        instance=name, workloads=len(instance.workloads), kinds=len(kinds), method=method, time_limit_s=time_limit
    )
    _import_solvers(method)
    began = time.perf_counter()
    try:
        plan = _run_method(instance, method, time_limit, row, began)
    except (InfeasibleError, UnsuitableError) as error:
        row.total_s, plan = time.perf_counter() - began, None
        row.status = "infeasible" if getattr(error, "proven", False) else "no plan"
        row.message = str(error)
    if plan is not None:
        verification = verify(plan)
        if not verification.ok:
            raise AssertionError(f"{name}, {method}: the predictor rejects the plan: {verification.violations[0]}")
        row.gpus, row.searched = len(plan.gpus), _is_searched(plan)
    row.peak_mib, row.compiled = peak_mib(), compiled_functions()
    return row


def _import_solvers(method: str) -> None:
    """Import what `solve` imports late, so that no import is in the seconds.

    OR-Tools and HiGHS are kept apart: both bring a HiGHS library, and not every pair of builds can be loaded together.
    """
    modules = {
        "bestfit": ["igniter_opt.heuristics.bestfit"],
        "assignment": ["igniter_opt.heuristics.bestfit", "igniter_opt.formulations.assignment_solver"],
        "patterns": ["igniter_opt.formulations.patterns"],
        CPSAT: ["igniter_opt.formulations.solvers.cpsat", "igniter_opt.heuristics.bestfit"],
    }
    own = [f"igniter_opt.formulations.solvers.{method}", *modules["assignment"]] if method in SOLVERS else []
    for name in modules.get(method, own):
        importlib.import_module(name)


def _run_method(instance: Instance, method: str, time_limit: float, row: Row, began: float) -> Plan:
    events: list[Event] = []

    def note(progress: Progress) -> None:
        if progress.phase != "share":
            seconds = time.perf_counter() - began
            events.append(Event(seconds=seconds, cost=progress.cost, bound=progress.lower_bound))

    solver = {"mip_solver": SOLVERS[method]} if method in SOLVERS else {}
    name = "assignment" if solver else method
    result = solve(instance, name, time_limit=time_limit, on_progress=note, **solver)
    row.total_s = time.perf_counter() - began
    row.status, row.cost_per_hour, row.bound_per_hour = result.status, result.cost, result.lower_bound
    row.total_share_percent = result.total_share_percent
    _note_times(row, thinned(events), name)
    return result.plan


def _note_times(row: Row, events: list[Event], method: str) -> None:
    """Read the times of first plan, best plan and proof from what was reported; the end, where it was not."""
    total = row.total_s or 0.0
    if not is_exact(method):
        row.first_s = row.best_s = total
        row.history = [Event(seconds=total, cost=row.cost_per_hour, bound=None)]
        return
    cost = row.cost_per_hour
    first = [entry.seconds for entry in events if entry.cost is not None]
    best = [entry.seconds for entry in events if entry.cost is not None and cost is not None and entry.cost <= cost]
    row.first_s, row.best_s = min(first, default=total), min(best, default=total)
    if row.status == "optimal":
        proven = [
            entry.seconds
            for entry in events
            if cost is not None and entry.bound is not None and entry.bound >= cost and entry.seconds >= row.best_s
        ]
        row.proof_s = min(proven, default=total)
    row.history = [*events, Event(seconds=total, cost=cost, bound=row.bound_per_hour)]


def thinned(events: Iterable[Event]) -> list[Event]:
    """Keep only events at which cost or bound changed."""
    kept: list[Event] = []
    for event in events:
        if not kept or (kept[-1].cost, kept[-1].bound) != (event.cost, event.bound):
            kept.append(event)
    return kept


def _is_searched(plan: Plan) -> bool:
    rates: dict[str, list[float]] = {}
    for gpu in plan.gpus:
        for placement in gpu.placements:
            rates.setdefault(placement.workload, []).append(placement.rate_rps)
    limit = {workload.name: workload.max_replicas or 1 for workload in plan.instance.workloads}
    return all(
        len(found) <= limit[name] and max(found) - min(found) <= _SAME_RATE * max(found)
        for name, found in rates.items()
    )


def peak_mib() -> float:
    """Return the largest resident memory of this process so far.

    From the kernel's account of this program where there is one: `resource.getrusage` would also count what the
    parent had in memory when it started this process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def compiled_functions() -> int:
    """Count the functions that numba compiled in this process instead of loading them from its cache."""
    found: dict[int, Callable[..., Any]] = {}
    for name, module in list(sys.modules.items()):
        if name.startswith("igniter_opt"):
            found |= {id(entry): entry for entry in vars(module).values() if hasattr(entry, "py_func")}
    count = 0
    for entry in found.values():
        stats = entry.stats  # type: ignore[attr-defined]
        count += sum(stats.cache_misses.values()) if stats.cache_path else len(entry.signatures)  # type: ignore[attr-defined]
    return count
