"""What tests of the profiler share: the logs of real cards, and a made-up one."""

from pathlib import Path

import pytest

from igniter_opt.data.profile import read_profile
from igniter_opt.profiler.runners.synthetic import SyntheticRunner

RECORDINGS = Path(__file__).parents[2] / "bench" / "recordings"
H100_PROFILE = RECORDINGS / "h100-profile.jsonl"
H100_COLOCATED = RECORDINGS / "h100-colocated.jsonl"
H100_CROWDED, H100_ALONE, H100_GRANTED = (
    RECORDINGS / name for name in ("h100-crowded.jsonl", "h100-alone.jsonl", "h100-granted.json")
)
H100_ONNX = RECORDINGS / "h100-onnx.jsonl"
H200_PROFILE = RECORDINGS / "h200-profile.jsonl"
H200_SOLVED = RECORDINGS / "h200-solved.jsonl"
H200_SOLVED_SECOND = RECORDINGS / "h200-solved-second.jsonl"
H200_DAY, H200_FIRST = RECORDINGS / "h200-day.jsonl", RECORDINGS / "h200-first.jsonl"
H200_FRESH = RECORDINGS / "h200-fresh.json"
H200_COLOCATED = RECORDINGS / "h200-colocated.jsonl"
H200_CROWDED, H200_ALONE, H200_GRANTED = (
    RECORDINGS / name for name in ("h200-crowded.jsonl", "h200-alone.jsonl", "h200-granted.json")
)
MODELS = ("alexnet", "resnet50", "vgg19", "ssd", "vit_b_16", "bert_base", "efficientnet_b0", "unet")


def use_made_up_card(monkeypatch: pytest.MonkeyPatch, profile: str) -> list[SyntheticRunner]:
    """Let the commands measure a card that behaves as a profile says; return the runners they make."""
    made: list[SyntheticRunner] = []

    def make(device: str, precision: str) -> SyntheticRunner:
        made.append(SyntheticRunner(read_profile(profile)))
        made[-1].precision = precision
        return made[-1]

    monkeypatch.setattr("igniter_opt.cli.commands.profile.CudaRunner", make)
    monkeypatch.setattr("igniter_opt.cli.commands.profile._device", lambda uuid: "GPU-0")
    return made
