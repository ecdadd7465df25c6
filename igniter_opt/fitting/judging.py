"""Coefficients that judge plans of a confidence: their margin is larger for models that are predicted worse.

A margin m lengthens every GPU latency by 1 + m, wherever something is judged. At a confidence it is m d for a model
whose errors have the *spread* d (`fresh`), 1 on average. That is said here and nowhere else: in these coefficients all
times of the model take f = (1 + m d) / (1 + m) of what is predicted, so that with the margin they take 1 + m d of it.

The GPU latency (s + K Δ + k + (γ k + κ K + ω k_100) (C - c) + ...) / φ is homogeneous in s, K and k, whose factor is f.
What a placement draws and causes stays as it is, and so what its neighbours suffer: power and the contention that is
not counted are linear in 1 / k, so that their slopes are multiplied by f; what is counted depends on ratios of k only.
Nothing else changes: coefficients that are scaled so are as linear in a GPU's aggregates, and as monotone.
"""

from dataclasses import replace
from typing import NamedTuple

from igniter_opt.data.profile import Profile
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.curves import ActiveSurface
from igniter_opt.physics.parameters import Coefficients, ModelCoefficients


def model_margin(profile: Profile, model: str, margin: float, confidence: float | None) -> float:
    """Return the margin of a model's placements, in plans with a margin and, maybe, the confidence that it is for."""
    return margin * (1.0 if confidence is None else profile.spread_of(model))


def time_factors(profile: Profile, margin: float, confidence: float | None) -> dict[str, float]:
    """Return the factors of models' times (see above): 1 but for profiles whose margins differ by model."""
    return {name: (1.0 + model_margin(profile, name, margin, confidence)) / (1.0 + margin) for name in profile.models}


def judging_coefficients(profile: Profile, margin: float, confidence: float | None) -> Coefficients:
    """Return the coefficients by which plans with a margin, and maybe a confidence, are judged with that margin."""
    plain = fit_coefficients(profile)
    factors = time_factors(profile, margin, confidence)
    if all(factor == 1.0 for factor in factors.values()):
        return plain
    models = {name: _scaled(model, factors[name]) for name, model in plain.models.items()}
    return Coefficients(plain.profile_name, plain.hardware, models)


class Judging(NamedTuple):
    """Coefficients that judge plans with a margin, and by which factors times in them are longer than predicted."""

    coefficients: Coefficients
    factors: dict[str, float]
    margin: float

    @classmethod
    def of(cls, profile: Profile, margin: float, confidence: float | None) -> "Judging":
        """Judge by a profile, with the margin of a plan and, maybe, the confidence that it is for."""
        factors = time_factors(profile, margin, confidence)
        return cls(judging_coefficients(profile, margin, confidence), factors, margin)

    def planned(self, model: str) -> float:
        """Return the margin of a model's placements, of what is predicted."""
        factor = self.factors[model]
        return self.margin if factor == 1.0 else factor * (1.0 + self.margin) - 1.0

    def left(self, model: str, margin: float) -> float:
        """Return what is left in these coefficients of a margin of what is predicted."""
        factor = self.factors[model]
        return margin if factor == 1.0 else (1.0 + margin) / factor - 1.0


def _scaled(model: ModelCoefficients, factor: float) -> ModelCoefficients:
    k1, k2, k3, k4, k5 = model.active
    refined = model.refined
    if refined is not None:
        surface = refined.surface
        longer = tuple(tuple(factor * value for value in row) for row in surface.active_ms)
        refined = replace(
            refined,
            surface=ActiveSurface(surface.batches, surface.shares, longer),
            traffic_slope=factor * refined.traffic_slope,
        )
    return replace(
        model,
        kernels=factor * model.kernels,
        scheduling_delay_ms=factor * model.scheduling_delay_ms,
        active=(factor * k1, factor * k2, factor * k3, k4, factor * k5),
        power_slope=factor * model.power_slope,
        cache_slope=factor * model.cache_slope,
        refined=refined,
    )
