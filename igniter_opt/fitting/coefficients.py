"""From a profile's measurements to the coefficients of the performance model, fitted once and then kept on disk."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from threadpoolctl import threadpool_limits

from igniter_opt.base.errors import InputError
from igniter_opt.data.profile import Profile
from igniter_opt.data.serving import Serving
from igniter_opt.fitting import kept
from igniter_opt.physics.parameters import Coefficients

_FITTED: set[int] = set()


def fit_coefficients(profile: Profile, *, keep: bool = True) -> Coefficients:
    """Derive the coefficients of a profile: the set that `Profile.coefficients` names.

    ``igniter`` are the faithful ones (Xu et al. 2023), from the solo grid and the probes alone; ``refined`` those of
    `refined`, from all measurements in the profile. What was fitted to equal content by the same code is read from
    disk (see `kept`), to the last bit.

    Parameters
    ----------
    keep
        Whether later runs may want this fit; those of a cross-validation, which are many, nobody asks for again.

    What serving adds (`Profile.serving`) is in them; `Profile.bare` is the profile without it.

    Raises
    ------
    InputError
        A model's measurements admit no fit.
    """
    content = _deciding(profile)
    serving = None if profile.serving is None else profile.serving.model_dump_json()
    found = _fit_cached(content, keep) if serving is None else _served_cached(content, serving, keep)
    _FITTED.add(hash(content))
    return found


def takes_a_while(profile: Profile) -> bool:
    """Whether `fit_coefficients` would take seconds: refined ones that are neither known here nor kept on disk."""
    if profile.coefficients != "refined":
        return False
    content = _deciding(profile)
    return hash(content) not in _FITTED and not kept.is_kept(content)


def _deciding(profile: Profile) -> str:
    """All that coefficients depend on."""
    unused = {"calibration", "serving"} | (
        set() if profile.coefficients == "refined" else {"solo_measurements", "colocated_measurements"}
    )
    return profile.model_dump_json(exclude=unused)


@lru_cache(maxsize=64)
def _fit_cached(content: str, keep: bool) -> Coefficients:
    known = kept.read(content)
    if known is None:
        known = _fit(Profile.model_validate_json(content))
        if keep:
            kept.write(content, known)
    return known


@lru_cache(maxsize=64)
def _served_cached(content: str, serving: str, keep: bool) -> Coefficients:
    return served(_fit_cached(content, keep), Serving.model_validate_json(serving))


def served(bare: Coefficients, serving: Serving) -> Coefficients:
    """Return the coefficients of models as they are served.

    The time per batch is scheduling delay, during which no kernel runs. The time per request goes with the results, and
    so do the inputs: a Python backend copies them between two batches. Nothing of it is contention, which stays as it
    was fitted, and all of it is planned with the margin but for the way.
    """
    models = dict(bare.models)
    for name, added in serving.models.items():
        if name in models:
            own = models[name]
            per_item = added.request_ms * bare.hardware.pcie_bytes_per_ms
            models[name] = replace(
                own,
                scheduling_delay_ms=own.scheduling_delay_ms + added.batch_ms,
                input_bytes=0.0,
                output_bytes=own.output_bytes + own.input_bytes + per_item,
                way_ms=own.way_ms + added.way_ms,
            )
    return replace(bare, models=models)


def _fit(profile: Profile) -> Coefficients:
    # SciPy takes half a second, and its matrix library must be there to be limited.
    from igniter_opt.fitting.faithful import fit_faithful
    from igniter_opt.fitting.refined import refine

    # More threads gain nothing on such small matrices, wait by spinning, and their number changes the last digits.
    try:
        with threadpool_limits(1, user_api="blas"):
            faithful = fit_faithful(profile)
            return refine(profile, faithful) if profile.coefficients == "refined" else faithful
    except np.linalg.LinAlgError as error:
        raise InputError(f"profile {profile.name}: no coefficients fit, its numbers are absurd ({error})") from None
