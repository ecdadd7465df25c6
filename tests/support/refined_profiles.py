"""Random profiles with measurements side by side, which follow no law that the refined coefficients know."""

import random
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from igniter_opt.data.measurements import ColocatedMeasurements, SoloMeasurements
from igniter_opt.data.profile import Profile
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.interference import predict_many
from tests.support.synthetic import random_profile

SPLITS = ((20.0, 80.0), (50.0, 50.0), (80.0, 20.0), (30.0, 30.0))


def refined_profile(rng: random.Random, name: str = "synthetic", **options: Any) -> Profile:
    """A random profile whose refined coefficients are fitted to noisy latencies, alone and side by side."""
    profile = random_profile(rng, name, **options)
    coefficients = fit_coefficients(profile)
    names = list(profile.models)
    biggest = profile.models[names[0]].max_batch
    hurt = {pair: rng.uniform(0.0, 0.3) for pair in ((a, b) for a in names for b in names)}
    rows: list[tuple[int, str, int, float, float]] = []
    for a, b in combinations_with_replacement(names, 2):
        for shares in SPLITS:
            for batches in ((1, 1), (1, biggest), (biggest, 1), (biggest, biggest)):
                number = len(rows) // 2 + 1
                for own, other, batch, share in ((a, b, batches[0], shares[0]), (b, a, batches[1], shares[1])):
                    slower = (1 + hurt[own, other] * (0.5 + 0.5 * rng.random())) * rng.uniform(0.97, 1.03)
                    rows.append((number, own, batch, share, alone_ms(coefficients, own, batch, share) * slower))
    columns = zip(*rows, strict=True)
    beside = dict(zip(("group", "model", "batch", "share_percent", "latency_ms"), columns, strict=True))
    solo = [
        (own, batch, share, alone_ms(coefficients, own, batch, share) * rng.uniform(0.95, 1.05))
        for own in names
        for batch in range(1, biggest + 1)
        for share in (10.0, 20.0, 40.0, 80.0)
    ]
    single = dict(zip(("model", "batch", "share_percent", "latency_ms"), zip(*solo, strict=True), strict=True))
    return profile.model_copy(
        update={
            "coefficients": "refined",
            "colocated_measurements": ColocatedMeasurements(**beside),
            "solo_measurements": SoloMeasurements(**single),
        }
    )


def with_counters(profile: Profile, rng: random.Random) -> Profile:
    """The same profile, but DRAM utilisation is counted, too, and it is known where the probes were taken."""
    models = {}
    for name, model in profile.models.items():
        factor = rng.uniform(0.5, 2.0)
        points = model.l2_utilisation_percent_at
        dram = tuple(point.model_copy(update={"value": factor * point.value}) for point in points)
        place = {"batch": model.solo_grid.batch[1], "share_percent": model.solo_grid.share_percent[1]}
        probe = model.interference_probe.model_copy(update=place)
        models[name] = model.model_copy(update={"dram_utilisation_percent_at": dram, "interference_probe": probe})
    return profile.model_copy(update={"models": models})


def alone_ms(coefficients: Any, model: str, batch: int, share: float) -> float:
    index = np.array([[coefficients.index(model)]])
    return float(predict_many(coefficients, index, np.array([[batch]]), np.array([[share]])).latency_ms[0, 0])
