"""ParvaGPU's two steps restated: plans that hold, never cheaper than what is proven."""

import numpy as np
import pytest

from igniter_opt import InfeasibleError, solve
from tests.support.mig import REFERENCE, instance_of, random_profile, random_workloads, scenarios


@pytest.mark.parametrize("seed", range(12))
def test_plans_hold_and_are_no_cheaper_than_the_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    profile = random_profile(rng, models=4)
    workloads = random_workloads(rng, 8, (60, 200), (20, 400))
    instance = instance_of(profile, workloads)
    try:
        exact = solve(instance, time_limit=20)
    except InfeasibleError:
        with pytest.raises(InfeasibleError):
            solve(instance, "parvagpu")
        return
    found = solve(instance, "parvagpu")
    assert found.verification.ok
    assert found.status == "heuristic"
    assert found.cost >= exact.lower_bound


def test_counts_and_limits_of_slices_are_kept() -> None:
    profile = random_profile(np.random.default_rng(3))
    instance = instance_of(profile, [{"model": "m0", "slo_ms": 150.0, "rate_rps": 900.0}])
    needed = len(solve(instance, "parvagpu").plan.gpus)
    gpu = instance.gpu_types[0].model_copy(update={"count": needed})
    assert len(solve(instance.model_copy(update={"gpu_types": (gpu,)}), "parvagpu").plan.gpus) == needed
    if needed > 1:
        few = instance.model_copy(update={"gpu_types": (gpu.model_copy(update={"count": needed - 1}),)})
        with pytest.raises(InfeasibleError, match="only"):
            solve(few, "parvagpu")


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the published readings are not at hand")
def test_published_scenarios_take_as_many_cards_as_published() -> None:
    from igniter_opt.profiler.import_mig import import_mig

    profile = import_mig(REFERENCE / "a100-80gb.json")
    for scenario in scenarios():
        found = solve(instance_of(profile, scenario["workloads"]), "parvagpu")
        assert len(found.plan.gpus) == scenario["parvagpu_gpus"]
