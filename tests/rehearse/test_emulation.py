"""Emulated models hold what the predictor says."""

import json
from pathlib import Path

import numpy as np
import pytest

import igniter_opt as ig
from igniter_opt.base.errors import InputError
from igniter_opt.data.plan import Plan
from igniter_opt.deploy.targets import largest_batches
from igniter_opt.deploy.triton.model_repository import read_models
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.partial_batches import batch_service_times
from igniter_opt.rehearse.emulation import write_emulated_models


@pytest.fixture(scope="module")
def plan() -> Plan:
    return ig.solve(ig.read_instance("igniter-table3"), "igniter").plan


def tables(folder: Path) -> dict[str, dict[str, list[int]]]:
    found = {}
    for path in folder.glob("*/1/emulated.json"):
        found |= json.loads(path.read_text())
    return found


def test_times_are_those_of_the_predictor(plan: Plan, tmp_path: Path) -> None:
    write_emulated_models(plan, tmp_path, scale=0.1, slowdown=1.3)
    found = tables(tmp_path)
    coefficients = fit_coefficients(plan.instance.gpu_types[0].profile)
    count = 0
    for gpu in plan.gpus:
        times = batch_service_times(
            coefficients,
            [coefficients.index(placement.model) for placement in gpu.placements],
            [placement.batch for placement in gpu.placements],
            [placement.share_percent for placement in gpu.placements],
        )
        for k, placement in enumerate(gpu.placements):
            entry = found[f"{gpu.name}/{placement.workload}#{placement.replica}@{placement.share_percent:g}"]
            busy = (1.3 * times.gpu_ms[k] + times.feedback_ms[k]) * 1e6 / 0.1
            assert np.allclose(entry["busy_ns"], busy, atol=20)
            assert np.allclose(entry["load_ns"], times.load_ms[k] * 1e7, atol=20)
            assert entry["delay_ns"] == pytest.approx((placement.queue_delay_us or 0) * 1e4)
            count += 1
    assert len(found) == count


def test_the_launcher_takes_them(plan: Plan, tmp_path: Path) -> None:
    write_emulated_models(plan, tmp_path)
    models = read_models(tmp_path, largest_batches(plan))
    assert set(models) == {"alexnet", "resnet50", "vgg19", "ssd"}
    assert all(model.sample is not None for model in models.values())


def test_existing_models_are_not_overwritten(plan: Plan, tmp_path: Path) -> None:
    write_emulated_models(plan, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="exists; give an empty folder"):
        write_emulated_models(plan, tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
