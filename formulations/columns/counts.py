"""Whether a plan exists with given numbers of GPUs, for `patterns` with several GPU types.

Costs are sums of prices, so between the bound and the best plan there are often only a few vectors of GPU counts, each
with a cost of its own; dives begin with promising ones as limits. A vector is excluded, where no plan uses exactly
these GPUs, in one of four ways (`exclusion`):

- a cut of another vector's pricing is above what its GPUs can carry (`vectors`);
- column generation with the vector as count limits proves a bound above the vector's own cost. Within the counts of a
  vector that has no plan the linear master is mostly infeasible, by far, so that a coarse pricing proves it, where the
  bound without counts would stay below the vector's cost however long it is pursued;
- the list of all patterns that matter within these counts (`integer.patterns_within`) is complete, and the
  integer master over it is infeasible;
- the compact formulation with these GPUs as its slots is infeasible, here. A pattern of a big card may hold a dozen
  items, and there are far more such patterns than anybody could list. With few GPUs that matters less to
  `formulations.assignment`, whose size grows with items and GPUs: with its slots fixed it has one objective value
  left, so HiGHS ends with the first plan it finds, or proves that there is none (up to its feasibility tolerance,
  which only ever admits more).

Every plan has some vector of counts, so the least cost of the vectors that are left, or of the best plan, is a lower
bound. Where a single vector has the proven cost, and its GPUs are few, the compact formulation serves the second
objective as well.
"""

from collections.abc import Callable, Sequence

from igniter_opt.base.errors import InfeasibleError
from igniter_opt.base.stop import StopRequest
from igniter_opt.packing.items import Catalogue
from igniter_opt.packing.plans import Pattern, Placer, drafts_of, patterns_of
from igniter_opt.problem.draft import DraftGpu
from igniter_opt.problem.exact_outcome import Outcome

# With more GPUs, lists of patterns are quicker.
_FEW_GPUS, _FEW_ITEMS = 3, 200


class Compact:
    """Decides by the compact formulation, where GPUs and items are few.

    Parameters
    ----------
    time_left
        Seconds until to give up.
    on_progress
        Called while it works.
    """

    def __init__(
        self,
        known: Catalogue,
        placer: Placer,
        *,
        time_left: Callable[[], float],
        seed: int,
        stop: StopRequest,
        on_progress: Callable[[], None],
    ) -> None:
        self.known, self.placer, self.problem = known, placer, known.problem
        self.time_left, self.seed, self.stop, self.on_progress = time_left, seed, stop, on_progress

    def suits(self, gpus: int) -> bool:
        """Whether this is worth trying for so many GPUs, and nobody waits for the end."""
        return not self.stop.is_set() and gpus <= _FEW_GPUS and len(self.known.items) <= _FEW_ITEMS

    def plan(self, counts: Sequence[int]) -> tuple[list[Pattern] | None, bool]:
        """Look for a plan that uses exactly these numbers of GPUs; None if none is found, and whether there is none."""
        if not self._can_serve(counts):
            return None, True
        try:
            return self._patterns(self._run(None, counts, cost_only=True)), False
        except InfeasibleError:
            return None, True

    def least_share(self, best: Sequence[Pattern]) -> tuple[list[Pattern] | None, float]:
        """Look for the least total share with as many GPUs as a plan; return the plan, and a bound (percent).

        The bound holds for all plans of this cost if none is cheaper and no other numbers of GPUs cost the same.
        """
        counts = [sum(gpu == g for gpu, _ in best) for g in range(len(self.problem.gpu_types))]
        outcome = self._run(drafts_of(self.known, self.placer, best), counts, cost_only=False)
        return self._patterns(outcome), outcome.share_bound

    def _patterns(self, outcome: Outcome) -> list[Pattern] | None:
        return None if outcome.gpus is None else patterns_of(self.known, self.placer, outcome.gpus)

    def _can_serve(self, counts: Sequence[int]) -> bool:
        return all(
            any(
                self.problem.least_level(workload, gpu_type, replicas) is not None
                for gpu_type, count in enumerate(counts)
                if count
                for replicas in self.problem.replica_counts(workload)
            )
            for workload in range(len(self.problem.workloads))
        )

    def _run(self, start: list[DraftGpu] | None, counts: Sequence[int], *, cost_only: bool) -> Outcome:
        # Pyomo takes a second, and few searches come here.
        from igniter_opt.formulations.assignment_solver import AssignmentSolver

        return AssignmentSolver(
            self.problem,
            start,
            time_limit=self.time_left(),
            gap=0.0,
            seed=self.seed,
            stop=self.stop,
            on_progress=lambda _: self.on_progress(),
            counts=counts,
            cost_only=cost_only,
        ).run()
