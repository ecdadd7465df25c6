import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igniter_opt import Instance, Plan, read_instance, solve, verify
from igniter_opt.data.plan import Placement, PlanGpu, SolverInfo
from igniter_opt.fitting.coefficients import fit_coefficients
from tests.support.scalar_model import limit_scalar, predict_scalar

TABLE3 = read_instance("igniter-table3")


def random_plan(rng: random.Random, instance: Instance, margin: float) -> Plan:
    """Any plan at all: every workload somewhere, random batches and shares that fit; mostly violating."""
    gpus: list[list[Placement]] = []
    for workload in instance.workloads:
        share = 2.5 * rng.randint(1, 30)
        room = [gpu for gpu in gpus if sum(p.share_percent for p in gpu) + share <= 100]
        if not room:
            gpus.append([])
            room = [gpus[-1]]
        rng.choice(room).append(
            Placement(
                workload=workload.name,
                replica=1,
                model=workload.model,
                batch=rng.randint(1, 32),
                share_percent=share,
                rate_rps=workload.rate_rps,
                predicted_latency_ms=1.0,
                predicted_throughput_rps=1.0,
            )
        )
    named = tuple(PlanGpu(name=f"V100-{k}", type="V100", placements=tuple(gpu)) for k, gpu in enumerate(gpus, 1))
    cost = 3.06 * len(gpus)
    info = SolverInfo(
        method="random",
        status="heuristic",
        cost_per_hour=cost,
        total_share_percent=sum(gpu.total_share_percent for gpu in named),
        runtime_s=0,
        margin=margin,
        version="0",
    )
    return Plan(instance=instance, solver=info, gpus=named)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**9), st.sampled_from(["half", "deadline"]), st.sampled_from([0.0, 0.07]))
def test_agrees_with_the_scalar_model_on_any_plan(seed: int, rule: str, margin: float) -> None:
    instance = TABLE3.with_options(slo_rule=rule)  # type: ignore[arg-type]
    plan = random_plan(random.Random(seed), instance, margin)
    verification = verify(plan)
    coefficients = fit_coefficients(instance.gpu_types[0].profile)
    checks = {check.workload: check for check in verification.placements}
    found = {(entry.kind, entry.where) for entry in verification.violations}
    workloads = {workload.name: workload for workload in instance.workloads}
    for gpu in plan.gpus:
        case = [(p.model, p.batch, p.share_percent) for p in gpu.placements]
        plain, inflated = predict_scalar(coefficients, case), predict_scalar(coefficients, case, margin)
        for k, placement in enumerate(gpu.placements):
            check, workload = checks[placement.workload], workloads[placement.workload]
            limit = limit_scalar(rule, workload, workload.rate_rps, placement.batch)
            assert check.latency_ms == pytest.approx(plain[k].latency, rel=1e-12)
            assert check.throughput_rps == pytest.approx(plain[k].throughput, rel=1e-12)
            assert check.limit_ms == pytest.approx(limit, rel=1e-12)
            assert check.slack_ms == pytest.approx(limit - inflated[k].latency, rel=1e-9, abs=1e-9)
            late = inflated[k].latency > limit + 1e-9 * abs(limit)
            short = inflated[k].throughput < workload.rate_rps * (1 - 1e-9)
            where = f"{gpu.name}/{placement.workload}#1"
            assert (("latency", where) in found) == late
            assert (("throughput", where) in found) == short
            assert check.ok == (not late and not short)
    too_many = len(plan.gpus) > 10
    assert (("count", "V100") in found) == too_many


def test_frame_and_order() -> None:
    plan = solve(TABLE3, "igniter").plan
    frame = verify(plan).to_frame()
    assert list(frame["workload"]) == [p.workload for gpu in plan.gpus for p in gpu.placements]
    assert (frame["slack_ms"] >= 0).all()
    assert set(frame.columns) >= {"gpu", "latency_ms", "limit_ms", "slack_ms", "throughput_rps", "rate_rps", "ok"}


def test_unequal_replicas_are_a_violation_only_with_max_replicas() -> None:
    workload = TABLE3.workloads[4].model_copy(update={"rate_rps": 3000.0})
    free = TABLE3.model_copy(update={"workloads": (workload,)})
    plan = solve(free, "igniter").plan
    rates = {p.rate_rps for gpu in plan.gpus for p in gpu.placements}
    assert len(rates) > 1
    assert verify(plan).ok
    bound = free.model_copy(update={"workloads": (workload.model_copy(update={"max_replicas": 9}),)})
    found = verify(plan.model_copy(update={"instance": bound}))
    assert [(entry.kind, entry.where) for entry in found.violations] == [("replica", "W5")]
