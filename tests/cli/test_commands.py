"""What every command does when all is well: results on stdout, files written, exit codes."""

import csv
import importlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from igniter_opt import Instance, Result, __version__, verify
from igniter_opt.data.instance_files import read_instance, shipped_instances
from igniter_opt.data.plan import plan_from_data
from igniter_opt.data.profile import read_profile
from igniter_opt.predict import predict
from igniter_opt.solve import solve_as
from tests.cli.helpers import Run, invoke, rejected, script, with_value, write_instance

MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml", "pdf": b"%PDF-"}
V100_PRICE = 3.06


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def succeeds(*arguments: str) -> Run:
    run = invoke(*arguments)
    assert run.code == 0, run.err
    return run


# solve and verify


@pytest.mark.parametrize("method", ["auto", "igniter", "ffd++", "assignment"])
def test_solved_plan_verifies(method: str) -> None:
    run = succeeds("solve", "igniter-motivation", "--method", method, "-o", "plan.json")
    assert "igniter-motivation: 1 GPU, 3.06 USD per hour" in run.out
    assert "checked by the predictor: all SLOs hold" in run.out
    assert run.err == ""
    run = succeeds("verify", "plan.json")
    assert "the plan holds" in run.out
    assert run.err == ""


def test_solve_json_is_the_plan_file() -> None:
    run = succeeds("solve", "igniter-three", "--json", "-o", "plan.json")
    assert run.out == Path("plan.json").read_text()
    plan = plan_from_data(run.json(), "stdout")
    assert verify(plan).ok
    assert plan.instance == read_instance("igniter-three")
    assert (plan.solver.status, plan.solver.gap, plan.solver.lower_bound_per_hour) == ("optimal", 0.0, V100_PRICE)
    assert list(run.json()) == ["schema", "instance", "solver", "gpus"]


def test_options_reach_the_plan() -> None:
    options = ["--margin", "0.05", "--slo-rule", "deadline", "--max-replicas", "2", "--seed", "7"]
    plan = succeeds("solve", "igniter-three", "--method", "igniter", "--json", *options).json()
    assert (plan["solver"]["margin"], plan["solver"]["seed"], plan["instance"]["slo_rule"]) == (0.05, 7, "deadline")
    assert [workload["max_replicas"] for workload in plan["instance"]["workloads"]] == [2, 2, 2]
    assert (plan["solver"]["status"], plan["solver"]["lower_bound_per_hour"]) == ("heuristic", None)


def test_rule_p99_from_the_command_line() -> None:
    options = ["--slo-rule", "p99", "--max-replicas", "2", "--method", "igniter"]
    run = succeeds("solve", "igniter-three", *options, "-o", "plan.json")
    assert "P99 ms" in run.out
    assert "SLO rule p99" in run.out
    plan = json.loads(Path("plan.json").read_text())
    assert "percentile" not in plan["instance"]
    assert {p["queue_delay_us"] for gpu in plan["gpus"] for p in gpu["placements"]} == {0}
    judged = succeeds("verify", "plan.json", "--json").json()
    for entry in judged["placements"]:
        assert entry["limit_ms"] in (10, 30, 40)
        assert entry["slack_ms"] == pytest.approx(entry["limit_ms"] - entry["latency_ms"])
    stricter = succeeds("solve", "igniter-three", *options, "--percentile", "0.999", "-o", "strict.json")
    assert "P99.9 ms" in stricter.out
    assert "SLO rule p99 (percentile 0.999)" in stricter.out
    assert json.loads(Path("strict.json").read_text())["instance"]["percentile"] == 0.999
    # The override of the rule drops the percentile, which no other rule has.
    text = succeeds("instances", "show", "igniter-three").out.replace(
        "slo_rule: half", "slo_rule: p99\npercentile: 0.9"
    )
    Path("mine.yaml").write_text(text)
    assert "P90 ms" in succeeds("solve", "mine.yaml", "--method", "igniter").out
    assert "SLO rule half" in succeeds("solve", "mine.yaml", "--method", "igniter", "--slo-rule", "half").out
    table = succeeds("compare", "mine.yaml", "--methods", "igniter,ffd++", "--percentile", "0.95", "--json").json()
    assert [row["status"] for row in table] == ["heuristic", "heuristic"]


def test_plan_is_self_contained_and_instances_are_found_beside_profiles(folder: Path) -> None:
    (folder / "deep").mkdir()
    profile = read_profile("v100").model_dump(mode="json", exclude_none=True)
    (folder / "deep" / "card.json").write_text(json.dumps(profile))
    text = succeeds("instances", "show", "igniter-three").out.replace("profile: v100", "profile: card.json")
    (folder / "deep" / "mine.yaml").write_text(text)
    succeeds("solve", "deep/mine.yaml", "--method", "igniter", "-o", "plan.json")
    (folder / "deep" / "card.json").unlink()
    succeeds("verify", "plan.json")


def test_violating_baseline_is_refused() -> None:
    run = invoke("solve", "igniter-table3", "--method", "ffd", "-o", "plan.json", "--plot", "plan.png", "--json")
    assert (run.code, run.out) == (1, "")
    assert "method ffd does not model interference exactly" in run.err
    assert "nothing was written" in run.err
    assert "is over its limit" in run.err
    assert list(Path().iterdir()) == []


def test_existing_output_is_replaced() -> None:
    succeeds("solve", "igniter-motivation", "--method", "igniter", "-o", "plan.json")
    succeeds("solve", "igniter-three", "--method", "igniter", "-o", "plan.json")
    assert '"igniter-three"' in Path("plan.json").read_text()
    assert [path.name for path in Path().iterdir()] == ["plan.json"]


def test_verify_json() -> None:
    succeeds("solve", "igniter-three", "--method", "igniter", "-o", "plan.json")
    data = succeeds("verify", "plan.json", "--json").json()
    assert list(data) == ["ok", "violations", "placements"]
    assert data["ok"] is True
    assert data["violations"] == []
    assert {entry["workload"] for entry in data["placements"]} == {"R", "A", "S"}
    for entry in data["placements"]:
        assert entry["latency_ms"] <= entry["limit_ms"]
        assert entry["throughput_rps"] >= entry["rate_rps"]
        assert entry["slack_ms"] == pytest.approx(entry["limit_ms"] - entry["latency_ms"])


# compare


@pytest.fixture(scope="module")
def table3(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    """The comparison on Table 3 as JSON, and the CSV text of the same run."""
    path = tmp_path_factory.mktemp("table3") / "rows.csv"
    return succeeds("compare", "igniter-table3", "--json", "-o", str(path)), path.read_text()


def test_compare_json_is_the_csv(table3: tuple[Run, str]) -> None:
    rows: list[dict[str, Any]] = table3[0].json()
    header, *lines = csv.reader(io.StringIO(table3[1]))
    assert all(list(row) == header for row in rows)
    for row, line in zip(rows, lines, strict=True):
        for value, text in zip(row.values(), line, strict=True):
            if value is None:
                assert text == ""
            elif isinstance(value, str):
                assert text == value
            else:
                assert float(text) == pytest.approx(value)


def test_compare_on_table3(table3: tuple[Run, str]) -> None:
    rows = {row["method"]: row for row in table3[0].json()}
    assert list(rows) == ["igniter", "ffd", "ffd++", "gpulets", "gslice", "bestfit", "dedicated", "patterns"]
    assert table3[0].err == ""
    igniter, blind, exact = rows["igniter"], rows["ffd"], rows["patterns"]
    assert (igniter["gpus"], igniter["total_share_percent"], igniter["workloads_over_slo"]) == (6, 472.5, 0)
    assert (igniter["status"], igniter["saving_percent"], igniter["lower_bound_per_hour"]) == ("heuristic", 0.0, None)
    assert (blind["gpus"], blind["status"], blind["workloads_over_slo"]) == (5, "violates", 9)
    assert blind["saving_percent"] is None
    assert (exact["gpus"], exact["workloads_over_slo"]) == (6, 0)
    assert exact["cost_per_hour"] == pytest.approx(6 * V100_PRICE)
    assert exact["total_share_percent"] <= 472.5
    proven = exact["lower_bound_per_hour"] == pytest.approx(6 * V100_PRICE)
    assert proven or exact["lower_bound_per_hour"] == pytest.approx(5 * V100_PRICE)
    assert exact["status"] == ("optimal" if proven else "feasible")
    assert exact["gap"] == pytest.approx(0.0 if proven else 1 / 6)
    assert 0 < exact["total_share_lower_bound_percent"] <= exact["total_share_percent"]
    assert {row["total_share_lower_bound_percent"] for name, row in rows.items() if name != "patterns"} == {None}
    assert {row["within"] for row in rows.values()} == {None}


def test_compare_says_within_what_a_proof_holds() -> None:
    asked = ("compare", "igniter-three", "--methods", "igniter,patterns", "--slo-rule", "p99", "--requests", "0")
    run = succeeds(*asked)
    assert "bound/h, optimal: within p99's safe limits" in run.out.splitlines()
    assert "at least" in run.out.splitlines()[0]
    assert [row["within"] for row in succeeds(*asked, "--json").json()] == [None, "p99's safe limits"]


def test_compare_says_why_a_search_ended_without_a_proof() -> None:
    asked = ("compare", "igniter-table3", "--methods", "assignment", "--max-replicas", "3", "--time-limit", "0.5")
    run = succeeds(*asked, "--requests", "0")
    assert run.out.splitlines()[-1].startswith("igniter-table3, assignment: ended: the time limit of 0.")


@pytest.mark.parametrize(
    ("command", "path", "says"),
    [
        (("solve", "igniter-three"), "model.lp", ("a plan", ".json")),
        (("solve", "igniter-three"), "plan.csv", ("a plan", ".json")),
        (("compare", "igniter-three"), "out.json", ("a comparison", ".csv", "--json")),
        (("instances", "generate", "--workloads", "3", "--seed", "1"), "plan.json", ("an instance", ".yaml")),
    ],
)
def test_a_name_of_another_format_is_refused(
    command: tuple[str, ...], path: str, says: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rejected(*command, "-o", path, says=says)


def test_compare_table_and_chosen_methods() -> None:
    run = succeeds("compare", "igniter-three", "igniter-motivation", "--methods", "ffd++, igniter")
    lines = run.out.splitlines()
    assert lines[0].split()[:4] == ["instance", "method", "status", "GPUs"]
    assert lines[-1].startswith("under Poisson arrivals about ")
    assert lines[-2].startswith("late, P99/SLO: ")
    assert lines[-4:-2] == ["costs in USD", "coefficients: igniter"]
    words = [line.split() for line in lines[1:-4]]
    assert [line[0] for line in words] == ["igniter-three", "ffd++", "igniter-motivation", "ffd++"]
    assert [words[0][1], words[2][1]] == ["igniter", "igniter"]


@pytest.mark.parametrize(("method", "code", "rows"), [("ffd", 130, 2), ("igniter", 130, 0)])
def test_compare_keeps_the_rows_before_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, method: str, code: int, rows: int
) -> None:
    """Where a heuristic is interrupted, or the compilation before a method, there is no plan of that one."""

    def interrupted(instance: Instance, name: str, *options: Any) -> Result:
        if name == method:
            raise KeyboardInterrupt
        return solve_as(instance, name, *options)

    succeeds("compare", "igniter-three", "--methods", "ffd", "--requests", "0", "-o", "rows.csv")
    kept = Path("rows.csv").read_text()
    monkeypatch.setattr(importlib.import_module("igniter_opt.compare"), "solve_as", interrupted)
    arguments = ["igniter-three", "--methods", "igniter,bestfit,ffd", "--requests", "0", "-o", "rows.csv", "--json"]
    run = invoke("compare", *arguments)
    assert run.code == code
    assert "interrupted" in run.err
    if rows:
        assert len(run.json()) == rows
        assert len(Path("rows.csv").read_text().splitlines()) == rows + 1
    else:
        assert run.out == ""
        assert Path("rows.csv").read_text() == kept


def test_compare_shows_methods_without_a_plan() -> None:
    Path("mine.yaml").write_text(
        succeeds("instances", "show", "igniter-three").out.replace("rate_rps: 1200", "rate_rps: 90000")
    )
    row = invoke("compare", "mine.yaml", "--methods", "assignment", "--json").json()[0]
    assert (row["status"], row["gpus"], row["cost_per_hour"]) == ("infeasible", None, None)
    assert "rate_rps of" in row["message"]


# predict


def test_predict_json() -> None:
    data = succeeds("predict", "v100", "alexnet:4:10", "vgg19:6:37.5", "--json").json()
    assert list(data) == ["coefficients", "placements", "frequency_mhz", "power_w"]
    expected = predict(read_profile("v100"), [("alexnet", 4, 10.0), ("vgg19", 6, 37.5)])
    for k, entry in enumerate(data["placements"]):
        assert list(entry) == ["model", "batch", "share_percent", "latency_ms", "throughput_rps"]
        assert (entry["latency_ms"], entry["throughput_rps"]) == (expected.latency_ms[k], expected.throughput_rps[k])
    assert [(e["model"], e["batch"], e["share_percent"]) for e in data["placements"]] == [
        ("alexnet", 4, 10.0),
        ("vgg19", 6, 37.5),
    ]
    assert (data["frequency_mhz"], data["power_w"]) == (expected.frequency_mhz, expected.power_w)


def test_predict_says_when_it_extrapolates() -> None:
    run = succeeds("predict", "v100", "alexnet:4:10", "ssd:64:50")
    assert "alexnet" in run.out
    assert run.err == "warning: ssd was profiled up to batch 32; batch 64 is extrapolated\n"


@pytest.mark.parametrize(("share", "multiple"), [("3", False), ("3.0303030303", True)])
def test_predict_says_which_shares_the_card_never_grants(share: str, multiple: bool) -> None:
    run = succeeds("predict", "h100", f"ssd:3:{share}")
    assert f"warning: the card grants no share below 6.06061 %; {float(share):g} % would be raised to it\n" in run.err
    assert ("is no multiple of the share unit" not in run.err) == multiple


# plots


@pytest.mark.parametrize("suffix", [*MAGIC, "PNG"])
def test_plots(suffix: str) -> None:
    succeeds("solve", "igniter-three", "--method", "igniter", "--plot", f"plan.{suffix}")
    succeeds("compare", "igniter-three", "--methods", "igniter,ffd", "--plot", f"cost.{suffix}")
    for name in ("plan", "cost"):
        content = Path(f"{name}.{suffix}").read_bytes()
        assert content.startswith(MAGIC[suffix.lower()])
        assert len(content) > 5000


@pytest.mark.parametrize(
    ("instances", "methods", "panel", "labels"),
    [
        (["igniter-three"], "igniter,ffd", False, []),
        (["igniter-three"], "igniter,assignment,patterns", True, ["cost per hour"]),
        (["igniter-three", "igniter-motivation"], "igniter,patterns", True, ["cost per hour / final cost"]),
    ],
)
def test_comparison_draws_progress_where_there_is_any(
    instances: list[str], methods: str, panel: bool, labels: list[str]
) -> None:
    succeeds("compare", *instances, "--methods", methods, "--time-limit", "10", "--plot", "cost.svg")
    text = Path("cost.svg").read_text()
    # Matplotlib notes every text in a comment beside its outlines.
    assert ("<!-- seconds -->" in text) == panel
    assert ("Best plan (solid) and proven bound (dashed) over time" in text) == panel
    for label in labels:
        assert f"<!-- {label} -->" in text


# instances


def test_instances_list_and_show() -> None:
    text = succeeds("instances", "list").out
    rows = succeeds("instances", "list", "--json").json()
    assert [row["name"] for row in rows] == shipped_instances()
    assert all(name in text for name in shipped_instances())
    for row in rows:
        assert row["workloads"] == len(read_instance(row["name"]).workloads)
    shown = succeeds("instances", "show", "igniter-table3").out
    Path("shown.yaml").write_text(shown)
    assert read_instance("shown.yaml") == read_instance("igniter-table3")


@pytest.mark.parametrize("family", ["mixed", "tight", "loose", "one-model", "tiny"])
def test_generated_instances(family: str) -> None:
    options = ["--workloads", "8", "--family", family, "--name", "mine"]
    for name, seed in (("a.yaml", "7"), ("b.yaml", "7"), ("c.yaml", "8")):
        succeeds("instances", "generate", *options, "--seed", seed, "-o", name)
    assert Path("a.yaml").read_bytes() == Path("b.yaml").read_bytes() != Path("c.yaml").read_bytes()
    instance = read_instance("a.yaml")
    assert (instance.name, len(instance.workloads)) == ("mine", 8)
    assert len({workload.model for workload in instance.workloads}) == 1 or family != "one-model"
    for number, workload in enumerate(instance.workloads):
        alone = instance.model_copy(update={"workloads": (workload,), "name": f"alone{number}"})
        Path("alone.yaml").write_text(alone.model_dump_json(exclude_none=True))
        assert len(succeeds("solve", "alone.yaml", "--method", "ffd++", "--json").json()["gpus"]) == 1
    plan = succeeds("solve", "a.yaml", "--method", "ffd++", "-o", "plan.json")
    assert plan.err == ""
    succeeds("verify", "plan.json")


def test_generated_instance_takes_model_price_and_file_name() -> None:
    options = ["--workloads", "3", "--seed", "1", "--model", "ssd", "--price", "2.5"]
    run = succeeds("instances", "generate", *options, "-o", "mine-3.yaml")
    assert run.out == ""
    assert run.err == "wrote mine-3.yaml: 3 workloads\n"
    instance = read_instance("mine-3.yaml")
    assert instance.name == "mine-3"
    assert {workload.model for workload in instance.workloads} == {"ssd"}
    assert instance.gpu_types[0].price_per_hour == 2.5


# the script


def test_script_keeps_results_and_diagnostics_apart() -> None:
    assert script("--version").out == f"{__version__}\n"
    assert subprocess.check_output([sys.executable, "-m", "igniter_opt", "--version"], text=True) == f"{__version__}\n"
    run = script("solve", "igniter-motivation", "--method", "igniter", "-o", "plan.json", "--json")
    assert (run.code, run.err) == (0, "")
    assert run.json() == json.loads(Path("plan.json").read_text())
    run = script("verify", "plan.json")
    assert (run.code, run.err) == (0, "")
    Path("plan.json").write_text(Path("plan.json").read_text().replace('"batch": 8', '"batch": 9'))
    run = script("verify", "plan.json")
    assert (run.code, run.err) == (1, "")
    assert "the plan does not hold" in run.out


def test_a_plan_at_other_rates_holds_them() -> None:
    run = invoke("solve", "igniter-three", "--method", "igniter", "--scale", "1.5", "--json")
    assert run.code == 0
    before = {entry.name: entry.rate_rps for entry in read_instance("igniter-three").workloads}
    found = run.json()["instance"]["workloads"]
    assert {entry["name"]: entry["rate_rps"] for entry in found} == {n: 1.5 * rate for n, rate in before.items()}
    compared = invoke("compare", "igniter-three", "--methods", "igniter", "--scale", "4", "--requests", "0", "--json")
    assert compared.json()[0]["gpus"] > len(run.json()["gpus"])
    rejected("solve", "igniter-three", "--scale", "0", says=("the scale must be a finite number above 0",))


def test_tables_have_numbers_that_people_read(tmp_path: Path) -> None:
    data = with_value("h100", "gpu_types", 0, "profile")
    run = invoke("solve", write_instance(data, str(tmp_path / "h100.yaml")), "--method", "igniter")
    assert run.code == 0
    assert "1 GPU, 3.06 USD per hour" in run.out
    assert not re.search(r"\d\.\d{3,}", run.out.replace(" s; checked", "")), run.out


def test_a_gpu_that_costs_nothing_is_refused_with_what_to_write_instead(tmp_path: Path) -> None:
    path = write_instance(with_value(0, "gpu_types", 0, "price_per_hour"), str(tmp_path / "free.yaml"))
    says = ("gpu_types[0].price_per_hour: must be greater than 0; found 0 (for cards that you own", "such as 1")
    rejected("solve", path, says=says)
