"""Of several GPU types the report says what each alone would cost, and that the bound is none of the heuristic's."""

from pathlib import Path

import pytest

from igniter_opt.data.instance_files import read_instance
from igniter_opt.data.plan import write_plan
from igniter_opt.report import cards
from igniter_opt.report.cards import cards_considered
from igniter_opt.report.findings import gather
from igniter_opt.report.page import render_page
from igniter_opt.solve import solve
from igniter_opt.verify import verify
from tests.heuristics.problems import problem, v100


def two_cards(**changes):
    return (v100(name="cheap", price_per_hour=1.0), v100(name="dear", price_per_hour=2.0, **changes))


def planned(gpu_types):
    rows = [("alexnet", 15, 400), ("resnet50", 30, 300), ("vgg19", 40, 200), ("ssd", 55, 150)]
    return solve(problem(rows, gpu_types).instance, "igniter").plan


def test_costs_alone_are_those_of_plans_that_hold_and_bounds_are_below_optima() -> None:
    plan = planned(two_cards())
    cheap, dear = cards_considered(plan)
    assert (cheap.used, dear.used) == (len(plan.gpus), 0)
    assert (cheap.best_for, dear.best_for) == (4, 0)
    for card, gpu in zip((cheap, dear), plan.instance.gpu_types, strict=True):
        alone = plan.instance.model_copy(update={"gpu_types": (gpu,)})
        optimum = solve(alone, "patterns", time_limit=20)
        assert optimum.status == "optimal"
        assert card.bound_alone_per_hour is not None
        assert card.cost_alone_per_hour is not None
        assert card.method_alone is not None
        assert card.bound_alone_per_hour <= optimum.cost <= card.cost_alone_per_hour
        again = solve(alone, card.method_alone)
        assert verify(again.plan).ok
        assert (again.cost, len(again.plan.gpus)) == (card.cost_alone_per_hour, card.gpus_alone)
    assert dear.cost_alone_per_hour == 2 * (cheap.cost_alone_per_hour or 0)


def test_counts_do_not_hold_for_cards_alone_and_one_type_is_no_choice() -> None:
    few = planned(two_cards(count=1))
    assert cards_considered(few)[1].cost_alone_per_hour is not None
    assert cards_considered(few)[1].count == 1
    assert cards_considered(planned((v100(),))) == ()


def test_a_card_that_cannot_serve_says_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(two_cards())
    slow = plan.instance.gpu_types[1]
    models = {name: model for name, model in slow.profile.models.items() if name != "ssd"}
    lacking = slow.model_copy(update={"profile": slow.profile.model_copy(update={"models": models})})
    types = (plan.instance.gpu_types[0], lacking)
    changed = plan.model_copy(update={"instance": plan.instance.model_copy(update={"gpu_types": types})})
    (cheap, dear) = cards_considered(changed)
    assert dear.message == "cannot serve W4"
    assert (dear.cost_alone_per_hour, dear.bound_alone_per_hour) == (None, None)
    assert cheap.message is None
    monkeypatch.setattr(cards, "MOST_WORKLOADS", 3)
    assert "not looked for" in (cards_considered(changed)[0].message or "")


def test_the_page_has_the_table(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_plan(planned(two_cards()), path)
    findings = gather(path, what_if_time_s=0, command="test")
    page = render_page(findings)
    assert "Cards to choose from" in page
    assert "The plan has cheap" in page
    assert [entry["name"] for entry in findings.to_dict()["cards"]] == ["cheap", "dear"]
    write_plan(solve(read_instance("igniter-three"), "igniter").plan, path)
    assert "Cards to choose from" not in render_page(gather(path, what_if_time_s=0, command="test"))


def test_bounds_of_rules_with_limits_on_the_safe_side_are_one_gpu() -> None:
    rows = [("alexnet", 40, 100), ("resnet50", 80, 50)]
    plan = solve(problem(rows, two_cards(), slo_rule="p99").instance, "igniter").plan
    assert [card.bound_alone_per_hour for card in cards_considered(plan)] == [1.0, 2.0]
