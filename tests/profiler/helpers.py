"""What tests of the profiler share: the logs of real cards, and a made-up one."""

from pathlib import Path

import pytest

from igniter_opt.profile import read_profile
from igniter_opt.profiler.synthetic import SyntheticRunner

RECORDINGS = Path(__file__).parents[2] / "bench" / "recordings"
H100_PROFILE = RECORDINGS / "h100-profile.jsonl"
H100_COLOCATED = RECORDINGS / "h100-colocated.jsonl"
H200_PROFILE = RECORDINGS / "h200-profile.jsonl"
H200_COLOCATED = RECORDINGS / "h200-colocated.jsonl"
MODELS = ("alexnet", "resnet50", "vgg19", "ssd", "vit_b_16", "bert_base", "efficientnet_b0", "unet")


def use_made_up_card(monkeypatch: pytest.MonkeyPatch, profile: str) -> list[SyntheticRunner]:
    """Let the commands measure a card that behaves as a profile says; return the runners they make."""
    made: list[SyntheticRunner] = []

    def make(device: str, precision: str) -> SyntheticRunner:
        made.append(SyntheticRunner(read_profile(profile)))
        made[-1].precision = precision
        return made[-1]

    monkeypatch.setattr("igniter_opt.cli.profile.CudaRunner", make)
    monkeypatch.setattr("igniter_opt.cli.profile._device", lambda uuid: "GPU-0")
    return made
