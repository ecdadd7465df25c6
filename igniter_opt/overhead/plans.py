"""Plans that servers are started by to find out what they add: a few models side by side, loaded one by one."""

from collections.abc import Sequence

from igniter_opt import __version__
from igniter_opt.base.errors import InputError
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import Instance, Workload
from igniter_opt.data.plan import Placement, Plan, PlanGpu, SolverInfo
from igniter_opt.data.profile import Profile
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.partial_batches import batch_service_times

# Servers with a fifth of the card each: fast enough that a millisecond more is to be seen, and few starts.
SHARE_PERCENT = 20.0
BATCH = 8
# The rate fills so much of a server that takes so much longer than its model: all sizes form, and no queue grows.
FILLED, _GUESS_MS, _GUESS_PER_ITEM_MS = 0.7, 1.0, 0.15
_SLO_MS, _GPU = 60_000.0, "GPU-1"


def share_for(profile: Profile, model: str) -> float:
    """Return the share that a model's server gets: the largest of its grid up to `SHARE_PERCENT`, or its least."""
    shares = profile.models[model].solo_grid.share_percent
    return max((share for share in shares if share <= SHARE_PERCENT + 1e-6), default=min(shares))


def expected_ms(profile: Profile, model: str, batch: int, share_percent: float) -> list[float]:
    """Return how long batches of 1, 2, ... of a model keep a server busy alone, transfers included; without serving."""
    coefficients = fit_coefficients(profile.bare())
    times = batch_service_times(coefficients, [coefficients.index(model)], [batch], [share_percent])
    return [float(value) for value in times.gpu_ms[0] + times.load_ms[0] + times.feedback_ms[0]]


def plans_for(profile: Profile, models: Sequence[str], batch: int = BATCH) -> list[Plan]:
    """Return plans for one card each that have all of the models once; workloads are called as their models.

    Parameters
    ----------
    batch
        The largest that servers form, where the profile has so large ones of a model.

    Raises
    ------
    InputError
        No model, or an unknown one, or the batch is less than 2: one size alone tells nothing.
    """
    if not models:
        raise InputError("models: give at least one")
    if batch < 2:
        raise InputError(f"batch: must be at least 2; found {batch}")
    for name in models:
        profile.model(name)
    most = max(1, int(100.0 / max(share_for(profile, name) for name in models) + 1e-9))
    return [_plan(profile, models[k : k + most], batch) for k in range(0, len(models), most)]


def _plan(profile: Profile, models: Sequence[str], batch: int) -> Plan:
    workloads, placements = [], []
    for name in models:
        share, size = share_for(profile, name), min(batch, profile.model(name).max_batch)
        busy = expected_ms(profile, name, size, share)[-1] + _GUESS_MS + _GUESS_PER_ITEM_MS * size
        rate = round(FILLED * 1000.0 * size / busy, 3)
        workloads.append(Workload(name=name, model=name, slo_ms=_SLO_MS, rate_rps=rate))
        placements.append(
            Placement(
                workload=name,
                replica=1,
                model=name,
                batch=size,
                share_percent=share,
                rate_rps=rate,
                predicted_latency_ms=0.0,
                predicted_throughput_rps=0.0,
            )
        )
    gpu = GpuType(name="GPU", profile=profile.bare(), price_per_hour=1.0)
    total = sum(entry.share_percent for entry in placements)
    return Plan(
        instance=Instance(
            name=f"overhead-{profile.name}"[:63],
            slo_rule="p99",
            gpu_types=(gpu,),
            workloads=tuple(workloads),
        ),
        solver=SolverInfo(
            method="overhead",
            status="heuristic",
            cost_per_hour=0.0,
            total_share_percent=total,
            runtime_s=0.0,
            version=__version__,
        ),
        gpus=(PlanGpu(name=_GPU, type="GPU", placements=tuple(placements)),),
    )
