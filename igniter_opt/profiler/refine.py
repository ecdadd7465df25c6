"""Measuring where plans are: the placements of candidate plans, alone and in their groups, join the profile's fit.

A solver picks what a fit flatters, so that plans' placements are predicted worse than random ones. A round measures
what is planned and was not measured yet, adds it, and fits anew; another plans again with the new fit, and measures
what is new in these. It ends when predictions of what was not measured yet agree with the measurements, when plans hold
nothing new, or after so many rounds.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from igniter_opt.base.errors import InfeasibleError, InputError
from igniter_opt.base.stop import StopRequest
from igniter_opt.data.measurement_files import Measurements, with_measurements
from igniter_opt.data.measurements import ColocatedMeasurements
from igniter_opt.data.plan import Plan
from igniter_opt.data.profile import Calibration, Profile
from igniter_opt.fitting.calibration import Predicted, margin_at, predict_readings
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.profiler.colocate import build_measurements, groups_session, planned_groups, planned_jobs
from igniter_opt.profiler.make import check_same_card, colocation_models, colocation_precision, date_log
from igniter_opt.profiler.models.files import conversions_kept
from igniter_opt.profiler.record import Log
from igniter_opt.profiler.runners.runner import Job, Runner
from igniter_opt.profiler.session import Session
from igniter_opt.solve import solve

DEFAULT_ROUNDS, MOST_ROUNDS = 3, 20
DEFAULT_TOLERANCE = 0.03
DEFAULT_TIME_LIMIT = 20.0

Report = Callable[[str, int, int], object]
# Plans again for a profile; None where that is not possible.
Solve = Callable[[Plan, Profile], Plan | None]


class Errors(NamedTuple):
    """Predicted over measured latency less 1: mean of the absolute values, their largest, and the mean (bias)."""

    mean: float
    worst: float
    bias: float

    @classmethod
    def of(cls, found: Predicted) -> "Errors":
        """Sum up predictions."""
        error = found.predicted_ms / found.measured_ms - 1.0
        return cls(float(np.abs(error).mean()), float(np.abs(error).max()), float(error.mean()))


class Round(NamedTuple):
    """What one round measured.

    Attributes
    ----------
    groups, readings
        GPUs that were not measured before, and their placements.
    before, after
        Errors of these by the fit before, which had not seen them, and by the new one.
    """

    groups: int
    readings: int
    before: Errors
    after: Errors


class Refined(NamedTuple):
    """The profile with all that was measured, the measurements, what every round found, and the last plans."""

    profile: Profile
    measurements: Measurements
    rounds: list[Round]
    plans: list[Plan]

    def foretold(self, tolerance: float) -> bool:
        """Whether the last round's placements had been predicted within a tolerance on average, not yet measured."""
        return self.rounds[-1].before.mean <= tolerance

    def agrees(self, tolerance: float) -> bool:
        """Whether the profile, now that they are measured, gives the last plans' placements within a tolerance."""
        return self.rounds[-1].after.mean <= tolerance or self.foretold(tolerance)


@conversions_kept()
def refine(
    runner: Runner,
    profile: Profile,
    plans: Sequence[Plan],
    *,
    rounds: int = DEFAULT_ROUNDS,
    tolerance: float = DEFAULT_TOLERANCE,
    time_limit: float = DEFAULT_TIME_LIMIT,
    log: Path | None = None,
    report: Report = lambda *_: None,
    stop: StopRequest | None = None,
    solve_again: Solve | None = None,
) -> Refined:
    """Measure the placements of plans on their card, and plan and measure again until predictions agree.

    Parameters
    ----------
    plans
        Plans with GPUs of the profile's card; those of other cards are left out.
    rounds
        How often at most plans are measured.
    tolerance
        Of the mean error of placements that were not measured before; the last round is within it.
    time_limit
        Seconds for solving a plan again, by the method and margin that it was made with.
    log
        Keeps every measurement as it is made; what it holds already is not measured again.
    solve_again
        Plans again; for tests.

    Raises
    ------
    session.StoppedError
        Asked to stop; the log holds what was measured.
    InputError, DeploymentError
        No plan has a GPU of this card, a model is unknown or cannot be measured, or the card is another one.
    """
    if not 1 <= rounds <= MOST_ROUNDS:
        raise InputError(f"rounds: must be 1 to {MOST_ROUNDS}; found {rounds}")
    if not 0 <= tolerance < 1:
        raise InputError(f"tolerance: must be at least 0 and below 1 (0.03 is 3 %); found {tolerance:g}")
    precision = colocation_precision(profile)
    current = list(plans)
    used = sorted({spot[0] for group in planned_groups(current, profile) for spot in group})
    if not used:
        raise InputError(f"no plan has a GPU of type {profile.hardware.gpu}, which profile {profile.name} is of")
    texts = dict(zip(used, colocation_models(profile, used), strict=True))
    head: dict[str, Any] = {"kind": "co-locations", "precision": precision, "models": list(texts.values())}
    kept = Log(log, head | {"pairs": 0, "larger": 0, "seed": 0})
    stop = stop or StopRequest()
    again = solve_again or (lambda plan, card: planned_again(plan, card, time_limit))
    base, done, known = profile, [], dict[tuple[Job, ...], int]()
    errors: list[tuple[ColocatedMeasurements, Predicted]] = []
    with stop.on_interrupt(), runner:
        date_log(kept)
        session = Session(runner, kept, report, stop)
        card = check_same_card(session, profile)
        for number in range(rounds):
            if number:
                session.check_stop()
                report(f"round {number + 1}: planning", number, rounds)
                current = [again(plan, profile) or plan for plan in current]
            fresh = []
            for group in planned_groups(current, profile):
                jobs = planned_jobs(group, texts, card)
                if jobs not in known:
                    known[jobs] = len(known)
                    fresh.append(jobs)
            if not fresh:
                break
            groups_session(session, [(f"group {known[jobs]}", jobs) for jobs in fresh], f"round {number + 1}")
            found = build_measurements(kept, base, precision)
            profile, result, seen = _added(profile, found, {known[jobs] + 1 for jobs in fresh if len(jobs) > 1}, fresh)
            errors += seen
            done.append(result)
            if result.before.mean <= tolerance:
                break
    return Refined(_with_margins(base, profile, errors), found, done, current)


def planned_again(plan: Plan, profile: Profile, time_limit: float) -> Plan | None:
    """Solve a plan's instance with another profile of its card, by the method and margin of the plan.

    None where no plan is left, or the method is none that can be asked for.
    """
    types = tuple(
        gpu.model_copy(update={"profile": profile.model_copy(update={"coefficients": gpu.mps_profile.coefficients})})
        if gpu.card == profile.hardware.gpu
        else gpu
        for gpu in plan.instance.gpu_types
    )
    instance = plan.instance.model_copy(update={"gpu_types": types})
    try:
        return solve(
            instance, plan.solver.method, time_limit=time_limit, margin=plan.solver.margin, seed=plan.solver.seed
        ).plan
    except (InfeasibleError, InputError):
        return None


def _added(
    profile: Profile, found: Measurements, groups: set[int], fresh: Sequence[Sequence[Job]]
) -> tuple[Profile, Round, list[tuple[ColocatedMeasurements, Predicted]]]:
    """Add measurements to a profile; say how its fit, and then the new one, predict those of a round."""
    side = None if found.colocated is None else found.colocated.take(groups)
    alone = _alone(found, profile, fresh)
    readings = [entry for entry in (side, alone) if entry is not None]
    before = [predict_readings(fit_coefficients(profile.bare()), entry) for entry in readings]
    grown = with_measurements(profile, found)
    after = [predict_readings(fit_coefficients(grown.bare()), entry) for entry in readings]
    count = sum(len(entry.measured_ms) for entry in before)
    shown = Round(len(fresh), count, Errors.of(_joined(before)), Errors.of(_joined(after)))
    return grown, shown, list(zip(readings, before, strict=True))


def _joined(parts: Sequence[Predicted]) -> Predicted:
    return Predicted(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _alone(found: Measurements, profile: Profile, fresh: Sequence[Sequence[Job]]) -> ColocatedMeasurements | None:
    """Readings of placements that have a GPU to themselves, as groups of one."""
    single = {(job.model.partition("=")[0], job.batch, job.sms) for jobs in fresh if len(jobs) == 1 for job in jobs}
    if found.solo is None or not single:
        return None
    count = profile.hardware.sm_count
    rows = [
        k
        for k, spot in enumerate(zip(found.solo.model, found.solo.batch, found.solo.share_percent, strict=True))
        if (spot[0], spot[1], round(spot[2] * count / 100.0)) in single
    ]
    solo = found.solo.take(rows)
    if solo is None:
        return None
    return ColocatedMeasurements.model_construct(
        note=None,
        model=solo.model,
        batch=solo.batch,
        share_percent=solo.share_percent,
        latency_ms=solo.latency_ms,
        std_ms=solo.std_ms,
        group=tuple(range(1, len(solo.model) + 1)),
    )


def _with_margins(
    base: Profile, profile: Profile, errors: Sequence[tuple[ColocatedMeasurements, Predicted]]
) -> Profile:
    """Keep the margins of the profile that was refined, raised where plans' own placements ask for more.

    The margins were found for fits to less. Placements of plans were predicted before they were measured, so that their
    errors are those of predictions where a solver looks; at a confidence that so many groups support, the margin is not
    below the one that these errors ask for (`calibration.margin_at`).
    """
    own = (base.calibration or {}).get(base.coefficients)
    if own is None:
        return profile
    margins = tuple(
        max(margin, _asked(base, errors, level) or 0.0)
        for level, margin in zip(own.confidence, own.margin, strict=True)
    )
    raised = tuple(max(margins[: k + 1]) for k in range(len(margins)))
    entry: Calibration = own.model_copy(update={"margin": raised})
    return profile.model_copy(update={"calibration": {**(base.calibration or {}), base.coefficients: entry}})


def _asked(
    profile: Profile, errors: Sequence[tuple[ColocatedMeasurements, Predicted]], confidence: float
) -> float | None:
    """Margin that the errors of all rounds ask for at a confidence; None if their groups are too few for it."""
    error = np.concatenate(
        [found.error / [profile.spread_of(name) for name in readings.model] for readings, found in errors]
    )
    return margin_at(error, list(_numbers(errors)), confidence)


def _numbers(errors: Sequence[tuple[ColocatedMeasurements, Predicted]]) -> Iterator[int]:
    """Numbers of the groups of all rounds, different in every round."""
    for number, (readings, _) in enumerate(errors):
        yield from (number * 1_000_000 + group for group in readings.group)
