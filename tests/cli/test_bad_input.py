"""Bad input: exit code 2, one message that helps, nothing on stdout, nothing written, no traceback."""

import math
from pathlib import Path
from typing import Any

import pytest

from tests.cli.helpers import INSTANCE, assert_rejected, files, invoke, rejected, script, with_value, write_instance

HOSTILE_NAMES = ["../x", "a;rm -rf", "$(x)", "`x`", "a b", "-rf", "", "a" * 200, "größe", "名前", "a\n", "[red]x"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rejected_instance(data: dict[str, Any], *says: str) -> str:
    """Every command that reads an instance refuses it, with the same message."""
    path = write_instance(data)
    message = rejected("solve", path, "-o", "plan.json", says=(f"{path}: ", *says))
    assert rejected("compare", path, "-o", "rows.csv") == message
    return message


# Files that are no instance


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "found nothing"),
        ("# a comment only\n", "found nothing"),
        ("- a\n- b\n", "expected a mapping"),
        ("3", "expected a mapping of keys to values, found 3"),
        ("igniter", "found 'igniter'"),
        ("{name: [", "line 1, column 9: not YAML"),
        ("name: a: b", "line 1, column 8: not YAML"),
        ("name: x\n\tgpu_types: []", "line 2, column 1: not YAML"),
        ("name: x\n---\nname: y\n", "not YAML"),
        ("&a [*a]", "line 1, column 5: not YAML (the alias *a is within what it stands for)"),
        ("!!python/object/apply:os.system ['touch hacked']", "not YAML"),
        ("[" * 1500, "not YAML"),
        ("name: 1" + "0" * 5000, "not YAML"),
        ("name: 2024-99-99", "not YAML"),
        ("name: a\x00b", "not YAML"),
        ("name: x\nname: y\n", "line 2, column 1: not YAML (the key 'name' is given twice)"),
        ("workloads:\n  - {name: a, model: b, slo_ms: 1, slo_ms: 2}", "the key 'slo_ms' is given twice"),
        ('{"name": "x", "name": "y"}', "the key 'name' is given twice"),
    ],
)
def test_text_that_is_no_instance(text: str, says: str) -> None:
    Path("instance.yaml").write_text(text, encoding="utf-8")
    rejected("solve", "instance.yaml", "-o", "plan.json", says=("instance.yaml: ", says))


def test_unreadable_instances() -> None:
    Path("folder").mkdir()
    Path("latin.yaml").write_bytes("name: größe".encode("latin-1"))
    rejected("solve", "folder", says=("folder: is a folder, not a file",))
    rejected("solve", "latin.yaml", says=("latin.yaml: is not a UTF-8 text file",))
    rejected("solve", "missing.yaml", says=("missing.yaml: no such file\n",))
    write_instance(INSTANCE, "fleet.yaml")
    rejected("solve", "fleet.yml", says=("fleet.yml: no such file; did you mean fleet.yaml?",))
    rejected("solve", "nowhere/missing", says=("nowhere/missing: no such file",))
    rejected("solve", "igniter-table", says=("did you mean 'igniter-table3'?", "igniter-opt instances list"))
    rejected("compare", "igniter-three", "missing.yaml", says=("missing.yaml: no such file",))
    rejected("instances", "show", "igniter-thre", says=("did you mean 'igniter-three'?",))
    rejected("instances", "show", "../igniter-three", says=("unknown instance",))


# Keys and values of an instance


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        (("slo-rule",), "slo_rule"),
        (("workload",), "workloads"),
        (("workloads", 1, "slo"), "slo_ms"),
        (("workloads", 0, "rate"), "rate_rps"),
        (("workloads", 0, "max_replica"), "max_replicas"),
        (("gpu_types", 0, "pirce_per_hour"), "price_per_hour"),
        (("gpu_types", 0, "profil"), "profile"),
    ],
)
def test_unknown_key_names_the_nearest(path: tuple[str | int, ...], nearest: str) -> None:
    message = rejected_instance(with_value(1, *path), f"unknown key '{path[-1]}'; did you mean '{nearest}'?")
    if len(path) > 1:
        assert f"{path[0]}[{path[1]}]: unknown key" in message


@pytest.mark.parametrize("key", ["name", "gpu_types", "workloads"])
def test_missing_key(key: str) -> None:
    data = {name: value for name, value in INSTANCE.items() if name != key}
    rejected_instance(data, f"{key}: this key is required and missing")


@pytest.mark.parametrize("key", ["name", "model", "slo_ms", "rate_rps"])
def test_missing_key_of_a_workload(key: str) -> None:
    workload = {name: value for name, value in INSTANCE["workloads"][0].items() if name != key}
    rejected_instance(with_value(workload, "workloads", 0), f"workloads[0].{key}: this key is required and missing")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (-1, "must be greater than 0; found -1"),
        (0, "must be greater than 0; found 0"),
        (-0.5, "must be greater than 0; found -0.5"),
        (math.nan, "must be a finite number; found NaN"),
        (math.inf, "must be a finite number; found infinity"),
        (-math.inf, "must be a finite number; found -infinity"),
        (True, "must be a number; found True"),
        ("fast", "must be a number; found 'fast'"),
        ("10 ms", "must be a number; found '10 ms'"),
        (None, "must be a number; found nothing"),
        ([10], "must be a number; found [10]"),
        (10**400, "must be a number; found 1000"),
    ],
)
@pytest.mark.parametrize(
    ("path", "where"),
    [
        (("workloads", 0, "rate_rps"), "workloads[0].rate_rps: "),
        (("workloads", 1, "slo_ms"), "workloads[1].slo_ms: "),
        (("gpu_types", 0, "price_per_hour"), "gpu_types[0].price_per_hour: "),
    ],
)
def test_values_that_are_no_positive_number(path: tuple[str | int, ...], where: str, value: object, says: str) -> None:
    rejected_instance(with_value(value, *path), where + says)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0, "must be at least 1; found 0"),
        (-2, "must be at least 1; found -2"),
        (1.5, "must be a whole number; found 1.5"),
        (True, "must be a whole number; found True"),
        ("two", "must be a whole number; found 'two'"),
        (math.nan, "found NaN"),
    ],
)
@pytest.mark.parametrize("path", [("gpu_types", 0, "count"), ("workloads", 1, "max_replicas")])
def test_values_that_are_no_count(path: tuple[str | int, ...], value: object, says: str) -> None:
    rejected_instance(with_value(value, *path), f"{path[0]}[{path[1]}].{path[2]}: ", says)


@pytest.mark.parametrize("value", [[], None, 3, "A", {}])
@pytest.mark.parametrize("key", ["workloads", "gpu_types"])
def test_lists_that_are_empty_or_none(key: str, value: object) -> None:
    rejected_instance(
        with_value(value, key), f"{key}: must ", "have at least 1 entries" if value == [] else "be a list"
    )


@pytest.mark.parametrize("value", HOSTILE_NAMES)
@pytest.mark.parametrize(
    "path", [("name",), ("workloads", 0, "name"), ("workloads", 0, "model"), ("gpu_types", 0, "name")]
)
def test_hostile_names(path: tuple[str | int, ...], value: str) -> None:
    message = rejected_instance(with_value(value, *path), "must be 1 to 63 letters, digits")
    assert value == "" or len(message) < 600


@pytest.mark.parametrize("kind", ["workloads", "gpu_types"])
def test_duplicate_names(kind: str) -> None:
    data = with_value([*INSTANCE[kind], INSTANCE[kind][0]], kind)
    last, name = len(data[kind]) - 1, INSTANCE[kind][0]["name"]
    rejected_instance(data, f"{kind}[{last}].name: '{name}' is already the name of {kind}[0]")


def test_unknown_references_list_the_known() -> None:
    models = "alexnet, resnet50, vgg19, ssd"
    rejected_instance(with_value("alexnett", "workloads", 0, "model"), "workloads[0].model", "'alexnet'?", models)
    rejected_instance(with_value("bert", "workloads", 1, "model"), "workloads[1].model: unknown model 'bert'", models)
    rejected_instance(with_value("v10", "gpu_types", 0, "profile"), "unknown profile 'v10'; did you mean 'v100'?")
    rejected_instance(with_value("nothing", "gpu_types", 0, "profile"), "shipped profiles: h100, h200, v100")
    for rule in ("haf", "p98", "HALF", 3, None):
        rejected_instance(with_value(rule, "slo_rule"), "slo_rule: must be one of half, deadline, p99, parvagpu")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0.4, "must be at least 0.5; found 0.4"),
        (-1, "must be at least 0.5; found -1"),
        (1, "must be at most 0.999999; found 1"),
        (99, "must be at most 0.999999; found 99"),
        (math.nan, "found NaN"),
        (True, "must be a number; found True"),
        ("high", "must be a number; found 'high'"),
    ],
)
def test_percentiles(value: object, says: str) -> None:
    with_rule = {**INSTANCE, "slo_rule": "p99"}
    rejected_instance({**with_rule, "percentile": value}, "percentile: ", says)
    rejected_instance({**with_rule, "percentil": 0.9}, "unknown key 'percentil'; did you mean 'percentile'?")


@pytest.mark.parametrize("rule", ["half", "deadline"])
def test_a_percentile_goes_with_its_rule_only(rule: str) -> None:
    data = {**INSTANCE, "slo_rule": rule, "percentile": 0.95}
    rejected_instance(data, f"percentile: goes with slo_rule p99 only; the rule is {rule}")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "line 1, column 2: not JSON"),
        (b"", "is empty"),
        (b"[]", "expected a mapping"),
        (b"\xff\xfe", "is not a UTF-8 text file"),
        (b'{"hardwear": 1}', "unknown key 'hardwear'; did you mean 'hardware'?"),
    ],
)
def test_profile_files(content: bytes, says: str) -> None:
    Path("card.json").write_bytes(content)
    rejected_instance(with_value("card.json", "gpu_types", 0, "profile"), "gpu_types[0].profile: card.json: ", says)
    rejected("predict", "card.json", "alexnet:1:10", says=("card.json: ", says))


# The real exit codes


def test_script_rejects_without_a_traceback() -> None:
    path = write_instance(with_value(-1, "workloads", 0, "rate_rps"))
    before = files()
    run = script("solve", path, "-o", "plan.json")
    assert_rejected(run, before, "workloads[0].rate_rps: must be greater than 0; found -1")
    assert_rejected(script("predict", "v100", "alexnet:0:10"), before, "batch must be a whole number in 1..100000")
    assert_rejected(script("solve", "igniter-three", "--bogus"), before, "--bogus")


def test_script_says_no() -> None:
    path = write_instance(with_value(0.1, "workloads", 0, "slo_ms"))
    run = script("solve", path, "-o", "plan.json")
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith("no plan: workload A ")
    assert "Traceback" not in run.err
    assert not Path("plan.json").exists()


def test_no_arguments_and_unknown_commands() -> None:
    assert invoke().code == 2
    rejected("slove", "igniter-three", says=("slove",))
    rejected("instances", "lst", says=("lst",))
    for command in (("solve",), ("compare",), ("verify",), ("predict",), ("predict", "v100"), ("instances", "show")):
        rejected(*command, says=("Missing argument",))
