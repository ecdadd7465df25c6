"""Heuristics against the optimum: the same instances through several methods, one row each."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from igniter_opt.base.compilation import Stopwatch
from igniter_opt.base.display import Shown
from igniter_opt.base.errors import (
    InfeasibleError,
    InputError,
    UnboundedError,
    UnsuitableError,
    VerificationError,
)
from igniter_opt.base.files import StrPath
from igniter_opt.base.frames import frame
from igniter_opt.base.schema import checked_number, in_short, one_of, summary
from igniter_opt.base.stop import StopRequest, returns_early
from igniter_opt.base.text import counted
from igniter_opt.data.arrivals import ArrivalKind, Arrivals, as_arrivals
from igniter_opt.data.instance import Instance, SloRule
from igniter_opt.data.instance_files import as_instance
from igniter_opt.data.split import Split
from igniter_opt.methods import METHODS, REFERENCE_METHOD, compared_heuristics, exact_method, is_shipped, slice_methods
from igniter_opt.options import DEFAULT_TIME_LIMIT_S, SolveOptions
from igniter_opt.problem.configurations import Problem
from igniter_opt.result import Progress, Result, limits_of_proof
from igniter_opt.simulate import MOST_REQUESTS, simulate
from igniter_opt.simulation.results import Simulation
from igniter_opt.simulation.traffic import planned_words
from igniter_opt.solve import solve_as

if TYPE_CHECKING:
    import pandas as pd

# Enough for the sizes of violations; `simulate` runs more and states its confidence.
DEFAULT_SIMULATED_REQUESTS = 20_000


@dataclass(frozen=True)
class ComparisonRow:
    """One method on one instance.

    Attributes
    ----------
    method
        As asked for; `solved_by` is what ``auto`` chose.
    status
        The plan's status; ``violates`` if the predictor finds workloads over their SLO (where it can say nothing
        about a latency but that it has no bound, there is no plan besides), ``no plan`` if the
        method found none, ``infeasible`` if the exact formulation proved that none exists.
    total_share_lower_bound_percent
        Proven least total share at this cost; None where nothing is proven of it.
    within
        What bound and ``optimal`` are limited to, in words (such as the safe limits of rule ``p99``); None: to nothing.
    saving_percent
        Cost saved against iGniter's greedy (with cards under MIG none); only for plans that hold.
    workloads_over_slo
        Number of workloads that the predictor says miss their SLO or rate.
    simulated_violation_ratio, simulated_worst_p99_over_slo
        Under the plan's arrivals, by `simulate`: the part of all requests over their SLO, and the largest ratio of a
        workload's 99th percentile and its SLO. None without a plan, and where none was simulated (on request, after
        an interruption, or for the reason in `message`).
    simulated_arrivals
        Those arrivals, in a few words.
    runtime_s
        Seconds that the method took, compilation left out.
    message
        Why there is no plan, or no simulation, or why an exact method ended without a proof.
    """

    instance: str
    workloads: int
    method: str
    solved_by: str | None
    status: str
    gpus: int | None
    cost_per_hour: float | None
    saving_percent: float | None
    lower_bound_per_hour: float | None
    gap: float | None
    total_share_percent: float | None
    total_share_lower_bound_percent: float | None
    workloads_over_slo: int | None
    simulated_violation_ratio: float | None
    simulated_worst_p99_over_slo: float | None
    simulated_arrivals: str | None
    within: str | None
    runtime_s: float
    message: str | None


class Comparison(Shown):
    """The rows of a comparison, and the results behind them (keyed by instance and method).

    Attributes
    ----------
    interrupted
        Whether Ctrl-C ended it: rows are missing, or the last one has no simulation.
    """

    def __init__(self) -> None:
        self.rows: list[ComparisonRow] = []
        self.results: dict[tuple[str, str], Result] = {}
        self.interrupted = False

    def __repr__(self) -> str:
        found = {"instances": in_short(dict.fromkeys(row.instance for row in self.rows))}
        found["methods"] = in_short(dict.fromkeys(row.method for row in self.rows))
        return summary("Comparison", **found, rows=len(self.rows), interrupted=self.interrupted or None)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the rows as plain data (the form of ``compare --json``)."""
        return [asdict(row) for row in self.rows]

    def to_frame(self) -> "pd.DataFrame":
        """Return the rows as a table, one column per field."""
        return frame(self.to_dicts(), list(ComparisonRow.__dataclass_fields__))

    def to_csv(self) -> str:
        """Return the rows as CSV text."""
        return str(self.to_frame().to_csv(index=False))


def compare(
    instances: Instance | StrPath | Iterable[Instance | StrPath],
    methods: str | Sequence[str] | None = None,
    *,
    time_limit: float = DEFAULT_TIME_LIMIT_S,
    gap: float = 0.0,
    margin: float | None = None,
    confidence: float | None = None,
    coefficients: str | None = None,
    slo_rule: SloRule | None = None,
    max_replicas: int | None = None,
    percentile: float | None = None,
    scale: float | None = None,
    arrivals: ArrivalKind | Arrivals | None = None,
    headroom: float | None = None,
    split: Split | None = None,
    seed: int = 0,
    requests: int = DEFAULT_SIMULATED_REQUESTS,
    on_progress: Callable[[str, str, Progress], object] | None = None,
    stop: StopRequest | None = None,
) -> Comparison:
    """Solve every instance by every method, and simulate every plan under its own arrivals.

    Parameters
    ----------
    instances
        Instances, or their names or paths; one of them may stand alone.
    methods
        Names from `methods.METHODS`. By default all heuristics and the exact method that ``auto`` takes.
    time_limit
        Seconds per exact solve; the other options are those of `solve`.
    requests
        Requests per workload in a plan's simulation, one run of it; 0 for no simulation. A trace has its own number.
        Plans of one instance are sent the same requests.
    on_progress
        Called with instance name, method and progress.
    stop
        Set it (from another thread, say) to end early with the rows so far; Ctrl-C does so.

    Raises
    ------
    InputError
        Unknown method, instances of equal names, or `requests` out of range. (Methods that find no plan get a row
        that says so.)
    """
    methods = [methods] if isinstance(methods, str) else methods
    for method in methods or ():
        one_of(method, METHODS, "unknown method", "methods")
    if isinstance(instances, Instance | str | os.PathLike) or not isinstance(instances, Iterable):
        instances = [instances]
    problems = [as_instance(instance) for instance in instances]
    names = [instance.name for instance in problems]
    if len(set(names)) < len(names):
        raise InputError("two of the instances have the same name; rename one")
    if not 0 <= checked_number("requests", requests, whole=True) <= MOST_REQUESTS:
        raise InputError(f"requests must be between 0 and {MOST_REQUESTS:,}; found {requests}")
    options = SolveOptions(
        time_limit=time_limit,
        gap=gap,
        margin=margin,
        confidence=confidence,
        coefficients=coefficients,
        slo_rule=slo_rule,
        max_replicas=max_replicas,
        percentile=percentile,
        scale=scale,
        arrivals=None if arrivals is None else as_arrivals(arrivals),
        headroom=headroom,
        split=split,
        seed=seed,
    )
    comparison, stop = Comparison(), stop or StopRequest()
    for instance in problems:
        reference: float | None = None
        changed = options.applied(instance)
        for method in _methods(changed, methods):
            if stop.is_set():
                return _ended(comparison, stop)
            began = Stopwatch()
            found: Result | None = None
            unbounded: UnboundedError | None = None
            message, proven = None, False
            try:
                found = solve_as(changed, method, options, _named(on_progress, instance.name, method), stop)
            except UnboundedError as error:
                message, unbounded = str(error), error
            except InfeasibleError as error:
                message, proven = str(error), error.proven
            except UnsuitableError as error:
                message = str(error)
            except VerificationError as error:
                if is_shipped(method):
                    raise
                message = str(error)
            except KeyboardInterrupt:
                # Without a plan of this method; the other rows stand.
                return _ended(comparison, stop)
            runtime = began.elapsed()
            if found is not None and found.status == "feasible" and found.ended:
                message = f"ended: {found.ended}"
            if method == REFERENCE_METHOD and found is not None:
                reference = found.cost
            simulated: Simulation | None = None
            if found is not None and not found.interrupted and requests > 0:
                try:
                    drawn = None if found.plan.instance.only_recorded else requests
                    simulated = simulate(found.plan, requests=drawn, seeds=1, seed=seed, stop=stop)
                except InputError as error:
                    message = "; ".join([*([message] if message else []), str(error)])
                except KeyboardInterrupt:
                    comparison.interrupted = True
            row = _row(instance, method, found, simulated, reference, runtime, message, proven)
            comparison.rows.append(row if unbounded is None else _with_unbounded(row, unbounded))
            if found is not None:
                comparison.results[instance.name, method] = found
                comparison.interrupted = comparison.interrupted or found.interrupted
            if comparison.interrupted:
                return _ended(comparison, stop)
    return comparison


def _ended(comparison: Comparison, stop: StopRequest) -> Comparison:
    """Return a comparison that was ended early, and say so if it was by Ctrl-C."""
    comparison.interrupted = True
    if stop.is_set() and not stop.by_signal:
        return comparison
    returns_early(f"{counted(len(comparison.rows), 'row')} so far")
    return comparison


def _methods(instance: Instance, asked: Sequence[str] | None) -> list[str]:
    """Return the methods to run, without repetition, the reference first."""
    if asked is None and instance.cut_types:
        asked = slice_methods()
    elif asked is None:
        asked = (*compared_heuristics(), exact_method(Problem(instance)))
    return sorted(dict.fromkeys(asked), key=lambda name: name != REFERENCE_METHOD)


def _named(
    callback: Callable[[str, str, Progress], object] | None, instance: str, method: str
) -> Callable[[Progress], object] | None:
    return None if callback is None else lambda progress: callback(instance, method, progress)


def _row(
    instance: Instance,
    method: str,
    found: Result | None,
    simulated: Simulation | None,
    reference: float | None,
    runtime: float,
    message: str | None,
    proven: bool,
) -> ComparisonRow:
    holds = found is not None and found.verification.ok
    if found is None:
        status = "infeasible" if proven else "no plan"
    else:
        status = found.status
    saving = None
    if found is not None and holds and reference is not None:
        saving = round(100.0 * (1.0 - found.cost / reference), 6) + 0.0
    return ComparisonRow(
        instance=instance.name,
        workloads=len(instance.workloads),
        method=method,
        solved_by=None if found is None else found.plan.solver.method,
        status=status,
        gpus=None if found is None else len(found.plan.gpus),
        cost_per_hour=None if found is None else found.cost,
        saving_percent=saving,
        lower_bound_per_hour=None if found is None else found.lower_bound,
        gap=None if found is None else found.gap,
        total_share_percent=None if found is None else round(found.total_share_percent, 6),
        total_share_lower_bound_percent=None if found is None else found.plan.solver.total_share_lower_bound_percent,
        workloads_over_slo=None if found is None else len(found.verification.workloads_over_slo),
        simulated_violation_ratio=None if simulated is None else simulated.violation_ratio,
        simulated_worst_p99_over_slo=None if simulated is None else simulated.worst_p99_over_slo,
        simulated_arrivals=None if found is None or simulated is None else planned_words(found.plan.instance),
        within=None if found is None else limits_of_proof(found.plan),
        runtime_s=round(runtime, 6),
        message=message,
    )


def _with_unbounded(row: ComparisonRow, error: UnboundedError) -> ComparisonRow:
    """Fill in what a method took for placements that are no plan."""
    return replace(
        row,
        solved_by=row.method,
        status="violates",
        gpus=error.gpus,
        cost_per_hour=error.cost_per_hour,
        total_share_percent=round(error.total_share_percent, 6),
        workloads_over_slo=len(error.workloads_over_slo),
    )
