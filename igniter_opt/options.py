"""What a solve is asked for, as one object: it travels from `solve`, `compare` and the studies to the methods."""

from dataclasses import dataclass

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath
from igniter_opt.base.schema import checked_number
from igniter_opt.data.instance import Instance, SloRule
from igniter_opt.data.plan import Plan

DEFAULT_TIME_LIMIT_S = 60.0
LARGEST_MARGIN = 100.0
# HiGHS takes no larger one.
LARGEST_SEED = 2**31 - 1


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
    warm_start: bool = True
    start: Plan | StrPath | None = None
    seed: int = 0

    def applied(self, instance: Instance) -> Instance:
        """Return the instance with what these options override of it.

        Raises
        ------
        InputError
            One of those is out of range.
        """
        return instance.with_options(self.slo_rule, self.max_replicas, self.percentile, self.coefficients, self.scale)

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
        """Raise InputError where the time limit, the gap, the margin that is used or the seed is out of range."""
        for name, value in (("time limit", self.time_limit), ("gap", self.gap), ("margin", margin)):
            if not 0 <= checked_number(f"the {name}", value) < float("inf"):
                raise InputError(f"the {name} must be a finite number of at least 0; found {value!r}")
        if margin > LARGEST_MARGIN:
            raise InputError(f"the margin must be at most {LARGEST_MARGIN:g} (0.1 is 10 %); found {margin!r}")
        if not 0 <= checked_number("the seed", self.seed, whole=True) <= LARGEST_SEED:
            raise InputError(f"the seed must be a whole number from 0 to {LARGEST_SEED}; found {self.seed}")
