"""What would change the cost: SLOs and rates relaxed, one workload or all at a time, and solved again.

Every answer is one of three: a verified plan at another cost; a proof that the change saves nothing; or neither
within the time given. Proofs that a change of one workload saves nothing come, cheapest first, from

- *shadow prices*: without the workload no plan costs less than ``bound - price`` (`formulations.columns.prices`);
- *leaving the workload out*: the bound of that instance.

Both cover every relaxation of the workload at once: its placements can be taken out of any plan for the relaxed
instance, and what is left is a plan for the instance without it, at no greater cost, as with a monotone model
(`interference.is_monotone`) one neighbour less hurts nobody. Where a profile is not monotone each change is solved
by itself.
"""

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from igniter_opt.base.errors import InfeasibleError, InputError, UnsuitableError
from igniter_opt.base.files import StrPath
from igniter_opt.base.frames import frame
from igniter_opt.base.schema import checked_number, summary
from igniter_opt.base.stop import returns_early
from igniter_opt.data.instance import Instance, Workload
from igniter_opt.data.plan import Plan, as_plan
from igniter_opt.options import SolveOptions
from igniter_opt.problem.bounds import price_grid
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import drafts_from_plan
from igniter_opt.problem.start_plans import replicas_are_equal
from igniter_opt.result import Result, StopWhenSettled
from igniter_opt.sweeps.axes import varied
from igniter_opt.sweeps.settled import solve_from
from igniter_opt.verify import verify

if TYPE_CHECKING:
    import pandas as pd

    from igniter_opt.formulations.columns.prices import ShadowPrices

Kind = Literal["slo", "rate", "without"]
Proof = Literal["solve", "without", "prices"]
SLO_CHANGES_PERCENT = (10, 25, 50, 100)
RATE_CHANGES_PERCENT = (-10, -25, -50)
GROWTH_PERCENT = (10, 25, 50)
DEFAULT_TIME_S = 60.0
# Parts of the time: for the unchanged instance, where its optimum is not proven; for shadow prices; for any one change
# of a workload, and of all.
_BASE_PART, _PRICES_PART, _CHANGE_PART, _EVERYTHING_PART = 0.2, 0.2, 0.1, 0.03
# Under rules with dear limits: after so much of the time no further workload is left out, and after so much all are
# changed together.
_OUT_PART, _SINGLE_PART = 0.4, 0.7
_LEAST_TIME_S = 1.0
# Costs are sums of prices with at most six decimals.
_SAME = 1e-7


@dataclass(frozen=True)
class Change:
    """One change and what came of it.

    Attributes
    ----------
    kind, percent
        SLO or rate changed by so many percent, or the workload left out (-100).
    cost_per_hour
        Cost of the best verified plan for the changed instance; None if none was found.
    lower_bound_per_hour
        Proven bound on the cost of the changed instance, if any.
    proof
        Where the bound comes from: ``solve`` (this change), ``without`` (the workload left out) or ``prices``.
    message
        Why there is no plan, where that is known.
    """

    kind: Kind
    percent: int
    cost_per_hour: float | None
    lower_bound_per_hour: float | None
    proof: Proof
    message: str | None = None


@dataclass(frozen=True)
class WorkloadChanges:
    """The changes of one workload alone.

    Attributes
    ----------
    workload
        The one that was changed; `same` are those equal to it, for which the same holds.
    price_per_hour
        Its shadow price, if there is one.
    changes
        What was tried or follows; empty if time was up before.
    """

    workload: str
    same: tuple[str, ...]
    price_per_hour: float | None
    changes: tuple[Change, ...] = ()

    def change(self, kind: Kind, percent: int) -> Change | None:
        """Return one change, if it was examined."""
        return next((entry for entry in self.changes if (entry.kind, entry.percent) == (kind, percent)), None)


@dataclass
class Sensitivity:
    """What `sensitivity` found.

    Attributes
    ----------
    cost_per_hour, lower_bound_per_hour
        Of the unchanged instance: the best plan known, and the best bound.
    cheaper_plan
        A plan for the unchanged instance that is cheaper than the one examined, if one was met.
    everything
        All workloads changed together, also to higher rates.
    workloads
        One workload alone, by falling shadow price (or least share).
    prices
        The shadow prices used.
    elapsed_s, time_s
        Seconds used and given.
    complete
        Whether everything was examined.
    interrupted
        Whether Ctrl-C ended the study.
    """

    cost_per_hour: float
    lower_bound_per_hour: float | None
    time_s: float
    cheaper_plan: Plan | None = None
    everything: list[Change] = field(default_factory=list)
    workloads: list[WorkloadChanges] = field(default_factory=list)
    prices: "ShadowPrices | None" = None
    elapsed_s: float = 0.0
    complete: bool = False
    interrupted: bool = False

    def __repr__(self) -> str:
        return summary(
            "Sensitivity",
            cost_per_hour=self.cost_per_hour,
            lower_bound_per_hour=self.lower_bound_per_hour,
            everything=len(self.everything),
            workloads=len(self.workloads),
            elapsed_s=self.elapsed_s,
            complete=self.complete,
            interrupted=self.interrupted or None,
        )

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per change, of all workloads together (no workload named) and of each, with what it saves."""
        changes: list[tuple[str | None, Change]] = [(None, entry) for entry in self.everything]
        changes += [(own.workload, entry) for own in self.workloads for entry in own.changes]
        rows = [
            {"workload": workload, **asdict(entry), "saving_per_hour": self.saving_per_hour(entry)}
            for workload, entry in changes
        ]
        return frame(rows, ["workload", *Change.__dataclass_fields__, "saving_per_hour"])

    def saving_per_hour(self, change: Change) -> float | None:
        """Cost saved by a change (negative: added); None where it is open: neither a saving nor a proof of none."""
        saved = 0.0 if change.cost_per_hour is None else self.cost_per_hour - change.cost_per_hour
        grows = change.kind == "rate" and change.percent > 0
        if saved > _SAME or (grows and change.cost_per_hour is not None):
            return saved
        return 0.0 if self.saves_nothing(change) else None

    def saves_nothing(self, change: Change) -> bool:
        """Whether it is proven that the change saves nothing."""
        return change.lower_bound_per_hour is not None and change.lower_bound_per_hour > self.cost_per_hour - _SAME

    def needs_the_change(self, change: Change) -> bool:
        """Whether a cheaper plan is proven to be out of reach without the change."""
        bound = self.lower_bound_per_hour
        return change.cost_per_hour is not None and bound is not None and change.cost_per_hour < bound - _SAME


class _TimeIsUpError(Exception):
    """No time is left for another solve."""


def sensitivity(
    plan: Plan | StrPath,
    *,
    time_s: float = DEFAULT_TIME_S,
    seed: int = 0,
    on_progress: Callable[[int, int], object] | None = None,
) -> Sensitivity:
    """Find out which SLOs and rates are worth relaxing.

    Parameters
    ----------
    plan
        A plan that holds, or the path of one.
    time_s
        Seconds in all; a solve that is under way at the end may take somewhat longer, and compilation is not counted.
    seed
        Of every solve.
    on_progress
        Called with the number of workloads (equal ones count once) examined, and of all.

    Raises
    ------
    InputError
        The plan does not hold, or `time_s` is out of range.
    UnsuitableError
        The plan, or a profile, is beyond what exact methods treat, so that their bounds would say nothing.
    """
    plan = as_plan(plan)
    if plan.instance.cut_types:
        raise UnsuitableError("what relaxing an SLO or a rate would save is not worked out for cards under MIG")
    if not 0 < checked_number("the time for what-ifs", time_s) < float("inf"):
        raise InputError(f"the time for what-ifs must be a finite number of seconds above 0; found {time_s!r}")
    verification = verify(plan)
    if not verification.ok:
        raise InputError(f"the plan does not hold: {verification.violations[0].message}")
    study = _Study(plan, time_s, seed, on_progress or (lambda *_: None))
    try:
        study.run()
        study.found.complete = True
    except _TimeIsUpError:
        pass
    except KeyboardInterrupt:
        study.found.interrupted = True
        returns_early("this is what was examined so far")
    study.found.elapsed_s = time.perf_counter() - study.began
    return study.found


class _Study:
    def __init__(
        self,
        plan: Plan,
        time_s: float,
        seed: int,
        on_progress: Callable[[int, int], object],
    ) -> None:
        self.began = time.perf_counter()
        self.plan, self.time_s, self.on_progress, self.instance = plan, time_s, on_progress, plan.instance
        margin, confidence = plan.solver.margin, plan.solver.confidence
        self.options = SolveOptions(margin=None if confidence else margin, confidence=confidence, seed=seed)
        self.problem = Problem(self.instance, margin, confidence)
        self.grid = price_grid(self.problem)
        if not replicas_are_equal(self.problem, drafts_from_plan(self.problem, plan)):
            raise UnsuitableError(
                "the plan splits workloads by iGniter's own rule, beyond their max_replicas; give max_replicas to solve"
                " them by exact methods, whose bounds say what changes would save"
            )
        if plan.neighbours is not None and plan.neighbours.simulated:
            raise UnsuitableError(
                "the plan holds beside neighbours as they are, by simulation; what changes would save is only known for"
                " neighbours that are busy all the time (solve with --neighbours full)"
            )
        self.no_plan = ""
        self._change_limit = _CHANGE_PART * time_s
        self._known_without: dict[int, Change] = {}
        solver = plan.solver
        self.found = Sensitivity(solver.cost_per_hour, solver.lower_bound_per_hour, time_s)

    def run(self) -> None:
        if self.plan.solver.status != "optimal":
            self._solve_unchanged()
        if all(self.problem.monotone):
            # Imported here: HiGHS and compiled code take a moment, which every command would wait for.
            from igniter_opt.formulations.columns.prices import shadow_prices

            limit = min(_PRICES_PART * self.time_s, self._left())
            drafts = drafts_from_plan(self.problem, self.plan)
            self.found.prices = shadow_prices(self.problem, drafts, time_limit=limit, seed=self.options.seed)
            self._use_linear_bound()
        classes = self._classes()
        self.found.workloads = [self._unexamined(members) for members in classes]
        # What prices prove costs no time.
        proven = [position for position in range(len(classes)) if self._proven_by_price(position)]
        for position in proven:
            self._examine(classes, position)
        rest = [position for position in range(len(classes)) if position not in proven]
        # Where limits are dear, changing all workloads takes them all anew for every change, leaving one out none: so
        # single ones come first there, for a part of the time.
        dear = self.problem.rule.dear_limits
        if dear and all(self.problem.monotone):
            rest = self._leave_each_out(classes, rest)
        for number, position in enumerate(rest):
            if not self.found.everything and not (dear and self._spent() < _SINGLE_PART):
                self._change_everything()
            # Mostly two solves say all about a workload, and each shall have its turn.
            turn = (1.0 - self._spent()) / (2 * (len(rest) - number))
            self._change_limit = min(_CHANGE_PART, turn) * self.time_s
            self._examine(classes, position)
            self._tell_progress()
        if not self.found.everything:
            self._change_everything()
        self._settle_everything()

    def _leave_each_out(self, classes: list[list[int]], positions: list[int]) -> list[int]:
        """Solve without each workload; return those of which that does not settle everything."""
        left: list[int] = []
        for number, position in enumerate(positions):
            if self._spent() > _OUT_PART:
                return left + positions[number:]
            entry = self.found.workloads[position]
            without = self._without(classes[position][0], entry.price_per_hour, _EVERYTHING_PART * self.time_s)
            self._known_without[classes[position][0]] = without
            if self._settles(without):
                self._examine(classes, position)
                self._tell_progress()
            else:
                left.append(position)
        return left

    def _tell_progress(self) -> None:
        self.on_progress(sum(bool(entry.changes) for entry in self.found.workloads), len(self.found.workloads))

    def _change_everything(self) -> None:
        for kind, percent in self._changes_of_everything():
            changed = varied(self.instance, kind, _times(percent))
            limit = _EVERYTHING_PART * self.time_s
            self.found.everything.append(self._solve_change(changed, kind, percent, limit))

    def _settles(self, without: Change) -> bool:
        """Whether leaving a workload out saves nothing that is known, so that relaxing it cannot save more."""
        return without.cost_per_hour is None or without.cost_per_hour > self.found.cost_per_hour - _SAME

    def _settle_everything(self) -> None:
        """Give the time that is left to what is open about all workloads together."""
        for position, change in enumerate(self.found.everything):
            if change.message is None and self.found.saving_per_hour(change) is None:
                changed = varied(self.instance, change.kind, _times(change.percent))
                again = self._solve_change(changed, change.kind, change.percent, _CHANGE_PART * self.time_s)
                self.found.everything[position] = again

    def _examine(self, classes: list[list[int]], position: int) -> None:
        entry = self.found.workloads[position]
        changes = tuple(self._changes_of(classes[position][0], entry.price_per_hour))
        self.found.workloads[position] = replace(entry, changes=changes)

    def _proven_by_price(self, position: int) -> bool:
        price, prices = self.found.workloads[position].price_per_hour, self.found.prices
        return (
            price is not None
            and prices is not None
            and self._rounded(prices.bound - price) > self.found.cost_per_hour - _SAME
        )

    @staticmethod
    def _changes_of_everything() -> Iterator[tuple[Kind, int]]:
        yield from (("slo", percent) for percent in SLO_CHANGES_PERCENT)
        yield from (("rate", percent) for percent in (*RATE_CHANGES_PERCENT, *GROWTH_PERCENT))

    def _classes(self) -> list[list[int]]:
        """Groups of equal workloads, those worth most first."""
        groups: dict[tuple[Hashable, ...], list[int]] = {}
        for position, workload in enumerate(self.instance.workloads):
            groups.setdefault(self.instance.demand_of(workload), []).append(position)
        prices = [gpu.price_per_hour for gpu in self.instance.gpu_types]
        worth: Sequence[float] = (self.problem.least_share_percent * prices).min(axis=1).tolist()
        if self.found.prices is not None:
            worth = self.found.prices.workloads
        return sorted(groups.values(), key=lambda members: -worth[members[0]])

    def _unexamined(self, members: list[int]) -> WorkloadChanges:
        names = [self.instance.workloads[member].name for member in members]
        price = None if self.found.prices is None else self.found.prices.workloads[members[0]]
        return WorkloadChanges(names[0], tuple(names[1:]), price)

    # ---- one workload -------------------------------------------------------------------------------

    def _changes_of(self, workload: int, price: float | None) -> Iterator[Change]:
        """Yield the changes of one workload: what prices or leaving it out prove, else what solving finds."""
        slo: list[tuple[Kind, int]] = [("slo", percent) for percent in reversed(SLO_CHANGES_PERCENT)]
        rate: list[tuple[Kind, int]] = [("rate", percent) for percent in reversed(RATE_CHANGES_PERCENT)]
        relaxations = [*slo, *rate]
        most_saved: Change | None = None
        if all(self.problem.monotone):
            without = self._known_without.get(workload) or self._without(workload, price, self._change_limit)
            yield without
            if self._settles(without):
                proof: Proof = "prices" if without.proof == "prices" else "without"
                bound = without.lower_bound_per_hour
                yield from (Change(kind, percent, None, bound, proof) for kind, percent in relaxations)
                return
            most_saved = without
        for group in (slo, rate):
            yield from self._ever_less(workload, group, most_saved)

    def _ever_less(self, workload: int, group: list[tuple[Kind, int]], most: Change | None) -> Iterator[Change]:
        """Relax ever less, until that saves nothing any more."""
        last: Result | None = None
        for kind, percent in group:
            own = self.instance.workloads[workload]
            value = (own.slo_ms if kind == "slo" else own.rate_rps) * _times(percent)
            changed = varied(self.instance, f"{kind}:{own.name}", value)
            enough = None if most is None else most.cost_per_hour
            change, last = self._solve_and_keep(changed, kind, percent, enough, last, self._change_limit)
            yield change
            saves = change.cost_per_hour is not None and change.cost_per_hour < self.found.cost_per_hour - _SAME
            # What a smaller SLO admits, a larger one does; the same for rates under some rules.
            if not saves and (kind == "slo" or self.problem.rule.lower_rates == "always"):
                smaller = group[group.index((kind, percent)) + 1 :]
                yield from (replace(change, percent=less, cost_per_hour=None) for _, less in smaller)
                return

    def _without(self, workload: int, price: float | None, limit: float) -> Change:
        """Return what leaving a workload out would save."""
        if price is not None and self.found.prices is not None:
            bound = self._rounded(self.found.prices.bound - price)
            if bound > self.found.cost_per_hour - _SAME:
                return Change("without", -100, None, bound, "prices")
        others = [entry for position, entry in enumerate(self.instance.workloads) if position != workload]
        if not others:
            return Change("without", -100, 0.0, 0.0, "solve")
        return self._solve_change(self._with(others), "without", -100, limit)

    def _with(self, workloads: Sequence[Workload]) -> Instance:
        return self.instance.model_copy(update={"workloads": tuple(workloads)})

    # ---- solving ------------------------------------------------------------------------------------

    def _solve_unchanged(self) -> None:
        result = self._solve(self.instance, self.plan, _BASE_PART * self.time_s, enough=0.0)
        if result is None:
            return
        if result.cost < self.found.cost_per_hour - _SAME:
            self.found.cost_per_hour, self.found.cheaper_plan = result.cost, result.plan
            self.plan = result.plan
        bounds = [bound for bound in (self.found.lower_bound_per_hour, result.lower_bound) if bound is not None]
        self.found.lower_bound_per_hour = max(bounds, default=None)

    def _use_linear_bound(self) -> None:
        """Raise the bound of the unchanged instance to the linear one where that is better."""
        if self.found.prices is not None:
            bound = self._rounded(self.found.prices.bound)
            self.found.lower_bound_per_hour = max(bound, self.found.lower_bound_per_hour or 0.0)

    def _rounded(self, bound: float) -> float:
        """Round a bound up to the next cost that some set of GPUs has, at most the best known plan's."""
        step = float(self.grid.cost(1))
        known = round(self.found.cost_per_hour / step)
        return float(self.grid.cost(self.grid.round_up(max(0.0, bound / step), known)))

    def _solve_change(self, instance: Instance, kind: Kind, percent: int, limit: float) -> Change:
        return self._solve_and_keep(instance, kind, percent, None, None, limit)[0]

    def _solve_and_keep(
        self, instance: Instance, kind: Kind, percent: int, enough: float | None, start: Result | None, limit: float
    ) -> tuple[Change, Result | None]:
        """Solve a changed instance, from a plan found for another one, and until a cost that is enough."""
        first = self.plan if start is None else start.plan
        result = self._solve(instance, first, max(_LEAST_TIME_S, limit), enough=0.0 if enough is None else enough)
        if result is None:
            return Change(kind, percent, None, None, "solve", self.no_plan), start
        return Change(kind, percent, result.cost, result.lower_bound, "solve"), result

    def _spent(self) -> float:
        """Part of the time that is gone."""
        return (time.perf_counter() - self.began) / self.time_s

    def _left(self) -> float:
        left = self.time_s - (time.perf_counter() - self.began)
        if left < _LEAST_TIME_S:
            raise _TimeIsUpError
        return left

    def _solve(self, instance: Instance, first: Plan, limit: float, *, enough: float) -> Result | None:
        """Solve until the first objective is settled, the cost is low enough, or this change is seen to save nothing.

        None if no plan was found.
        """
        left = self._left()
        stop = StopWhenSettled(self.found.cost_per_hour, enough, unchanged=instance is self.instance)
        try:
            result = solve_from(instance, first, replace(self.options, time_limit=min(limit, left)), stop)
        except InfeasibleError as error:
            self.no_plan = str(error).splitlines()[0]
            return None
        if result.interrupted and not stop.ours:
            raise KeyboardInterrupt
        return result


def _times(percent: int) -> float:
    """Return by what a value is multiplied that changes by so many percent."""
    return (100 + percent) / 100
