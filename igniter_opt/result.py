"""What solving returns: the plan, what is proven about it, and how it came about."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from igniter_opt.base.display import Shown
from igniter_opt.base.files import StrPath, write_bytes_atomically
from igniter_opt.base.schema import summary
from igniter_opt.data.history import History, HistoryPoint
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
        cost = "-" if self.cost is None else f"{self.cost:.2f}"
        bound = "-" if self.lower_bound is None else f"{self.lower_bound:.2f}"
        gap = "-" if self.gap is None else f"{100 * self.gap:.2f}%"
        share = "" if self.total_share_percent is None else f"  share {self.total_share_percent:g}%"
        master = ""
        if self.columns is not None:
            value = "-" if self.lp_value is None else f"{self.lp_value:.2f}"
            master = f"  columns {self.columns:>6}  LP {value:>9}  cells {self.cells:>6}"
        mark = "*" if self.improved else " "
        return (
            f"{mark}{self.elapsed_s:8.1f}s  {self.phase:<5}  cost/h {cost:>9}  bound {bound:>9}"
            f"  gap {gap:>7}{master}  nodes {self.nodes:>7}{share}"
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
        Lines of HiGHS's log, empty for heuristics.
    interrupted
        True if Ctrl-C (or a stop request) ended the solve early.
    """

    plan: Plan
    verification: Verification
    history: list[Progress] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    interrupted: bool = False

    def __repr__(self) -> str:
        values = dict(self.plan.__repr_args__())
        return summary("Result", **{str(name): value for name, value in values.items()}, ok=self.verification.ok)

    def to_frame(self) -> "pd.DataFrame":
        """Return the placements as the predictor judges them, as a table."""
        return self.verification.to_frame()

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
        """``optimal``, ``feasible`` (bound known) or ``heuristic`` (no bound)."""
        return self.plan.solver.status

    @property
    def total_share_percent(self) -> float:
        """Total share of all placements in percent."""
        return self.plan.solver.total_share_percent


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
    """Write a solve's history file atomically."""
    write_bytes_atomically(path, (history_of(result).model_dump_json(by_alias=True, indent=1) + "\n").encode())
