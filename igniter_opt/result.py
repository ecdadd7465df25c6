"""What solving returns: the plan, what is proven about it, and how it came about."""

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

from igniter_opt.base.display import Shown
from igniter_opt.base.files import StrPath
from igniter_opt.base.frames import frame
from igniter_opt.base.kinds import HISTORY, write_output
from igniter_opt.base.schema import summary
from igniter_opt.base.stop import StopRequest
from igniter_opt.base.text import counted, rounded
from igniter_opt.data.history import History, HistoryPoint
from igniter_opt.data.instance import PRICE_DECIMALS, Instance
from igniter_opt.data.plan import Plan, Status
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
        Branch-and-bound nodes (`assignment`) or partial sets (`patterns`) explored in this phase.
    columns, lp_value, cells
        For `patterns`: columns of the master, its optimum in currency per hour (percent of share in the ``share``
        phase), and interference cells in use.
    improved
        Whether a better plan was found just now.
    total_share_percent
        In the ``share`` phase, the total share of the best plan so far.
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

    def __str__(self) -> str:
        if self.doing is not None:
            return f" {self.elapsed_s:8.1f}s  {self.doing}"
        gap = "-" if self.gap is None else f"{100 * self.gap:.2f}%"
        share = "" if self.total_share_percent is None else f"  share {self.total_share_percent:g}%"
        return (
            f"{'*' if self.improved else ' '}{self.elapsed_s:8.1f}s  {self.phase:<5}  {_money(self.cost):>9}"
            f"  {_money(self.lower_bound):>9}  {gap:>7}  {_money(self.lp_value):>9}  {_count(self.columns):>7}"
            f"  {self.nodes:>8}{share}"
        )


def _money(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)


# Of the lines of a long solve; a star is a better plan. LP is the optimum of the linear master over the columns known.
PROGRESS_TITLES = (
    f" {'time':>9}  {'phase':<5}  {'cost/h':>9}  {'bound/h':>9}  {'gap':>7}  {'LP':>9}  {'columns':>7}  {'nodes':>8}"
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
    """

    plan: Plan
    verification: Verification
    history: list[Progress] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    interrupted: bool = False

    def __repr__(self) -> str:
        values = {str(name): value for name, value in self.plan.__repr_args__()}
        return summary("Result", **values, ok=self.verification.ok, interrupted=self.interrupted or None)

    def to_frame(self) -> "pd.DataFrame":
        """Return the placements as the predictor judges them, as a table."""
        return self.verification.to_frame()

    def history_frame(self) -> "pd.DataFrame":
        """Return the progress over time as a table: seconds, phase, cost, bound, gap, columns, LP value, nodes."""
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
    )


def with_log(result: Result) -> Result:
    """Return a result with the log of its history, where its method keeps none of its own."""
    if result.log or not result.history:
        return result
    head = problem_line(result.plan.instance, result.plan.solver.method)
    rows = [str(entry) for entry in result.history]
    return replace(result, log=[head, PROGRESS_TITLES, *rows, outcome_line(result)])


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
        if progress.phase == "share" or cheap or (saves_nothing and known and not self._unchanged):
            self.ours = True
            self.request.set()
