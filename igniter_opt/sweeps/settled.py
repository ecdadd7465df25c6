"""Solving a changed instance until its cost is settled, from a plan that was made for another one."""

from collections.abc import Callable
from dataclasses import replace

from igniter_opt.base.errors import InputError
from igniter_opt.base.stop import StopRequest
from igniter_opt.data.instance import Instance
from igniter_opt.data.plan import Plan
from igniter_opt.options import SolveOptions
from igniter_opt.problem.start_plans import adapted
from igniter_opt.result import Result, StopWhenSettled
from igniter_opt.solve import solve_as


def solve_from(instance: Instance, first: Plan | None, options: SolveOptions, stop: StopWhenSettled) -> Result:
    """Solve from a plan for another instance, or without it where it does not hold for this one.

    Raises
    ------
    InputError
        The instance cannot be solved.
    InfeasibleError
        No plan exists, or none was found.
    """
    for start in [None] if first is None else [adapted(first, instance), None]:
        try:
            return solve_as(instance, "auto", replace(options, start=start), stop.look, stop.request)
        except InputError:
            # The plan to start from does not hold for the changed instance, or splits workloads otherwise.
            if start is None:
                raise
    raise AssertionError


class OrElsewhere(StopRequest):
    """A stop request that is also made elsewhere: in another process, say."""

    def __init__(self, elsewhere: Callable[[], bool]) -> None:
        super().__init__()
        self._elsewhere = elsewhere

    def is_set(self) -> bool:
        """Whether a stop was asked for, here or there."""
        return super().is_set() or self._elsewhere()
