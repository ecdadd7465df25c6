"""Placements as servers: times as the predictor says, in whole nanoseconds, and clear words about unusable plans."""

import numpy as np
import pytest

import igniter_opt as ig
from igniter_opt.base.errors import InputError
from igniter_opt.data.plan import Plan
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.partial_batches import batch_service_times
from igniter_opt.simulation.servers import servers_of


@pytest.fixture(scope="module")
def plan() -> Plan:
    return ig.solve(ig.read_instance("igniter-table3"), "igniter", max_replicas=2, slo_rule="p99").plan


def changed(plan: Plan, **changes: object) -> Plan:
    gpu = plan.gpus[0]
    placements = (gpu.placements[0].model_copy(update=changes), *gpu.placements[1:])
    return plan.model_copy(update={"gpus": (gpu.model_copy(update={"placements": placements}), *plan.gpus[1:])})


@pytest.mark.parametrize("margin", [0.0, 0.25])
def test_times_and_order(plan: Plan, margin: float) -> None:
    found = servers_of(plan, margin)
    assert len(found) == len(plan.instance.workloads)
    coefficients = fit_coefficients(plan.instance.gpu_types[0].profile)
    seen = {}
    for gpu in plan.gpus:
        times = batch_service_times(
            coefficients,
            [coefficients.index(p.model) for p in gpu.placements],
            [p.batch for p in gpu.placements],
            [p.share_percent for p in gpu.placements],
            margin,
        )
        for k, p in enumerate(gpu.placements):
            seen[gpu.name, p.workload, p.replica] = [times.gpu_ms[k], times.load_ms[k], times.feedback_ms[k]]
    for workload, servers in zip(plan.instance.workloads, found, strict=True):
        assert [server.placement.workload for server in servers] == [workload.name] * len(servers)
        for server in servers:
            own = seen.pop((server.gpu_name, workload.name, server.placement.replica))
            for part, expected in zip((server.gpu, server.load, server.feedback), own, strict=True):
                assert len(part) == server.placement.batch
                assert (part == np.floor(part)).all()
                assert np.abs(part - np.array(expected) * 1e6).max() <= 0.5
            assert server.delay == (server.placement.queue_delay_us or 0) * 1000.0
    assert not seen
    assert any(len(servers) == 2 for servers in found)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "bert"}, "bert"),
        ({"share_percent": 150.0}, "share"),
        ({"workload": "W99"}, "W99"),
        ({"batch": 0}, "batch"),
    ],
)
def test_what_cannot_be_served_is_said(plan: Plan, changes: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=f"the plan cannot be served: .*{says}"):
        servers_of(changed(plan, **changes))


def test_a_workload_without_a_placement(plan: Plan) -> None:
    left_out = plan.instance.workloads[0].name
    gpus = tuple(
        gpu.model_copy(update={"placements": tuple(p for p in gpu.placements if p.workload != left_out)})
        for gpu in plan.gpus
    )
    with pytest.raises(InputError, match=f"the plan cannot be served: .*{left_out}"):
        servers_of(plan.model_copy(update={"gpus": gpus}))
