"""What a schedule is asked for, beside the instance, the demand and how its steps are solved."""

import math
from dataclasses import dataclass, field

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import checked_number, one_of
from igniter_opt.data.migration import DisruptionWeights

FORECASTS = ("seasonal", "smoothed", "naive")


@dataclass(frozen=True, kw_only=True)
class ScheduleTerms:
    """Terms of a schedule.

    Attributes
    ----------
    step_s
        Seconds of a step, a whole multiple of the demand's own; None for these.
    move_cost
        What a disruption of weight 1 costs, in the instance's currency.
    weights
        What a move, a restart and a resize count.
    startup_s
        For how long a GPU is rented before its first step.
    billing_s
        Leases of GPUs are billed for whole multiples of this; 0 for by the second.
    forecast
        None where the demand is known; else the rates are forecast from the past only (`FORECASTS`).
    season_s
        After how long demand repeats.
    quantile
        Which part of the forecasts shall suffice.
    history_s
        How much of the demand's beginning is past: no plan is made for it. For forecasts two seasons at least.
    replan_s
        How often it is planned anew on the forecasts, each time for as long.
    """

    step_s: float | None = None
    move_cost: float = 0.0
    weights: DisruptionWeights = field(default_factory=DisruptionWeights)
    startup_s: float = 0.0
    billing_s: float = 0.0
    forecast: str | None = None
    season_s: float = 86400.0
    quantile: float = 0.95
    history_s: float = 0.0
    replan_s: float = 86400.0

    def __post_init__(self) -> None:
        for name, value, most in (
            ("the price of a move", self.move_cost, 1e9),
            ("the start-up time", self.startup_s, 1e6),
            ("the billing unit", self.billing_s, 1e8),
            ("the history", self.history_s, 1e10),
        ):
            if not 0 <= checked_number(name, value) <= most:
                raise InputError(f"{name} must be 0 to {most:g}; found {value!r}")
        for name, span in (("the step", self.step_s), ("the season", self.season_s), ("the span", self.replan_s)):
            if span is not None and not (math.isfinite(checked_number(name, span)) and span > 0):
                raise InputError(f"{name} must be a finite number of seconds above 0; found {span!r}")
        if self.forecast is not None:
            one_of(self.forecast, FORECASTS, "unknown forecast", "kinds")
        if not 0 < checked_number("the quantile", self.quantile) < 1:
            raise InputError(f"the quantile must be above 0 and below 1 (0.95 is 95 %); found {self.quantile!r}")
