"""Instances whose requests are rare: side by side placements hold that would not beside ever busy neighbours."""

from igniter_opt import GpuType, Instance, Workload, predict
from igniter_opt.data.arrivals import Arrivals

# Half of a V100 and hardly more than the batch's latency there: beside anything that runs, it is late.
HALF, HARDLY_MORE = 50.0, 1.01


def alone_ms(model: str) -> float:
    return float(predict("v100", [(model, 1, HALF)]).latency_ms[0])


def rare(rate_rps: float, pairs: int = 1, arrivals: Arrivals | None = None) -> Instance:
    """Workloads for halves of V100s. At 0.5 req/s a pair holds side by side, at 1 req/s not."""
    models = ("vgg19", "ssd") * pairs
    return Instance(
        name="rare",
        slo_rule="p99",
        arrivals=arrivals,
        gpu_types=[GpuType(name="V100", profile="v100", price_per_hour=3.06)],
        workloads=[
            Workload(name=f"w{k}", model=model, slo_ms=HARDLY_MORE * alone_ms(model), rate_rps=rate_rps)
            for k, model in enumerate(models)
        ],
    )
