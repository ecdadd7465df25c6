"""Bad options, plans, placements and outputs: exit code 2, one message, nothing written."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from igniter_opt.data.instance_files import read_instance
from igniter_opt.data.plan import plan_json
from igniter_opt.methods import METHODS
from igniter_opt.solve import solve
from tests.cli.helpers import invoke, rejected, with_value

GENERATE = ("instances", "generate", "--workloads", "2", "--seed", "1", "-o", "mine.yaml")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def plan_text() -> str:
    return plan_json(solve(read_instance("igniter-three"), "igniter").plan)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--time-limit", "-1"), "the time limit must be a finite number of at least 0; found -1"),
        (("--time-limit", "nan"), "the time limit must be a finite number"),
        (("--time-limit", "inf"), "the time limit must be a finite number"),
        (("--time-limit", "long"), "--time-limit"),
        (("--gap", "-0.1"), "the gap must be a finite number of at least 0; found -0.1"),
        (("--gap", "nan"), "the gap must be"),
        (("--margin", "-0.1"), "the margin must be a finite number of at least 0; found -0.1"),
        (("--margin", "nan"), "the margin must be a finite number of at least 0; found nan"),
        (("--margin", "inf"), "the margin must be"),
        (("--margin", "101"), "the margin must be at most 100 (0.1 is 10 %); found 101.0"),
        (("--slo-rule", "p98"), "unknown rule 'p98' (rules: half, deadline, p99, parvagpu; p99 takes another --per"),
        (("--percentile", "0.99"), "a percentile goes with the SLO rule p99 only; the rule is half"),
        (("--slo-rule", "p99", "--percentile", "0.4"), "the percentile must be in 0.5..0.999999 (0.99 is 99 %); found"),
        (("--slo-rule", "p99", "--percentile", "99"), "the percentile must be in 0.5..0.999999"),
        (("--slo-rule", "p99", "--percentile", "1"), "the percentile must be in 0.5..0.999999"),
        (("--slo-rule", "p99", "--percentile", "nan"), "the percentile must be in 0.5..0.999999"),
        (("--slo-rule", "p99", "--percentile", "high"), "--percentile"),
        (("--headroom", "-0.1"), "the headroom must be in 0..100 (0.2 is 20 % more); found -0.1"),
        (("--headroom", "nan"), "the headroom must be in 0..100"),
        (("--headroom", "101"), "the headroom must be in 0..100"),
        (("--headroom", "20%"), "--headroom"),
        (("--max-replicas", "0"), "max_replicas must be in 1..100; found 0"),
        (("--max-replicas", "1.5"), "--max-replicas"),
        (("--seed", "x"), "--seed"),
        (("--seed", "-1"), "the seed must be a whole number from 0 to 2147483647; found -1"),
        (("--seed", "3000000000"), "the seed must be a whole number from 0"),
        (("--fast",), "--fast"),
    ],
)
@pytest.mark.parametrize("command", ["solve", "compare"])
def test_options_out_of_range(command: str, options: tuple[str, ...], says: str) -> None:
    rejected(command, "igniter-three", *options, "-o", "out.txt", says=(says,))


def test_unknown_methods_list_the_known() -> None:
    known = f"(methods: {', '.join(METHODS)})"
    rejected("solve", "igniter-three", "--method", "assignmnt", says=("did you mean 'assignment'?", known))
    rejected("solve", "igniter-three", "--method", "simplex", says=("unknown method 'simplex'", known))
    rejected("compare", "igniter-three", "--methods", "igniter,fffd", says=("unknown method 'fffd'", known))
    rejected("compare", "igniter-three", "--methods", "", says=("unknown method ''", known))
    rejected("compare", "igniter-three", "igniter-three", says=("same name",))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--family", "mixd"), "unknown family 'mixd'; did you mean 'mixed'? (families: mixed, tight, loose"),
        (("--family", "zzz"), "unknown family 'zzz' (families: "),
        (("--workloads", "0"), "workloads must be at least 1; found 0"),
        (("--workloads", "-3"), "workloads must be at least 1; found -3"),
        (("--workloads", "many"), "--workloads"),
        (("--model", "bert"), "unknown model 'bert' (its models: alexnet, resnet50, vgg19, ssd)"),
        (("--profile", "v10", "--price", "1"), "unknown profile 'v10'; did you mean 'v100'?"),
        (("--profile", "v10"), "--price"),
        (("--price", "1", "--price", "2"), "give one price per profile"),
    ],
)
def test_generate_options(options: tuple[str, ...], says: str) -> None:
    rejected(*GENERATE, *options, says=(says,))


# Outputs that cannot be written are found out before the work


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        pytest.fail("the work was begun")

    # Where the commands find it when they are called.
    for module, work in (
        ("solve", "solve"),
        ("cli.commands.compare", "compare"),
        ("cli.commands.instances", "generate_instance"),
    ):
        monkeypatch.setattr(import_module(f"igniter_opt.{module}"), work, fail)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("command", [("solve", "igniter-three"), ("compare", "igniter-three"), GENERATE])
def test_output_that_cannot_be_written(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("taken").mkdir()
    rejected(*command, "-o", "nowhere/out", says=("nowhere/out: the folder nowhere does not exist",))
    rejected(*command, "-o", "taken", says=("taken: is a folder; give a file name",))
    Path("file").write_text("")
    rejected(*command, "-o", "file/out", says=("file/out: the folder file does not exist",))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("igniter_opt.base.files.tempfile.NamedTemporaryFile", refuse)
    rejected(*command, "-o", "out", says=("out: cannot be written (Permission denied)",))


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("command", ["solve", "compare"])
def test_plot_that_cannot_be_written(command: str) -> None:
    Path("taken.png").mkdir()
    for name in ("plot.jpg", "plot", "plot.png.txt", ".png"):
        message = rejected(command, "igniter-three", "--plot", name, says=(f"{name}: ",))
        assert all(suffix in message for suffix in (".png", ".svg", ".pdf"))
    rejected(command, "igniter-three", "--plot", "nowhere/a.png", says=("the folder nowhere does not exist",))
    rejected(command, "igniter-three", "--plot", "taken.png", says=("taken.png: is a folder",))


# Plans


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"{", "line 1, column 2: not JSON"),
        (b"name: yaml\n", "not JSON"),
        (b"[]", "expected a mapping"),
        (b"3", "expected a mapping"),
        (b"null", "found nothing"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff\xfe{}", "is not a UTF-8 text file"),
        (b"{}", "not a plan (the key 'schema' is missing)"),
        (b'{"schema": "igniter-opt/plan@2"}', "unknown plan schema 'igniter-opt/plan@2'; this version reads"),
        (b'{"schema": 1}', "unknown plan schema 1"),
        (b'{"schema": ["igniter-opt/plan@1"]}', "unknown plan schema"),
        (b'{"schema": "igniter-opt/plan@1"}', "instance: this key is required and missing"),
    ],
)
def test_files_that_are_no_plan(content: bytes, says: str) -> None:
    Path("plan.json").write_bytes(content)
    rejected("verify", "plan.json", says=("plan.json: ", says))
    rejected("verify", "plan.json", "--json", says=("plan.json: ", says))


def test_unreadable_plans() -> None:
    Path("folder").mkdir()
    rejected("verify", "missing.json", says=("missing.json: no such file",))
    rejected("verify", "folder", says=("folder: is a folder, not a file",))


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("gps",), 1, "unknown key 'gps'; did you mean 'gpus'?"),
        (("solver", "costs_per_hour"), 1, "solver: unknown key 'costs_per_hour'; did you mean 'cost_per_hour'?"),
        (("gpus", 0, "nme"), 1, "gpus[0]: unknown key 'nme'; did you mean 'name'?"),
        (("gpus", 0, "placements", 1, "shares"), 1, "gpus[0].placements[1]: unknown key 'shares'"),
        (("gpus", 0, "placements"), [], "gpus[0].placements: must have at least 1 entries"),
        (("gpus", 0, "placements", 0, "share_percent"), float("nan"), "share_percent: must be a finite number"),
        (("gpus", 0, "placements", 0, "share_percent"), "much", "share_percent: must be a number"),
        (("gpus", 0, "placements", 0, "batch"), 1.5, "batch: must be a whole number"),
        (("gpus", 0, "placements", 0, "batch"), True, "batch: must be a whole number"),
        (("gpus", 0, "placements", 0, "workload"), "../x", "workload: must be 1 to 63 letters"),
        (("gpus", 0, "type"), "$(x)", "gpus[0].type: must be 1 to 63 letters"),
        (("solver", "status"), "perfect", "solver.status: must be one of optimal, feasible, heuristic, violates"),
        (("solver", "margin"), -1, "solver.margin: must be at least 0; found -1"),
        (("solver", "cost_per_hour"), float("inf"), "solver.cost_per_hour: must be a finite number"),
        (("instance", "workloads", 0, "model"), "bert", "unknown model 'bert'"),
        (("instance", "workloads", 0, "rate_rps"), 0, "instance.workloads[0].rate_rps: must be greater than 0"),
        (("instance", "gpu_types", 0, "profile"), "v100", "instance.gpu_types[0].profile: must be a mapping"),
    ],
)
def test_plans_of_another_form(plan_text: str, path: tuple[str | int, ...], value: object, says: str) -> None:
    Path("plan.json").write_text(json.dumps(with_value(value, *path, data=json.loads(plan_text))))
    rejected("verify", "plan.json", says=("plan.json: ", says))


# Placements to predict


@pytest.mark.parametrize(
    ("placements", "says"),
    [
        *[
            ((text,), f"placement '{text}': expected MODEL:BATCH:SHARE, such as alexnet:4:10")
            for text in ("alexnet", "alexnet:4", "alexnet:4:10:1", "alexnet:x:10", "alexnet:1.5:10", "alexnet:4:", "::")
        ],
        (("alexnett:4:10",), "unknown model 'alexnett'; did you mean 'alexnet'? (its models: alexnet, resnet50"),
        (("bert:4:10",), "unknown model 'bert' (its models: alexnet, resnet50, vgg19, ssd)"),
        ((":4:10",), "unknown model ''"),
        (("alexnet:0:10",), "alexnet: batch must be a whole number in 1..100000; found 0"),
        (("alexnet:4:0",), "alexnet: share must be in (0, 100] percent; found 0"),
        (("alexnet:4:101",), "share must be in (0, 100] percent; found 101"),
        (("alexnet:4:nan",), "share must be in (0, 100] percent; found nan"),
        (("alexnet:4:inf",), "share must be in (0, 100] percent; found inf"),
        (("alexnet:4:60", "ssd:1:60"), "the shares add up to 120 %, more than 100 %"),
        (("alexnet:4:10", "ssd:1"), "placement 'ssd:1'"),
    ],
)
def test_placements(placements: tuple[str, ...], says: str) -> None:
    rejected("predict", "v100", *placements, says=(says,))
    rejected("predict", "v100", *placements, "--json", says=(says,))


def test_predict_takes_profiles_only() -> None:
    rejected("predict", "v10", "alexnet:4:10", says=("unknown profile 'v10'; did you mean 'v100'?",))
    rejected("predict", ".", "alexnet:4:10", says=("is a folder, not a file",))
    assert invoke("predict", "v100", "alexnet:4:100").code == 0


def test_an_output_named_dash_is_no_file(folder: Path) -> None:
    rejected("compare", "igniter-three", "-o", "-", says=("-: outputs are files",))
    assert not (folder / "-").exists()
