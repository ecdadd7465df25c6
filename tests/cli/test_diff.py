"""The command ``diff``: exit codes, what is printed, bad input."""

import json
from pathlib import Path

import pytest

import igniter_opt as ig
from tests.cli.helpers import invoke, rejected


@pytest.fixture
def plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.chdir(tmp_path)
    instance = ig.read_instance("igniter-table3")
    ig.write_plan(ig.solve(instance, "igniter").plan, "old.json")
    ig.write_plan(ig.solve(instance.with_options(scale=0.7), "igniter").plan, "new.json")
    return "old.json", "new.json"


def test_exit_codes(plans: tuple[str, str]) -> None:
    old, new = plans
    assert [invoke("diff", *pair).code for pair in ((old, old), (old, new), (new, old))] == [0, 0, 0]
    assert [invoke("diff", *pair, "--exit-code").code for pair in ((old, old), (old, new))] == [0, 1]
    assert [invoke("diff", *pair, "--no-dearer").code for pair in ((old, new), (new, old))] == [0, 1]
    assert "old.json costs 3.06 USD per hour more than new.json" in invoke("diff", new, old, "--no-dearer").err


def test_what_is_printed(plans: tuple[str, str]) -> None:
    run = invoke("diff", *plans)
    lines = run.out.splitlines()
    assert lines[-1] == "price per hour: 18.36 → 15.3 USD (-3.06, -16.7 %); GPUs: V100 6 → 5"
    found = invoke("diff", *plans, "--json").json()
    numbers = found["counts"]
    said = "+ {start} to start, ~ {change} to change, - {stop} to stop, = {keep} kept".format(**numbers)
    assert lines[-2] == said
    assert sum(numbers.values()) == 12
    assert (found["same"], found["cost_per_hour"]) == (False, {"old": 18.36, "new": 15.3})
    assert sum(line.startswith("~  W") for line in lines) == 12
    same = invoke("diff", plans[0], plans[0]).out
    assert same == (
        "+ 0 to start, ~ 0 to change, - 0 to stop, = 12 kept\n"
        "price per hour: 18.36 → 18.36 USD (unchanged); GPUs: V100 6\n"
    )


def test_prices_that_changed_are_said(plans: tuple[str, str]) -> None:
    old, new = plans
    data = json.loads(Path(old).read_text())
    data["instance"]["gpu_types"][0]["price_per_hour"] = 1.53
    Path("half.json").write_text(json.dumps(data))
    run = invoke("diff", old, "half.json", "--exit-code")
    assert run.code == 1
    assert "~  V100      price 3.06 to 1.53" in run.out.splitlines()
    assert run.out.endswith("prices changed: by the new ones the old plan costs 9.18 USD per hour\n")
    assert invoke("diff", old, "half.json", "--no-dearer").code == 0
    dearer = invoke("diff", new, "half.json", "--no-dearer")
    assert (dearer.code, dearer.err) == (
        1,
        f"half.json costs 1.53 USD per hour more than {new} by the prices in half.json\n",
    )


def test_bad_input(plans: tuple[str, str]) -> None:
    assert "nowhere.json: no such file" in rejected("diff", "nowhere.json", plans[0])
    data = json.loads(Path(plans[0]).read_text())
    data["gpus"][0]["type"] = "H9000"
    Path("bad.json").write_text(json.dumps(data))
    assert "`igniter-opt verify` shows all" in rejected("diff", plans[0], "bad.json")
