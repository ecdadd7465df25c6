"""The refined coefficients: fitted to every measurement in a profile, linear in a GPU's aggregates like the faithful.

For a placement with batch b, share r, active time k(b, r) (`surface`), throughput h = 1000 b / k and K kernels::

    power            p = ap h + bp + dp r
    contention       c = ac h + bc,  d = at h + bt                    (two latent kinds, "cache" and "traffic")
                     c = U(b) k(b, 100) / k                           (one kind, counted: see `utilisation`)
    active time      k + (γ k + κ K + ω k(b, 100)) (C - c) + (γ' k + κ' K + ω' k(b, 100)) (D - d)
    GPU latency      (s + K Δ(n) + active time) / φ(P)

Beside what `physics.interference` says of the faithful ones: the surface is measured, not a formula, and a victim's
slow-down has parts that do not shrink with its share. All weights are non-negative and k never grows with r, so that
the model is monotone (`interference.is_monotone`); with b it may fall (`surface`).

*Counted or latent contention.* Where L2 and DRAM utilisation are counted they say what a neighbour causes, and only
what a victim suffers is fitted: models and pairs that never met are predicted well. Without DRAM counters (the V100)
what is caused has to be fitted, too. One kind makes the slow-down a product of what a neighbour causes and what the
victim suffers, which the V100 contradicts: every pair of four models was measured, and who suffers most depends on the
neighbour. With two kinds a model pair that was left out of the fit is predicted several times as well
(bench/accuracy). These are latent: the fit only knows their effect, so they have no unit and their names no more
meaning than first and second.

*What is fitted depends on what the profile holds*, so that any profile will do:

- always: the surface, from the solo grid and `solo_measurements` (where a model has as many of these as its grid has
  points, the grid was measured apart, and counts less);
- if every model of the profile has `FEWEST_READINGS` (`enough`) or more in `colocated_measurements`: power, the clock
  line and contention, by non-linear least squares of relative errors together with the solo grid's power readings and
  clocks, the coexecution run's clocks, and the interference probes whose batch and share are given; and the surface
  again, with what these latencies say of the active time once their slow-down is taken off;
- else power and clock are the faithful ones, and so is contention unless it is counted: then the probes say what a
  victim suffers (`utilisation`).

Everything is deterministic. The model is evaluated on precomputed features here; `tests/fitting/test_refined.py` holds
it to what `physics.interference` says of the outcome.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares, nnls

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.data.measurements import ColocatedMeasurements, check_models
from igniter_opt.data.profile import Profile
from igniter_opt.fitting.enough import fits_contention
from igniter_opt.fitting.solo_surfaces import NOISE, Points, fit_surfaces, grid_points
from igniter_opt.fitting.utilisation import WHOLE_PART, counted, fit_utilisation, sensitivities
from igniter_opt.physics.curves import ActiveSurface
from igniter_opt.physics.interference import added_delay
from igniter_opt.physics.parameters import Coefficients, HardwareCoefficients, RefinedTerms
from igniter_opt.physics.rows import at_rate, clocks_above_cap, throughput_rps

# What a reading side by side says of the active time alone is uncertain by this fraction of the slow-down, too.
_SLOWDOWN_NOISE = 0.1
# Weights against 1 % of a latency: 10 W of power, a third of a percent of clock and of a probe's slow-down.
_POWER_WEIGHT, _CLOCK_WEIGHT, _PROBE_WEIGHT = 0.1, 300.0, 300.0
# Weak pulls to the starting values: of all (logarithmic) weights; of the clock line's slope (logarithmic) and cap (W).
_RIDGE, _SLOPE_RIDGE, _CAP_RIDGE = 0.1, 3.0, 0.1
# Scales of the weights: power (W), percent of share, ms per kernel.
_POWER_SCALE, _CONSTANT_SCALE, _KERNEL_SCALE = 100.0, 20.0, 0.02
# Delay suffered for a percent of utilisation, and the least that such a weight begins with.
_PER_PERCENT, _LEAST_START = 0.01, 0.01
_START, _POWER_START, _ASYMMETRY = -1.5, -1.0, 0.5
_PASSES = 3


def refine(profile: Profile, faithful: Coefficients, kinds: int = 2) -> Coefficients:
    """Fit the refined coefficients of a profile, beginning with its faithful ones.

    `kinds` of contention may be 1, which is there to be compared with (bench/accuracy).

    Raises
    ------
    InputError
        A measured latency is shorter than its transfers and scheduling delay, or of a model that the profile lacks.
    """
    for name, block in (
        ("solo_measurements", profile.solo_measurements),
        ("colocated_measurements", profile.colocated_measurements),
    ):
        if block is not None:
            check_models(block, profile.models, f"profile {profile.name}: {name}")
    surfaces = fit_surfaces(profile, faithful)
    readings = profile.colocated_measurements
    begin = by_probes(profile, faithful, surfaces)
    if readings is None or not fits_contention(profile):
        return begin
    found, theta = begin, None
    for _ in range(_PASSES):
        fit = _Fit(profile, begin, surfaces, readings, kinds)
        theta = fit.solve(theta)
        found = fit.coefficients(theta)
        # Contention and clock have just been fitted, so that latencies side by side say something of those alone.
        surfaces = fit_surfaces(profile, found, fit.implied(theta))
    return _with_surfaces(found, surfaces)


def _with_surfaces(known: Coefficients, surfaces: dict[str, ActiveSurface]) -> Coefficients:
    models = {}
    for name, model in known.models.items():
        terms = model.refined or RefinedTerms(surfaces[name])
        models[name] = replace(model, refined=replace(terms, surface=surfaces[name]))
    return Coefficients(known.profile_name, known.hardware, models)


def by_probes(
    profile: Profile, faithful: Coefficients, surfaces: dict[str, ActiveSurface], whole_part: float = WHOLE_PART
) -> Coefficients:
    """Contention by counters and probes (see `utilisation`) where the profile has them; else the faithful one.

    `whole_part` may be another than the usual one, which is there to be compared with (bench/accuracy/cards.py).
    """
    known = _with_surfaces(faithful, surfaces)
    if not counted(profile.models):
        return known
    used = {name: fit_utilisation(profile.models[name], surface) for name, surface in surfaces.items()}
    probes = [model.interference_probe for model in profile.models.values()]
    top = faithful.hardware.max_frequency_mhz
    gamma = sensitivities(probes, list(surfaces.values()), list(used.values()), top, whole_part).tolist()
    models = {}
    for (name, model), per_unit in zip(known.models.items(), gamma, strict=True):
        slope, intercept = model.power_slope, model.power_intercept
        if min(slope, intercept) < 0:
            slope, intercept = _power_line(profile, name, faithful.hardware)
        models[name] = replace(
            model,
            power_slope=slope,
            power_intercept=intercept,
            cache_slope=0.0,
            cache_intercept=0.0,
            cache_sensitivity=per_unit * (1.0 - whole_part),
            refined=RefinedTerms(surfaces[name], utilisation=used[name], cache_whole=per_unit * whole_part),
        )
    return Coefficients(known.profile_name, known.hardware, models)


def _power_line(profile: Profile, name: str, hardware: HardwareCoefficients) -> tuple[float, float]:
    """Power over throughput below the cap, neither slope nor intercept negative (least squares)."""
    grid = profile.models[name].solo_grid
    batch, _, active = grid_points(profile.models[name], hardware)
    free = np.array(grid.frequency_mhz).ravel() > hardware.max_frequency_mhz - 1
    power = np.maximum(0.0, np.array(grid.power_w).ravel() - hardware.idle_power_w)
    rate = throughput_rps(batch, active)
    scale = rate.max()
    slope, intercept = nnls(np.column_stack([rate / scale, np.ones_like(rate)])[free], power[free])[0].tolist()
    return slope / float(scale), intercept


# ---- power, clock and contention --------------------------------------------------------------------------


class _Features(NamedTuple):
    """Placements as features; arrays of shape (placements,).

    `relative` is the throughput over the model's largest on its solo grid, `demand` the contention caused by counters.
    """

    model: IntArray
    share: FloatArray
    active: FloatArray
    relative: FloatArray
    kernels: FloatArray
    whole: FloatArray
    demand: FloatArray


class _Weights(NamedTuple):
    """Unpacked parameters: power (3, models), contention caused (2, 2, models) and suffered (2, 3, models), card."""

    power: FloatArray
    caused: FloatArray
    suffered: FloatArray
    slope: float
    cap_w: float


class _Fit:
    """The least-squares problem; parameters are logarithms of weights, and the clock line's slope and cap."""

    def __init__(
        self,
        profile: Profile,
        begin: Coefficients,
        surfaces: dict[str, ActiveSurface],
        readings: ColocatedMeasurements,
        kinds: int,
    ) -> None:
        self.kinds = kinds
        self.begin = begin
        self.surfaces = list(surfaces.values())
        self.utilisations = (
            [fit_utilisation(profile.models[name], surface) for name, surface in surfaces.items()]
            if counted(profile.models)
            else []
        )
        self.names = list(begin.models)
        self.count = len(self.names)
        models = [begin.models[name] for name in self.names]
        hardware = self.hardware = begin.hardware
        self.kernels = np.array([model.kernels for model in models])
        grids = [grid_points(profile.models[name], hardware) for name in self.names]
        self.most_rps = np.array([throughput_rps(batch, active).max() for batch, _, active in grids])
        # Side by side.
        position = {name: k for k, name in enumerate(self.names)}
        model = np.array([position[name] for name in readings.model])
        batch, share = np.array(readings.batch, dtype=float), np.array(readings.share_percent)
        self.batch = batch
        self.group = np.unique(readings.group, return_inverse=True)[1]
        self.placed = self._features(model, batch, share)
        self.latency = np.array(readings.latency_ms)
        per_byte = np.array([(entry.input_bytes + entry.output_bytes) for entry in models]) / hardware.pcie_bytes_per_ms
        self.transfer = batch * per_byte[model]
        size = np.bincount(self.group)
        added = added_delay(hardware, size)
        delay = np.array([entry.scheduling_delay_ms for entry in models])
        self.scheduled = delay[model] + self.kernels[model] * added[self.group]
        self._hardware_readings(profile, grids)

    def _hardware_readings(self, profile: Profile, grids: list[tuple[FloatArray, FloatArray, FloatArray]]) -> None:
        """Solo power and clocks, probes, and the coexecution run's clocks."""
        top = self.hardware.max_frequency_mhz
        model = np.concatenate([np.full(len(points[0]), k) for k, points in enumerate(grids)])
        batch, share, active = (np.concatenate([points[axis] for points in grids]) for axis in range(3))
        self.alone = self._features(model, batch, share)._replace(
            active=active, relative=throughput_rps(batch, active) / self.most_rps[model]
        )
        solo = [profile.models[name].solo_grid for name in self.names]
        clock = np.concatenate([np.array(grid.frequency_mhz).ravel() for grid in solo])
        self.alone_clock = np.minimum(1.0, clock / top)
        self.alone_power = (
            np.concatenate([np.array(grid.power_w).ravel() for grid in solo]) - self.hardware.idle_power_w
        )
        self.uncapped = clock > top - 1
        probes = [(k, profile.models[name].interference_probe) for k, name in enumerate(self.names)]
        known = [
            (k, p, p.batch, p.share_percent) for k, p in probes if p.batch is not None and p.share_percent is not None
        ]
        self.probed = self._features(
            np.array([k for k, *_ in known], dtype=np.int64),
            np.array([b for _, _, b, _ in known], dtype=float),
            np.array([r for *_, r in known], dtype=float),
        )
        self.probe_clock = np.minimum(1.0, np.array([p.frequency_paired_mhz for _, p, *_ in known]) / top)
        times = np.array([(p.active_time_alone_ms, p.active_time_paired_ms) for _, p, *_ in known]).reshape(-1, 2)
        self.slowdown = np.maximum(times[:, 1] * self.probe_clock / times[:, 0] - 1.0, 0.0)
        run = profile.hardware.coexecution
        self.run_clock = np.minimum(1.0, np.array(run.frequency_mhz) / top)
        self.run_power: FloatArray = uncapped_power(np.array(run.power_w), self.run_clock, self.hardware.idle_power_w)

    def _features(self, model: IntArray, batch: FloatArray, share: FloatArray) -> _Features:
        active, whole = np.ones(len(model)), np.ones(len(model))
        for k, surface in enumerate(self.surfaces):
            here = model == k
            active[here] = surface.at(batch[here], share[here])
            whole[here] = surface.at(batch[here], 100.0)
        relative = throughput_rps(batch, active) / self.most_rps[model]
        demand = np.zeros(len(model))
        for k, utilisation in enumerate(self.utilisations):
            here = model == k
            demand[here] = utilisation.at(batch[here]) * whole[here] / active[here]
        return _Features(model, share, active, relative, self.kernels[model], whole, demand)

    # The model on features.

    def unpack(self, theta: FloatArray) -> _Weights:
        """Take parameters apart."""
        weights = np.exp(np.minimum(theta[:-2], 30.0)).reshape(13, self.count)
        slope = self.hardware.frequency_slope / self.hardware.max_frequency_mhz * np.exp(min(theta[-2], 3.0))
        if self.kinds == 1 or self.utilisations:
            weights[5:7] = weights[10:] = 0.0
        if self.utilisations:
            weights[3:5] = 0.0
            weights[7:10] *= _PER_PERCENT
        return _Weights(
            weights[:3],
            weights[3:7].reshape(2, 2, -1),
            weights[7:].reshape(2, 3, -1),
            float(slope),
            float(self.hardware.max_power_w + theta[-1]),
        )

    @staticmethod
    def power(weights: _Weights, at: _Features) -> FloatArray:
        """Power drawn in W."""
        high, constant, per_share = weights.power[:, at.model]
        return np.asarray(at_rate(_POWER_SCALE * high, at.relative, _CONSTANT_SCALE * constant) + per_share * at.share)

    @staticmethod
    def caused(weights: _Weights, at: _Features) -> FloatArray:
        """Contention caused, shape (2, placements)."""
        constant, high = weights.caused[:, :, at.model].transpose(1, 0, 2)
        latent = np.asarray(at_rate(high, at.relative, constant))
        latent[0] += at.demand
        return latent

    @staticmethod
    def suffered(weights: _Weights, at: _Features) -> FloatArray:
        """Delay in ms per unit of contention, shape (2, placements)."""
        active, kernel, whole = weights.suffered[:, :, at.model].transpose(1, 0, 2)
        return np.asarray(active * at.active + _KERNEL_SCALE * kernel * at.kernels + whole * at.whole)

    @staticmethod
    def ratio(weights: _Weights, power: FloatArray) -> FloatArray:
        """Relative clock; not let below a tenth, so that residuals stay finite on the way."""
        return np.maximum(0.1, clocks_above_cap(weights.slope, power - weights.cap_w))

    def others(self, own: FloatArray) -> FloatArray:
        """What the others of each reading's group have together."""
        return np.asarray(np.bincount(self.group, own)[self.group] - own)

    def clock(self, weights: _Weights) -> FloatArray:
        """Relative clock of each reading."""
        drawn = self.power(weights, self.placed)
        return self.ratio(weights, self.hardware.idle_power_w + self.others(drawn) + drawn)

    def predicted(self, weights: _Weights) -> FloatArray:
        """Latencies in ms of all readings side by side."""
        delayed = self.placed.active.copy()
        for own, per_unit in zip(self.caused(weights, self.placed), self.suffered(weights, self.placed), strict=True):
            delayed += per_unit * self.others(own)
        return np.asarray(self.transfer + (self.scheduled + delayed) / self.clock(weights))

    def implied(self, theta: FloatArray) -> dict[str, Points]:
        """Active times alone that the readings side by side imply, their slow-down taken off; by model."""
        weights, at = self.unpack(theta), self.placed
        gpu = (self.latency - self.transfer) * self.clock(weights) - self.scheduled
        constant, slower = np.zeros(len(gpu)), np.ones(len(gpu))
        for own, (active, kernel, whole) in zip(self.caused(weights, at), weights.suffered, strict=True):
            others = self.others(own)
            constant += others * (_KERNEL_SCALE * kernel[at.model] * at.kernels + whole[at.model] * at.whole)
            slower += others * active[at.model]
        # A slow-down far off must not leave nothing.
        found = np.maximum((gpu - constant) / slower, np.minimum(at.active, gpu) / 2.0)
        noise = NOISE + _SLOWDOWN_NOISE * np.maximum(0.0, gpu / found - 1.0)
        usable = gpu > 0
        points = Points(self.batch, at.share, found, noise)
        return {
            name: Points(*(column[usable & (at.model == k)] for column in points)) for k, name in enumerate(self.names)
        }

    def residuals(self, theta: FloatArray) -> FloatArray:
        """Everything that is to be small, in units of 1 % of a latency."""
        weights, idle = self.unpack(theta), self.hardware.idle_power_w
        alone = self.power(weights, self.alone)
        pair: FloatArray = idle + 2.0 * self.power(weights, self.probed)
        slowdown = (self.caused(weights, self.probed) * self.suffered(weights, self.probed)).sum(axis=0)
        pull = _RIDGE * (theta[:-2] - self.start(0)[:-2])
        return np.concatenate(
            [
                100.0 * (self.predicted(weights) / self.latency - 1.0),
                _POWER_WEIGHT * (alone - self.alone_power)[self.uncapped],
                _CLOCK_WEIGHT * (self.ratio(weights, idle + alone) / self.alone_clock - 1.0),
                _CLOCK_WEIGHT * (self.ratio(weights, pair) / self.probe_clock - 1.0),
                _CLOCK_WEIGHT * (self.ratio(weights, self.run_power) / self.run_clock - 1.0),
                _PROBE_WEIGHT * (slowdown / self.probed.active - self.slowdown),
                pull,
                [_SLOPE_RIDGE * theta[-2], _CAP_RIDGE * theta[-1]],
            ]
        )

    def start(self, turn: int) -> FloatArray:
        """Starting values; the two kinds of contention begin with opposite preferences for models."""
        theta = np.full((13, self.count), _START)
        theta[:3] = _POWER_START
        # Any pattern will do that treats no two models alike.
        lean = _ASYMMETRY * np.cos(2.4 * np.arange(self.count) + 1.3 * turn)
        theta[3:5] += lean
        theta[5:7] -= lean
        theta[7:10] -= lean
        theta[10:] += lean
        if self.utilisations:
            known = self.begin.models.values()
            theta[7] = [model.cache_sensitivity for model in known]
            theta[9] = [0.0 if model.refined is None else model.refined.cache_whole for model in known]
            theta[[7, 9]] = np.log(np.maximum(theta[[7, 9]] / _PER_PERCENT, _LEAST_START))
            theta[8] = _START
        return np.concatenate([theta.ravel(), [0.0, 0.0]])

    def solve(self, theta: FloatArray | None) -> FloatArray:
        """Least-squares solution, from two starts unless one is given."""
        starts = [self.start(0), self.start(1)] if theta is None else [theta]
        found = [least_squares(self.residuals, start, ftol=1e-7, xtol=1e-7, max_nfev=80) for start in starts]
        return np.asarray(min(found, key=lambda outcome: float(outcome.cost)).x)

    def coefficients(self, theta: FloatArray) -> Coefficients:
        """The outcome as coefficients."""
        weights = self.unpack(theta)
        models = {}
        for k, (name, model) in enumerate(self.begin.models.items()):
            most = float(self.most_rps[k])
            high, constant, per_share = weights.power[:, k].tolist()
            (cache_constant, cache_high), (traffic_constant, traffic_high) = weights.caused[:, :, k].tolist()
            (cache_active, cache_kernel, cache_whole), (active, kernel, whole) = weights.suffered[:, :, k].tolist()
            models[name] = replace(
                model,
                power_slope=_POWER_SCALE * high / most,
                power_intercept=_CONSTANT_SCALE * constant,
                cache_slope=cache_high / most,
                cache_intercept=cache_constant,
                cache_sensitivity=cache_active,
                refined=RefinedTerms(
                    surface=self.surfaces[k],
                    utilisation=self.utilisations[k] if self.utilisations else None,
                    power_per_share=per_share,
                    traffic_slope=traffic_high / most,
                    traffic_intercept=traffic_constant,
                    cache_kernel_ms=_KERNEL_SCALE * cache_kernel,
                    cache_whole=cache_whole,
                    traffic_sensitivity=active,
                    traffic_kernel_ms=_KERNEL_SCALE * kernel,
                    traffic_whole=whole,
                ),
            )
        slope = weights.slope * self.hardware.max_frequency_mhz
        hardware = replace(self.hardware, frequency_slope=slope, max_power_w=weights.cap_w)
        return Coefficients(self.begin.profile_name, hardware, models)


def uncapped_power(power_w: FloatArray, clock: FloatArray, idle_power_w: float) -> FloatArray:
    """What n = 1, 2, ... identical processes would draw uncapped: the mean step before the clock falls, continued."""
    below = np.flatnonzero(clock < 1.0)
    if below.size == 0:
        return power_w
    first = int(below[0])
    step = power_w[0] - idle_power_w if first <= 1 else float(np.diff(power_w[:first]).mean())
    start = power_w[first - 1] if first > 0 else idle_power_w
    return np.asarray(np.concatenate([power_w[:first], start + step * np.arange(1, len(power_w) - first + 1)]))
