"""From raw measurements to a profile."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from igniter_opt.base.errors import InputError
from igniter_opt.data.profile import Profile, profile_from_data
from igniter_opt.profiler.record import Log
from igniter_opt.profiler.session import MOST_COEXECUTED, granted_least, granted_shares, granted_step, relative_error

# Clocks are read in steps; a mean this little below the highest was at the highest.
_CLOCK_NOISE = 0.005
_DIGITS = 6


def build_profile(
    log: Log, name: str, models: Sequence[str], batches: Sequence[int], shares: Sequence[float]
) -> Profile:
    """Put a profile together from a complete log.

    Parameters
    ----------
    models
        Their texts as given to `catalogue.find_model`; in the profile they have their names.
    batches, shares
        The grid; shares in percent are replaced by those that were granted.

    Raises
    ------
    InputError
        Measurements are missing.
    """
    try:
        data = _profile(log, name, models, batches, shares)
    except KeyError as error:
        raise InputError(f"the measurement {error.args[0]!r} is missing; measure it with --resume") from None
    return profile_from_data(data, f"profile {name}", name)


def _profile(
    log: Log, name: str, models: Sequence[str], batches: Sequence[int], shares: Sequence[float]
) -> dict[str, Any]:
    card = log["card"]
    step, least, count = granted_step(card), granted_least(card), int(card["sm_count"])
    granted = granted_shares(shares, count, step, least)
    solo = {
        (model, batch, sms): log[f"solo {model} {batch} {sms}"]
        for model in models
        for batch in batches
        for sms in granted
    }
    for (model, batch, sms), entry in solo.items():
        if not np.isfinite(relative_error(entry["readings"][0])):
            raise InputError(f"'solo {model} {batch} {sms}' is one batch only; measure it again with --resume")
    top = max(entry["frequency_mhz"] for entry in solo.values())
    together = [log[f"coexecution {n}"] for n in range(1, MOST_COEXECUTED + 1)]
    kernels = log[f"facts {together[0]['jobs'][0]['model']}"]["kernels"]
    return {
        "name": name,
        "source": f"Measured by igniter-opt on one {card['name']}.",
        # iGniter's formulas were made for the V100; on newer cards they are far off (docs/benchmarks.md, Accuracy).
        "coefficients": "refined",
        "provenance": {
            "driver": card["driver"],
            "framework": card["framework"],
            "precision": log["precision"] if "precision" in log else None,
            "date": log.entries.get("date"),
            "note": "CUDA graphs under MPS; latency from handing a batch to the GPU to having its answer, copies left"
            " out; scheduling delay is the part of it outside the GPU's own events, per kernel in the co-execution run",
        },
        "hardware": {
            "gpu": card["name"],
            "sm_count": count,
            "max_frequency_mhz": round(top, 3),
            "max_power_w": card["max_power_w"],
            "idle_power_w": round(card["idle_power_w"], 3),
            "share_unit_percent": 100.0 * step / count,
            **({"least_share_percent": 100.0 * least / count} if least > step else {}),
            "pcie_bandwidth_bytes_per_ms": round(card["copy_bytes_per_ms"], 1),
            "memory_mib": card["memory_mib"],
            "coexecution": {
                "note": f"n = 1..{MOST_COEXECUTED} identical processes of {together[0]['jobs'][0]['model']}, batch 1,"
                f" {together[0]['jobs'][0]['sms']} SMs each",
                "power_w": [round(entry["power_w"], 3) for entry in together],
                "frequency_mhz": [_clock(entry["frequency_mhz"], top) for entry in together],
                "scheduling_delay_ms_per_kernel": [
                    round(max(0.0, float(np.mean([_outside(r) for r in entry["readings"]]))) / kernels, 9)
                    for entry in together
                ],
            },
        },
        "models": {model.partition("=")[0]: _model(log, model, batches, granted, count, top) for model in models},
    }


def _model(log: Log, model: str, batches: Sequence[int], granted: list[int], count: int, top: float) -> dict[str, Any]:
    facts = log[f"facts {model}"]
    shares = [_share(sms, count) for sms in granted]
    grid = [[log[f"solo {model} {batch} {sms}"] for sms in granted] for batch in batches]
    counters = log[f"counters {model}"]
    alone, paired = log[f"probe {model} 1"], log[f"probe {model} 2"]
    whole = {batch: grid[row][-1]["readings"][0] for row, batch in enumerate(batches)}
    source = model.partition("=")[2]
    return {
        **({"source": source} if source else {}),
        "kernels": facts["kernels"],
        "input_bytes": facts["input_bytes"],
        "output_bytes": facts["output_bytes"],
        "scheduling_delay_ms": round(
            float(np.median([_outside(cell["readings"][0]) for row in grid for cell in row])), 9
        ),
        "memory": {"fixed_mib": round(facts["fixed_mib"], 1), "per_item_mib": round(facts["per_item_mib"], 3)},
        "solo_grid": {
            "batch": list(batches),
            "share_percent": shares,
            "gpu_latency_ms": [[round(cell["readings"][0]["wall_ms"], _DIGITS) for cell in row] for row in grid],
            "power_w": [[round(cell["power_w"], 3) for cell in row] for row in grid],
            "frequency_mhz": [[_clock(cell["frequency_mhz"], top) for cell in row] for row in grid],
            "relative_error": [[round(relative_error(cell["readings"][0]), _DIGITS) for cell in row] for row in grid],
        },
        "l2_utilisation_percent_at": _points(counters, "l2_percent", shares[-1]),
        "dram_utilisation_percent_at": _points(counters, "dram_percent", shares[-1]),
        "interference_probe": {
            "note": f"batch {alone['jobs'][0]['batch']}, {alone['jobs'][0]['sms']} SMs, alone and beside an identical"
            " process; the utilisation is that of the neighbour, from the counters by its throughput",
            "batch": alone["jobs"][0]["batch"],
            "share_percent": _share(alone["jobs"][0]["sms"], count),
            "active_time_alone_ms": round(alone["readings"][0]["gpu_ms"], _DIGITS),
            "active_time_paired_ms": round(float(np.mean([r["gpu_ms"] for r in paired["readings"]])), _DIGITS),
            "frequency_paired_mhz": _clock(paired["frequency_mhz"], top),
            "power_paired_w": round(paired["power_w"], 3),
            "l2_utilisation_percent": round(_at_throughput(counters, whole, alone), _DIGITS),
        },
    }


def _points(counters: list[dict[str, Any]], what: str, share: float) -> list[dict[str, Any]]:
    return [{"batch": entry["batch"], "share_percent": share, "value": round(entry[what], 4)} for entry in counters]


def _at_throughput(counters: list[dict[str, Any]], whole: dict[int, Any], alone: dict[str, Any]) -> float:
    """L2 utilisation at the throughput of the probe: on the line through the counted points."""
    throughput = [1000.0 * entry["batch"] / whole[entry["batch"]]["gpu_ms"] for entry in counters]
    slope, intercept = np.polyfit(throughput, [entry["l2_percent"] for entry in counters], 1)
    reading = alone["readings"][0]
    return max(0.1, float(slope * 1000.0 * alone["jobs"][0]["batch"] / reading["gpu_ms"] + intercept))


def _share(sms: int, count: int) -> float:
    return round(100.0 * sms / count, 9)


def _clock(found: float, top: float) -> float:
    return round(top if found >= top * (1.0 - _CLOCK_NOISE) else found, 3)


def _outside(reading: dict[str, Any]) -> float:
    """Part of a batch's time outside the GPU's own events, in ms."""
    return float(reading["wall_ms"] - reading["gpu_ms"])
