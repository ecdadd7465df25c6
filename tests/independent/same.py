"""What only tests may do: give the independent judge the package's plans, and compare what both say."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import pytest

from igniter_opt.data.instance import Instance
from igniter_opt.data.instance_files import parse_instance
from igniter_opt.data.plan import Plan, plan_json
from igniter_opt.data.profile import profile_from_data
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.verify import verify
from tests.independent.cards import Card, card_of, fits_contention, of_numbers
from tests.independent.judge import Judgement, judge
from tests.independent.waiting import is_percentile

# What may differ between equal coefficients, and between active times of the paper's formula fitted by two routes.
ROUNDING, FITTED_APART = 1e-8, 5e-5


def refined(profile: dict[str, Any]) -> bool:
    return profile.get("coefficients", "igniter") == "refined"


@functools.cache
def card(profile_json: str) -> Card:
    """The card of a profile: by its own fit but for weights that were fitted side by side, which are the package's."""
    data = json.loads(profile_json)
    if refined(data) and fits_contention(data):
        return of_numbers(dataclasses.asdict(fit_coefficients(profile_from_data(data, "case", data["name"]))))
    return card_of(data)


def cards_of(instance: dict[str, Any]) -> dict[str, Card]:
    return {gpu["name"]: card(json.dumps(gpu["profile"])) for gpu in instance["gpu_types"]}


def tolerance_of(instance: dict[str, Any]) -> float:
    return ROUNDING if all(refined(gpu["profile"]) for gpu in instance["gpu_types"]) else FITTED_APART


def read(instance: dict[str, Any]) -> Instance:
    return parse_instance(json.dumps(instance), "case", Path())


def judged(plan: Plan, cards: dict[str, Card], tolerance: float) -> Judgement:
    return judge(json.loads(plan_json(plan)), cards, tolerance)


def assert_judged_alike(plan: Plan, cards: dict[str, Card], tolerance: float) -> None:
    """Both judges let a plan pass, and predict the same for every placement."""
    theirs, own = verify(plan), judged(plan, cards, tolerance)
    assert (own.wrong, theirs.violations) == ([], [])
    for mine, other in zip(own.placements, theirs.placements, strict=True):
        assert (mine.gpu, mine.workload, mine.replica, mine.ok) == (other.gpu, other.workload, other.replica, True)
        assert mine.limit == pytest.approx(other.limit_ms, rel=1e-12)
        assert mine.throughput == pytest.approx(other.throughput_rps, rel=tolerance)
        if mine.times is None:
            assert mine.latency == pytest.approx(other.latency_ms, rel=tolerance)
        else:
            q = plan.instance.required_percentile
            assert is_percentile(mine.rate / 1000.0, *mine.times, q, other.latency_ms, max(tolerance, 1e-7))
