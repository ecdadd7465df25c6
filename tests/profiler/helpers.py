"""What tests of the profiler share: the log of a real H100, and what was made of it."""

from pathlib import Path

RECORDINGS = Path(__file__).parents[2] / "bench" / "recordings"
H100_PROFILE = RECORDINGS / "h100-profile.jsonl"
H100_COLOCATED = RECORDINGS / "h100-colocated.jsonl"
MODELS = ("alexnet", "resnet50", "vgg19", "ssd", "vit_b_16", "bert_base", "efficientnet_b0", "unet")
