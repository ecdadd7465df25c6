"""Coefficients against readings that were taken after they were fitted.

Run: python -m bench.fresh

The H200's (`recordings/h200-second.jsonl`) were taken on 30 November after the fit and the margins were frozen: 72
random groups of its shipped profile's models, and the 29 GPUs of six plans that hold more than one placement
(`bench.solved_cards --seed 20261208 --cards 30 --time-limit 12`), by
`bench.card_day --only shipped --seed 20261209`.

The others are of models that no shipped profile has, profiled and measured as a new user would, and predicted by these
profiles alone: two in tf32 (`h200-own.json`: `igniter-opt profile measure -o h200-own.json
--models rn18=torchvision.models:resnet18@3x224x224f,mnet=torchvision.models:mobilenet_v2@3x224x224f --precision tf32`
and `igniter-opt profile colocate h200-own.json -o h200-own-colocated.json --pairs 12 --larger 4 --seed 3`, when
profiles held no more than a grid), and four in fp16 (`h200-new.jsonl`, by `bench.card_day --only own`, which names
them), once by their grid only, as profiles were before.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

import igniter_opt as ig
from bench.provenance import header, write
from igniter_opt.data.measurement_files import Measurements, read_measurements
from igniter_opt.data.measurements import ColocatedMeasurements
from igniter_opt.data.profile import Profile
from igniter_opt.fitting.calibration import predict_readings
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.fitting.fresh import covered
from igniter_opt.profiler.colocate import build_measurements
from igniter_opt.profiler.make import profile_of_log
from igniter_opt.profiler.record import Log, read_log

RECORDINGS = Path(__file__).parent / "recordings"
RANDOM_GROUPS = 72
HEAD = "| readings of | groups | readings | mean | P90 | worst | bias | within 0.9 | within 0.99 |"


def of_log(name: str, profile: Profile) -> Measurements:
    """Put the measurements of a recorded session together."""
    head, *rest = read_log(RECORDINGS / name)
    kept = Log(None, {})
    kept.entries = {entry["key"]: entry["value"] for entry in rest}
    return build_measurements(kept, profile, head["precision"])


def some(readings: ColocatedMeasurements, groups: Iterable[int]) -> ColocatedMeasurements:
    """Return the readings of some groups."""
    found = readings.take(groups)
    assert found is not None  # noqa: S101
    return found


def cases() -> list[tuple[str, Profile, ColocatedMeasurements]]:
    """Return what is judged: its name, the profile that predicts it, and the readings."""
    h200 = ig.read_profile("h200")
    day = of_log("h200-second.jsonl", h200).side_by_side()
    groups = sorted(set(day.group))
    own, new = ig.read_profile(RECORDINGS / "h200-own.json"), profile_of_log(RECORDINGS / "h200-new.jsonl", "h200-new")
    grid = new.model_copy(update={"solo_measurements": None, "colocated_measurements": None})
    four = of_log("h200-new-colocated.jsonl", new).side_by_side()
    again = profile_of_log(RECORDINGS / "h200-new-second.jsonl", "h200-new")
    return [
        ("h200, random", h200, some(day, groups[:RANDOM_GROUPS])),
        ("h200, solved cards", h200, some(day, groups[RANDOM_GROUPS:])),
        ("two new models, grid only", own, read_measurements(RECORDINGS / "h200-own-colocated.json").side_by_side()),
        ("four new models, grid only", grid, four),
        ("four new models", new, four),
        ("four new models, another profile", again, four),
    ]


def row(name: str, card: Profile, side: ColocatedMeasurements) -> str:
    """One row: errors relative to what was measured, and how often the margins held."""
    predicted = predict_readings(fit_coefficients(card), side)
    error = predicted.predicted_ms / predicted.measured_ms - 1.0
    size = 100 * np.abs(error)
    figures = [size.mean(), np.quantile(size, 0.9), size.max(), 100 * error.mean()]
    margins = ["-", "-"]
    if card.calibration is not None:
        margins = [f"{100 * covered(card, side, predicted, level):.1f} %" for level in (0.9, 0.99)]
    cells = [str(len(side.members())), str(len(side.model)), *(f"{cell:.2f} %" for cell in figures)]
    return f"| {name} | " + " | ".join([*cells, *margins]) + " |"


def main() -> None:
    """Write the table."""
    table = [HEAD, "|" + " --- |" * (HEAD.count(" | ") + 1)]
    table += [row(*case) for case in cases()]
    text = header("`refined` coefficients against fresh readings") + "\n" + "\n".join(table) + "\n"
    write("fresh", text)


if __name__ == "__main__":
    main()
