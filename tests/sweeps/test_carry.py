"""What bounds carry where: the comparison of limits by every row of the table, and mixtures of two prices by hand."""

import math
from fractions import Fraction

import pytest

from igniter_opt import InputError, Instance, read_instance, read_profile
from igniter_opt.options import SolveOptions
from igniter_opt.problem.configurations import Problem
from igniter_opt.sweeps.axes import VARIABLES, Axis, SweepSetting, axis_with
from igniter_opt.sweeps.carry import ProvenBound, admits_all_plans, carried_bound, mixed_bound
from tests.support.synthetic import helped_by_company

# Of three types; fitting the refined coefficients of two of them would take a while.
CARDS = read_instance("cards-table3").with_options(max_replicas=2, coefficients="igniter")
# Of every row, two values; a row that is added needs its own here.
VALUES = {
    "slo": ("slo", 1.0, 1.1),
    "slo:WORKLOAD": ("slo:W7", 20.0, 21.0),
    "rate": ("rate", 0.9, 1.0),
    "rate:WORKLOAD": ("rate:W12", 200.0, 300.0),
    "price:TYPE": ("price:H100", 5.0, 6.0),
    "count:TYPE": ("count:H100", 1.0, 2.0),
    "new:PROFILE": ("new:h100", 5.0, 6.0),
    "margin": ("margin", 0.0, 0.1),
    "confidence": ("confidence", 0.5, 0.9),
    "percentile": ("percentile", 0.9, 0.99),
}


def problems(axis: Axis, instance: Instance) -> list[Problem]:
    """The problems at an axis' two values, the looser first by the table."""
    found = []
    for value in axis.values if axis.variable.stricter == "larger" else reversed(axis.values):
        setting = axis.applied(SweepSetting(instance, SolveOptions()), value)
        found.append(Problem(setting.instance, setting.options.margin_for(setting.instance)))
    return found


def bound_of(problem: Problem, cost: float) -> ProvenBound:
    return ProvenBound(problem.instance, problem.margin, cost)


def of_row(row: str) -> list[Problem]:
    key, *values = VALUES[row]
    instance = CARDS.with_options("p99") if row == "percentile" else CARDS
    if row == "percentile":
        # Limits of rule p99 take a while: some workloads do.
        instance = instance.model_copy(update={"workloads": instance.workloads[3:5], "gpu_types": CARDS.gpu_types[:1]})
    return problems(axis_with(key, values, instance), instance)


@pytest.mark.parametrize("row", VARIABLES)
def test_bounds_go_from_loose_to_strict_and_never_back(row: str) -> None:
    looser, stricter = of_row(row)
    assert carried_bound(stricter, [(bound_of(looser, 3.06),)]) == (3.06, 0)
    assert carried_bound(stricter, [(bound_of(looser, math.inf),)]) == (math.inf, 0)
    assert carried_bound(looser, [(bound_of(stricter, 3.06),)]) == (0.0, None)
    if not VARIABLES[row].priced:
        # Prices change no plan, only what it costs.
        assert carried_bound(looser, [(bound_of(stricter, math.inf),)]) == (0.0, None)


def test_under_rule_deadline_rates_carry_nothing_either_way() -> None:
    instance = read_instance("igniter-table3").with_options("deadline")
    low, high = problems(axis_with("rate", [0.9, 1.0], instance), instance)
    assert not admits_all_plans(low, high)
    assert not admits_all_plans(high, low)


def test_what_a_type_does_not_offer_is_no_plan_there() -> None:
    without = CARDS.model_copy(update={"gpu_types": CARDS.gpu_types[:2]})
    assert admits_all_plans(Problem(CARDS), Problem(without))
    assert not admits_all_plans(Problem(without), Problem(CARDS))
    other = CARDS.model_copy(update={"workloads": CARDS.workloads[:-1]})
    assert not admits_all_plans(Problem(other), Problem(CARDS))
    coarse = CARDS.gpu_types[0].model_copy(update={"memory_mib": 1000.0})
    small = CARDS.model_copy(update={"gpu_types": (coarse, *CARDS.gpu_types[1:])})
    assert admits_all_plans(Problem(CARDS), Problem(small))
    assert not admits_all_plans(Problem(small), Problem(CARDS))
    more = CARDS.with_options(max_replicas=3)
    assert admits_all_plans(Problem(more), Problem(CARDS))
    assert not admits_all_plans(Problem(CARDS), Problem(more))
    alone = CARDS.model_copy(update={"gpu_types": CARDS.gpu_types[:1]})
    assert not admits_all_plans(Problem(alone), Problem(alone.with_options(coefficients="refined")))


def test_without_a_monotone_profile_all_positive_limits_are_compared() -> None:
    helped = helped_by_company(read_profile("v100"))
    types = [read_instance("igniter-table3").gpu_types[0].model_copy(update={"profile": helped})]
    instance = read_instance("igniter-table3").model_copy(update={"gpu_types": tuple(types)})
    tight = instance.with_options(scale=1.1)
    assert not all(Problem(instance).monotone)
    assert admits_all_plans(Problem(instance), Problem(tight))
    assert not admits_all_plans(Problem(tight), Problem(instance))


def priced(v100: float, h100: float) -> Instance:
    cards = zip(CARDS.gpu_types[:2], (v100, h100), strict=True)
    types = [gpu.model_copy(update={"price_per_hour": price}) for gpu, price in cards]
    return CARDS.model_copy(update={"gpu_types": tuple(types)})


def test_between_two_prices_bounds_are_mixed() -> None:
    low, high = ProvenBound(priced(3, 4), 0.0, 7.0), ProvenBound(priced(3, 8), 0.0, 9.0)
    # A quarter of the way: 3/4 of 7 and 1/4 of 9.
    assert mixed_bound(priced(3, 5), (low, high)) == Fraction(15, 2)
    assert mixed_bound(priced(3, 4), (low, high)) == 7
    assert mixed_bound(priced(3, 100), (low, high)) == 9
    assert mixed_bound(priced(3, 3), (low, high)) is None
    assert mixed_bound(priced(2, 5), (low, high)) is None
    # Dear V100s let nothing more be said than the prices do.
    assert mixed_bound(priced(5, 5), (low, high)) == Fraction(15, 2)
    # A mixture of points neither of which is below: prices cross.
    crossed = ProvenBound(priced(2, 8), 0.0, 8.0), ProvenBound(priced(6, 2), 0.0, 10.0)
    assert mixed_bound(priced(4, 5), crossed) == 9
    assert mixed_bound(priced(4, 4), crossed) is None


def test_a_bound_above_a_plan_is_an_error() -> None:
    problem = Problem(CARDS)
    with pytest.raises(Exception, match="please report this"):
        carried_bound(problem, [(ProvenBound(CARDS, 0.0, 9.0),)], 3.06)


def test_no_margin_is_known_for_a_confidence_beyond_the_calibration() -> None:
    axis = axis_with("confidence", [0.9999999], CARDS)
    with pytest.raises(InputError, match="confidence"):
        problems(axis, CARDS)
