"""What an exact method hands back to `solve`."""

from dataclasses import dataclass, field

from igniter_opt.problem.draft import DraftGpu
from igniter_opt.problem.program import Duals, IntegerProgram


@dataclass
class Outcome:
    """Plan and bounds.

    Attributes
    ----------
    gpus
        The best plan; None if none was found.
    lower_units
        Proven lower bound on the cost, in steps of the price grid.
    share_bound
        Proven lower bound on the total share at the plan's cost, in percent.
    ended
        Why the search ended, in words.
    model, duals
        The integer program that it ended with, and the duals of its relaxation, where they are asked for.
    """

    gpus: list[DraftGpu] | None
    lower_units: int
    share_bound: float
    interrupted: bool = False
    log: list[str] = field(default_factory=list)
    ended: str = ""
    model: IntegerProgram | None = None
    duals: Duals | None = None
