"""Planning anew while a plan runs: least cost first, then as little disruption as can be had, and the way there."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import cached_property

from igniter_opt.base.clock import Clock
from igniter_opt.base.compilation import Stopwatch
from igniter_opt.base.errors import InfeasibleError, InputError, SolveInterruptedError, VerificationError
from igniter_opt.base.files import StrPath
from igniter_opt.base.schema import checked_number, nearest
from igniter_opt.base.stop import StopRequest, returns_early
from igniter_opt.data.instance import Instance
from igniter_opt.data.instance_files import as_instance
from igniter_opt.data.migration import Disruption, DisruptionWeights, Migration
from igniter_opt.data.plan import Plan, as_plan
from igniter_opt.deploy.approval import plan_digest
from igniter_opt.deploy.matching import served_by_gpu
from igniter_opt.formulations.columns.standing import Column
from igniter_opt.formulations.replanning import LeastDisruption, ReplanLimits
from igniter_opt.options import SolveOptions
from igniter_opt.packing.items import Catalogue, catalogue
from igniter_opt.packing.running import RunningGpu, RunningServer
from igniter_opt.problem.bounds import price_grid
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import drafts_from_plan, make_plan
from igniter_opt.problem.start_plans import draft_of_start, within_limits
from igniter_opt.replanning.disruption import disruption, matched
from igniter_opt.replanning.naming import drafts_of_columns
from igniter_opt.replanning.order import ordered
from igniter_opt.result import Progress, Result
from igniter_opt.solve import solve_as
from igniter_opt.verify import Verification, verify

# Seconds for the second objective: this part of the time limit, and no more than so many.
_PART, _MOST_S = 0.5, 60.0
_SAME = 1e-9
_MOST_SPARE = 100


@dataclass(frozen=True)
class ReplanTerms:
    """What a new plan owes to the one that runs.

    Attributes
    ----------
    weights
        What moves, restarts and resizes count.
    move_price
        What a disruption of weight 1 may cost, in currency per hour; None lets the cost come first.
    keep
        Workloads whose servers stay on their GPUs.
    max_moves
        How many servers may move at most.
    spare_gpus
        How many GPUs of each type may be used on the way only, for servers that would else have no room.
    """

    weights: DisruptionWeights = field(default_factory=DisruptionWeights)
    move_price: float | None = None
    keep: tuple[str, ...] = ()
    max_moves: int | None = None
    spare_gpus: int = 0

    def __post_init__(self) -> None:
        if self.move_price is not None and not 0 <= checked_number("the price of a move", self.move_price) <= 1e9:
            raise InputError(f"the price of a move must be 0 to 1e9; found {self.move_price!r}")
        if self.max_moves is not None and checked_number("the most moves", self.max_moves, whole=True) < 0:
            raise InputError(f"the most moves must be 0 or more; found {self.max_moves!r}")
        if not 0 <= checked_number("the number of spare GPUs", self.spare_gpus, whole=True) <= _MOST_SPARE:
            raise InputError(f"the number of spare GPUs must be 0 to {_MOST_SPARE}; found {self.spare_gpus!r}")

    @property
    def limited(self) -> bool:
        """Whether they may make a plan dearer."""
        return bool(self.keep) or self.max_moves is not None or self.move_price is not None


@dataclass(frozen=True)
class Replanned:
    """A new plan for a running one.

    Attributes
    ----------
    plan
        With its migration.
    afresh
        What `solve` returns for the instance, whatever runs.
    verification
        The predictor's judgement of the plan.
    interrupted
        Whether a stop ended the search early.
    """

    plan: Plan
    afresh: Result
    verification: Verification
    interrupted: bool = False

    @property
    def migration(self) -> Migration:
        """The way from the running plan."""
        assert self.plan.migration is not None  # noqa: S101 (replan makes it)
        return self.plan.migration

    @property
    def disruption(self) -> Disruption:
        """What the new plan does to servers."""
        return self.migration.disruption

    @property
    def cost(self) -> float:
        """Cost per hour."""
        return self.plan.solver.cost_per_hour

    @property
    def changed(self) -> bool:
        """Whether any server starts or stops."""
        return bool(self.migration.steps)


def replan(
    plan: Plan | StrPath,
    instance: Instance | StrPath,
    method: str = "auto",
    terms: ReplanTerms | None = None,
    options: SolveOptions | None = None,
    *,
    on_progress: Callable[[Progress], object] | None = None,
    stop: StopRequest | None = None,
) -> Replanned:
    """Find a plan for changed workloads that disrupts a running plan as little as its cost allows.

    Parameters
    ----------
    plan
        The plan that runs, or the path of its file.
    instance
        What is asked for from now on, or the name or path of it.
    method
        Which method finds the least cost (`solve`).
    terms
        What the new plan owes to the running one.
    options
        Of `solve`; margin and confidence are the running plan's where none is given. The second objective takes half
        of the time limit more at most.

    Raises
    ------
    InputError
        An argument is out of range, or a workload to keep is not in both plans.
    InfeasibleError
        No plan exists, or none within the terms is found.
    SolveInterruptedError
        Stopped before there was any plan.
    """
    running, terms, options = as_plan(plan), terms or ReplanTerms(), options or SolveOptions()
    began, stop = Stopwatch(), stop or StopRequest()
    running.instance.require_shared("replan")
    if options.margin is None and options.confidence is None:
        solver = running.solver
        known = {"margin": solver.margin} if solver.confidence is None else {"confidence": solver.confidence}
        options = replace(options, **known)  # type: ignore[arg-type]
    wanted = options.applied(as_instance(instance))
    wanted.require_shared("replan")
    _check_keep(running, wanted, terms.keep)
    afresh = solve_as(wanted, method, replace(options, start=None), on_progress, stop)
    problem = Problem(wanted, afresh.plan.solver.margin, afresh.plan.solver.confidence)
    # From here on there is a plan, which Ctrl-C must not lose.
    with stop.on_interrupt():
        best, bound = _Search(problem, running, afresh, terms, stop, options).run()
        done = disruption(running, best, terms.weights, bound)
        order = ordered(running, best, terms.spare_gpus)
        migration = Migration(
            running=plan_digest(running), rates=order.rates, disruption=done, steps=order.steps, spare=order.spare
        )
        solver = best.solver.model_copy(update={"runtime_s": round(began.elapsed(), 6)})
        best = best.model_copy(update={"migration": migration, "solver": solver})
        judged = verify(best)
    if not judged.ok and afresh.verification.ok:
        found = "; ".join(f"{entry.where}: {entry.message}" for entry in judged.violations[:3])
        raise VerificationError(f"replan made a plan that the predictor rejects ({found}); please report this")
    if stop.by_signal:
        returns_early("this is the best plan so far")
    return Replanned(best, afresh, judged, stop.is_set())


def _check_keep(running: Plan, wanted: Instance, keep: Collection[str]) -> None:
    runs = dict.fromkeys(placement.workload for gpu in running.gpus for placement in gpu.placements)
    names = [workload.name for workload in wanted.workloads]
    for name in keep:
        if name not in names:
            raise InputError(f"--keep {name}: the instance has no such workload{nearest(name, names)}")
        if name not in runs:
            raise InputError(f"--keep {name}: the running plan has no server of it{nearest(name, runs)}")


class _Search:
    """Candidates for the new plan, and the best of them within the terms."""

    def __init__(
        self,
        problem: Problem,
        running: Plan,
        afresh: Result,
        terms: ReplanTerms,
        stop: StopRequest,
        options: SolveOptions,
    ) -> None:
        self.problem, self.running, self.afresh, self.terms = problem, running, afresh, terms
        self.stop, self.options = stop, options
        self.grid = price_grid(problem)

    def run(self) -> tuple[Plan, float | None]:
        """Return the best plan, its GPUs named as those that run, and a bound on its weighted disruption."""
        fresh = matched(self.running, self.afresh.plan, self.terms.weights)
        candidates = [fresh, matched(self.running, self.afresh.plan, DisruptionWeights(1.0, 0.0, 0.0))]
        candidates += self._as_it_is()
        if not self.terms.limited and any(self._undisturbed(entry) for entry in candidates):
            return self._best(candidates), 0.0
        bound: float | None = None
        if all(self.problem.monotone) and self.afresh.verification.ok:
            found, bound = self._least()
            candidates += found
        best = self._best(candidates)
        if not within_limits(self.problem, drafts_from_plan(self.problem, best)):
            bound = None
        return best, bound

    def _undisturbed(self, plan: Plan) -> bool:
        return self._cost(plan) <= self.afresh.cost + _SAME and not self._weighted(plan)

    def _as_it_is(self) -> list[Plan]:
        """Return the running plan at the new rates, if it holds."""
        try:
            gpus = draft_of_start(self.problem, self.running)
        except InputError:
            return []
        same = make_plan(self.problem, gpus, method="replan", status="heuristic")
        names = tuple(
            gpu.model_copy(update={"name": old.name}) for gpu, old in zip(same.gpus, self.running.gpus, strict=True)
        )
        return [same.model_copy(update={"gpus": names})]

    def _least(self) -> tuple[list[Plan], float | None]:
        """Return plans of the formulation `replanning`, and its bound on the disruption."""
        clock = Clock(min(_MOST_S, _PART * self.options.time_limit), self.stop)
        numbers = {workload.name: k for k, workload in enumerate(self.problem.workloads)}
        gpus = self._running_gpus(numbers)
        before = Counter(
            numbers[p.workload] for gpu in self.running.gpus for p in gpu.placements if p.workload in numbers
        )
        keep = frozenset(numbers[name] for name in self.terms.keep)
        limits = ReplanLimits(keep, self.terms.max_moves, self.terms.move_price)
        known = catalogue(self.problem)
        program = LeastDisruption(
            known,
            gpus,
            before,
            self.terms.weights,
            limits,
            [drafts_from_plan(self.problem, self.afresh.plan)],
            clock=clock,
            seed=self.options.seed,
            stop=self.stop,
        )
        budget: int | None = None
        if self.terms.move_price is None:
            budget = self._units(self.afresh.plan) if not self.terms.limited else program.least_cost()
            if budget is None:
                return [], None
        columns, bound = program.run(budget)
        found = [] if columns is None else self._made(known, gpus, columns)
        # Weights alone do not promise that there are no more moves than by the best matching of the plan made afresh.
        if not self.terms.limited and any(self._moves(entry) > self._fewest_moves for entry in found):
            columns, _ = program.run(budget, self._fewest_moves)
            found += [] if columns is None else self._made(known, gpus, columns)
        return found, bound

    def _made(self, known: Catalogue, gpus: list[RunningGpu], columns: list[Column]) -> list[Plan]:
        """Make a plan of columns; none where it does not hold after all."""
        made = make_plan(self.problem, drafts_of_columns(known, gpus, columns), method="replan", status="heuristic")
        return [matched(self.running, made, self.terms.weights)] if verify(made).ok else []

    def _running_gpus(self, numbers: dict[str, int]) -> list[RunningGpu]:
        """Return what runs on GPUs of types that there are, of workloads that are still asked for."""
        types = {gpu.name: k for k, gpu in enumerate(self.problem.gpu_types)}
        found = []
        for gpu, served in zip(self.running.gpus, served_by_gpu(self.running), strict=True):
            if gpu.type not in types:
                continue
            unit = self.problem.coefficients[types[gpu.type]].hardware.share_unit_percent
            servers = [
                RunningServer(
                    numbers[entry.workload], entry.batch, round(entry.share_percent / unit), entry.queue_delay_us
                )
                for entry in served
                if entry.workload in numbers and self.problem.workloads[numbers[entry.workload]].model == entry.model
            ]
            found.append(RunningGpu(types[gpu.type], tuple(servers)))
        return found

    # ---- comparing ------------------------------------------------------------------------------------

    def _best(self, candidates: list[Plan]) -> Plan:
        """Return the best candidate within the terms, as a plan that says what is proven of its cost."""
        able = [entry for entry in candidates if self._within(entry)]
        if not able:
            if self.stop.is_set():
                raise SolveInterruptedError("interrupted before a plan within the terms was found")
            raise InfeasibleError(
                "no plan was found that keeps --keep and --max-moves (none is proven not to exist); allow more moves,"
                " keep fewer workloads, or give more time"
            )
        return self._claimed(min(able, key=self._rank))

    def _within(self, plan: Plan) -> bool:
        most = self.terms.max_moves
        if most is not None and self._moves(plan) > most:
            return False
        return not self.terms.keep or self._stay(plan)

    def _stay(self, plan: Plan) -> bool:
        """Whether every server of the workloads to keep has one of the same workload on its GPU in the new plan."""
        here, there = (
            Counter((gpu.name, p.workload) for gpu in entry.gpus for p in gpu.placements)
            for entry in (self.running, plan)
        )
        return all(there[key] >= number for key, number in here.items() if key[1] in self.terms.keep)

    def _rank(self, plan: Plan) -> tuple[float, ...]:
        if self.terms.move_price is not None:
            return (round(self._cost(plan) + self.terms.move_price * self._weighted(plan), 9), plan.total_share_percent)
        moves_first = () if self.terms.limited else (float(self._moves(plan) > self._fewest_moves),)
        return round(self._cost(plan), 9), *moves_first, self._weighted(plan), plan.total_share_percent

    @cached_property
    def _fewest_moves(self) -> int:
        return self._moves(matched(self.running, self.afresh.plan, DisruptionWeights(1.0, 0.0, 0.0)))

    def _moves(self, plan: Plan) -> int:
        return disruption(self.running, plan, self.terms.weights).moves

    def _weighted(self, plan: Plan) -> float:
        return disruption(self.running, plan, self.terms.weights).weighted

    def _units(self, plan: Plan) -> int:
        units = dict(zip([gpu.name for gpu in self.problem.gpu_types], self.grid.units, strict=True))
        return sum(units[gpu.type] for gpu in plan.gpus)

    def _cost(self, plan: Plan) -> float:
        return float(self.grid.cost(self._units(plan)))

    def _claimed(self, plan: Plan) -> Plan:
        """Return a plan with the afresh one's bound on the cost, which holds for every plan, and its status."""
        solver, cost = self.afresh.plan.solver, self._cost(plan)
        bound = solver.lower_bound_per_hour
        if bound is not None and not within_limits(self.problem, drafts_from_plan(self.problem, plan)):
            bound = min(bound, *(gpu.price_per_hour for gpu in self.problem.gpu_types))
        status = "heuristic" if bound is None else "optimal" if bound >= cost - _SAME else "feasible"
        # The bound on the share is one for plans of the afresh one's cost.
        share = solver.total_share_lower_bound_percent if abs(cost - solver.cost_per_hour) <= _SAME else None
        claims = solver.model_copy(
            update={
                "status": status,
                "cost_per_hour": cost,
                "lower_bound_per_hour": bound,
                "gap": None if bound is None else (cost - bound) / cost,
                "total_share_percent": plan.total_share_percent,
                "total_share_lower_bound_percent": share,
            }
        )
        return plan.model_copy(update={"solver": claims})
