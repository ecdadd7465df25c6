"""What a solve is asked for, as one object: it travels from `solve`, `compare` and the studies to the methods."""

import math
from dataclasses import dataclass, fields

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath
from igniter_opt.base.schema import checked_number, describe, one_of
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.instance import Instance, SloRule
from igniter_opt.data.neighbours import NEIGHBOURS, Neighbours
from igniter_opt.data.plan import Plan
from igniter_opt.data.split import Split

DEFAULT_TIME_LIMIT_S = 60.0
LARGEST_MARGIN = 100.0
# HiGHS takes no larger one.
LARGEST_SEED = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Constants of a method that trade time for quality; the defaults are those of the benchmarks.

    None of them can make a plan or a bound wrong: the predictor judges plans, and bounds hold wherever a search ends.
    A plan file does not say which were used.

    Raises
    ------
    InputError
        A value is no number, not finite or negative, no whole number where a count is asked for, or above 1 where a
        part of the time limit is.
    """

    def __post_init__(self) -> None:
        for entry in fields(self):
            value, name = getattr(self, entry.name), f"{type(self).__name__}.{entry.name}"
            if isinstance(entry.default, Tuning):
                if not isinstance(value, type(entry.default)):
                    raise InputError(f"{name} must be a {type(entry.default).__name__}; found {describe(value)}")
                continue
            several = isinstance(entry.default, tuple)
            if several and not (isinstance(value, tuple) and value):
                raise InputError(f"{name} must be a tuple of numbers, one at least; found {describe(value)}")
            for number in value if several else (value,):
                checked_number(name, number, whole=isinstance(entry.default, int))
                if not 0 <= number < math.inf:
                    raise InputError(f"{name} must be finite and at least 0; found {number!r}")
                if entry.name.endswith(("_part", "_parts")) and number > 1:
                    raise InputError(f"{name} must be at most 1, all of the time limit; found {number!r}")


@dataclass(frozen=True, kw_only=True)
class BestFitTuning(Tuning):
    """Constants of `bestfit` (`heuristics.bestfit`).

    Attributes
    ----------
    repeats, least_repeats, placements
        Constructions: `repeats`, but no more than make `placements` placements, nor fewer than `least_repeats`.
    noise
        Relative noise in the order of the workloads, from the third construction on.
    rounds, temperature
        Of ruin and recreate; the temperature in prices of the dearest GPU.
    """

    repeats: int = 12
    least_repeats: int = 3
    placements: int = 20_000
    noise: float = 0.25
    rounds: int = 4_000
    temperature: float = 0.003

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.repeats, self.least_repeats) < 1:
            raise InputError("BestFitTuning: there must be one construction at least; give repeats of 1 or more")


@dataclass(frozen=True, kw_only=True)
class AssignmentTuning(Tuning):
    """Constants of `assignment` (`formulations.assignment_solver`).

    Attributes
    ----------
    share_part
        Part of the time limit that the second objective may take, and that the first leaves to it.
    handing_over
        Handing a model to HiGHS takes this part of the time that it took to build; where less is left, it is not begun.
    most_places
        Larger models than this many (item, slot) pairs are refused: building alone would take minutes.
    """

    share_part: float = 0.2
    handing_over: float = 0.5
    most_places: int = 10_000


@dataclass(frozen=True, kw_only=True)
class PatternsTuning(Tuning):
    """Constants of `patterns` (`formulations.patterns`); parts are parts of the time limit.

    Attributes
    ----------
    best_fit
        Of the plan that it begins with.
    early_bound_part, early_dive_from, bound_parts, bound_parts_several
        Until when the bound may take all the time before plans are looked for; the first only with more items than
        `early_dive_from`, so that there is a good plan early; the last with several GPU types.
    share_part
        What the second objective may take.
    starts
        Noisy constructions for the initial columns.
    mip_items, mip_patterns
        The integer program over listed patterns is tried up to this many items, with this many patterns at most.
    mip_nodes, mip_nodes_complete, mip_part
        Its nodes, more where all patterns that matter are listed (a proof either way), and then its part of the time.
    dive_noise
        Of every dive but the first.
    converge_part
        For the linear master between the first dive and the next.
    most_vectors, counts_until, vector_part
        With several GPU types: vectors of GPU counts to exclude, at most; until when, for every one of
        `bound_parts_several` and then once more by lists and programs; and the part of the time for one of them by
        column generation alone (at first; twice as much every time), or `mip_part` in the end.
    repackings, repack_parts
        Attempts to put the best plan's items on cheaper GPUs, before every dive (with one GPU type before the first),
        and the part of the time for them: the first time, and later.
    list_part, short_list_part
        For a list of patterns, and for the program where it is not complete; for a list where the compact formulation
        is there to decide.
    """

    best_fit: BestFitTuning = BestFitTuning()
    early_bound_part: float = 0.05
    early_dive_from: int = 250
    bound_parts: tuple[float, ...] = (0.55, 0.8)
    bound_parts_several: tuple[float, ...] = (0.2, 0.4, 0.6)
    share_part: float = 0.2
    starts: int = 12
    mip_items: int = 200
    mip_patterns: int = 20_000
    mip_nodes: int = 3_000
    mip_nodes_complete: int = 200_000
    mip_part: float = 0.2
    dive_noise: float = 0.3
    converge_part: float = 0.15
    most_vectors: int = 60
    counts_until: tuple[float, ...] = (0.5, 0.75, 0.82, 0.87)
    vector_part: float = 0.15
    repackings: int = 20
    repack_parts: tuple[float, ...] = (0.06, 0.15)
    list_part: float = 0.08
    short_list_part: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.counts_until) != len(self.bound_parts_several) + 1:
            raise InputError("PatternsTuning.counts_until must have one number more than bound_parts_several")


@dataclass(frozen=True, kw_only=True)
class SolveOptions:
    """All that `solve.solve` takes besides instance, method and company; each is described there."""

    time_limit: float = DEFAULT_TIME_LIMIT_S
    gap: float = 0.0
    margin: float | None = None
    confidence: float | None = None
    coefficients: str | None = None
    slo_rule: SloRule | None = None
    max_replicas: int | None = None
    percentile: float | None = None
    scale: float | None = None
    arrivals: Arrivals | None = None
    headroom: float | None = None
    split: Split | None = None
    neighbours: Neighbours = "full"
    warm_start: bool = True
    start: Plan | StrPath | None = None
    seed: int = 0
    tuning: Tuning | None = None
    mip_solver: str = "highs"
    keep_model: bool = False

    def applied(self, instance: Instance) -> Instance:
        """Return the instance with what these options override of it.

        Raises
        ------
        InputError
            One of those is out of range.
        """
        return instance.with_options(
            self.slo_rule,
            self.max_replicas,
            self.percentile,
            self.coefficients,
            self.scale,
            self.arrivals,
            self.headroom,
            self.split,
        )

    def margin_for(self, instance: Instance) -> float:
        """Return the margin asked for, or the one that the profiles are calibrated to have at the confidence.

        Raises
        ------
        InputError
            Both are given, the confidence is no probability, or a profile has no margin for it.
        """
        if self.confidence is None:
            return 0.0 if self.margin is None else self.margin
        if self.margin is not None:
            raise InputError("give a margin or a confidence, not both: a confidence stands for its calibrated margin")
        if not 0 < checked_number("the confidence", self.confidence) < 1:
            raise InputError(f"the confidence must be above 0 and below 1 (0.99 is 99 %); found {self.confidence!r}")
        return max(gpu.profile.margin_at(self.confidence) for gpu in instance.gpu_types)

    def check(self, margin: float) -> None:
        """Raise InputError where time limit, gap, seed, neighbours or the margin that is used are out of range."""
        one_of(self.neighbours, NEIGHBOURS, "neighbours: unknown kind", "kinds")
        for name, value in (("time limit", self.time_limit), ("gap", self.gap), ("margin", margin)):
            if not 0 <= checked_number(f"the {name}", value) < float("inf"):
                raise InputError(f"the {name} must be a finite number of at least 0; found {value!r}")
        if self.gap >= 1:
            raise InputError(f"the gap must be below 1 (0.05 is 5 %), where every plan would do; found {self.gap!r}")
        if margin > LARGEST_MARGIN:
            raise InputError(f"the margin must be at most {LARGEST_MARGIN:g} (0.1 is 10 %); found {margin!r}")
        if not 0 <= checked_number("the seed", self.seed, whole=True) <= LARGEST_SEED:
            raise InputError(f"the seed must be a whole number from 0 to {LARGEST_SEED}; found {self.seed}")
