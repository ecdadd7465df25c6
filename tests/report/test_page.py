"""The page as a text: complete tables, nothing to fetch, every name escaped, numbers those of the sources."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from igniter_opt import read_instance, simulate, solve, verify
from igniter_opt.base.kinds import REPORT_MARK
from igniter_opt.cli.tables.plans import print_report
from igniter_opt.data.plan import Plan
from igniter_opt.deploy.approval import make_approval
from igniter_opt.report.charts import details, latency_histogram, nice_step, used_percent
from igniter_opt.report.page import render_page
from igniter_opt.report.palette import FILLS, paints
from tests.report.pages import Page, findings_of, result_of, write_case

HOSTILE = "<script>alert(1)</script>\"'&<img src=x>"


def number(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-"))


@pytest.fixture(scope="module")
def table3(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Page]:
    folder = tmp_path_factory.mktemp("page")
    path = write_case(folder, "igniter-table3", "auto")
    plan = result_of("igniter-table3").plan
    (folder / "sim.json").write_text(json.dumps(simulate(plan, requests=2_000, seeds=2).to_dict()))
    findings = findings_of(
        folder, what_if_time_s=600.0, history=folder / "history.json", measurements=[folder / "sim.json"]
    )
    text = render_page(findings)
    assert REPORT_MARK in text[:2000]
    page = Page(text)
    for name in ("plan.json", "history.json", "sim.json"):
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() in page.text
    assert str(path) in page.text
    return plan, page


def test_the_page_can_be_matched_with_an_approval(table3: tuple[Plan, Page]) -> None:
    plan, page = table3
    assert make_approval(plan).plan_digest in page.text


def test_what_was_examined_comes_before_what_was_found(tmp_path: Path) -> None:
    plan = result_of("igniter-three", "auto").plan
    findings = findings_of(tmp_path, plan, what_if_time_s=600.0)
    study = findings.sensitivity
    assert study is not None
    names = [entry.workload for entry in study.workloads]
    for known in (0, 1):
        kept = [
            entry if k < known else dataclasses.replace(entry, changes=()) for k, entry in enumerate(study.workloads)
        ]
        page = Page(
            render_page(
                dataclasses.replace(findings, sensitivity=dataclasses.replace(study, workloads=kept, complete=False))
            )
        )
        assert f"{known} of 3 workloads were examined in the 600 s given; of the rest nothing is known" in page.text
        assert f"Not examined: {', '.join(names[known:])}." in page.text
        assert ("nothing is said here about relaxing" in page.text) == (known == 0)
    assert "were examined in" not in Page(render_page(findings)).text


def test_free_parts_of_cards_are_not_added_up_to_a_card(table3: tuple[Plan, Page]) -> None:
    plan, page = table3
    free = sorted(100.0 - gpu.total_share_percent for gpu in plan.gpus)
    assert (
        f"Of each {free[0]:.1f} to {free[-1]:.1f} % are free, together as much as {sum(free) / 100:.2f} GPUs"
        in page.text
    )
    assert "parts of several cards do not make one" in page.text


def test_measurements_of_few_requests_are_marked(tmp_path: Path) -> None:
    path = write_case(tmp_path)
    measured = json.loads(json.dumps(simulate(result_of("igniter-three", "igniter").plan, requests=500).to_dict()))
    measured["workloads"][0]["requests"] = 35
    for row in measured["workloads"][1:]:
        row["requests"] = 100_000
    (tmp_path / "m.json").write_text(json.dumps(measured))
    findings = findings_of(tmp_path, measurements=[tmp_path / "m.json"])
    assert findings.plan_file.name == str(path)
    page = Page(render_page(findings))
    name = measured["workloads"][0]["workload"]
    assert f"but 1 workload had fewer than 10 requests beyond it, which says little ({name})" in page.text
    (table,) = (table for table in page.tables if "P99 / SLO" in table[0])
    column = table[0].index("P99 / SLO")
    assert [row[column].endswith(" ?") for row in table[1:]] == [True, False, False]


def test_nothing_is_fetched_and_links_lead_somewhere(table3: tuple[Plan, Page]) -> None:
    _, page = table3
    assert page.fetched == ["data:,"]
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)
    assert not {"iframe", "object", "embed", "img", "base", "form"} & set(page.tags)


def test_headline_and_proof(table3: tuple[Plan, Page]) -> None:
    plan, page = table3
    cost = plan.solver.cost_per_hour
    for text in (
        f"{cost:.2f}",
        f"{730 * cost:,.2f}",
        "Proven optimal: no plan for these workloads costs less than 18.36",
    ):
        assert text in page.text


def test_every_placement_is_in_the_table_with_the_judges_numbers(table3: tuple[Plan, Page]) -> None:
    plan, page = table3
    checks = {(check.gpu, check.workload): check for check in verify(plan).placements}
    rows = page.table("GPU")
    assert {(row["GPU"], row["Workload"]) for row in rows} == set(checks)
    for row in rows:
        check = checks[row["GPU"], row["Workload"]]
        assert (row["Model"], int(row["Batch"])) == (check.model, check.batch)
        assert number(row["Share %"]) == check.share_percent
        assert number(row["Latency ms"]) == pytest.approx(check.latency_ms, abs=0.005)
        assert number(row["Limit ms"]) == pytest.approx(check.limit_ms, abs=0.005)
        assert number(row["Can carry req/s"]) == pytest.approx(check.throughput_rps, abs=0.05)


def test_baselines_that_miss_slos_are_not_usable_and_save_nothing(table3: tuple[Plan, Page]) -> None:
    _, page = table3
    rows = {row["Baseline"].split(" ")[-1]: row for row in page.table("Baseline")}
    assert set(rows) == {"patterns", "igniter", "ffd", "ffd++", "gpulets", "gslice", "bestfit", "dedicated"}
    for name in ("ffd", "gpulets", "gslice"):
        assert rows[name]["Usable"].startswith("no: ")
        assert rows[name]["Saved/month"] == "–"
    assert number(rows["igniter"]["Saved/month"]) == 0.0
    assert number(rows["ffd"]["Cost per hour"]) == 15.30


def test_simulated_latencies_stand_beside_the_predicted_ones(table3: tuple[Plan, Page]) -> None:
    plan, page = table3
    simulated = {entry.workload: entry for entry in simulate(plan, requests=2_000, seeds=2).workloads}
    rows = [row for table in range(2) for row in page.table("Workload", table) if "P99 / SLO" in row]
    assert len(rows) == 12
    for row in rows:
        entry = simulated[row["Workload"]]
        assert number(row["P99 ms"]) == pytest.approx(entry.estimates["p99_ms"].value, abs=0.005)
        assert number(row["P99 / SLO"]) == pytest.approx(entry.p99_over_slo, abs=0.005)


def test_what_pays_is_said_first(table3: tuple[Plan, Page]) -> None:
    _, page = table3
    assert "W10 (ssd): SLO +10 %, from 25 to 27.5 ms, saves 3.06 per hour" in " ".join(page.text.split())
    rows = {row["Workload"]: row for row in page.table("Workload", 2)}
    assert rows["W10"]["SLO +10 %"] == "3.06"
    assert rows["W1"]["SLO +100 %"] == "0"


def test_every_free_text_is_escaped(tmp_path: Path) -> None:
    plan = result_of("igniter-three", "igniter").plan
    hostile = plan.model_copy(
        update={
            "instance": plan.instance.model_copy(update={"description": HOSTILE}),
            "solver": plan.solver.model_copy(update={"method": HOSTILE, "version": HOSTILE}),
        }
    )
    measured = {
        "schema": "igniter-opt/measurement@1",
        "source": HOSTILE,
        "arrivals": HOSTILE,
        "duration_s": 1,
        "workloads": [{"workload": HOSTILE}, {"workload": plan.instance.workloads[0].name, "p99_ms": 1.0}],
    }
    path = tmp_path / "<script>.json"
    path.write_text(json.dumps(measured))
    findings = findings_of(tmp_path, hostile, measurements=[path])
    # Names in a file cannot be like this, but nothing but escaping may stand between them and the page.
    renamed = [
        dataclasses.replace(check, workload=HOSTILE, model=HOSTILE) for check in findings.verification.placements
    ]
    gpus = [
        gpu.model_copy(
            update={
                "placements": tuple(
                    entry.model_copy(update={"workload": HOSTILE, "model": HOSTILE}) for entry in gpu.placements
                )
            }
        )
        for gpu in hostile.gpus
    ]
    findings = dataclasses.replace(
        findings,
        plan=hostile.model_copy(update={"gpus": tuple(gpus)}),
        command=HOSTILE,
        verification=dataclasses.replace(findings.verification, placements=renamed),
    )
    text = render_page(findings)
    page = Page(text)
    assert text.count("<script>") == 1
    assert "alert(1)</script>" not in text
    assert page.tags.count("img") == 0
    assert page.text.count("<script>alert(1)</script>") >= 8


def test_a_plan_that_does_not_hold_says_so_first(tmp_path: Path) -> None:
    plan = result_of("igniter-three", "igniter").plan
    gpu = plan.gpus[0]
    starved = gpu.placements[0].model_copy(update={"share_percent": 2.5})
    broken = plan.model_copy(update={"gpus": (gpu.model_copy(update={"placements": (starved, *gpu.placements[1:])}),)})
    page = Page(render_page(findings_of(tmp_path, broken, what_if_time_s=5.0)))
    assert "The plan does not hold" in page.text
    assert len(page.table("Kind")) == len(verify(broken).violations)
    assert "What would change the cost" not in page.text
    # No saving is claimed for it.
    assert "Saving against" not in page.text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("workload", "nobody"),
        ("model", "nothing"),
        ("batch", 0),
        ("share_percent", 250.0),
        ("share_percent", 3.3),
        ("rate_rps", 0.0),
        ("rate_rps", 1e6),
        ("replica", 7),
    ],
)
def test_every_kind_of_broken_plan_gives_a_page(tmp_path: Path, key: str, value: object) -> None:
    plan = result_of("igniter-table3").plan
    gpu = plan.gpus[1]
    changed = gpu.placements[0].model_copy(update={key: value})
    broken = gpu.model_copy(update={"placements": (changed, *gpu.placements[1:])})
    for gpus in ((plan.gpus[0], broken), (broken, broken), (broken.model_copy(update={"type": "A100"}),), ()):
        page = Page(render_page(findings_of(tmp_path, plan.model_copy(update={"gpus": gpus}))))
        assert "The plan does not hold" in page.text


def test_a_plan_with_splits_of_igniters_own_says_why_nothing_was_examined(tmp_path: Path) -> None:
    instance = read_instance("igniter-three")
    heavy = instance.workloads[0].model_copy(update={"model": "vgg19", "slo_ms": 30.0, "rate_rps": 900.0})
    plan = solve(instance.model_copy(update={"workloads": (heavy, *instance.workloads[1:])}), "igniter").plan
    page = Page(render_page(findings_of(tmp_path, plan, what_if_time_s=5.0)))
    assert "Not examined: the plan splits workloads by iGniter's own rule" in page.text
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)


def test_a_cheaper_baseline_is_named_in_the_head(tmp_path: Path) -> None:
    page = Page(render_page(findings_of(tmp_path, result_of("uniform-24-1", "igniter").plan)))
    assert "A cheaper plan is known for the same workloads: 18.36 per hour, by best fit" in " ".join(page.text.split())
    assert "Nothing is proven" in page.text


def test_rule_p99_compares_predicted_and_simulated_percentiles(tmp_path: Path) -> None:
    plan = solve(read_instance("igniter-three"), "bestfit", slo_rule="p99").plan
    (tmp_path / "sim.json").write_text(json.dumps(simulate(plan, requests=50_000, seeds=2).to_dict()))
    page = Page(render_page(findings_of(tmp_path, plan, measurements=[tmp_path / "sim.json"])))
    rows = [row for table in range(2) for row in page.table("Workload", table) if "Ratio" in row]
    latencies = {check.workload: check.latency_ms for check in verify(plan).placements}
    for row in rows:
        assert number(row["Predicted ms"]) == pytest.approx(latencies[row["Workload"]], abs=0.005)
        assert 0.5 < number(row["Ratio"]) < 1.2


def test_histogram_counts_every_placement_once() -> None:
    plan = result_of("igniter-table3").plan
    verification = verify(plan)
    found = latency_histogram(verification)
    assert found is not None
    assert sum(count for _, count, _ in found.bars) == len(verification.placements)
    for low, count, _ in found.bars[:10]:
        used = [used_percent(check) or 0.0 for check in verification.placements]
        assert count == sum(1 for entry in used if low <= entry < low + 10)


def test_models_beyond_the_palette_get_textures() -> None:
    found = paints([f"m{k}" for k in range(2 * len(FILLS) + 1)])
    assert len(set(found.values())) == 2 * len(FILLS) + 1


@pytest.mark.parametrize(("least", "step"), [(0.3, 0.5), (1.0, 1.0), (2.1, 2.5), (7.0, 10.0), (30.0, 50.0)])
def test_axis_steps_are_round(least: float, step: float) -> None:
    assert nice_step(least) == pytest.approx(step)


@pytest.mark.parametrize(
    ("saving", "percent", "words"),
    [(0.0, 0.0, ("equal", "no saving: it costs as much")), (0.001, 0.02, ("0.020 %",)), (3.06, 16.6667, ("16.7 %",))],
)
def test_no_saving_is_no_percentage(
    saving: float, percent: float, words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = findings_of(tmp_path)
    first, *rest = findings.baselines
    changed = dataclasses.replace(first, saving_per_hour=saving, saving_percent=percent)
    findings = dataclasses.replace(findings, baselines=(changed, *rest))
    tiles = Page(render_page(findings)).text.partition("All of this is within")[0]
    assert all(word in tiles for word in words)
    assert "0.0 %" not in tiles
    print_report(findings, tmp_path / "page.html")
    said = capsys.readouterr().out
    assert ("costs as much as" in said) == (saving == 0)
    assert "saves 0.0 %" not in said


def test_latencies_stand_beside_those_with_the_margin_that_are_judged(tmp_path: Path) -> None:
    plan = solve(read_instance("igniter-three"), "igniter", margin=0.1).plan
    text = render_page(findings_of(tmp_path, plan))
    page = Page(text)
    checks = {check.workload: check for check in verify(plan).placements}
    for row in [*page.table("GPU"), *page.table("Workload")]:
        check = checks[row["Workload"]]
        assert number(row["With margin"]) == pytest.approx(check.limit_ms - check.slack_ms, abs=0.005)
        assert number(row["With margin"]) > number(row["Latency ms"])
        if "Used %" in row:
            assert number(row["Used %"]) == pytest.approx(
                100 * number(row["With margin"]) / number(row["Limit ms"]), abs=0.2
            )
    assert "With margin" not in render_page(findings_of(tmp_path, result_of("igniter-three", "igniter").plan))


def test_a_phone_is_told_that_tables_go_on(table3: tuple[Plan, Page], tmp_path: Path) -> None:
    text = render_page(findings_of(tmp_path))
    assert text.count('<p class="hint"') == text.count('<div class="scroll"') > 3
    assert "swipe for all columns" in table3[1].text


def test_details_say_the_latency_with_the_margin_that_is_compared_with_the_limit() -> None:
    plan = solve("igniter-three", "igniter", margin=0.1).plan
    for check in verify(plan).placements:
        words = details(check)
        assert f"{check.latency_ms:.2f} ({check.limit_ms - check.slack_ms:.2f} with margin) of" in words
        assert "with margin" not in details(dataclasses.replace(check, slack_ms=check.limit_ms - check.latency_ms))
    third = dataclasses.replace(check, share_percent=100.0 / 11)
    assert " 9.09 %," in details(third)
