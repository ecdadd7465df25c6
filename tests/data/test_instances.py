import json
import shlex
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.make_instances import instances
from igniter_opt import InputError, Profile, read_instance, read_plan, solve, write_instance
from igniter_opt.data.instance_files import instance_yaml, parse_instance, shipped_instance_text, shipped_instances
from igniter_opt.data.known_results import best_known
from igniter_opt.data.plan import plan_json
from igniter_opt.data.profile_files import read_slice_profile
from igniter_opt.generate import FAMILIES, generate_instance
from igniter_opt.problem.configurations import Problem
from tests.cli.helpers import invoke

GENERATED = [name for name in shipped_instances() if name.split("-")[0] in {"mixed", "tight", "loose", "one", "tiny"}]


@pytest.mark.parametrize("name", shipped_instances())
def test_shipped_instances_are_feasible_and_have_a_truthful_twin(name: str) -> None:
    instance = read_instance(name)
    assert instance.name == name
    assert np.all(np.isfinite(Problem(instance).least_share_percent))
    known = best_known(name)
    assert known is not None
    assert known.instance == name
    # No bound above a known plan: neither the twin's own nor that of a plan made here and now.
    assert known.best_bound.cost_per_hour <= known.best_cost.cost_per_hour + 1e-9
    greedy = solve(instance, "igniter")
    assert known.best_bound.cost_per_hour <= greedy.cost + 1e-9
    assert known.best_cost.cost_per_hour <= greedy.cost + 1e-9


def test_generated_instances_are_reproducible() -> None:
    made = instances()
    assert {*GENERATED} < {instance.name for instance in made}
    for instance in made:
        assert instance_yaml(instance) == shipped_instance_text(instance.name)


def test_all_families_are_shipped() -> None:
    assert {name.rsplit("-", 2)[0] for name in GENERATED} == set(FAMILIES)


def test_yaml_round_trip_with_an_inlined_profile(v100: Profile, tmp_path) -> None:  # type: ignore[no-untyped-def]
    renamed = v100.model_copy(update={"name": "mine"})
    instance = generate_instance("x", 3, 5, [renamed, v100], [1.0, 2.5])
    assert parse_instance(instance_yaml(instance), "text", tmp_path) == instance


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_generated_workloads_need_at_most_60_percent_alone(v100: Profile, family: str) -> None:
    instance = generate_instance("x", 15, 11, [v100], [3.06], family=family)
    assert Problem(instance).least_share_percent.max() <= 60.0
    assert generate_instance("x", 15, 11, [v100], [3.06], family=family) == instance
    assert generate_instance("x", 15, 12, [v100], [3.06], family=family).workloads != instance.workloads


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workloads": 0}, "at least 1"),
        ({"prices": [1.0, 2.0]}, "one price per profile"),
        ({"family": "mixd"}, "did you mean 'mixed'"),
        ({"model": "resnet"}, "did you mean 'resnet50'"),
    ],
)
def test_bad_arguments(v100: Profile, arguments: dict, message: str) -> None:  # type: ignore[type-arg]
    given = {"workloads": 3, "prices": [3.06], "family": "mixed", "model": None, **arguments}
    with pytest.raises(InputError, match=message):
        generate_instance(
            "x", given["workloads"], 1, [v100], given["prices"], family=given["family"], model=given["model"]
        )


def test_rates_are_scaled() -> None:
    instance = read_instance("igniter-three")
    scaled = instance.with_options(scale=1.1)
    assert [w.rate_rps for w in scaled.workloads] == [float(f"{w.rate_rps * 1.1:.9g}") for w in instance.workloads]
    assert solve(instance, "igniter", scale=1.1).plan.instance == scaled
    assert instance.with_options(max_replicas=3, scale=2.0).workloads[0].max_replicas == 3
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="the scale must be a finite number above 0"):
            instance.with_options(scale=scale)
    with pytest.raises(
        InputError, match=r"scale 1e\+09: workload .* would have a rate of .*; rates are 1e-06 to 1e\+09"
    ):
        instance.with_options(scale=1e9)


@pytest.mark.parametrize("currency", ["EUR", "€", "credits"])
def test_the_currency_stays_with_the_prices(currency: str, tmp_path: Path) -> None:
    instance = read_instance("igniter-motivation").model_copy(update={"currency": currency})
    write_instance(instance, tmp_path / "mine.yaml")
    assert read_instance(tmp_path / "mine.yaml") == instance
    run = invoke("solve", tmp_path / "mine.yaml", "--method", "igniter", "-o", tmp_path / "plan.json")
    assert f"3.06 {currency} per hour" in run.out
    assert read_plan(tmp_path / "plan.json").instance.currency == currency
    assert f"costs in {currency}\n" in invoke("compare", tmp_path / "mine.yaml", "--methods", "igniter").out
    assert f" {currency} more per hour" in invoke("explain", tmp_path / "plan.json", "A").out
    page = tmp_path / "page.html"
    assert invoke("report", tmp_path / "plan.json", "--what-if-time", "0", "-o", page).code == 0
    assert f"Money is in {currency};" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("currency", ["", "US dollars", "[red]", "A" * 13, "<b>", 5])
def test_what_is_no_currency_is_refused(currency: object, tmp_path: Path) -> None:
    text = shipped_instance_text("igniter-motivation") + f"currency: {currency!r}\n"
    with pytest.raises(InputError, match="currency: must be "):
        parse_instance(text, "mine.yaml", tmp_path)


def test_files_without_a_currency_are_in_dollars() -> None:
    instance = read_instance("igniter-motivation")
    assert instance.currency == "USD"
    assert "currency" not in instance_yaml(instance)


DRAWN = {row["name"]: row for row in invoke("instances", "list", "--json").json() if row["generate"] is not None}


def test_random_instances_have_a_command() -> None:
    assert set(GENERATED) <= set(DRAWN)
    assert {"cards-24-1", "today-24-1"} <= set(DRAWN)
    assert all(row["seed"] == 1 for row in DRAWN.values())
    assert "--seed 2" in invoke("instances", "list").out


@pytest.mark.parametrize("name", ["loose-12-1", "one-model-12-1", "tiny-60-1", "today-24-1"])
def test_the_command_of_the_next_seed_draws_the_shipped_one_with_its_own(name: str, tmp_path: Path) -> None:
    path = tmp_path / "drawn.yaml"
    words = shlex.split(DRAWN[name]["generate"])
    assert words[0] == "igniter-opt"
    assert words[-2:] == ["-o", f"{name.removesuffix('-1')}-2.yaml"]
    assert invoke(*words[1:-1], path).code == 0
    other = read_instance(path)
    own = ["1" if before == "--seed" else word for before, word in pairwise(["", *words])]
    assert invoke(*own[1:-1], path).code == 0
    shipped, drawn = read_instance(name), read_instance(path)
    assert drawn.workloads == shipped.workloads
    assert other.workloads != shipped.workloads
    assert [gpu.price_per_hour for gpu in drawn.gpu_types] == [gpu.price_per_hour for gpu in shipped.gpu_types]
    assert drawn.coefficients == shipped.coefficients


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint16])
def test_options_may_be_numbers_of_numpy_s(kind: type[np.integer[Any]], tmp_path: Path) -> None:
    """What a loop over `numpy.arange` gives; the instance can be written and read again."""
    instance = read_instance("igniter-three")
    made = instance.with_options("p99", kind(3), percentile=np.float32(0.75), scale=kind(2))  # type: ignore[arg-type]
    assert made == instance.with_options("p99", 3, 0.75, scale=2.0)
    write_instance(made, tmp_path / "instance.yaml")
    assert read_instance(tmp_path / "instance.yaml").workloads == made.workloads


@pytest.mark.parametrize(
    "options",
    [
        {"scale": "0.5"},
        {"scale": Decimal("0.5")},
        {"scale": True},
        {"scale": Fraction(10**400)},
        {"max_replicas": np.float64(3)},
        {"max_replicas": np.bool_(True)},
        {"slo_rule": "p99", "percentile": Decimal("0.99")},
    ],
)
def test_options_that_are_no_numbers(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(name for name in reversed(options)).split("_")[0]):
        read_instance("igniter-three").with_options(**options)


def test_plans_in_dollars_are_those_of_versions_without_currencies() -> None:
    plan = solve("igniter-motivation", "igniter").plan
    assert "currency" not in plan_json(plan)
    other = plan.model_copy(update={"instance": plan.instance.model_copy(update={"currency": "EUR"})})
    assert '"currency": "EUR"' in plan_json(other)


@pytest.mark.parametrize("inlined", [False, True])
def test_readings_of_slices_have_no_coefficients(inlined: bool, tmp_path: Path) -> None:
    profile: object = "a100-mig-synthetic"
    if inlined:
        profile = read_slice_profile("a100-mig-synthetic").model_dump(mode="json", exclude_none=True)
    entry = {"name": "A100", "profile": profile, "price_per_hour": 3.5}
    workload = {"name": "R", "model": "resnet50", "slo_ms": 60, "rate_rps": 100}
    data = {"name": "cut", "gpu_types": [entry], "workloads": [workload]}
    path = tmp_path / "cut.yaml"
    # For all types of an instance they hold for those that are predicted with coefficients.
    path.write_text(json.dumps({**data, "coefficients": "refined"}))
    assert read_instance(path).gpu_types[0].is_cut
    path.write_text(json.dumps({**data, "gpu_types": [{**entry, "coefficients": "refined"}]}))
    with pytest.raises(InputError, match=r"gpu_types\[0\]: coefficients: a card under MIG is planned by its readings"):
        read_instance(path)
