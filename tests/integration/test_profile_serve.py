"""`profile serve` on real servers, with models that take the predicted times: servers come, are loaded, and go."""

from pathlib import Path

import pytest

import igniter_opt as ig
from igniter_opt.deploy.triton.install import Installation
from tests.cli.helpers import script


@pytest.mark.usefixtures("triton")
def test_what_real_servers_add_comes_into_the_profile(tmp_path: Path, triton: Installation) -> None:
    output, state = tmp_path / "served.json", tmp_path / "state"
    options = ["--emulated", "--only", "resnet50", "--seconds", "3", "--state", state, "--base-port", "26500"]
    run = script("profile", "serve", "h200", "-o", output, *options)
    assert run.code == 0, run.err
    card = ig.read_profile(output)
    assert card.serving is not None and list(card.serving.models) == ["resnet50"]
    added = card.serving.models["resnet50"]
    assert added.batches > 50 and added.requests > added.batches
    assert 0.0 < added.way_ms < 100.0
    assert card.serving.note is not None and "of no card" in card.serving.note
    assert str(triton.server.resolve()) == card.serving.server
    spot = [("resnet50", 4, 20.0)]
    longer = ig.predict(card, spot).latency_ms[0] - ig.predict("h200", spot).latency_ms[0]
    assert longer == pytest.approx(added.batch_ms + 4 * added.request_ms + added.way_ms)
    assert list(state.iterdir()) == []
