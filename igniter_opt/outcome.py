"""What an exact method hands back to `solve`."""

from dataclasses import dataclass, field

from typing import NamedTuple

from igniter_opt.draft import DraftGpu


class ShadowPrices(NamedTuple):
    """What every workload adds to a proven bound on the cost, in currency per hour.

    Attributes
    ----------
    bound
        A proven lower bound on the cost, as linear programming gives it: not rounded up to the cost of whole GPUs.
    workloads
        Price of every workload, in the instance's order. ``bound - price`` is a proven lower bound on the cost
        without the workload (the argument is at `formulations.patterns.PatternsSolver.prices`).
    """

    bound: float
    workloads: tuple[float, ...]


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
    prices
        Shadow prices, where the proof has them.
    """

    gpus: list[DraftGpu] | None
    lower_units: int
    share_bound: float
    interrupted: bool = False
    prices: ShadowPrices | None = None
    log: list[str] = field(default_factory=list)
