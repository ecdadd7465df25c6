"""When requests arrive: constant, Poisson, gamma and Markov-modulated streams, and splitting one over replicas."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.base.nanoseconds import NS_PER_S, whole_ns
from igniter_opt.base.schema import checked_number, nearest

ArrivalKind = Literal["constant", "poisson", "gamma", "mmpp", "trace"]
ARRIVAL_KINDS: tuple[ArrivalKind, ...] = get_args(ArrivalKind)

DEFAULT_BURSTINESS = 4.0
DEFAULT_BURST_RATIO = 4.0
DEFAULT_BURST_SECONDS = 1.0
# Beyond these a stream is hardly a stream, and its times leave the range of floating point.
_BURSTINESS_RANGE = (1e-4, 1e4)
_LARGEST_BURST_RATIO = 1e6
_BURST_SECONDS_RANGE = (1e-9, 1e9)
# With more changes of rate than this per request, they average out and the stream is Poisson.
_MOST_CHANGES_PER_REQUEST = 100.0


@dataclass(frozen=True)
class Arrivals:
    """How requests arrive; the rate is the workload's.

    Attributes
    ----------
    kind
        ``constant``: one every 1 / rate. ``poisson``: independent exponential gaps. ``gamma``: independent
        gamma-distributed gaps. ``mmpp``: Poisson whose rate alternates between a high and a low value, each for
        an exponentially distributed time (two-state Markov-modulated Poisson process). ``trace``: given times.
    burstiness
        For ``gamma``: squared coefficient of variation of the gaps (1 is Poisson, 0 constant; default 4).
    burst_ratio, burst_seconds
        For ``mmpp``: high rate over low rate (default 4), and the mean time in each state in seconds (default 1).
        The rates are ``2 R ratio / (1 + ratio)`` and ``2 R / (1 + ratio)`` for a mean rate of R.

    Raises
    ------
    InputError
        Unknown kind, a value out of range, or one that does not belong to the kind.
    """

    kind: ArrivalKind = "poisson"
    burstiness: float | None = None
    burst_ratio: float | None = None
    burst_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ARRIVAL_KINDS:
            hint = nearest(self.kind, ARRIVAL_KINDS)
            raise InputError(f"arrivals: unknown kind {self.kind!r}{hint} (kinds: {', '.join(ARRIVAL_KINDS)})")
        for name, kind, low, high in (
            ("burstiness", "gamma", *_BURSTINESS_RANGE),
            ("burst_ratio", "mmpp", 1.0, _LARGEST_BURST_RATIO),
            ("burst_seconds", "mmpp", *_BURST_SECONDS_RANGE),
        ):
            value = getattr(self, name)
            if value is None:
                continue
            if self.kind != kind:
                raise InputError(f"{name} belongs to {kind} arrivals; the arrivals are {self.kind}")
            if not low <= checked_number(name, value) <= high:
                raise InputError(f"{name} must be between {low:g} and {high:g}; found {value:g}")

    @property
    def settings(self) -> dict[str, float]:
        """The kind's parameters by name, defaults filled in."""
        if self.kind == "gamma":
            return {"burstiness": self.burstiness or DEFAULT_BURSTINESS}
        if self.kind == "mmpp":
            return {
                "burst_ratio": self.burst_ratio or DEFAULT_BURST_RATIO,
                "burst_seconds": self.burst_seconds or DEFAULT_BURST_SECONDS,
            }
        return {}

    def times_ns(self, rate_rps: float, requests: int, rng: np.random.Generator) -> FloatArray:
        """Draw the arrival times of one stream, whole nanoseconds in ascending order, shape (requests,).

        Not for traces. Every stream begins in its steady state, except that constant and gamma arrivals begin
        with a request at 0.
        """
        period = NS_PER_S / rate_rps
        if self.kind == "constant":
            return whole_ns(np.arange(requests, dtype=float) * period)
        if self.kind == "poisson":
            return whole_ns(np.cumsum(rng.standard_exponential(requests)) * period)
        if self.kind == "gamma":
            burstiness = self.settings["burstiness"]
            gaps = rng.standard_gamma(1.0 / burstiness, requests)
            gaps[0] = 0.0
            return whole_ns(np.cumsum(gaps) * (burstiness * period))
        return self._modulated(rate_rps, requests, rng)

    def _modulated(self, rate_rps: float, requests: int, rng: np.random.Generator) -> FloatArray:
        """Stretch a Poisson stream of rate 1 in the time of the integrated rate, which is piecewise linear."""
        ratio, seconds = self.settings["burst_ratio"], self.settings["burst_seconds"]
        if seconds * rate_rps * _MOST_CHANGES_PER_REQUEST < 1.0:
            raise InputError(
                f"burst_seconds {seconds:g} is much shorter than a request's gap of {1.0 / rate_rps:g} s, so that the"
                " rates average out; use poisson arrivals, or longer bursts"
            )
        rates = np.array([ratio, 1.0]) * (2.0 * rate_rps / (1.0 + ratio))
        demand = np.cumsum(rng.standard_exponential(requests))
        state = int(rng.integers(2))
        times, carried = [np.zeros(1)], [np.zeros(1)]
        while carried[-1][-1] < demand[-1]:
            left = float(demand[-1] - carried[-1][-1])
            changes = 2 * math.ceil(0.6 * left / (seconds * rate_rps) + 8)
            sojourns = rng.exponential(seconds, changes)
            in_states = rates[(state + np.arange(changes)) % 2]
            times.append(times[-1][-1] + np.cumsum(sojourns))
            carried.append(carried[-1][-1] + np.cumsum(sojourns * in_states))
        return whole_ns(np.interp(demand, np.concatenate(carried), np.concatenate(times)) * NS_PER_S)
