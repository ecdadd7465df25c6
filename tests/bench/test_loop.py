"""The scripts around the loop on a real card, without one: what they fit and what plans are made from."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

import igniter_opt as ig
from bench.loop.overhead import alone, fitted, predicted_ms, with_profile
from bench.loop.plans import served
from bench.loop.site import Watch


def test_the_overhead_is_found_again() -> None:
    rng = np.random.default_rng(3)
    expected = list(rng.uniform(1.0, 9.0, 8))
    taken = {k: expected[k - 1] + 0.4 + 0.03 * k for k in (1, 2, 5, 8)}
    found = fitted(taken, {1: 10, 2: 3, 5: 200, 8: 1}, expected)
    assert found == {"ms": 0.4, "ms_per_item": 0.03, "residual_ms": 0.0}


@pytest.mark.parametrize(("slope", "level"), [(-0.1, 2.0), (0.5, -0.3)])
def test_neither_part_is_negative(slope: float, level: float) -> None:
    expected = [5.0] * 6
    taken = {k: 5.0 + level + slope * k for k in (1, 3, 6)}
    found = fitted(taken, dict.fromkeys(taken, 5), expected)
    assert min(found.values()) >= 0.0
    assert found["residual_ms"] > 0.0


def test_served_models_take_longer_by_the_overhead() -> None:
    bare = ig.read_profile("h100")
    longer = served(bare, {"vgg19": {"ms": 0.7, "ms_per_item": 0.05}})
    for model, more in (("vgg19", 0.7 + 8 * 0.05), ("resnet50", 0.0)):
        before, after = (ig.predict(profile, [(model, 8, 50.0)]) for profile in (bare, longer))
        assert after.latency_ms[0] == pytest.approx(before.latency_ms[0] + more, rel=0.01)
    together = [("vgg19", 4, 30.0), ("alexnet", 8, 40.0)]
    assert np.all(ig.predict(longer, together).throughput_rps < ig.predict(bare, together).throughput_rps)


def test_a_workload_alone() -> None:
    plan = ig.solve(ig.read_instance("igniter-three"), "igniter").plan
    name = plan.instance.workloads[1].name
    (gpu,) = alone(plan, name).gpus
    (placement,) = gpu.placements
    profile = plan.instance.gpu_types[0].profile
    expected = ig.predict(profile, [(placement.model, placement.batch, placement.share_percent)]).latency_ms[0]
    assert predicted_ms(plan, name)[placement.batch - 1] == pytest.approx(expected, rel=1e-6)


def test_the_profile_of_a_plan_can_be_exchanged() -> None:
    plan = ig.solve(ig.read_instance("igniter-three"), "igniter").plan
    name, model = plan.instance.workloads[1].name, plan.instance.workloads[1].model
    profile = plan.instance.gpu_types[0].profile
    longer = with_profile(plan, served(profile, {model: {"ms": 2.0, "ms_per_item": 0.25}}))
    added = np.array(predicted_ms(longer, name)) - predicted_ms(plan, name)
    assert added == pytest.approx(2.0 + 0.25 * np.arange(1, len(added) + 1), rel=0.02)


def test_a_process_that_is_stopped_sees_that_it_was() -> None:
    with Watch() as watch:
        (child,) = multiprocessing.active_children()
        assert child.pid is not None
        time.sleep(0.3)
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(0.25)
        os.kill(child.pid, signal.SIGCONT)
        time.sleep(0.2)
        found = watch.read()
    assert found["seconds"] > 0.4
    assert max(found["late_most_ms"], found["copy_p999_ms"]) > 150.0
    assert found["slow_spells"] == len(found["slow_spells_ms"])
    assert not multiprocessing.active_children()
