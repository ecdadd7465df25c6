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
    rejected("solve", "igniter-three", "-o", "x" * 300 + ".json", says=("cannot be written",))


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


@pytest.mark.parametrize(
    "command", [("solve",), ("verify",), ("report",), ("simulate",), ("compare",), ("predict",), ("profile", "check")]
)
def test_commands_read_regular_files_only(command: tuple[str, ...]) -> None:
    os.mkfifo("pipe")
    more = ("alexnet:1:10",) if command == ("predict",) else ()
    for name, kind in (("pipe", "pipe"), ("/dev/zero", "device")):
        rejected(*command, name, *more, says=(f"{name}: is a {kind}, not a regular file",))


def test_a_profile_is_a_regular_file() -> None:
    Path("i.yaml").write_text(HEAD.replace("v100", "/dev/zero") + "  - {name: a, model: b, slo_ms: 1, rate_rps: 1}\n")
    rejected("solve", "i.yaml", says=("gpu_types[0].profile: /dev/zero: is a device",))


def test_aliases_that_stand_for_too_much() -> None:
    lists = "".join(f"  - &a{k} [{','.join([f'*a{k - 1}' if k else 'x'] * 9)}]\n" for k in range(9))
    Path("i.yaml").write_text("description:\n" + lists + "name: *a8\n")
    message = rejected("solve", "i.yaml", says=("more than 300,000 values, counting what aliases stand for",))
    assert len(message) < 200


def test_large_values_are_cut_in_messages() -> None:
    row = "[" + ", ".join(["x" * 50] * 100) + "]"
    Path("i.yaml").write_text(HEAD + "  - {name: &a [" + ", ".join([row] * 100) + "], model: *a, slo_ms: *a}\n")
    message = rejected("solve", "i.yaml", says=("workloads[0].name: must be text; found [['xxx",))
    assert len(message) < 1000


def test_control_characters_of_files_are_shown_not_obeyed() -> None:
    Path("i.yaml").write_text('"\\e[2Jna\\rme": x\n')
    message = rejected("solve", "i.yaml", says=("unknown key",))
    assert "\x1b" not in message and "\r" not in message


def test_prices_stay_finite() -> None:
    one = "  - {name: a, model: ssd, slo_ms: 90, rate_rps: 1}\n"
    Path("i.yaml").write_text(HEAD.replace("hour: 1", "hour: 1e308") + one)
    rejected("solve", "i.yaml", says=("gpu_types[0].price_per_hour: must be at most 1e+09",))
    many = "".join(f"  - {{name: a{k}, model: vgg19, slo_ms: 40, rate_rps: 400}}\n" for k in range(3))
    Path("i.yaml").write_text(HEAD.replace("hour: 1", "hour: 1e9") + many)
    assert invoke("solve", "i.yaml", "--method", "bestfit", "--json").json()["solver"]["cost_per_hour"] == 3e9


def test_a_limit_of_memory_without_effect_is_noted_once() -> None:
    workloads = "".join(f"  - {{name: a{k}, model: alexnet, slo_ms: 15, rate_rps: 100}}\n" for k in range(2))
    Path("i.yaml").write_text(HEAD.replace("hour: 1", "hour: 1, memory_mib: 1") + workloads)
    run = invoke("solve", "i.yaml", "--method", "igniter")
    assert run.code == 0
    assert run.err.splitlines() == [
        "warning: memory_mib of GPU type G does not limit alexnet: profile v100 does not say how much memory they take"
    ]
    Path("i.yaml").write_text(HEAD + workloads)
    assert invoke("solve", "i.yaml", "--method", "igniter").err == ""
