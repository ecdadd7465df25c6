"""What an exact method hands back to `solve`."""

from dataclasses import dataclass, field

from igniter_opt.problem.draft import DraftGpu


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
    """

    gpus: list[DraftGpu] | None
    lower_units: int
    share_bound: float
    interrupted: bool = False
    log: list[str] = field(default_factory=list)
    ended: str = ""
