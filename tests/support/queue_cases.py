"""Random queues under all kinds of arrivals, judged by the chain and by serving requests one by one.

``python -m tests.support.queue_cases 300`` judges so many and says how far the two are apart.
"""

import math
import sys
from typing import NamedTuple

import numpy as np

from igniter_opt.data.arrivals import Arrivals
from igniter_opt.slo.streams.phases import PhaseStream
from igniter_opt.slo.streams.sampled import SampledStream, drawn_stream
from igniter_opt.slo.streams.stream import Source
from igniter_opt.slo.streams.table import judged_stream

# Of the sample, independent of those that limits and plans are judged with.
SAMPLE = 7


class Judged(NamedTuple):
    """One queue: what it is, the fraction late by the chain and by requests, the latter's standard error and number."""

    what: str
    exact: float
    sampled: float
    error: float
    requests: int

    @property
    def deviation(self) -> float:
        """How far they are apart, in standard errors and half a hundredth, which the gamma quadrature may take.

        Late requests come in clusters, so where there are hardly any the sample's own error says nothing: it is at
        least three times what it would be if they came one by one.
        """
        alone = 3.0 * math.sqrt((self.exact + 1.0 / self.requests) / self.requests)
        return (self.sampled - self.exact) / math.hypot(max(self.error, alone), 5e-3 * self.exact)


def random_case(seed: int) -> Judged:
    """Judge one queue, in whose tail requests are late now and then."""
    rng = np.random.default_rng(seed)
    if rng.random() < 0.5:
        arrivals = Arrivals("gamma", burstiness=float(rng.choice([1.2, 2.0, 4.0, 9.0, 16.0])))
    else:
        arrivals = Arrivals(
            "mmpp", burst_ratio=float(rng.uniform(1.5, 12.0)), burst_seconds=float(10.0 ** rng.uniform(-2.0, -0.3))
        )
    part = 1.0 / int(rng.integers(1, 4))
    source = Source(arrivals, "", 400.0, part)
    batch, load = int(rng.integers(1, 25)), rng.uniform(0.15, 0.7)
    full = load * batch / source.replica_rps * 1000.0
    busy = full * (rng.uniform(0.1, 1.0) + np.arange(batch)) / batch
    busy *= full / busy[-1]
    latency = busy * rng.uniform(1.0, 1.3)
    x = full * rng.uniform(1.2, 5.0)
    stream = judged_stream(source, x)
    assert isinstance(stream, PhaseStream)
    exact = stream.lateness(
        busy,
        latency,
        x,
    ).late
    sample = drawn_stream(source, SAMPLE)
    assert isinstance(sample, SampledStream)
    late = sample.fractions_late(busy, latency, x)
    what = f"{seed}: {arrivals.words}, part {part:.3g}, batch {batch}, load {load:.2f}, x {x / full:.2f}"
    return Judged(what, exact, float(late.mean()), float(late.std(ddof=1)) / math.sqrt(len(late)), sample.counted)


if __name__ == "__main__":
    found = [random_case(seed) for seed in range(int(sys.argv[1]))]
    for entry in sorted(found, key=lambda entry: -abs(entry.deviation))[:10]:
        print(f"{entry.deviation:+.2f}  {entry.exact:.6f}  {entry.sampled:.6f} ± {entry.error:.6f}  {entry.what}")
    deviations = np.array([entry.deviation for entry in found])
    print(f"{len(found)} cases: mean {deviations.mean():+.2f}, standard deviation {deviations.std():.2f}")
