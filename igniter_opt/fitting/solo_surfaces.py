"""Active times of models alone: everything that a profile's measurements say of them, and the surfaces fitted to it."""

from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.data.profile import ModelProfile, Profile
from igniter_opt.fitting.surface import fit_surface
from igniter_opt.physics.curves import ActiveSurface
from igniter_opt.physics.parameters import Coefficients, HardwareCoefficients, ModelCoefficients
from igniter_opt.physics.rows import clocks_above_cap, of_batch

# Relative standard deviations: of a measurement, and of the solo grid beside `solo_measurements`.
NOISE, _GRID_NOISE = 0.01, 0.03


def _clock_ratio(hardware: HardwareCoefficients, power: FloatArray) -> FloatArray:
    slope = hardware.frequency_slope / hardware.max_frequency_mhz
    return clocks_above_cap(slope, power - hardware.max_power_w)


def _power(model: ModelCoefficients, batch: FloatArray, share: FloatArray, active: FloatArray) -> FloatArray:
    per_share = 0.0 if model.refined is None else model.refined.power_per_share
    return np.asarray(of_batch(model.power_slope, batch, active, model.power_intercept) + per_share * share)


class Points(NamedTuple):
    """Active times (ms) at batches and shares, and their relative standard deviations; shape (points,)."""

    batch: FloatArray
    share: FloatArray
    active_ms: FloatArray
    noise: FloatArray

    def merged(self) -> "Points":
        """Points of equal batch and share as one: the mean of their logarithms, each as much as it is certain."""
        places, at = np.unique(np.stack([self.batch, self.share]), axis=1, return_inverse=True)
        certainty = np.bincount(at.ravel(), self.noise**-2.0)
        mean = np.bincount(at.ravel(), np.log(self.active_ms) * self.noise**-2.0) / certainty
        return Points(places[0], places[1], np.exp(mean), np.asarray(certainty**-0.5, dtype=np.float64))


def fit_surfaces(
    profile: Profile, known: Coefficients, implied: dict[str, Points] | None = None
) -> dict[str, ActiveSurface]:
    """Fit the surface of every model.

    Parameters
    ----------
    known
        Coefficients that say the clock of measurements alone.
    implied
        What measurements side by side say of active times alone, by model.

    Raises
    ------
    InputError
        A latency is no longer than its transfers and scheduling delay.
    """
    return {
        name: _surface(profile, name, model, known, None if implied is None else implied[name])
        for name, model in profile.models.items()
    }


def _surface(
    profile: Profile, name: str, model: ModelProfile, known: Coefficients, implied: Points | None
) -> ActiveSurface:
    batch, share, active = grid_points(model, known.hardware)
    noise = np.full(len(batch), NOISE)
    readings = profile.solo_measurements
    at = [] if readings is None else [k for k, entry in enumerate(readings.model) if entry == name]
    if readings is not None and at:
        extra = [np.array(column, dtype=float)[at] for column in (readings.batch, readings.share_percent)]
        latency = np.array(readings.latency_ms)[at]
        found = _active_alone(name, known, extra[0], extra[1], latency)
        # As many were measured apart from the grid; fewer are likely to be of its session.
        if len(at) >= len(batch):
            noise = np.full(len(batch), _GRID_NOISE)
        batch, share = np.concatenate([batch, extra[0]]), np.concatenate([share, extra[1]])
        active, noise = np.concatenate([active, found]), np.concatenate([noise, np.full(len(at), NOISE)])
    points = Points(batch, share, active, noise)
    if implied is not None:
        points = Points(*(np.concatenate(columns) for columns in zip(points, implied.merged(), strict=True)))
    return fit_surface(*points)


def grid_points(model: ModelProfile, hardware: HardwareCoefficients) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Batch, share and active time (ms, at the highest clock) of a model's solo grid; shapes (points,)."""
    grid = model.solo_grid
    batch, share = (
        np.asarray(axis, dtype=float).ravel() for axis in np.meshgrid(grid.batch, grid.share_percent, indexing="ij")
    )
    clock = np.minimum(1.0, np.array(grid.frequency_mhz).ravel() / hardware.max_frequency_mhz)
    active = np.array(grid.gpu_latency_ms).ravel() * clock - model.scheduling_delay_ms
    if np.any(active <= 0):
        raise InputError("solo_grid: a gpu_latency_ms is no longer than scheduling_delay_ms")
    return batch, share, active


def _active_alone(
    name: str, known: Coefficients, batch: FloatArray, share: FloatArray, latency: FloatArray
) -> FloatArray:
    """Active time (ms, at the highest clock) in inference latencies alone; the clock follows from the power drawn."""
    model, hardware = known.models[name], known.hardware
    gpu = latency - batch * (model.input_bytes + model.output_bytes) / hardware.pcie_bytes_per_ms
    active = gpu - model.scheduling_delay_ms
    if np.any(active <= 0):
        at = int(np.argmin(active))
        raise InputError(
            f"solo_measurements: {name}, batch {batch[at]:g}, share {share[at]:g}: latency_ms {latency[at]:g} is"
            " no longer than transfers and scheduling delay"
        )
    for _ in range(30):
        ratio = _clock_ratio(hardware, hardware.idle_power_w + _power(model, batch, share, active))
        active = np.maximum(gpu * np.maximum(ratio, 0.1) - model.scheduling_delay_ms, 1e-3 * gpu)
    return active
