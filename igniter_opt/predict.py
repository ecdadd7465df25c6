"""What-if: latency and throughput of workloads side by side on one GPU."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import Caution, InputError
from igniter_opt.base.files import StrPath
from igniter_opt.base.schema import checked_number, describe
from igniter_opt.data.profile import Profile, as_profile
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.interference import no_active_time, placement_terms, predict_many
from igniter_opt.physics.parameters import Coefficients

# What-if predictions are refused beyond this: no card holds such a batch.
_LARGEST_BATCH = 100_000


@dataclass(frozen=True)
class Prediction:
    """Prediction for one GPU; arrays in the order the placements were given.

    Attributes
    ----------
    latency_ms, gpu_latency_ms, throughput_rps
        Inference latency (loading, GPU, feedback), its GPU part, and throughput.
    frequency_mhz, power_w
        Clock of the GPU and the power its placements would draw without a cap.
    """

    latency_ms: FloatArray
    gpu_latency_ms: FloatArray
    throughput_rps: FloatArray
    frequency_mhz: float
    power_w: float


def _refuse_nonsense(coefficients: Coefficients, model: str, batch: int, share: float) -> None:
    """Raise InputError where the coefficients give no active time."""
    if np.isfinite(placement_terms(coefficients, coefficients.index(model), batch, share).active_ms):
        return
    raise InputError(
        f"predict: {model}, batch {batch}, share {share:g} %: {no_active_time(coefficients, model)}; give it a larger"
        " share, or use coefficients `refined`, which have no pole"
    )


def _caution(card: Profile, model: str, batch: float, share: float) -> None:
    """Warn of what nobody measured, or the card does not grant."""
    unit, largest = card.hardware.share_unit_percent, card.models[model].max_batch
    least = card.hardware.least_share_percent or unit
    found = []
    if batch > largest:
        found.append(f"{model} was profiled up to batch {largest}; batch {batch:g} is extrapolated")
    if abs(share / unit - round(share / unit)) > 1e-6:
        found.append(f"{share:g} % is no multiple of the share unit {unit:g} %; the card grants such only")
    if share < least - 1e-6:
        meant = f" (shares are in percent; {100 * share:g} is {100 * share:g} %)" if share <= 1 else ""
        found.append(f"the card grants no share below {least:g} %; {share:g} % would be raised to it{meant}")
    for text in found:
        warnings.warn(text, Caution, stacklevel=3)


def predict(profile: Profile | StrPath, placements: Sequence[tuple[str, int, float]]) -> Prediction:
    """Predict the placements of one GPU, side by side.

    Parameters
    ----------
    profile
        The card's profile, or the name or path of it.
    placements
        ``(model, batch, share in percent)`` each; shares add up to 100 at most.

    Raises
    ------
    InputError
        Unknown model, no placement, a batch or share out of range, or more than 100 percent in total. A `Caution`
        warns of shares below the card's least and batches beyond those measured.
    """
    card = as_profile(profile)
    coefficients = fit_coefficients(card)
    if not isinstance(placements, Sequence) or not placements:
        raise InputError("predict: give a list of at least one placement (model, batch, share)")
    for entry in placements:
        if not isinstance(entry, Sequence) or isinstance(entry, str) or len(entry) != 3:
            raise InputError(f"predict: a placement is (model, batch, share); found {describe(entry)}")
        model, batch, share = entry
        coefficients.index(model)
        checked_number(f"predict: {model}: batch", batch)
        checked_number(f"predict: {model}: share", share)
        if not 1 <= batch <= _LARGEST_BATCH or int(batch) != batch:
            raise InputError(f"predict: {model}: batch must be a whole number in 1..{_LARGEST_BATCH}; found {batch!r}")
        if not 0 < share <= 100:
            raise InputError(f"predict: {model}: share must be in (0, 100] percent; found {share!r}")
        _caution(card, model, batch, share)
    total = sum(share for _, _, share in placements)
    if total > 100 * (1 + 1e-9):
        raise InputError(f"predict: the shares add up to {total:g} %, more than 100 %")
    for placement in placements:
        _refuse_nonsense(coefficients, *placement)
    index = np.array([[coefficients.index(model) for model, _, _ in placements]])
    batches = np.array([[batch for _, batch, _ in placements]], dtype=float)
    shares = np.array([[share for _, _, share in placements]], dtype=float)
    result = predict_many(coefficients, index, batches, shares)
    ratio = max(0.0, float(result.clock_ratio[0]))
    return Prediction(
        latency_ms=result.latency_ms[0],
        gpu_latency_ms=result.gpu_latency_ms[0],
        throughput_rps=result.throughput_rps[0],
        frequency_mhz=ratio * coefficients.hardware.max_frequency_mhz,
        power_w=float(result.power_w[0]),
    )


def prediction_data(
    card: Profile, placements: Sequence[tuple[str, int, float]], prediction: Prediction
) -> dict[str, Any]:
    """Return a prediction as plain data (the form of ``predict --json``)."""
    rows = [
        {
            "model": model,
            "batch": batch,
            "share_percent": share,
            "latency_ms": float(prediction.latency_ms[k]),
            "throughput_rps": float(prediction.throughput_rps[k]),
        }
        for k, (model, batch, share) in enumerate(placements)
    ]
    return {
        "coefficients": card.coefficients,
        "placements": rows,
        "frequency_mhz": prediction.frequency_mhz,
        "power_w": prediction.power_w,
    }
