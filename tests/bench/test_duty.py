"""Neighbours that are not always busy: what the recorded groups say, and the way without a card."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import igniter_opt as ig
from bench.duty import actual_ms, summary
from igniter_opt.profiler.runners.runner import Job

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "bench" / "results" / "duty-2026-11-30.json"
GROUP = [Job("vgg19", 6, 26), Job("bert_base", 3, 66)]


def busy_ms() -> list[float]:
    """What the group takes where both are always busy, transfers left out."""
    card = ig.read_profile("h200")
    hardware, found = card.hardware, []
    placed = [(job.model, job.batch, 100.0 * job.sms / hardware.sm_count) for job in GROUP]
    for job, latency in zip(GROUP, ig.predict(card, placed).latency_ms, strict=True):
        model = card.models[job.model]
        copies = job.batch * (model.input_bytes + model.output_bytes) / hardware.pcie_bandwidth_bytes_per_ms
        found.append(float(latency) - copies)
    return found


def test_the_page_shows_what_was_measured() -> None:
    found = json.loads(RESULT.read_text())
    made = summary(found["groups"])
    assert made == found["summary"]
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for words, kind in (("that are always busy", "busy"), ("as they are", "actual")):
        errors = made[kind]
        cells = " | ".join(f"{100 * errors[name]:.2f} %" for name in ("mean", "p90", "worst", "bias"))
        assert f"| {words} | {cells} |" in page
    assert f"{made['readings']} readings of ten groups" in page and made["groups"] == 10


def test_a_neighbour_that_hardly_runs_hardly_costs_anything() -> None:
    card, busy = ig.read_profile("h200"), busy_ms()
    share = 100.0 * GROUP[0].sms / card.hardware.sm_count
    model = card.models["vgg19"]
    copies = GROUP[0].batch * (model.input_bytes + model.output_bytes) / card.hardware.pcie_bandwidth_bytes_per_ms
    alone = float(ig.predict(card, [("vgg19", GROUP[0].batch, share)]).latency_ms[0]) - copies
    often, rarely = (actual_ms(card, GROUP, [2.0 * busy[0], busy[1] * times])[0] for times in (1.2, 50.0))
    assert alone <= rarely * 1.001 < often < busy[0] * 1.001
    assert rarely == pytest.approx(alone, rel=0.01)


def test_the_whole_way_without_a_card(tmp_path: Path) -> None:
    target = tmp_path / "duty.json"
    command = [sys.executable, "-m", "bench.duty", "--emulated", "--groups", "3", "--output", str(target)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    found = json.loads(target.read_text())
    assert found["emulated"] and found["summary"]["groups"] == 3
    # Its readings are the predictions beside busy neighbours, which those beside actual ones never exceed.
    assert found["summary"]["busy"]["worst"] < 1e-4
    assert found["summary"]["actual"]["bias"] < 0.0
