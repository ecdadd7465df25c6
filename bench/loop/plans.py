"""Plans for `bench.loop`: six workloads on one H100, as served, by several rules and margins.

Run: python -m bench.loop.plans --output DIR [--overhead FILE] [--allowance MS] [--scale FACTOR] [--only NAME...]

Triton and its Python backend add a time to every batch, and one to every request in it, which a profile of the bare
models does not hold; `bench.loop.overhead` measures both. The time per batch is added to every latency of the profile,
and to its scheduling delay; the one per request, which does not overlap with the next batch, to the transfer of
results, and so is the transfer of inputs. The allowance, for the way to the server and back, is taken off the SLOs.
Rates are such that no placement needs less of the card than the profile's smallest measured share, which is checked.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import igniter_opt as ig
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import Instance, Workload
from igniter_opt.data.measurements import ColocatedMeasurements, SoloMeasurements
from igniter_opt.data.profile import ModelProfile, Profile

Readings = SoloMeasurements | ColocatedMeasurements
WORKLOADS = (
    Workload(name="alex", model="alexnet", slo_ms=11.0, rate_rps=1200.0),
    Workload(name="res", model="resnet50", slo_ms=25.0, rate_rps=550.0),
    Workload(name="vgg", model="vgg19", slo_ms=36.0, rate_rps=250.0),
    Workload(name="vit", model="vit_b_16", slo_ms=30.0, rate_rps=320.0),
    Workload(name="bert", model="bert_base", slo_ms=20.0, rate_rps=380.0),
    Workload(name="eff", model="efficientnet_b0", slo_ms=15.0, rate_rps=430.0),
)
PLANS = (
    ("deadline-greedy", "deadline", "igniter", None),
    ("deadline-099", "deadline", "auto", 0.99),
    ("p99-099", "p99", "auto", 0.99),
    ("p99", "p99", "auto", None),
)
PRICE_PER_HOUR = 6.88


def workloads(allowance_ms: float, scale: float) -> tuple[Workload, ...]:
    """Return the workloads with the allowance taken off their SLOs, at so many times their rates."""
    return tuple(
        entry.model_copy(update={"slo_ms": entry.slo_ms - allowance_ms, "rate_rps": entry.rate_rps * scale})
        for entry in WORKLOADS
    )


def served(profile: Profile, overhead: Mapping[str, Mapping[str, Any]]) -> Profile:
    """Return the profile of the models as they are served.

    Parameters
    ----------
    overhead
        By model: ``ms`` per batch, and ``ms_per_item``; nothing is added to other models.
    """
    bandwidth = profile.hardware.pcie_bandwidth_bytes_per_ms

    def added_ms(model: str, batch: int) -> float:
        found = overhead.get(model, {})
        return float(found.get("ms", 0.0)) + batch * float(found.get("ms_per_item", 0.0))

    def model(name: str, entry: ModelProfile) -> ModelProfile:
        each, per_item = added_ms(name, 0), added_ms(name, 1) - added_ms(name, 0)
        latency = tuple(tuple(value + each for value in row) for row in entry.solo_grid.gpu_latency_ms)
        return entry.model_copy(
            update={
                "scheduling_delay_ms": entry.scheduling_delay_ms + each,
                "input_bytes": 0.0,
                "output_bytes": entry.output_bytes + entry.input_bytes + bandwidth * per_item,
                "solo_grid": entry.solo_grid.model_copy(update={"gpu_latency_ms": latency}),
            }
        )

    def readings(block: Readings | None) -> Readings | None:
        if block is None:
            return None
        rows = zip(block.model, block.batch, block.latency_ms, strict=True)
        return block.model_copy(update={"latency_ms": tuple(ms + added_ms(name, batch) for name, batch, ms in rows)})

    return profile.model_copy(
        update={
            "name": f"{profile.name}-served",
            "models": {name: model(name, entry) for name, entry in profile.models.items()},
            "solo_measurements": readings(profile.solo_measurements),
            "colocated_measurements": readings(profile.colocated_measurements),
        }
    )


def main() -> None:
    """Solve and write the plans."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--overhead", type=Path, help="what bench.loop.overhead wrote; none: the bare models")
    parser.add_argument("--allowance", type=float, default=0.0, help="ms taken off every SLO")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies all rates")
    parser.add_argument("--only", nargs="+", choices=[entry[0] for entry in PLANS])
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    overhead = {} if options.overhead is None else json.loads(options.overhead.read_text("utf-8"))["models"]
    profile = served(ig.read_profile("h100", coefficients="refined"), overhead)
    gpu = GpuType(name="H100", profile=profile, price_per_hour=PRICE_PER_HOUR)
    alone = () if profile.solo_measurements is None else profile.solo_measurements.share_percent
    least = min(*alone, *(min(entry.solo_grid.share_percent) for entry in profile.models.values()))
    for name, rule, method, confidence in PLANS:
        if options.only and name not in options.only:
            continue
        instance = Instance(
            name="h100-six", slo_rule=rule, gpu_types=(gpu,), workloads=workloads(options.allowance, options.scale)
        )
        result = ig.solve(instance, method, time_limit=20.0, confidence=confidence)
        ig.write_plan(result.plan, options.output / f"{name}.json")
        placements = [entry for card in result.plan.gpus for entry in card.placements]
        print(
            name,
            result.status,
            len(result.plan.gpus),
            f"{result.plan.total_share_percent:.1f} %",
            result.plan.solver.margin,
            {entry.workload: (entry.batch, round(entry.share_percent, 1)) for entry in placements},
        )
        small = [entry.workload for entry in placements if entry.share_percent < least - 1e-6]
        if small:
            print(f"  beyond the profile (below {least:.1f} %): {', '.join(small)}")


if __name__ == "__main__":
    main()
