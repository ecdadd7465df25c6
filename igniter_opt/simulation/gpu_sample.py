"""Which part of the requests is late on one GPU whose placements are served side by side: a sample of independent runs.

The arrivals of a workload in a run depend on the sample's seed, the run and the workload alone, not on what runs beside
it or where. So two ways to place the same workloads meet the same requests (common random numbers), and what differs
between them is not chance. Each GPU is simulated by itself: a replica's part of its workload's stream, split as the
instance says, has the same law whatever becomes of the other parts, and replicas on one GPU get parts of one stream.
"""

import math
from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.nanoseconds import NS_PER_MS, NS_PER_S
from igniter_opt.base.threads import threads
from igniter_opt.data.instance import Instance
from igniter_opt.physics.parameters import Coefficients
from igniter_opt.physics.partial_batches import shared_gpu
from igniter_opt.simulation.results import limit_ns
from igniter_opt.simulation.schedule import SPLIT, Randomness, arrivals_for
from igniter_opt.simulation.side_by_side import serve_side_by_side
from igniter_opt.simulation.splitting import split

# Of the time that is simulated, so much at the beginning is not counted: queues start empty.
_WARM_UP = 0.1
# Streams are kept for other sets of neighbours, up to so many requests in all.
_MOST_KEPT = 4e7
# Lengths of runs are whole powers of this, in seconds.
_STEP = 2.0**0.5
# No run simulates more requests than this on one GPU.
MOST_TOGETHER = 5e7


class Tenant(NamedTuple):
    """A placement of a GPU: its workload's number in the instance, and which of this workload's replicas it is.

    `rates_rps` are the rates of all replicas of the workload, this one's at index `replica`.
    """

    workload: int
    replica: int
    rates_rps: tuple[float, ...]
    batch: int
    share_percent: float

    @property
    def rate_rps(self) -> float:
        """The placement's own rate."""
        return self.rates_rps[self.replica]


class Late(NamedTuple):
    """What a sample says of the placements of one GPU; arrays of shape (runs, placements).

    `requests` were counted, `share` of them were late, and `percentile_ms` is the latency at the judged percentile.
    """

    requests: IntArray
    share: FloatArray
    percentile_ms: FloatArray


class GpuSample:
    """Samples of one seed.

    Parameters
    ----------
    purpose
        Samples for different purposes are independent of each other, whatever their seeds.
    """

    def __init__(self, instance: Instance, seed: int, purpose: int) -> None:
        self.instance = instance
        # One whole number for both, so that no seed of one purpose gives what another seed of another does.
        self._seed = int(np.random.SeedSequence([purpose, seed]).generate_state(1, np.uint64)[0])
        self._kept: dict[tuple[int, tuple[float, ...], int, float], list[FloatArray]] = {}
        self._size = 0
        self._lock = Lock()

    def late(
        self,
        coefficients: Coefficients,
        tenants: Sequence[Tenant],
        requests: int,
        runs: Sequence[int],
        margin: float,
        *,
        within: float = math.inf,
    ) -> Late | None:
        """Serve the placements of a GPU side by side.

        Parameters
        ----------
        requests
            Counted of the slowest placement in every run, at least and on average.
        runs
            Numbers of the runs.
        margin
            Inflates GPU latencies by ``1 + margin``.
        within
            All placements together have about so many requests in a run at most, and the slowest fewer then.

        Returns
        -------
        Late | None
            None where more than `MOST_TOGETHER` requests would have to be simulated in a run.
        """
        slowest = min(tenant.rate_rps for tenant in tenants)
        workloads = {tenant.workload: tenant.rates_rps for tenant in tenants}
        together = sum(sum(rates) for rates in workloads.values())
        wanted = min(requests / (1.0 - _WARM_UP) / slowest, within / together)
        # In steps, so that the same streams do beside many neighbours.
        seconds = _STEP ** math.ceil(math.log(wanted, _STEP))
        if seconds * together > MOST_TOGETHER:
            return None
        names = [self.instance.workloads[tenant.workload].model for tenant in tenants]
        batch = np.array([tenant.batch for tenant in tenants], dtype=np.int64)
        share = np.array([tenant.share_percent for tenant in tenants])
        shared = shared_gpu(coefficients, np.array([coefficients.index(name) for name in names]), batch, share)
        limits = [limit_ns(self.instance.workloads[tenant.workload].slo_ms) for tenant in tenants]
        begin, end = _WARM_UP * seconds * NS_PER_S, seconds * NS_PER_S

        def served(run: int) -> list[tuple[int, float, float]]:
            parts = [self._part(tenant, run, seconds) for tenant in tenants]
            offset = np.concatenate([[0], np.cumsum([len(times) for times in parts])]).astype(np.int64)
            first = np.array([np.searchsorted(times, begin) for times in parts], dtype=np.int64)
            latency = np.empty(offset[-1])
            serve_side_by_side(
                np.concatenate(parts), offset, first, np.tile([begin, end], (len(parts), 1)), np.zeros(len(parts)),
                batch, shared, 1.0 + margin, np.empty(0), latency,
                np.zeros((len(parts), int(batch.max())), dtype=np.int64), np.zeros((len(parts), 4)),
            )  # fmt: skip
            own = [latency[offset[k] + first[k] : offset[k + 1]] for k in range(len(parts))]
            return [self._counted(times, limit) for times, limit in zip(own, limits, strict=True)]

        # Compiled code lets other threads run.
        with threads() as workers:
            rows = np.array(list(workers.map(served, runs)))
        return Late(rows[:, :, 0].astype(np.int64), rows[:, :, 1], rows[:, :, 2])

    def _counted(self, latency_ns: FloatArray, limit: float) -> tuple[int, float, float]:
        """Return how many latencies these are, which part is over the limit, and the judged percentile in ms."""
        number = len(latency_ns)
        if number == 0:
            return 0, 0.0, math.nan
        late = np.count_nonzero(latency_ns > limit) / number
        rank = math.ceil(self.instance.required_percentile * number * (1.0 - 1e-12))
        return number, late, float(np.partition(latency_ns, rank - 1)[rank - 1]) / NS_PER_MS

    def _part(self, tenant: Tenant, run: int, seconds: float) -> FloatArray:
        """Return the arrival times of a replica in a run, in ns."""
        key = (tenant.workload, tenant.rates_rps, run, seconds)
        parts = self._kept.get(key)
        if parts is None:
            workload = self.instance.workloads[tenant.workload]
            random = Randomness(self._seed, run, tenant.workload)
            times = arrivals_for(self.instance.arrivals_of(workload), sum(tenant.rates_rps), seconds, random)
            chosen = split(
                self.instance.split or "random", np.array(tenant.rates_rps), len(times), random.stream(SPLIT)
            )
            parts = [times[chosen == number] for number in range(len(tenant.rates_rps))]
            with self._lock:
                if self._size + len(times) > _MOST_KEPT:
                    self._kept.clear()
                    self._size = 0
                self._kept[key] = parts
                self._size += len(times)
        return parts[tenant.replica]
