"""The rule ``p99``: a percentile of waiting plus inference latency, under random arrivals, is within the SLO.

A batcher does not wait: whatever waits is dispatched as soon as the instance is free. What that means under Poisson
arrivals is in `percentile`, under others in `streams` and `stream_limits`. Their compiled functions take a while to
import, and so are imported where they are used.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import UnsuitableError
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.instance import DEFAULT_PERCENTILE, Instance, Workload, percentile_name
from igniter_opt.data.split import Split
from igniter_opt.physics.parameters import Coefficients
from igniter_opt.physics.slices import SliceTable
from igniter_opt.slo.rule import BestAlone, Fit, ModelAlone, Replicas, Rule, Servers

if TYPE_CHECKING:
    from igniter_opt.slo.queueing import BatchQueue
    from igniter_opt.slo.streams.stream import Source


@dataclass(frozen=True)
class Percentile(Rule):
    """The rule for a percentile, as a probability.

    Attributes
    ----------
    workloads
        The instance's, with the rates that are planned for.
    arrivals
        Of workloads that do not say how their requests arrive.
    split
        How replicas share a workload's requests.
    """

    percentile: float = DEFAULT_PERCENTILE
    workloads: tuple[Workload, ...] = ()
    arrivals: Arrivals = Arrivals()  # noqa: RUF009
    split: Split = "random"

    name = "p99"
    has_percentile = True
    needs_monotone = True
    exact_limits = False
    dear_limits = True
    lower_rates = "expected"

    def of(self, instance: Instance) -> "Percentile":
        """Return the rule for the instance's percentile and arrivals."""
        arrivals, split = instance.arrivals or Arrivals(), instance.split or "random"
        return Percentile(instance.required_percentile, instance.planned_workloads, arrivals, split)

    def _source(self, workload: Workload, rate_rps: float) -> "Source":
        """Return where a replica of this rate has its requests from."""
        from igniter_opt.slo.streams.stream import Source

        arrivals = workload.arrivals or self.arrivals
        whole = max(rate_rps, workload.rate_rps)
        # Rounded, for thirds of a rate and the like are one part.
        part = min(1.0, float(f"{rate_rps / whole:.12g}"))
        return Source(arrivals, workload.name if arrivals.recorded is not None else "", whole, part, self.split)

    def _is_poisson(self, workload: Workload, rate_rps: float | None = None) -> bool:
        """Whether a replica's requests are Poisson: at a rate, or at any."""
        if (workload.arrivals or self.arrivals).kind != "poisson":
            return False
        alone = (workload.max_replicas or 1) == 1 if rate_rps is None else self._source(workload, rate_rps).part == 1.0
        return self.split == "random" or alone

    @property
    def words(self) -> str:
        """What it keeps."""
        name = percentile_name(self.percentile)
        kinds = dict.fromkeys((workload.arrivals or self.arrivals).words for workload in self.workloads)
        how = " or ".join(kinds) if kinds and list(kinds) != ["Poisson arrivals"] else "random (Poisson) arrivals"
        how += " that replicas take in turn" if self.split == "round-robin" else ""
        return f"under {how} {name} of waiting and inference together stays within the SLO"

    @property
    def latency_name(self) -> str:
        """Such as ``P99 latency``."""
        return f"{percentile_name(self.percentile)} latency"

    @property
    def most_utilisation(self) -> float:
        """That beyond which a queue takes too long to settle."""
        from igniter_opt.slo.queueing import MOST_INTENSITY

        return MOST_INTENSITY

    def latency_limit_ms(self, slo_ms: npt.ArrayLike, rate_rps: npt.ArrayLike, batch: npt.ArrayLike) -> FloatArray:
        """Return the SLO."""
        return np.asarray(np.asarray(slo_ms, dtype=float) + 0.0 * np.asarray(batch, dtype=float))

    def latencies_ms(
        self, coefficients: Coefficients, replicas: Replicas, inference_ms: FloatArray, margin: npt.ArrayLike = 0.0
    ) -> FloatArray:
        """Return the percentiles of the queues, with the service times that the neighbours leave them."""
        from igniter_opt.slo.percentile import queues

        found = np.full(np.shape(replicas.model), np.inf)
        margins = np.broadcast_to(np.asarray(margin, dtype=float), found.shape)
        for gpu, model in enumerate(replicas.model):
            slots = np.flatnonzero(model >= 0)
            rows = [column[gpu, slots] for column in (*replicas[:4], margins)]
            for slot, queue in zip(slots, queues(coefficients, *rows), strict=True):
                found[gpu, slot] = self._percentile_ms(queue, int(replicas.workload[gpu, slot]))
        return found

    def _percentile_ms(self, queue: "BatchQueue", number: int) -> float:
        """Return the percentile of the queue of a replica of a workload, by its number."""
        if self._is_poisson(self.workloads[number], queue.rate_rps):
            return queue.percentile_ms(self.percentile)
        from igniter_opt.slo.streams.table import judged_stream

        workload = self.workloads[number]
        stream = judged_stream(self._source(workload, queue.rate_rps), workload.slo_ms)
        return stream.percentile_ms(queue.busy_ms, queue.latency_ms, self.percentile)

    def basis(self) -> str | None:
        """Say how judging is done where it is not by the exact chain of a Poisson stream."""
        others = [workload for workload in self.workloads if not self._is_poisson(workload)]
        if not others:
            return None
        from igniter_opt.slo.streams.table import judged_stream

        found: dict[str, None] = {}
        for workload in others:
            arrivals = workload.arrivals or self.arrivals
            stream = judged_stream(self._source(workload, workload.rate_rps), workload.slo_ms)
            found[f"{arrivals.words}: {stream.basis}"] = None
        return "; ".join(found)

    def queue_delay_us(self, slo_ms: float, rate_rps: float, batch: int) -> int:
        """Return 0."""
        return 0

    def at_load(self, slo_ms: float, rate_rps: float, batch: int, delay_s: float) -> tuple[int, float]:
        """Return all of the batch, and no limit: what is judged holds for any rate, and has waiting in it already."""
        return batch, math.inf

    def limits_ms(self, alone: ModelAlone, workload: Workload, rate_rps: float) -> FloatArray:
        """Return the limits on the safe side of `percentile.percentile_limits`, 0 where a configuration fails alone."""
        if not self._is_poisson(workload, rate_rps):
            from igniter_opt.slo.stream_limits import stream_limits

            source = self._source(workload, rate_rps)
            return stream_limits(source, alone.model, alone.hardware, workload.slo_ms, self.percentile, alone.margin)
        from igniter_opt.slo.percentile import percentile_limits

        return percentile_limits(alone.model, alone.hardware, workload.slo_ms, rate_rps, self.percentile, alone.margin)

    def keep_limits(self) -> None:
        """Write them to disk."""
        from igniter_opt.slo.kept_limits import keep

        keep()

    def largest_rates(self, alone: ModelAlone, workload: Workload) -> FloatArray:
        """Return the rates that `limits_ms` admits; those of equal replicas where arrivals are not Poisson."""
        if not self._is_poisson(workload):
            from igniter_opt.slo.stream_rates import largest_replica_rates

            return largest_replica_rates(self._source(workload, workload.rate_rps), alone, workload, self.percentile)
        from igniter_opt.slo.percentile import largest_rates

        rates = largest_rates(alone.model, alone.hardware, workload.slo_ms, self.percentile, alone.margin)
        return np.where(alone.batches <= alone.most_batch, rates, 0.0)

    def best_alone(self, alone: ModelAlone, workload: Workload, rate_rps: float) -> BestAlone:
        """Return the best over all batches on a whole GPU."""
        if not self._is_poisson(workload, rate_rps):
            from igniter_opt.slo.stream_rates import best_of_stream

            return best_of_stream(self._source(workload, rate_rps), alone, workload, self.percentile)
        from igniter_opt.slo.percentile import best_percentile_ms, times_alone

        most = alone.most_batch
        busy, latency = times_alone(alone.model, alone.hardware, float(alone.hardware.shares()[-1]), alone.margin)
        least, slo = best_percentile_ms(busy[:most], latency[:most], rate_rps, self.percentile)
        return BestAlone(least, float(self.largest_rates(alone, workload).max()), slo)

    def dedicated(
        self, alone: ModelAlone, workload: Workload, sustained: Callable[[FloatArray], FloatArray]
    ) -> tuple[int, float]:
        """Return the batch that carries most, and what is sustained of that."""
        rates = self.largest_rates(alone, workload)
        most = int(rates.argmax())
        return most + 1, float(sustained(rates)[most])

    def first_fit(self, servers: Servers, workload: Workload, rate_rps: float, least_rps: float) -> Fit | None:
        """Return the first server that carries enough, with the smallest batch that does.

        A larger one would only burden the neighbour. Where all of the rate is too much and any part of it will do, the
        batch is the one that carries most.
        """
        if not self._is_poisson(workload, rate_rps):
            from igniter_opt.slo.stream_rates import first_fit_of_stream

            source = self._source(workload, rate_rps)
            return first_fit_of_stream(source, servers, workload, self.percentile, least_rps)
        from igniter_opt.slo.percentile import largest_rate, smallest_batch

        promise = (workload.slo_ms, self.percentile)
        for position, fits in enumerate(servers.fits.T):
            most = int(fits.sum())
            latency = np.ascontiguousarray(servers.latency_ms[:most, position])
            busy = np.ascontiguousarray(servers.busy_ms[:most, position])
            batch = smallest_batch(rate_rps, busy, latency, *promise)
            if batch:
                return Fit(position, batch, rate_rps)
            if least_rps == 0.0 and most:
                rates = [largest_rate(busy[:b], latency[:b], *promise) for b in range(1, most + 1)]
                if max(rates) > 0.0:
                    return Fit(position, int(np.argmax(rates)) + 1, max(rates))
        return None

    def slice_rates(self, table: SliceTable, workload: Workload, margin: float) -> tuple[FloatArray, FloatArray]:
        """Return 0 and the largest rates, for processes that are replicas: each has its part of the requests at random.

        Each is a queue by itself (`queueing`), with the times of full company. That the percentile grows with the rate
        is not proven, as in `percentile`; plans are verified at the rates that they have.
        """
        self._require_poisson(workload)
        from igniter_opt.slo.percentile import largest_rate

        most = np.zeros(len(table))
        for row in range(len(table)):
            busy, latency = (times * (1.0 + margin) for times in table.times_up_to(row))
            rate = largest_rate(busy, latency, workload.slo_ms, self.percentile)
            most[row] = rate * int(table.processes[row])
        return np.where(most > 0.0, 0.0, np.inf), most

    def slice_latency_ms(
        self, table: SliceTable, row: int, workload: Workload, rate_rps: float, margin: float = 0.0
    ) -> float:
        """Return the percentile of one process's queue."""
        self._require_poisson(workload)
        from igniter_opt.slo.queueing import BatchQueue

        busy, latency = (times * (1.0 + margin) for times in table.times_up_to(row))
        queue = BatchQueue(rate_rps / int(table.processes[row]), busy, latency)
        return float(queue.percentile_ms(self.percentile))

    def _require_poisson(self, workload: Workload) -> None:
        arrivals = workload.arrivals or self.arrivals
        if arrivals.kind != "poisson" or self.split != "random":
            raise UnsuitableError(
                f"rule p99 plans slices under MIG for Poisson arrivals that are shared at random; workload"
                f" {workload.name} has {arrivals.words}"
                + (" that are taken in turn" if self.split != "random" else "")
                + "; take rule deadline, or leave arrivals and split out"
            )

    def without_latency(self) -> str:
        """Say that there is no stationary state."""
        return f"its queue grows without end, so that it has no {self.latency_name}"

    def other_remedies(self, alone: ModelAlone, workload: Workload, rate_rps: float) -> list[str]:
        """Return with which burstiness the replica would hold."""
        if self._is_poisson(workload, rate_rps):
            return []
        from igniter_opt.slo.stream_rates import calmer_arrivals

        return calmer_arrivals(self._source(workload, rate_rps), alone, workload, self.percentile)
