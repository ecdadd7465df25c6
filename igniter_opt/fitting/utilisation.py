"""Contention from hardware counters: what a model asks of the L2 cache and DRAM, and what neighbours cost by a probe.

A batch moves the same bytes whatever the share, so that the utilisation counted on the whole card, U(b) percent, falls
with the speed of execution::

    contention caused    c(b, r) = U(b) k(b, 100) / k(b, r)        U = L2 + DRAM utilisation
    delay suffered       γ ((1 - w) k(b, r) + w k(b, 100))  per unit of contention,  w = `WHOLE_PART`

With w = 0 everything a batch does would wait for memory, so that its delay grew with its active time; with w = 1 the
slowness of a small share would hide all waiting that the whole card does not see.
"""

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.data.profile import InterferenceProbe, ModelProfile, UtilisationPoint
from igniter_opt.physics.curves import ActiveSurface, Utilisation

# Of 0, 1/4, 1/2, 3/4 and 1 the best on the H100 and on the H200 (bench/accuracy/cards.py).
WHOLE_PART = 0.75


def counted(models: dict[str, ModelProfile]) -> bool:
    """Whether the profile has all that is needed here: DRAM utilisation, and where the probes were taken."""
    return all(
        model.dram_utilisation_percent_at
        and model.interference_probe.batch is not None
        and model.interference_probe.share_percent is not None
        for model in models.values()
    )


def fit_utilisation(model: ModelProfile, surface: ActiveSurface) -> Utilisation:
    """Return a model's utilisation on the whole card; points at smaller shares are scaled by the active time."""
    blocks = (model.l2_utilisation_percent_at, model.dram_utilisation_percent_at or ())
    curves = [_curve(points, surface) for points in blocks if points]
    batches = sorted({batch for curve in curves for batch in curve.batches})
    return Utilisation(tuple(batches), tuple(np.sum([curve.at(batches) for curve in curves], axis=0).tolist()))


def _curve(points: tuple[UtilisationPoint, ...], surface: ActiveSurface) -> Utilisation:
    found: dict[float, list[float]] = {}
    for point in points:
        slower = surface.at(point.batch, point.share_percent) / surface.at(point.batch, 100.0)
        found.setdefault(float(point.batch), []).append(point.value * float(slower))
    batches = sorted(found)
    return Utilisation(tuple(batches), tuple(float(np.mean(found[batch])) for batch in batches))


def sensitivities(
    probes: list[InterferenceProbe],
    surfaces: list[ActiveSurface],
    utilisations: list[Utilisation],
    max_frequency_mhz: float,
    whole_part: float = WHOLE_PART,
) -> FloatArray:
    """Sensitivity γ of every model by its probe, whose batch and share must be given; shape (models,).

    One twin says as much of the card as of the model, so that a model's γ is taken halfway to the mean of all.
    """
    found = []
    for probe, surface, utilisation in zip(probes, surfaces, utilisations, strict=True):
        batch, share = float(probe.batch or 1), float(probe.share_percent or 100.0)
        clock = min(1.0, probe.frequency_paired_mhz / max_frequency_mhz)
        slowdown = max(0.0, probe.active_time_paired_ms * clock / probe.active_time_alone_ms - 1.0)
        whole = float(surface.at(batch, 100.0) / surface.at(batch, share))
        caused, suffered = float(utilisation.at(batch)) * whole, 1.0 - whole_part + whole_part * whole
        found.append(slowdown / (caused * suffered) if caused > 0.0 else 0.0)
    gamma = np.array(found)
    return np.asarray((gamma + gamma.mean()) / 2.0)
