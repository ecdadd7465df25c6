"""Excludes vectors of GPU counts, for `patterns` with several GPU types (the ways are told in `counts`)."""

from collections.abc import Callable, Sequence

from igniter_opt.base.clock import EnoughError
from igniter_opt.formulations.columns.counts import Compact
from igniter_opt.formulations.columns.generation import ColumnGeneration
from igniter_opt.formulations.columns.integer import IntegerPrograms
from igniter_opt.formulations.columns.vectors import CountVectors
from igniter_opt.packing.plans import Pattern


class Exclusion:
    """Proves that no plan has certain numbers of GPUs.

    Parameters
    ----------
    vectors
        Notes what is excluded, and within which vectors the linear master is feasible.
    columns
        Makes column generation within counts.
    on_plan
        Called with the plan that the compact formulation finds, or with None.
    """

    def __init__(
        self,
        vectors: CountVectors,
        programs: IntegerPrograms,
        compact: Compact,
        *,
        columns: Callable[[Sequence[int]], ColumnGeneration],
        on_plan: Callable[[list[Pattern] | None], None],
    ) -> None:
        self.vectors, self.programs, self.compact = vectors, programs, compact
        self.grid, self.clock, self.tuning = vectors.grid, programs.clock, programs.tuning
        self.columns, self.on_plan = columns, on_plan
        # To go on with, another time.
        self._interrupted: dict[tuple[int, ...], ColumnGeneration] = {}

    def run(
        self,
        root: ColumnGeneration,
        starts: Sequence[Sequence[Pattern]],
        least: int,
        part: float,
        *,
        thorough: bool,
        enough: Callable[[int], bool],
        on_bound: Callable[[int], None],
    ) -> None:
        """Exclude vectors from the cheapest on, up to one that the linear master does not exclude.

        Those beyond it do not raise the bound, but integer programs may exclude it, too.

        Parameters
        ----------
        root, starts, thorough
            As in `excludes`.
        least
            A lower bound on the cost, in steps of the price grid.
        part
            Part of the time limit for each.
        enough
            Whether to end before a vector of this cost.
        on_bound
            Called with every lower bound that follows.

        Raises
        ------
        EnoughError
            Time is up.
        """
        for cost, counts in self.vectors.left(least):
            if enough(cost):
                return
            self.clock.check()
            if not self.vectors.is_excluded(counts):
                with self.clock.within(part):
                    if self.excludes(cost, counts, root, starts, thorough=thorough):
                        self.vectors.excluded.add(counts)
            on_bound(self.vectors.bound(least))
            if counts in self.vectors.fractional and not thorough:
                return

    def excludes(
        self,
        cost: int,
        counts: tuple[int, ...],
        root: ColumnGeneration,
        starts: Sequence[Sequence[Pattern]],
        *,
        thorough: bool,
    ) -> bool:
        """Whether it is proven that no plan has these numbers of GPUs.

        Parameters
        ----------
        cost
            What they cost, in steps of the price grid.
        root
            Column generation that takes over the patterns that are found.
        starts
            Plans for local search to begin with, whatever GPUs they have.
        thorough
            Whether to try integer programs where the linear master does not prove it.

        Raises
        ------
        EnoughError
            Time is up.
        """
        trial = self._interrupted.pop(counts, None) or self.columns(counts)
        scale = max(self.grid.units)
        target = self.grid.excluding(cost) / scale
        try:
            # A linear master below the target is no less feasible with more patterns: then there is nothing to prove.
            trial.run(starts, lambda value: target if value >= target else 0.0)
        except EnoughError:
            self._interrupted = {counts: trial}
            raise
        finally:
            root.master.add(trial.master.patterns)
        if trial.bound.cost >= target:
            return True
        if trial.solution is not None and trial.solution.objective < target:
            self.vectors.fractional.add(counts)
        return thorough and self._no_whole_plan(cost / scale, counts, trial)

    def _no_whole_plan(self, target: float, counts: Sequence[int], trial: ColumnGeneration) -> bool:
        suits = self.compact.suits(sum(counts))
        part = self.tuning.short_list_part if suits else self.tuning.list_part
        listed = self.programs.listed(trial, target, part)
        if listed.complete or not suits:
            return self.programs.no_plan_among(trial, listed, target)
        with self.clock.within(self.tuning.mip_part):
            patterns, impossible = self.compact.plan(counts)
            self.on_plan(patterns)
            return impossible
        return False
