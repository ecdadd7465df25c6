"""Make the shipped synthetic profile of a card under MIG: `python -m bench.make_mig_profile`.

Nothing was measured: a batch takes a fixed time and a time per item that falls with the slice's sevenths, processes
share what is left of the SMs, and memory is a sum. The models have the names of those of the V100 profile, so that
instances may mix both kinds of cards.
"""

import sys
from pathlib import Path

from igniter_opt.data.slice_profile import SliceProfile, write_slice_profile
from igniter_opt.physics.mig_cards import MIG_CARDS, Slice

CARD = "a100-80gb"
BATCHES, PROCESSES = (1, 2, 4, 8, 16, 32), (1, 2, 3, 4)
# Fixed time of a batch and time of an item on all seven sevenths (ms), memory of a process and of an item (MiB), and
# how much of a slice one process keeps busy.
MODELS = {
    "alexnet": (0.9, 0.045, 700.0, 6.0, 0.45),
    "resnet50": (3.2, 0.32, 1100.0, 25.0, 0.65),
    "vgg19": (2.1, 0.55, 2300.0, 30.0, 0.8),
    "ssd": (4.5, 0.6, 1500.0, 40.0, 0.7),
}
DESTINATION = Path(__file__).parents[1] / "instances" / "slices" / "a100-mig-synthetic.json"


def columns(name: str, kind: Slice) -> dict[str, list[float]]:
    """Return the made-up readings of a model in a slice, those left out that do not fit its memory."""
    fixed, item, memory, memory_item, busy = MODELS[name]
    rows = []
    for batch in BATCHES:
        for processes in PROCESSES:
            needed = processes * (memory + memory_item * batch)
            if needed > kind.memory_mib:
                continue
            alone = fixed + item * batch * (7.0 / kind.sevenths) ** 0.95
            # Beyond what the slice has, processes wait for each other.
            latency = round(alone * max(1.0, busy * processes) * (1.0 + 0.03 * (processes - 1)), 3)
            rows.append((batch, processes, round(1000.0 * batch / (1.01 * latency), 3), latency, round(needed, 1)))
    names = ("batch", "processes", "throughput_rps_per_process", "latency_ms", "memory_mib")
    return {name: [row[k] for row in rows] for k, name in enumerate(names)}


def synthetic() -> SliceProfile:
    """Return the profile."""
    slices = MIG_CARDS[CARD].slices
    return SliceProfile.model_validate(
        {
            "name": DESTINATION.stem,
            "source": "made up by bench/make_mig_profile.py; nothing was measured",
            "synthetic": True,
            "card": CARD,
            "models": {
                name: {"slices": {kind.name: columns(name, kind) for kind in slices if columns(name, kind)["batch"]}}
                for name in MODELS
            },
        }
    )


if __name__ == "__main__":
    write_slice_profile(synthetic(), DESTINATION if len(sys.argv) < 2 else Path(sys.argv[1]))
