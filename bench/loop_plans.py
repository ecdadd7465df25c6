"""Plans for `bench.loop`: six workloads on one H100, as served, by several rules and margins.

Run: python -m bench.loop_plans --output DIR [--overhead MS]

Triton and its Python backend add a nearly constant time to every batch, which a profile of the bare models does not
hold: `bench.loop` measured it (batch time by the server's statistics, with input and output, less the prediction). It
is added to every latency of the profile, and to its scheduling delay, so that plans allow for it.
"""

import argparse
from pathlib import Path

import igniter_opt as ig
from igniter_opt.instance import GpuType, Instance, Workload
from igniter_opt.measurements import ColocatedMeasurements, SoloMeasurements
from igniter_opt.profile import ModelProfile, Profile

Readings = SoloMeasurements | ColocatedMeasurements
WORKLOADS = (
    Workload(name="alex", model="alexnet", slo_ms=15.0, rate_rps=1000.0),
    Workload(name="res", model="resnet50", slo_ms=25.0, rate_rps=600.0),
    Workload(name="vgg", model="vgg19", slo_ms=40.0, rate_rps=300.0),
    Workload(name="vit", model="vit_b_16", slo_ms=30.0, rate_rps=400.0),
    Workload(name="bert", model="bert_base", slo_ms=30.0, rate_rps=400.0),
    Workload(name="eff", model="efficientnet_b0", slo_ms=25.0, rate_rps=400.0),
)
PLANS = (
    ("deadline-greedy", "deadline", "igniter", None),
    ("deadline-099", "deadline", "auto", 0.99),
    ("p99-099", "p99", "auto", 0.99),
    ("p99", "p99", "auto", None),
)
PRICE_PER_HOUR = 6.88


def served(profile: Profile, overhead_ms: float) -> Profile:
    """Return the profile with this time added to every batch, as scheduling delay."""

    def model(entry: ModelProfile) -> ModelProfile:
        grid = entry.solo_grid
        latency = tuple(tuple(value + overhead_ms for value in row) for row in grid.gpu_latency_ms)
        return entry.model_copy(
            update={
                "scheduling_delay_ms": entry.scheduling_delay_ms + overhead_ms,
                "solo_grid": grid.model_copy(update={"gpu_latency_ms": latency}),
            }
        )

    def readings(
        block: SoloMeasurements | ColocatedMeasurements | None,
    ) -> SoloMeasurements | ColocatedMeasurements | None:
        if block is None:
            return None
        return block.model_copy(update={"latency_ms": tuple(value + overhead_ms for value in block.latency_ms)})

    return profile.model_copy(
        update={
            "name": f"{profile.name}-served",
            "models": {name: model(entry) for name, entry in profile.models.items()},
            "solo_measurements": readings(profile.solo_measurements),
            "colocated_measurements": readings(profile.colocated_measurements),
        }
    )


def main() -> None:
    """Solve and write the plans."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--overhead", type=float, default=0.7, help="ms per batch")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    profile = served(ig.read_profile("h100", coefficients="refined"), options.overhead)
    gpu = GpuType(name="H100", profile=profile, price_per_hour=PRICE_PER_HOUR)
    for name, rule, method, confidence in PLANS:
        instance = Instance(name="h100-six", slo_rule=rule, gpu_types=(gpu,), workloads=WORKLOADS)
        result = ig.solve(instance, method, time_limit=20.0, confidence=confidence)
        ig.write_plan(result.plan, options.output / f"{name}.json")
        print(
            name,
            result.status,
            len(result.plan.gpus),
            f"{result.plan.total_share_percent:.1f} %",
            result.plan.solver.margin,
        )


if __name__ == "__main__":
    main()
