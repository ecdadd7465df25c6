"""The scripts around the loop on a real card, without one: what they fit and what plans are made from."""

import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import igniter_opt as ig
from bench.loop import overhead
from bench.loop.overhead import with_profile
from bench.loop.plans import served
from bench.loop.site import Watch
from igniter_opt.data.profile import write_profile
from igniter_opt.data.serving import ServedModel, Serving
from igniter_opt.overhead.plans import expected_ms


def test_served_models_take_longer_by_the_overhead() -> None:
    bare = ig.read_profile("h100")
    longer = served(bare, {"vgg19": {"ms": 0.7, "ms_per_item": 0.05}})
    for model, more in (("vgg19", 0.7 + 8 * 0.05), ("resnet50", 0.0)):
        before, after = (ig.predict(profile, [(model, 8, 50.0)]) for profile in (bare, longer))
        assert after.latency_ms[0] == pytest.approx(before.latency_ms[0] + more, rel=0.01)
    together = [("vgg19", 4, 30.0), ("alexnet", 8, 40.0)]
    assert np.all(ig.predict(longer, together).throughput_rps < ig.predict(bare, together).throughput_rps)


def test_the_profile_of_a_plan_can_be_exchanged() -> None:
    plan = ig.solve(ig.read_instance("igniter-three"), "igniter").plan
    model = plan.instance.workloads[1].model
    (own,) = [entry for gpu in plan.gpus for entry in gpu.placements if entry.model == model]
    profile = plan.instance.gpu_types[0].mps_profile
    longer = with_profile(plan, served(profile, {model: {"ms": 2.0, "ms_per_item": 0.25}}))
    where = (model, own.batch, own.share_percent)
    added = np.array(expected_ms(longer.instance.gpu_types[0].mps_profile, *where)) - expected_ms(profile, *where)
    assert added == pytest.approx(2.0 + 0.25 * np.arange(1, len(added) + 1), rel=0.02)


def test_what_serving_adds_is_what_the_command_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is asked with all options, and its block comes by the names that plans are made from."""
    target, bare = tmp_path / "overhead.json", ig.read_profile("h100")
    added = ServedModel(batch_ms=0.7, request_ms=0.05, way_ms=0.3, residual_ms=0.01, batches=90, requests=400)
    asked: list[list[str]] = []

    def run(command: list[str], check: bool) -> None:
        asked.append(command[3:])
        serving = Serving(backend="process", date="2026-11-30", models={"vgg19": added})
        write_profile(bare.model_copy(update={"serving": serving}), Path(command[command.index("-o") + 1]))

    monkeypatch.setattr(overhead, "commit", lambda: "none")
    monkeypatch.setattr(overhead, "machine", lambda: "none")
    monkeypatch.setattr(overhead.subprocess, "run", run)
    words = ["overhead", "--only", "vgg19", "--output", str(target), "--", "--shared-memory", "--seconds", "5"]
    monkeypatch.setattr(sys, "argv", words)
    overhead.main()
    (command,) = asked
    assert command[:3] == ["profile", "serve", "h100"] and command[5:] == [
        "--shared-memory", "--seconds", "5", "--only", "vgg19"
    ]  # fmt: skip
    found = json.loads(target.read_text())["models"]
    assert found == {"vgg19": {"ms": 0.7, "ms_per_item": 0.05, "residual_ms": 0.01, "client_ms": 0.3, "batches": 90}}
    longer = served(bare, found).models["vgg19"].scheduling_delay_ms
    assert longer == pytest.approx(bare.models["vgg19"].scheduling_delay_ms + 0.7)


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
