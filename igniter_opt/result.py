"""What solving returns: the plan, what is proven about it, and how it came about."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from igniter_opt.base.display import Shown
from igniter_opt.base.files import StrPath
from igniter_opt.base.frames import frame
from igniter_opt.base.kinds import HISTORY, write_output
from igniter_opt.base.schema import summary
from igniter_opt.base.stop import StopRequest
from igniter_opt.base.text import counted, rounded
from igniter_opt.data.gpu_type import PRICE_DECIMALS
from igniter_opt.data.history import History, HistoryPoint
from igniter_opt.data.instance import Instance
from igniter_opt.data.plan import Plan, Status
from igniter_opt.problem.program import Duals, IntegerProgram
from igniter_opt.slo.rules import proven_within
from igniter_opt.verify import Verification

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Progress:
    """A moment of a long solve.

    Attributes
    ----------
    elapsed_s
        Seconds since the solve began.
    phase
        ``start``, ``cost`` (first objective: bound and plans), ``plans`` (plans only) or ``share`` (second objective).
    cost, lower_bound, gap
        Cost of the best plan so far and the proven bound, in currency per hour, and their relative gap;
        None while unknown.
    nodes
        For `assignment` branch-and-bound nodes of HiGHS's run at hand, for `patterns` partial sets looked at since the
        search began.
    columns, lp_value, cells
        For `patterns`: columns of the restricted master, its linear optimum in currency per hour (percent of share in
        the ``share`` phase), and interference cells in use. The restricted master knows the columns found so far only,
        so its optimum is no bound: it falls as columns come, and plans that come by other ways may cost less.
    improved
        Whether a better plan was found just now.
    total_share_percent, share_lower_bound_percent
        In the ``share`` phase, the total share of the best plan so far and, for `patterns`, the proven bound on it.
    raw_bound
        For `patterns`: the lower bound before it is rounded up to a cost that some GPUs have, in currency per hour
        (percent of share in the ``share`` phase).
    source
        For `patterns`, where a better plan comes from: one of `SOURCES`.
    doing
        What is done before a search, or instead of one (heuristics), in words; nothing else is known then.
    """

    elapsed_s: float
    phase: str
    cost: float | None
    lower_bound: float | None
    gap: float | None
    nodes: int = 0
    improved: bool = False
    total_share_percent: float | None = None
    columns: int | None = None
    lp_value: float | None = None
    cells: int | None = None
    doing: str | None = None
    raw_bound: float | None = None
    share_lower_bound_percent: float | None = None
    source: str | None = None

    def __str__(self) -> str:
        if self.doing is not None:
            return f" {self.elapsed_s:7.1f}s  {self.doing}"
        mark = SOURCES.get(self.source or "", "*") if self.improved else " "
        found, bound, gap, unit = self.cost, self.lower_bound, self.gap, ""
        if self.phase == "share" and self.total_share_percent is not None:
            found, bound, unit = self.total_share_percent, self.share_lower_bound_percent, "%"
            gap = None if bound is None or not found else max(0.0, 1.0 - bound / found)
        numbers = "  ".join(f"{_amount(value, unit):>8}" for value in (found, bound))
        others = "  ".join(f"{_amount(value, unit):>8}" for value in (self.raw_bound, self.lp_value))
        return (
            f"{mark}{self.elapsed_s:7.1f}s  {self.phase:<5}  {numbers}  {_percent(gap):>6}  {others}"
            f"  {_count(self.columns):>6}  {_count(self.nodes):>6}"
        )


def _amount(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:.{1 if unit else 2 if value < 99_999 else 0}f}{unit}"


def _percent(part: float | None) -> str:
    return "-" if part is None else f"{100 * part:.{2 if part < 0.9999 else 0}f}%"


def _count(value: int | None) -> str:
    if value is None:
        return "-"
    return str(value) if value < 1_000_000 else f"{value / 1e6:.0f}M"


# Where plans come from, and how a line is marked; a star where a method does not say.
SOURCES: Mapping[str, str] = MappingProxyType(
    {"start": "S", "best fit": "B", "local search": "L", "repacking": "R", "dive": "D", "integer": "I", "compact": "C"}
)
PROGRESS_LEGEND = (
    f" better plans by: {', '.join(f'{mark} {name}' for name, mark in SOURCES.items())}; in phase share, shares in %"
)
# raw bd: the bound before it is rounded up; RMP: the linear optimum over the columns known (restricted master).
PROGRESS_TITLES = (
    f" {'time':>8}  {'phase':<5}  {'cost/h':>8}  {'bound/h':>8}  {'gap':>6}  {'raw bd':>8}  {'RMP':>8}"
    f"  {'cols':>6}  {'nodes':>6}"
)


@dataclass(frozen=True)
class Result(Shown):
    """The outcome of `solve`.

    Attributes
    ----------
    plan
        The best plan found.
    verification
        The predictor's judgement of it. Plans of methods that model interference always hold; those of
        baselines that do not (`methods.Method.verified`) may fail here.
    history
        Progress over time.
    log
        For `assignment` the lines of HiGHS's log; for other exact methods the problem, a line per moment of `history`
        and the outcome; empty for heuristics.
    interrupted
        True if Ctrl-C (or a stop request) ended the solve early.
    ended
        Why an exact method ended, in words; empty for heuristics.
    model
        With ``keep_model``, the integer program that an exact method ended with (`formulations.written.write_model`):
        of ``assignment`` that of the least cost, of ``patterns`` the master over the columns known at the end. None
        where there was no time to make it.
    duals
        With ``keep_model``, of ``patterns``: the duals of the linear relaxation of that.
    limits_lowered
        Whether the judge refused placements that the SLO rule's limits admit (`problem.tighten`): the bound is then on
        plans within limits that are lower than those of other solves.
    """

    plan: Plan
    verification: Verification
    history: list[Progress] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    interrupted: bool = False
    ended: str = ""
    model: IntegerProgram | None = None
    duals: Duals | None = None
    limits_lowered: bool = False

    def __repr__(self) -> str:
        values = {str(name): value for name, value in self.plan.__repr_args__()}
        return summary("Result", **values, ok=self.verification.ok, interrupted=self.interrupted or None)

    def to_frame(self) -> "pd.DataFrame":
        """Return the placements as the predictor judges them, as a table."""
        return self.verification.to_frame()

    def history_frame(self) -> "pd.DataFrame":
        """Return the progress over time as a table, one column per field of `Progress`."""
        titles = [entry.name for entry in fields(Progress)]
        return frame([{name: getattr(entry, name) for name in titles} for entry in self.history], titles)

    @property
    def cost(self) -> float:
        """Cost per hour."""
        return self.plan.solver.cost_per_hour

    @property
    def lower_bound(self) -> float | None:
        """Proven lower bound on the cost per hour, if any."""
        return self.plan.solver.lower_bound_per_hour

    @property
    def gap(self) -> float | None:
        """Relative gap between cost and bound, if there is a bound."""
        return self.plan.solver.gap

    @property
    def status(self) -> Status:
        """``optimal``, ``feasible`` (bound known), ``heuristic`` (no bound), or ``violates`` (see `verification`)."""
        return self.plan.solver.status

    @property
    def total_share_percent(self) -> float:
        """Total share of all placements in percent."""
        return self.plan.solver.total_share_percent


def limits_of_proof(plan: Plan) -> str | None:
    """Say what bound and status of a plan are limited to, beside the model; None: to nothing, or none is proven."""
    if plan.solver.status not in ("optimal", "feasible") or plan.neighbours is not None:
        return None
    return proven_within(plan.instance.slo_rule).removeprefix(" within ") or None


def problem_line(instance: Instance, method: str) -> str:
    """Say in one line what is solved, and how."""
    replicas = sum(workload.max_replicas or 1 for workload in instance.workloads)
    most = "" if replicas == len(instance.workloads) else f", up to {counted(replicas, 'replica')}"
    types = ", ".join(
        f"{gpu.name} at {rounded(gpu.price_per_hour, PRICE_DECIMALS)}"
        + ("" if gpu.count is None else f" (at most {gpu.count})")
        for gpu in instance.gpu_types
    )
    return (
        f"{method}: {instance.name}, {counted(len(instance.workloads), 'workload')}{most}, rule {instance.slo_rule};"
        f" {types} {instance.currency} per hour"
    )


def outcome_line(result: Result) -> str:
    """Say in one line what came of a solve."""
    solver, last = result.plan.solver, result.history[-1] if result.history else None
    bound = "no bound" if result.lower_bound is None else f"bound {rounded(result.lower_bound, PRICE_DECIMALS)}"
    gap = "" if result.gap is None else f", gap {100 * result.gap:.2f} %"
    work = "" if last is None else f", {counted(last.nodes, 'node')}"
    if last is not None and last.columns is not None:
        work += f", {counted(last.columns, 'column')}"
    return (
        f"{result.status}{' (interrupted)' if result.interrupted else ''}: cost"
        f" {rounded(result.cost, PRICE_DECIMALS)} {result.plan.instance.currency} per hour,"
        f" {bound}{gap}; {counted(len(result.plan.gpus), 'GPU')}, {solver.runtime_s:.2f} s{work}"
        f"{'; ended: ' if result.ended else ''}{result.ended}"
    )


def with_log(result: Result) -> Result:
    """Return a result with the log of its history, where its method keeps none of its own."""
    if result.log or not result.history:
        return result
    head = problem_line(result.plan.instance, result.plan.solver.method)
    rows = [str(entry) for entry in result.history]
    return replace(result, log=[head, PROGRESS_LEGEND, PROGRESS_TITLES, *rows, outcome_line(result)])


def history_of(result: Result) -> History:
    """Take down how a solve went."""
    points: list[HistoryPoint] = []
    # In the second objective's phase cost and bound are final.
    for entry in result.history:
        bound = entry.lower_bound or None
        if not points or (entry.cost, bound) != (points[-1].cost_per_hour, points[-1].lower_bound_per_hour):
            points.append(
                HistoryPoint(elapsed_s=round(entry.elapsed_s, 6), cost_per_hour=entry.cost, lower_bound_per_hour=bound)
            )
    solver = result.plan.solver
    # Progress counts from the beginning of the search, the solver's runtime includes what comes before it.
    end = result.history[-1].elapsed_s if result.history else solver.runtime_s
    points.append(
        HistoryPoint(
            elapsed_s=round(end, 6), cost_per_hour=result.cost, lower_bound_per_hour=solver.lower_bound_per_hour
        )
    )
    return History(instance=result.plan.instance.name, solver=solver, points=tuple(points))


def write_history(result: Result, path: StrPath) -> None:
    """Write a solve's history file atomically; raise InputError where something else than a history is."""
    text = history_of(result).model_dump_json(by_alias=True, indent=1) + "\n"
    write_output(path, text.encode(), HISTORY)


# Costs are sums of prices with at most six decimals.
_SAME_COST = 1e-7


class StopWhenSettled:
    """Ends a solve as soon as it is known whether a cost (per hour) can be had that is below `base`, or is `enough`."""

    def __init__(self, base: float, enough: float, *, unchanged: bool) -> None:
        self.request, self.ours = StopRequest(), False
        self._base, self._enough, self._unchanged = base, enough, unchanged

    def look(self, progress: Progress) -> None:
        """Ask the solve to stop where its second objective begins, or nothing that matters is left to be found."""
        saves_nothing = progress.lower_bound is not None and progress.lower_bound > self._base - _SAME_COST
        cheap = progress.cost is not None and progress.cost < self._enough + _SAME_COST
        known = progress.cost is not None and progress.cost < self._base + _SAME_COST
        bound = progress.lower_bound
        proven = progress.cost is not None and bound is not None and progress.cost <= bound + _SAME_COST
        if progress.phase == "share" or proven or cheap or (saves_nothing and known and not self._unchanged):
            self.ours = True
            self.request.set()
