"""What `bench.two_cards` serves: workloads that need so many H200s, their changed rates, and a load for the guard.

Per card the same workloads: five at least, and for every two cards one that a single card cannot carry beside the
others, with replicas. The profile is the shipped one of the H200, with what Triton's Python backend adds
(`bench.loop.overhead`, measured on an H100: none was measured on an H200), and an allowance is taken off the SLOs for
the way to the servers and back.
"""

from typing import NamedTuple

from bench.provenance import RESULTS

OVERHEAD = RESULTS / "served-overhead-2026-11-24.json"
PRICE_PER_HOUR = 7.912
ALLOWANCE_MS = 2.0


class Offered(NamedTuple):
    """A workload per two cards: model, SLO in ms, rate in req/s, most replicas, and the factor of its rate afterwards."""

    name: str
    model: str
    slo_ms: float
    rate_rps: float
    replicas: int | None = None
    then: float = 1.0


WORKLOADS = (
    Offered("alex", "alexnet", 11.0, 1000.0, then=0.8),
    Offered("res", "resnet50", 25.0, 450.0, then=1.3),
    Offered("vgg", "vgg19", 30.0, 700.0, replicas=2, then=0.9),
    Offered("vit", "vit_b_16", 30.0, 300.0, then=1.3),
    Offered("bert", "bert_base", 20.0, 320.0, then=0.7),
    Offered("eff", "efficientnet_b0", 15.0, 350.0),
    Offered("alex2", "alexnet", 16.0, 700.0),
    Offered("res2", "resnet50", 35.0, 280.0, then=1.4),
    Offered("vit2", "vit_b_16", 45.0, 220.0, then=0.8),
    Offered("bert2", "bert_base", 30.0, 250.0),
)
