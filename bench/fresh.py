"""Shipped coefficients against readings that were taken after they were fitted.

Run: python -m bench.fresh

The H200's (`recordings/h200-fresh.json`) are of random groups of its shipped profile's models, drawn by
`igniter-opt profile colocate h200 --pairs 30 --larger 20 --crowded 30 --seed 20261129`. The others are of two models
that no shipped profile has, profiled and measured as a new user would: `igniter-opt profile measure -o h200-own.json
--models rn18=torchvision.models:resnet18@3x224x224f,mnet=torchvision.models:mobilenet_v2@3x224x224f --precision tf32`
and `igniter-opt profile colocate h200-own.json -o h200-own-colocated.json --pairs 12 --larger 4 --seed 3`.
"""

from pathlib import Path

import numpy as np

import igniter_opt as ig
from bench.provenance import header, write
from igniter_opt.data.measurement_files import read_measurements
from igniter_opt.data.profile import COEFFICIENT_SETS
from igniter_opt.fitting.calibration import predict_readings
from igniter_opt.fitting.coefficients import fit_coefficients

RECORDINGS = Path(__file__).parent / "recordings"
READINGS = {"h200": "h200-fresh.json", str(RECORDINGS / "h200-own.json"): "h200-own-colocated.json"}
HEAD = "| profile | coefficients | groups | readings | mean | P90 | worst | bias | within 0.9 | within 0.99 |"


def rows(profile: str, readings: str) -> list[str]:
    """One row for each coefficient set: errors relative to what was measured, and how often the margins held."""
    side = read_measurements(RECORDINGS / readings).side_by_side()
    found = []
    for name in COEFFICIENT_SETS:
        card = ig.read_profile(profile, coefficients=name)
        predicted = predict_readings(fit_coefficients(card), side)
        error = predicted.predicted_ms / predicted.measured_ms - 1.0
        size = 100 * np.abs(error)
        figures = [size.mean(), np.quantile(size, 0.9), size.max(), 100 * error.mean()]
        margins = ["-", "-"]
        if card.calibration is not None:
            margins = [f"{100 * np.mean(predicted.error <= card.margin_at(level)):.1f} %" for level in (0.9, 0.99)]
        cells = [f"`{name}`", str(len(side.members())), str(len(side.model)), *(f"{cell:.2f} %" for cell in figures)]
        found.append(f"| {Path(profile).stem} | " + " | ".join([*cells, *margins]) + " |")
    return found


def main() -> None:
    """Write the table."""
    table = [HEAD, "|" + " --- |" * HEAD.count(" | ") + " --- |"]
    for profile, readings in READINGS.items():
        table += rows(profile, readings)
    text = header("Shipped coefficients against fresh readings") + "\n" + "\n".join(table) + "\n"
    write("fresh", text)


if __name__ == "__main__":
    main()
