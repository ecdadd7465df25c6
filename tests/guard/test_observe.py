"""What is made of servers' statistics and of a feed."""

from typing import Any

import numpy as np
import pytest

from igniter_opt.guard import observe
from igniter_opt.guard.observe import FACTOR_S, LiveObserver
from igniter_opt.measure.feed import FeedLine
from igniter_opt.simulation.servers import servers_of
from tests.guard.test_choose import three
from tests.guard.test_run import deployment

A = ("A", 1)
NS = 1_000_000


class Statistics:
    """Counts that a Triton server would give of one model: batches of 6, and their time in ms."""

    def __init__(self) -> None:
        self.batches = self.failed = 0
        self.queue_ms = self.compute_ms = 0.0

    def serve(self, batches: int, compute_ms: float, queue_ms: float = 0.0) -> None:
        self.batches += batches
        self.compute_ms += batches * compute_ms
        self.queue_ms += 6 * batches * queue_ms

    def to_dict(self) -> dict[str, Any]:
        def duration(ms: float) -> dict[str, int]:
            return {"count": 6 * self.batches, "ns": round(ms * NS)}

        return {
            "execution_count": self.batches,
            "inference_stats": {
                "success": duration(self.queue_ms + 6 * self.compute_ms),
                "fail": {"count": self.failed, "ns": 0},
                "queue": duration(self.queue_ms),
                "compute_input": duration(0.0),
                "compute_infer": duration(6 * self.compute_ms),
                "compute_output": duration(0.0),
            },
            "batch_stats": [
                {"batch_size": 6, "compute_infer": {"count": self.batches, "ns": round(self.compute_ms * NS)}}
            ],
        }


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Statistics | None]:
    found: dict[str, Statistics | None] = {"alexnet": Statistics(), "resnet50": Statistics(), "ssd": Statistics()}

    def look(_: str, model: str) -> dict[str, Any] | None:
        statistics = found[model]
        return None if statistics is None else statistics.to_dict()

    monkeypatch.setattr(observe, "model_statistics", look)
    return found


def observer(lines: list[FeedLine] | None = None) -> LiveObserver:
    plan = three()
    made = LiveObserver(None if lines is None else lambda: [lines.pop(0) for _ in list(lines)])
    planned = {(s.placement.workload, s.placement.replica): s for own in servers_of(plan) for s in own}
    made.serve(ports(plan), planned)
    return made


def ports(plan: Any) -> Any:
    """The deployment of a plan with different ports."""
    state = deployment(plan)
    records = [
        record.model_copy(update={"ports": record.ports.model_copy(update={"grpc": 8001 + 3 * k})})
        for k, record in enumerate(state.replicas)
    ]
    return state.model_copy(update={"replicas": tuple(records)})


def test_factor_and_rate(servers: dict[str, Statistics | None]) -> None:
    made, alexnet = observer(), servers["alexnet"]
    assert alexnet is not None
    planned = next(s for own in servers_of(three()) for s in own if s.placement.workload == "A")
    gpu, rest = float(planned.gpu[5]) / NS, float(planned.feedback[5] + planned.load[5]) / NS
    assert made.look(0.0)[A].factor is None
    for k in range(1, 13):
        alexnet.serve(5, 1.3 * gpu + rest)
        seen = made.look(0.25 * k)[A]
        if k == 1:
            assert seen.factor is None  # too few batches
        else:
            assert seen.factor == pytest.approx(1.3, rel=1e-4)
            assert seen.rate_rps == pytest.approx(120.0)
    for k in range(13, 13 + round(FACTOR_S / 0.25) + 1):  # the past is forgotten
        alexnet.serve(5, gpu + rest)
        seen = made.look(0.25 * k)[A]
    assert seen.factor == pytest.approx(1.0, rel=1e-4)


def test_without_a_feed_requests_have_their_mean_time(servers: dict[str, Statistics | None]) -> None:
    made, alexnet = observer(), servers["alexnet"]
    assert alexnet is not None
    assert not made.percentiles
    made.look(0.0)
    alexnet.serve(2, 5.0, queue_ms=3.0)
    alexnet.failed = 4
    seen = made.look(0.25)[A]
    assert seen.latencies_ms == pytest.approx(np.full(12, 8.0))
    assert seen.failed == 4
    assert len(made.look(0.5)[A].latencies_ms) == 0


def test_a_server_started_anew_or_gone(servers: dict[str, Statistics | None]) -> None:
    made, alexnet = observer(), servers["alexnet"]
    assert alexnet is not None
    alexnet.serve(100, 5.0)
    made.look(0.0)
    servers["alexnet"] = None
    seen = made.look(0.25)[A]
    assert not seen.answers and len(seen.latencies_ms) == 0
    servers["alexnet"] = Statistics()
    seen = made.look(0.5)[A]
    assert seen.answers and seen.factor is None and len(seen.latencies_ms) == 0


def test_a_feed_counts_for_the_server_it_is_about(servers: dict[str, Statistics | None]) -> None:
    plan = three()
    a = next(k for k, p in enumerate(plan.gpus[0].placements) if p.workload == "A")
    own = f"127.0.0.1:{8001 + 3 * a}"
    lines = [
        FeedLine(at=1, workload="A", server=own, latencies_ms=(1.0, 2.0), failed=1),
        FeedLine(at=1, workload="A", server="127.0.0.1:9999", latencies_ms=(50.0,)),  # one that was replaced
        FeedLine(at=1, workload="A", latencies_ms=(3.0,)),
        FeedLine(at=1, workload="Z", latencies_ms=(4.0,)),
    ]
    made = observer(lines)
    assert made.percentiles
    seen = made.look(0.0)
    assert (seen[A].latencies_ms.tolist(), seen[A].failed) == ([1.0, 2.0, 3.0], 1)
    assert len(seen["R", 1].latencies_ms) == 0
    assert len(made.look(0.25)[A].latencies_ms) == 0
