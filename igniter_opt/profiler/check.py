"""Judging a profile: do its readings repeat, do they behave as latencies must, and do the coefficients fit them."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath
from igniter_opt.base.frames import frame
from igniter_opt.data.measurement_files import Measurements
from igniter_opt.data.profile import ModelProfile, Profile, as_profile
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.fitting.enough import fits_contention
from igniter_opt.physics.interference import is_monotone, placement_terms, predict_many
from igniter_opt.physics.parameters import Coefficients, HardwareCoefficients
from igniter_opt.profiler.plausible import Finding, implausible_findings, invalid_findings

if TYPE_CHECKING:
    import pandas as pd

# Thresholds of what is said about a profile. The first number of each pair is a warning, the second a fault.
REPEATABILITY = (0.01, 0.05)  # relative standard error of a mean latency
MEAN_RESIDUAL = (0.05, 0.25)  # mean |predicted / measured - 1| over the solo grid
WORST_RESIDUAL = (0.20, 1.00)  # beyond, predictions are off by a factor of two
# The probe's process alone is a point of the grid, measured at another time; relatively.
TWICE = (0.05, 0.15)
# Where it was taken, unless the profile says.
PROBE_BATCH, PROBE_SHARE = 16, 50.0
# A latency that grows with the share, or falls with the batch, by less than this is noise.
MONOTONE_NOISE = (0.01, 0.05)
# Readings of a power or cache line may deviate from it by so much, relative to the largest reading.
LINE_RESIDUAL = 0.25
# Two identical neighbours at half a card each that do not slow each other down say nothing about interference.
LEAST_SLOWDOWN = -0.01
SLOWDOWN = (1.0, 3.0)
_TINY = 1e-12


@dataclass(frozen=True)
class ModelCheck:
    """Figures of one model; residuals are relative, over the solo grid, of the profile's own coefficients.

    Attributes
    ----------
    error
        Predicted over measured GPU latency less 1; shape (batches, shares).
    repeatability
        Largest relative standard error of a mean latency; None where the profile does not say.
    slowdown
        How much longer a batch takes beside an identical process, relatively.
    """

    model: str
    points: int
    error: FloatArray
    repeatability: float | None
    slowdown: float
    planned: bool

    @property
    def mean_error(self) -> float:
        """Mean absolute residual."""
        return float(np.abs(self.error).mean())

    @property
    def worst_error(self) -> float:
        """Largest absolute residual."""
        return float(np.abs(self.error).max())


@dataclass(frozen=True)
class GroupErrors:
    """Errors of predictions for groups of one size: predicted over measured latency less 1, each placement's."""

    size: int
    errors: FloatArray

    def to_dict(self) -> dict[str, float | int]:
        """Return the summary that tables show."""
        size = np.abs(self.errors)
        return {
            "placements_side_by_side": self.size,
            "readings": len(size),
            "mean_error": float(size.mean()),
            "p90_error": float(np.quantile(size, 0.9)),
            "worst_error": float(size.max()),
            "bias": float(self.errors.mean()),
        }


@dataclass(frozen=True)
class ProfileCheck:
    """What `check_profile` found; `ok` where no finding is a fault."""

    profile: str
    models: tuple[ModelCheck, ...]
    findings: tuple[Finding, ...]
    groups: tuple[GroupErrors, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the profile can be trusted as far as its own data tell."""
        return not any(finding.level == "fault" for finding in self.findings)

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per model."""
        return frame(
            {
                "model": check.model,
                "points": check.points,
                "repeatability": check.repeatability,
                "mean_error": check.mean_error,
                "worst_error": check.worst_error,
                "slowdown": check.slowdown,
                "exact_methods": check.planned,
            }
            for check in self.models
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "profile": self.profile,
            "ok": self.ok,
            "models": self.to_frame().to_dict(orient="records"),
            "findings": [vars(finding) for finding in self.findings],
            "measurements": [group.to_dict() for group in self.groups],
        }


def check_profile(profile: Profile | StrPath, measurements: Measurements | None = None) -> ProfileCheck:
    """Judge a profile (or its name or path) by its own data, and its predictions by measurements if there are any.

    Raises
    ------
    InputError
        No coefficients fit the profile, or the measurements are of another card, precision or models.
    """
    profile = as_profile(profile).bare()
    if measurements is not None:
        measurements.check_card(profile)
    invalid = invalid_findings(profile)
    if invalid:  # nothing can be fitted to it
        return ProfileCheck(profile.name, (), tuple(invalid))
    coefficients = fit_coefficients(profile)
    models = tuple(_check_model(name, model, coefficients) for name, model in profile.models.items())
    findings = implausible_findings(profile) + _hardware_findings(profile)
    for check, model in zip(models, profile.models.values(), strict=True):
        findings += _model_findings(check, model, profile, coefficients)
    groups = () if measurements is None else _group_errors(coefficients, measurements)
    return ProfileCheck(profile.name, models, tuple(findings), groups)


def solo_errors(model: str, profile: ModelProfile, coefficients: Coefficients) -> FloatArray:
    """Predicted over measured GPU latency less 1 over a model's solo grid; shape (batches, shares).

    Raises
    ------
    InputError
        Numbers of the profile are so absurd that there is no finite prediction.
    """
    grid = profile.solo_grid
    batch, share = (axis.reshape(-1, 1) for axis in np.meshgrid(grid.batch, grid.share_percent, indexing="ij"))
    index = np.full(batch.shape, coefficients.index(model))
    with np.errstate(over="ignore", invalid="ignore"):
        found = predict_many(coefficients, index, batch, share).gpu_latency_ms
    if not np.isfinite(found).all():
        raise InputError(f"models.{model}: the latencies predicted for its own grid are not finite: numbers are absurd")
    measured = np.array(grid.gpu_latency_ms)
    return np.asarray(found.reshape(measured.shape) / measured - 1.0)


def _check_model(name: str, model: ModelProfile, coefficients: Coefficients) -> ModelCheck:
    probe = model.interference_probe
    slowdown = probe.active_time_paired_ms / probe.active_time_alone_ms - 1.0
    repeat = model.solo_grid.relative_error
    return ModelCheck(
        model=name,
        points=int(np.size(model.solo_grid.gpu_latency_ms)),
        error=solo_errors(name, model, coefficients),
        repeatability=None if repeat is None else float(np.max(repeat)),
        slowdown=float(slowdown),
        planned=is_monotone(coefficients, [name]),
    )


def _hardware_findings(profile: Profile) -> list[Finding]:
    card = profile.hardware
    found = []
    added = np.array(card.coexecution.scheduling_delay_ms_per_kernel) * np.array(card.coexecution.frequency_mhz)
    if np.polyfit(np.arange(2, len(added) + 1), added[1:], 1)[0] < 0:
        found.append(
            Finding(
                "warning",
                "hardware.coexecution",
                "the scheduling delay does not grow with the number of processes; it is taken as level",
            )
        )
    steps = [later - earlier for earlier, later in pairwise(card.coexecution.power_w)]
    if card.coexecution.power_w[0] <= card.idle_power_w or steps[0] <= 0:
        found.append(
            Finding("fault", "hardware.coexecution", "a busy card draws no more power than an idle one: was it idle?")
        )
    if any(clock > card.max_frequency_mhz * 1.005 for clock in card.coexecution.frequency_mhz):
        found.append(Finding("fault", "hardware.max_frequency_mhz", "clocks above the highest were read"))
    return found


def _graded(value: float, limits: tuple[float, float], where: str, message: str) -> list[Finding]:
    if value <= limits[0]:
        return []
    return [Finding("warning" if value <= limits[1] else "fault", where, message)]


def _model_findings(check: ModelCheck, model: ModelProfile, profile: Profile, fitted: Coefficients) -> list[Finding]:
    name, grid = check.model, model.solo_grid
    found = []
    if check.repeatability is not None:
        found += _graded(
            check.repeatability,
            REPEATABILITY,
            f"{name}.solo_grid",
            f"the least steady mean latency is known to {100 * check.repeatability:.1f} % only; was the card shared?",
        )
    latency = np.array(grid.gpu_latency_ms)
    shares = np.array(grid.share_percent)
    probe = model.interference_probe
    batch, share = probe.batch or PROBE_BATCH, probe.share_percent or PROBE_SHARE
    half = int(np.argmin(np.abs(shares - share)))
    if batch in grid.batch and abs(shares[half] - share) < profile.hardware.share_unit_percent / 2:
        first = latency[grid.batch.index(batch), half] - model.scheduling_delay_ms
        twice = abs(probe.active_time_alone_ms / first - 1.0)
        found += _graded(
            twice,
            TWICE,
            f"{name}.interference_probe",
            f"alone it takes {100 * twice:.1f} % more or less than the same point of the grid did at another time",
        )
    by_share = float(np.max(latency[:, 1:] / latency[:, :-1] - 1.0))
    found += _graded(
        by_share,
        MONOTONE_NOISE,
        f"{name}.solo_grid",
        f"latency grows by up to {100 * by_share:.1f} % although the share does",
    )
    by_batch = float(np.max(1.0 - latency[1:] / latency[:-1]))
    found += _graded(
        by_batch,
        MONOTONE_NOISE,
        f"{name}.solo_grid",
        f"latency falls by up to {100 * by_batch:.1f} % although the batch grows",
    )
    spread = float(latency[:, 0].max() / latency[:, -1].max())
    if spread < 1.5 and grid.share_percent[-1] >= 2 * grid.share_percent[0]:
        found.append(
            Finding(
                "fault",
                f"{name}.solo_grid",
                f"the largest share is hardly faster than the least ({spread:.2f} times): MPS shares had no effect,"
                " or the host could not launch kernels fast enough",
            )
        )
    where = np.unravel_index(int(np.argmax(np.abs(check.error))), check.error.shape)
    at = f"batch {grid.batch[where[0]]}, share {grid.share_percent[where[1]]:.4g} %"
    if check.mean_error > MEAN_RESIDUAL[0] or check.worst_error > WORST_RESIDUAL[0]:
        bad = check.mean_error > MEAN_RESIDUAL[1] or check.worst_error > WORST_RESIDUAL[1]
        found.append(
            Finding(
                "fault" if bad else "warning",
                f"{name}.solo_grid",
                f"coefficients miss the grid by {100 * check.mean_error:.1f} % on average and"
                f" {100 * check.worst_error:.0f} % at worst ({at}); plan with a margin",
            )
        )
    found += _line_findings(check, model, profile, fitted)
    found += _graded(
        check.slowdown,
        SLOWDOWN,
        f"{name}.interference_probe",
        f"beside a twin it takes {check.slowdown + 1.0:.3g} times as long as alone, although there is a share for each",
    )
    if check.slowdown < LEAST_SLOWDOWN:
        found.append(
            Finding(
                "warning", f"{name}.interference_probe", f"a neighbour speeds it up by {-100 * check.slowdown:.1f} %"
            )
        )
    lost = _meaningless_shares(check.model, fitted)
    if lost is not None:
        found.append(
            Finding(
                "fault" if lost >= grid.share_percent[0] else "warning",
                f"{name}.solo_grid",
                f"coefficients say nothing sensible up to a share of {lost:.3g} % (times that are negative or grow with"
                " the share); methods `patterns` and `bestfit` refuse it; `--coefficients refined` has no such shares",
            )
        )
    elif not is_monotone(replace(fitted, hardware=_level(fitted.hardware)), [name]):
        found.append(
            Finding(
                "warning",
                name,
                "by its coefficients a neighbour or a smaller share can make it a little faster, or it takes no power"
                " or cache; methods `patterns` and `bestfit` refuse it",
            )
        )
    return found


def _meaningless_shares(model: str, fitted: Coefficients) -> float | None:
    """Return the largest granted share whose active time is not positive, or grows with the share beyond noise."""
    shares = fitted.hardware.granted_shares()
    batches = np.arange(1, fitted.models[model].max_batch + 1)[:, None]
    active = placement_terms(fitted, fitted.index(model), batches, shares[None, :]).active_ms
    larger = np.flip(np.maximum.accumulate(np.flip(active, axis=1), axis=1), axis=1)
    wrong = np.any(np.isinf(active) | (larger > active * (1 + MONOTONE_NOISE[1])), axis=0)
    return float(shares[np.flatnonzero(wrong)[-1]]) if wrong.any() else None


def _level(hardware: HardwareCoefficients) -> HardwareCoefficients:
    """Return the card without delay or clock effects, so that only a model's own coefficients are judged."""
    return replace(hardware, delay_slope=0.0, delay_intercept=0.0, frequency_slope=0.0)


def _line_findings(check: ModelCheck, model: ModelProfile, profile: Profile, fitted: Coefficients) -> list[Finding]:
    """Judge the lines of power and L2 utilisation over throughput, as far as the coefficients are such lines."""
    own, grid = fitted.models[check.model], model.solo_grid
    latency = np.array(grid.gpu_latency_ms) - model.scheduling_delay_ms
    rate = 1000.0 * np.array(grid.batch)[:, None] / latency
    power = np.array(grid.power_w) - profile.hardware.idle_power_w
    uncapped = np.array(grid.frequency_mhz) > profile.hardware.max_frequency_mhz - 1
    if own.refined is not None:  # their power has a term in the share, too
        power = power - own.refined.power_per_share * np.array(grid.share_percent)
    lines = [("power_w", rate[uncapped], power[uncapped], own.power_slope, own.power_intercept)]
    # Refined coefficients take utilisation from the counters, or fit contention, whose scale is another.
    if own.refined is None or (own.refined.utilisation is None and not fits_contention(profile)):
        at = [
            (grid.batch.index(point.batch), grid.share_percent.index(point.share_percent))
            for point in model.l2_utilisation_percent_at
        ]
        readings = np.array([point.value for point in model.l2_utilisation_percent_at])
        counted = rate[tuple(zip(*at, strict=True))]
        lines.append(("l2_utilisation_percent_at", counted, readings, own.cache_slope, own.cache_intercept))
    found = []
    for what, x, y, slope, intercept in lines:
        deviation = float(np.max(np.abs(slope * x + intercept - y)) / max(np.max(y), _TINY)) if y.size else 0.0
        if deviation > LINE_RESIDUAL:
            found.append(
                Finding(
                    "warning",
                    f"{check.model}.{what}",
                    f"readings lie up to {100 * deviation:.0f} % of the largest off the line fitted over throughput",
                )
            )
        if slope < 0:
            found.append(Finding("warning", f"{check.model}.{what}", "falls with throughput"))
    return found


def _group_errors(coefficients: Coefficients, measurements: Measurements) -> tuple[GroupErrors, ...]:
    errors: dict[int, list[FloatArray]] = {}
    for members in measurements.groups():
        index = np.array([[coefficients.index(reading.model) for reading in members]])
        batch = np.array([[reading.batch for reading in members]])
        share = np.array([[reading.share_percent for reading in members]])
        measured = np.array([reading.latency_ms for reading in members])
        found = predict_many(coefficients, index, batch, share).latency_ms[0]
        errors.setdefault(len(members), []).append(found / measured - 1.0)
    return tuple(GroupErrors(size, np.concatenate(errors[size])) for size in sorted(errors))
