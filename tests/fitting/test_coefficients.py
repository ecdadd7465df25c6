from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import nnls

from igniter_opt import InputError, read_profile
from igniter_opt.data.profile import COEFFICIENT_SETS, Profile, with_coefficients
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.interference import is_monotone
from tests.profiler.helpers import RECORDINGS

# Published with the paper; see Xu et al. 2023, Section 3.
GOLDEN = {
    "alexnet": (
        (4.15351e-03, 8.71158, 23.7361, 5.55205e-02, 0.346011),
        (2.38930e-02, 37.1081),
        (3.09205e-03, 2.02957),
        2.376375e-03,
    ),
    "resnet50": (
        (-1.75147e-02, 58.2645, -1.18622e-02, 0.344858, 1.90950),
        (0.162335, 4.62686),
        (2.19595e-02, -0.189943),
        2.163061e-03,
    ),
    "vgg19": (
        (-4.83465e-03, 158.193, 44.4521, 0.188407, 0.926192),
        (0.536729, 2.08185),
        (4.52175e-02, 2.72282),
        2.017732e-03,
    ),
    "ssd": (
        (2.51596e-02, 235.847, -16.7816, 0.264273, 3.41698),
        (0.644894, 2.33932),
        (8.86305e-02, -0.128589),
        2.280861e-03,
    ),
}


@pytest.mark.parametrize("model", GOLDEN)
def test_model_coefficients(v100: Profile, model: str) -> None:
    active, power, cache, sensitivity = GOLDEN[model]
    fitted = fit_coefficients(v100).models[model]
    assert fitted.active == pytest.approx(active, rel=1e-4)
    assert (fitted.power_slope, fitted.power_intercept) == pytest.approx(power, rel=1e-4)
    assert (fitted.cache_slope, fitted.cache_intercept) == pytest.approx(cache, rel=1e-4)
    assert fitted.cache_sensitivity == pytest.approx(sensitivity, rel=1e-4)


def test_hardware_coefficients(v100: Profile) -> None:
    hardware = fit_coefficients(v100).hardware
    assert hardware.frequency_slope == pytest.approx(-1.02541364, rel=1e-4)
    assert hardware.delay_slope == pytest.approx(0.00475065, rel=1e-4)
    assert hardware.delay_intercept == pytest.approx(-0.00902243, rel=1e-4)
    assert hardware.share_levels == 40
    assert is_monotone(fit_coefficients(v100))


def _with_coexecution(profile: Profile, **changes: tuple[float, ...]) -> Profile:
    run = profile.hardware.coexecution.model_copy(update=changes)
    return profile.model_copy(update={"hardware": profile.hardware.model_copy(update={"coexecution": run})})


def test_no_clock_slope_without_a_capped_clock(v100: Profile) -> None:
    uncapped = _with_coexecution(v100, frequency_mhz=(1530.0,) * 5)
    assert fit_coefficients(uncapped).hardware.frequency_slope == 0.0


def test_clock_slope_when_one_process_is_capped_already(v100: Profile) -> None:
    """The power step is then the first reading above idle: 100, 200, ... W beyond idle 53.5 W."""
    power = tuple(53.5 + 300.0 for _ in range(5))
    clock = tuple(1530.0 - 0.5 * (53.5 + 300.0 * n - 300.0) for n in range(1, 6))
    fitted = fit_coefficients(_with_coexecution(v100, power_w=power, frequency_mhz=clock))
    assert fitted.hardware.frequency_slope == pytest.approx(-0.5)


def test_negative_added_delay_is_not_monotone(v100: Profile) -> None:
    fitted = fit_coefficients(v100)
    odd = replace(fitted, hardware=replace(fitted.hardware, delay_intercept=-0.1))
    assert is_monotone(fitted) and not is_monotone(odd)


@pytest.mark.parametrize(
    "delays",
    [
        (0.02, 0.003, 0.006, 0.010, 0.015),
        # Of an H200, by CUDA graphs (bench/recordings/h200-own.json).
        (0.000381685, 0.000390503, 0.000291777, 0.000352458, 0.000374755),
        (0.001, 0.0005, 0.001, 0.0035, 0.005),
    ],
)
def test_added_delay_is_never_below_none(v100: Profile, delays: tuple[float, ...]) -> None:
    """It is the best of such lines: no other slope from 0 at two processes, and no higher line, is nearer."""
    changed = _with_coexecution(v100, scheduling_delay_ms_per_kernel=delays)
    hardware = fit_coefficients(changed).hardware
    run = changed.hardware.coexecution
    added = np.array(delays) * np.array(run.frequency_mhz) / changed.hardware.max_frequency_mhz
    added, count = added[1:] - added[0], np.arange(2, len(delays) + 1)
    (slope, level), _ = nnls(np.column_stack([count - 2.0, np.ones(len(count))]), added)
    assert (hardware.delay_slope, hardware.delay_intercept) == pytest.approx((slope, level - 2 * slope), abs=1e-12)
    assert is_monotone(fit_coefficients(changed))


def test_models_profiled_on_a_card_can_be_planned_exactly() -> None:
    own = read_profile(RECORDINGS / "h200-own.json")
    assert own.coefficients == "refined"
    for name in COEFFICIENT_SETS:
        assert is_monotone(fit_coefficients(with_coefficients(own, name)), ["rn18"])
    assert is_monotone(fit_coefficients(own))


@pytest.mark.parametrize(
    ("delays", "level"),
    [
        ((0.02, 0.015, 0.010, 0.006, 0.003), 0.0),
        ((0.001, 0.006, 0.005, 0.004, 0.003), pytest.approx(0.0034, rel=0.05)),
    ],
)
def test_delay_that_falls_with_company_is_level(v100: Profile, delays: tuple[float, ...], level: float) -> None:
    hardware = fit_coefficients(_with_coexecution(v100, scheduling_delay_ms_per_kernel=delays)).hardware
    assert (hardware.delay_slope, hardware.delay_intercept) == (0.0, level)


def test_too_few_points_is_an_input_error(v100: Profile) -> None:
    grid = v100.models["ssd"].solo_grid
    small = grid.model_copy(
        update={
            "batch": grid.batch[:2],
            "share_percent": grid.share_percent[:2],
            **{
                name: tuple(row[:2] for row in getattr(grid, name)[:2])
                for name in ("gpu_latency_ms", "power_w", "frequency_mhz")
            },
        }
    )
    first = v100.models["ssd"].l2_utilisation_percent_at[0]
    points = (first, first.model_copy(update={"batch": 16, "share_percent": 50.0}))
    model = v100.models["ssd"].model_copy(update={"solo_grid": small, "l2_utilisation_percent_at": points})
    with pytest.raises(InputError, match="at least 5"):
        fit_coefficients(v100.model_copy(update={"models": {"ssd": model}}))


def test_a_clock_that_rises_with_power_is_refused(v100: Profile) -> None:
    """The clock drops although the power drawn stays far below the cap: no cap explains that."""
    odd = _with_coexecution(
        v100, power_w=(60.0, 62.0, 64.0, 66.0, 68.0), frequency_mhz=(1530.0, 1530.0, 1500.0, 1480.0, 1460.0)
    )
    with pytest.raises(InputError, match="rises with power"):
        fit_coefficients(odd)
