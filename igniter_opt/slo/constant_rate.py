"""Rules on the inference latency, for arrivals at a constant rate: what they have in common.

A batcher waits for a batch to fill; what a rule grants the inference is the SLO less its part for waiting. Latency and
throughput requirement are one limit on the GPU latency.
"""

import math
from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from igniter_opt.base.arrays import BoolArray, FloatArray
from igniter_opt.data.instance import Workload
from igniter_opt.physics.interference import PlacementTerms, clock_ratio
from igniter_opt.physics.parameters import Coefficients
from igniter_opt.physics.slices import SliceTable, carried_from_zero
from igniter_opt.slo.rule import GUARD, TOLERANCE, BestAlone, Fit, ModelAlone, Replicas, Rule, Servers

# Keeps divisions finite where the power drawn leaves no clock and so no throughput.
_LEAST_RATE = 1e-12
# Of the search for the least rate at which a batch fills in time, on a scale of logarithms.
_HALVINGS = 80


class ConstantRate(Rule):
    """A rule that limits the inference latency by the SLO, and the rate and batch of a placement.

    Beside name, words and `lower_rates` one has `latency_limit_ms`, its inverse `least_slo_ms`, and `queue_delay_us`.
    """

    @abstractmethod
    def least_slo_ms(self, latency_ms: npt.ArrayLike, rate_rps: npt.ArrayLike, batch: npt.ArrayLike) -> FloatArray:
        """Return the least SLO in ms under which this inference latency is admissible."""

    def gpu_latency_limit_ms(
        self,
        slo_ms: npt.ArrayLike,
        rate_rps: npt.ArrayLike,
        batch: npt.ArrayLike,
        load_ms: npt.ArrayLike,
        feedback_ms: npt.ArrayLike,
        margin: float = 0.0,
    ) -> FloatArray:
        """Largest admissible GPU latency ``D`` in ms: latency and throughput requirement in one number.

        ``D = min(L_max - t_load - t_feedback, b / R - t_feedback) / (1 + margin)``; ``t_gpu ≤ D`` holds exactly
        when the inference latency is within its limit and the throughput reaches the rate, both with `TOLERANCE`.
        """
        b = np.asarray(batch, dtype=float)
        feedback = np.asarray(feedback_ms, dtype=float)
        limit = self.latency_limit_ms(slo_ms, rate_rps, b)
        by_latency = limit + TOLERANCE * np.abs(limit) - np.asarray(load_ms, dtype=float) - feedback
        by_throughput = b * 1000.0 / (np.asarray(rate_rps, dtype=float) * (1.0 - TOLERANCE)) - feedback
        return np.asarray(np.minimum(by_latency, by_throughput) / (1.0 + margin))

    def latencies_ms(
        self, coefficients: Coefficients, replicas: Replicas, inference_ms: FloatArray, margin: npt.ArrayLike = 0.0
    ) -> FloatArray:
        """Return the inference latencies."""
        return inference_ms

    def slice_rates(self, table: SliceTable, workload: Workload, margin: float) -> tuple[FloatArray, FloatArray]:
        """Return the rates from which on batches fill in time, up to the throughput.

        The processes of a slice take full batches from one queue: at its rate R a batch fills in (b - 1) / R, and with
        n processes of throughput h each and R no more than n h one of them is free by then, for a batch comes every
        b / R and each of them takes every n-th, within n b / R, no less than b / h.
        """
        most = np.maximum(table.throughput_rps / (1.0 + margin), _LEAST_RATE)
        latency = table.latency_ms * (1.0 + margin)

        def holds(rate: FloatArray) -> BoolArray:
            limit = self.latency_limit_ms(workload.slo_ms, rate, table.batch)
            return np.asarray(latency <= limit * (1.0 + TOLERANCE), dtype=np.bool_)

        least, enough = np.full(len(table), _LEAST_RATE), most.copy()
        small, large = holds(least), holds(most)
        for _ in range(_HALVINGS if np.any(large & ~small) else 0):
            middle = np.sqrt(least * enough)
            kept = holds(middle)
            enough, least = np.where(kept, middle, enough), np.where(kept, least, middle)
        return np.where(small, 0.0, np.where(large, enough, np.inf)), most

    def slice_reach_rps(self, table: SliceTable, fits: BoolArray, workload: Workload, margin: float) -> float:
        """Return the rate before which there is a gap, where no batch fills in time."""
        least, most = self.slice_rates(table, workload, margin)
        return carried_from_zero(np.where(fits, least, np.inf), most)

    def slice_latency_ms(
        self, table: SliceTable, row: int, workload: Workload, rate_rps: float, margin: float = 0.0
    ) -> float:
        """Return the latency that was read."""
        return float(table.latency_ms[row]) * (1.0 + margin)

    def at_load(self, slo_ms: float, rate_rps: float, batch: int, delay_s: float) -> tuple[int, float]:
        """Return the batch that fills within the delay, and the SLO less the delay."""
        return min(batch, 1 + math.floor(rate_rps * delay_s * (1.0 + GUARD))), slo_ms - 1000.0 * delay_s

    def limits_ms(self, alone: ModelAlone, workload: Workload, rate_rps: float) -> FloatArray:
        """Return `gpu_latency_limit_ms` of every configuration."""
        terms = alone.terms
        return self.gpu_latency_limit_ms(
            workload.slo_ms, rate_rps, alone.batches[:, None], terms.load_ms, terms.feedback_ms, alone.margin
        )

    def largest_rates(self, alone: ModelAlone, workload: Workload) -> FloatArray:
        """Return the throughputs of the batches within the limit."""
        whole = alone.on_whole_gpu
        latency, throughput = whole.latency_ms[:, 0], np.maximum(whole.throughput_rps[:, 0], _LEAST_RATE)
        holds = latency <= self.latency_limit_ms(workload.slo_ms, throughput, alone.batches)
        return np.where(holds & alone.fits, throughput, 0.0)

    def best_alone(self, alone: ModelAlone, workload: Workload, rate_rps: float) -> BestAlone:
        """Return the best over all batches and shares."""
        batch = np.repeat(alone.batches, alone.terms.active_ms.shape[1])
        fits = np.repeat(alone.fits, alone.terms.active_ms.shape[1])
        terms = PlacementTerms(*(term.ravel() for term in alone.terms))
        ratio = clock_ratio(alone.hardware, alone.hardware.idle_power_w + terms.power_w)
        usable = (ratio > 0) & fits
        gpu = np.full(len(batch), np.inf)
        gpu[usable] = terms.base_ms[usable] / ratio[usable] * (1 + alone.margin)
        latency = terms.load_ms + gpu + terms.feedback_ms
        throughput = batch * 1000.0 / (gpu + terms.feedback_ms)
        within = latency <= self.latency_limit_ms(workload.slo_ms, np.maximum(throughput, _LEAST_RATE), batch)
        # Whatever the SLO, the rule takes a part of it for waiting.
        slo = self.least_slo_ms(latency, rate_rps, batch)
        return BestAlone(
            latency_ms=float(latency.min(initial=np.inf)),
            rate_rps=float(throughput[within].max(initial=0.0)),
            slo_ms=float(slo[throughput >= rate_rps].min(initial=np.inf)),
        )

    def dedicated(
        self, alone: ModelAlone, workload: Workload, sustained: Callable[[FloatArray], FloatArray]
    ) -> tuple[int, float]:
        """Return the last batch, scanning up from 1, before the first failure, and what is sustained of its throughput.

        A batch fails unless its latency is below the limit, at the rate that it sustains (Xu et al. 2023).
        """
        latency, rates = alone.on_whole_gpu.latency_ms[:, 0], sustained(alone.on_whole_gpu.throughput_rps[:, 0])
        limit = self.latency_limit_ms(workload.slo_ms, np.maximum(rates, _LEAST_RATE), alone.batches)
        fails = latency >= limit
        count = int(fails.argmax()) if fails.any() else len(rates)
        return (count, float(rates[count - 1])) if count else (1, 0.0)

    def first_fit(self, servers: Servers, workload: Workload, rate_rps: float, least_rps: float) -> Fit | None:
        """Return the first server whose largest batch within the limit carries enough."""
        latency = servers.latency_ms
        batch = np.arange(1.0, len(latency) + 1)[:, None]
        carried = batch * 1000.0 / servers.busy_ms
        # No further replica for a rounding error.
        carried = np.where(carried >= rate_rps * (1 - GUARD), rate_rps, carried)
        limit = self.latency_limit_ms(workload.slo_ms, np.maximum(carried, _LEAST_RATE), batch)
        meets = (latency <= limit) & servers.fits
        largest = len(latency) - 1 - meets[::-1].argmax(axis=0)
        rates = carried[largest, np.arange(latency.shape[1])]
        enough = meets.any(axis=0) & (rates >= least_rps * (1 - GUARD))
        if not enough.any():
            return None
        position = int(enough.argmax())
        return Fit(position, int(largest[position]) + 1, float(rates[position]))
