"""The queue with phases: equal to the one without where phases mean nothing, and to requests served one by one."""

import numpy as np
import pytest

from igniter_opt.data.arrivals import Arrivals
from igniter_opt.slo.queueing import BatchQueue
from igniter_opt.slo.streams.phases import PartCounts, PhaseStream
from igniter_opt.slo.streams.stream import Source
from igniter_opt.slo.streams.table import planned_stream
from tests.support.queue_cases import random_case

ONE_PHASE = (((-1.0,),), ((1.0,),))
# Two phases that nothing tells apart.
TWO_PHASES = (((-1.3, 0.3), (0.2, -1.2)), ((1.0, 0.0), (0.0, 1.0)))


def times(rng: np.random.Generator, rate_rps: float, load: float) -> tuple[np.ndarray, np.ndarray]:
    batch = int(rng.integers(1, 33))
    busy = 1000.0 * load * batch / rate_rps * (rng.uniform(0.2, 1.0) + np.arange(1, batch + 1) / batch)
    busy *= 1000.0 * load * batch / rate_rps / busy[-1]
    return busy, busy * 1.1


@pytest.mark.parametrize("process", [ONE_PHASE, TWO_PHASES])
@pytest.mark.parametrize("seed", range(12))
def test_poisson(process: tuple, seed: int) -> None:
    """The analysis of `queueing` and the one with phases agree, on fractions of late requests and on percentiles."""
    rng = np.random.default_rng(seed)
    rate, load = rng.uniform(50.0, 1000.0), rng.uniform(0.1, 0.95)
    busy, latency = times(rng, rate, load)
    plain, phased = BatchQueue(rate, busy, latency), PhaseStream(rate, [PartCounts(process, 512.0, 32)])
    for x in busy[-1] * np.array([0.9, 1.3, 2.1, 3.4]):
        late = phased.lateness(
            busy,
            latency,
            float(x),
        ).late
        assert late == pytest.approx(plain.violation_probability(float(x)), rel=1e-5, abs=1e-8)
    q = 1.0 - 10.0 ** -rng.uniform(0.5, 3.0)
    assert phased.percentile_ms(busy, latency, q) == pytest.approx(plain.percentile_ms(q), rel=1e-5)


@pytest.mark.parametrize("kind", ["gamma", "mmpp"])
def test_without_bursts_it_is_poisson(kind: str) -> None:
    """As burstiness or the ratio of rates goes to 1, percentiles go to those of Poisson arrivals."""
    busy, latency = times(np.random.default_rng(3), 400.0, 0.6)
    expected = BatchQueue(400.0, busy, latency).percentile_ms(0.99)
    gaps = []
    for beyond in (0.3, 0.03, 0.003, 0.0):
        name = "burstiness" if kind == "gamma" else "burst_ratio"
        arrivals = Arrivals(kind, **{name: 1.0 + beyond})  # type: ignore[arg-type]
        stream = planned_stream(Source(arrivals, "", 400.0, 1.0), 500.0)
        gaps.append(stream.percentile_ms(busy, latency, 0.99) / expected - 1.0)
    assert gaps[0] > gaps[1] > gaps[2] > gaps[3] - 1e-6
    assert gaps[2] < 5e-3
    assert abs(gaps[3]) < 1e-6


@pytest.mark.parametrize("seed", range(8))
def test_requests_served_one_by_one(seed: int) -> None:
    """300 such cases: `python -m tests.support.queue_cases 300`."""
    found = random_case(seed)
    assert abs(found.deviation) < 4.5, found


def test_percentiles_grow_with_burstiness() -> None:
    busy, latency = times(np.random.default_rng(5), 400.0, 0.5)
    streams = [Arrivals("gamma", burstiness=value) for value in (1.0, 1.5, 2.0, 4.0, 8.0, 20.0)]
    found = [
        planned_stream(Source(arrivals, "", 400.0, 1.0), 500.0).percentile_ms(busy, latency, 0.99)
        for arrivals in streams
    ]
    assert found == sorted(found)
