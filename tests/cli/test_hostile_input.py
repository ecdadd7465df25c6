"""Input and output paths at the edges: each gets one message and exit code 2, and nothing of the user's is lost."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.helpers import INSTANCE, files, invoke, rejected

HEAD = "name: x\ngpu_types:\n  - {name: G, profile: v100, price_per_hour: 1}\nworkloads:\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_pipe_is_not_replaced_by_a_file() -> None:
    os.mkfifo("pipe")
    rejected("solve", "igniter-three", "--method", "igniter", "-o", "pipe", says=("not a regular file",))
    assert Path("pipe").is_fifo()


def test_a_link_stays_a_link_and_its_target_is_written() -> None:
    Path("target.json").touch()
    Path("link.json").symlink_to("target.json")
    assert invoke("solve", "igniter-three", "--method", "igniter", "-o", "link.json").code == 0
    assert Path("link.json").is_symlink()
    assert json.loads(Path("target.json").read_text())["schema"] == "igniter-opt/plan@1"


def test_output_never_overwrites_the_instance_or_the_other_output() -> None:
    Path("i.yaml").write_text(HEAD + "  - {name: a, model: alexnet, slo_ms: 15, rate_rps: 100}\n")
    rejected("solve", "i.yaml", "-o", "i.yaml", says=("would overwrite the instance",))
    rejected("solve", "i.yaml", "-o", "x.png", "--plot", "x.png", says=("would overwrite --output",))
    rejected("compare", "i.yaml", "-o", "i.yaml", says=("would overwrite the instance",))


def test_one_mistake_gives_one_line() -> None:
    Path("i.yaml").write_text(HEAD + "  - {name: a, model: alexnet, slo_ms: 15, rate_rps: -1}\n")
    message = rejected("solve", "i.yaml", says=("workloads[0].rate_rps",))
    assert len(message.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "name: {{ name }}\n",
        "? [a]\n: 1\n",
        "name: !!timestamp foo\n",
        "name: !!bool foo\n",
        "name: !!int ''\n",
        "name: !!set [a]\n",
        "a: " + "[" * 2000,
    ],
)
def test_malformed_yaml(text: str) -> None:
    Path("i.yaml").write_text(text)
    rejected("solve", "i.yaml", says=("i.yaml",))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("slo_ms", '"15"', "must be a number"),
        ("rate_rps", '"1e3"', "must be a number"),
        ("rate_rps", "1e-300", "must be at least 1e-06"),
        ("slo_ms", "1e308", "must be at most 1e+09"),
        ("max_replicas", "1000000000", "must be at most 100"),
    ],
)
def test_values_out_of_range(key: str, value: str, says: str) -> None:
    fields = {"name": "a", "model": "alexnet", "slo_ms": "15", "rate_rps": "100", key: value}
    body = ", ".join(f"{name}: {text}" for name, text in fields.items())
    Path("i.yaml").write_text(HEAD + "  - {" + body + "}\n")
    rejected("solve", "i.yaml", says=(f"workloads[0].{key}", says))


def test_exponents_without_a_dot_are_numbers() -> None:
    Path("i.yaml").write_text(HEAD + "  - {name: a, model: alexnet, slo_ms: 15, rate_rps: 1e2}\n")
    plan = invoke("solve", "i.yaml", "--method", "igniter", "--json").json()
    assert plan["gpus"][0]["placements"][0]["rate_rps"] == 100.0


@pytest.mark.parametrize(("price", "says"), [(1.0000001, "at most 6 decimals"), (1e9, "factor of 1,000,000")])
def test_prices_that_cannot_be_compared(price: float, says: str) -> None:
    second = {"name": "dear", "profile": "v100", "price_per_hour": price}
    data: dict[str, Any] = {**INSTANCE, "gpu_types": [*INSTANCE["gpu_types"], second]}
    data["gpu_types"][0] = {**data["gpu_types"][0], "price_per_hour": 1.0}
    Path("i.json").write_text(json.dumps(data))
    rejected("solve", "i.json", says=(says,))


LONG = "x" * 300 + ".yaml"


@pytest.mark.parametrize("arguments", [("solve", LONG), ("verify", LONG), ("predict", LONG, "alexnet:1:10")])
def test_names_too_long_for_a_file(arguments: tuple[str, ...]) -> None:
    rejected(*arguments)


def test_output_name_too_long() -> None:
    rejected("solve", "igniter-three", "-o", LONG, says=("cannot be written",))


@pytest.mark.parametrize(
    "options",
    [
        ("--name", "../x", "-o", "a.yaml"),
        ("--price", "-1", "-o", "a.yaml"),
        ("--price", "nan", "-o", "a.yaml"),
        ("-o", "a b.yaml"),
    ],
)
def test_generate_rejects_what_an_instance_may_not_hold(options: tuple[str, ...]) -> None:
    rejected("instances", "generate", "--workloads", "2", "--seed", "1", *options)


def test_generate_with_one_card_at_two_prices() -> None:
    both = ("--profile", "v100", "--price", "3", "--profile", "v100", "--price", "2")
    assert invoke("instances", "generate", "--workloads", "2", "--seed", "1", *both, "-o", "a.yaml").code == 0
    assert invoke("solve", "a.yaml", "--json").json()["gpus"][0]["type"] == "V100.2"


@pytest.mark.parametrize("text", ['{"schema": "igniter-opt/plan@1", "schema": 1}', '{"schema": ' + "1" * 5000 + "}"])
def test_malformed_plans(text: str) -> None:
    Path("p.json").write_text(text)
    rejected("verify", "p.json", says=("p.json",))


def test_plan_with_an_absurd_batch_is_rejected() -> None:
    invoke("solve", "igniter-three", "--method", "igniter", "-o", "p.json")
    text = Path("p.json").read_text().replace('"batch": 9,', f'"batch": 1{"0" * 400},')
    Path("p.json").write_text(text)
    rejected("verify", "p.json", says=("batch",))


def test_a_plot_without_any_plan_is_a_note() -> None:
    data = {**INSTANCE, "workloads": [{"name": "a", "model": "ssd", "slo_ms": 1, "rate_rps": 10}]}
    Path("i.json").write_text(json.dumps(data))
    before = files()
    run = invoke("compare", "i.json", "--plot", "x.png")
    assert run.code == 0
    assert "was not drawn" in run.err
    assert files() == before
