"""The work of every kind of job: a call of this package, its progress and its result as plain data."""

import json
from collections.abc import Callable
from typing import Any

from igniter_opt.base.stop import StopRequest
from igniter_opt.data.instance import Instance
from igniter_opt.data.plan import Plan, plan_json
from igniter_opt.data.profile import Profile
from igniter_opt.result import Progress, Result
from igniter_opt.verify import Verification

# Told of progress.
Report = Callable[[dict[str, Any]], object]
# Does the work and returns the result as plain data, with ``interrupted`` where that can be.
Call = Callable[[Report, StopRequest], dict[str, Any]]


def _moment(progress: Progress, **more: Any) -> dict[str, Any]:
    """Return a moment of a solve; what is not known is left out."""
    found = {
        "elapsed_s": round(progress.elapsed_s, 3),
        "phase": progress.phase,
        "cost_per_hour": progress.cost,
        "lower_bound_per_hour": progress.lower_bound,
        "gap": progress.gap,
        "total_share_percent": progress.total_share_percent,
        "doing": progress.doing,
        "improved": progress.improved or None,
        **more,
    }
    return {key: value for key, value in found.items() if value is not None}


def _plan_data(plan: Plan) -> Any:
    return json.loads(plan_json(plan))


def _outcome(plan: Plan, verification: Verification) -> dict[str, Any]:
    solver = plan.solver
    return {
        "status": solver.status,
        "cost_per_hour": solver.cost_per_hour,
        "lower_bound_per_hour": solver.lower_bound_per_hour,
        "gap": solver.gap,
        "gpus": len(plan.gpus),
        "holds": verification.ok,
        "violations": verification.to_dict()["violations"],
    }


def solve_work(instance: Instance, method: str, options: dict[str, Any]) -> Call:
    """Return the work of solving."""

    def work(report: Report, stop: StopRequest) -> dict[str, Any]:
        from igniter_opt.solve import solve

        result: Result = solve(
            instance, method, **options, on_progress=lambda progress: report(_moment(progress)), stop=stop
        )
        return {
            **_outcome(result.plan, result.verification),
            "interrupted": result.interrupted,
            "ended": result.ended,
            "plan": _plan_data(result.plan),
        }

    return work


def compare_work(instances: list[Instance], methods: list[str] | None, options: dict[str, Any]) -> Call:
    """Return the work of comparing."""

    def work(report: Report, stop: StopRequest) -> dict[str, Any]:
        from igniter_opt.compare import compare

        found = compare(
            instances,
            methods,
            **options,
            on_progress=lambda instance, method, progress: report(_moment(progress, instance=instance, method=method)),
            stop=stop,
        )
        return {"interrupted": found.interrupted, "rows": found.to_dicts()}

    return work


def verify_work(plan: Plan) -> Call:
    """Return the work of judging."""

    def work(report: Report, stop: StopRequest) -> dict[str, Any]:
        from igniter_opt.verify import verify

        return verify(plan).to_dict()

    return work


def predict_work(card: Profile, placements: list[tuple[str, int, float]]) -> Call:
    """Return the work of predicting."""

    def work(report: Report, stop: StopRequest) -> dict[str, Any]:
        from igniter_opt.predict import predict, prediction_data

        return prediction_data(card, placements, predict(card, placements))

    return work


def simulate_work(plan: Plan, options: dict[str, Any]) -> Call:
    """Return the work of simulating."""

    def work(report: Report, stop: StopRequest) -> dict[str, Any]:
        from igniter_opt.simulate import simulate

        def done(number: int, of_all: int) -> None:
            report({"done": number, "of_all": of_all})

        return simulate(plan, **options, on_progress=done, stop=stop).to_dict()

    return work


def replan_work(running: Plan, wanted: Instance, method: str, terms: dict[str, Any], options: dict[str, Any]) -> Call:
    """Return the work of planning again."""

    def work(report: Report, stop: StopRequest) -> dict[str, Any]:
        from igniter_opt.data.migration import DisruptionWeights
        from igniter_opt.options import SolveOptions
        from igniter_opt.replan import ReplanTerms, replan

        found = replan(
            running,
            wanted,
            method,
            ReplanTerms(**{**terms, "weights": DisruptionWeights(*terms["weights"])}),
            SolveOptions(**options),
            on_progress=lambda progress: report(_moment(progress)),
            stop=stop,
        )
        return {
            **_outcome(found.plan, found.verification),
            "interrupted": found.interrupted,
            "changed": found.changed,
            "plan": _plan_data(found.plan),
        }

    return work
