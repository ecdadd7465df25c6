"""The tables of the README and of docs/benchmarks.md say what `bench/results` and the shipped results say."""

import csv
import json
import re
import statistics
from pathlib import Path

import pytest

from igniter_opt.data.instance_files import read_instance, shipped_instances
from igniter_opt.data.known_results import best_known
from tests.docs.blocks import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BENCHMARKS = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")


def rows(text: str, header: str) -> list[list[str]]:
    """The rows of the table with this first line."""
    after = text.split(f"{header}\n")[1].splitlines()[1:]
    table = after[: next((k for k, line in enumerate(after) if not line.startswith("|")), len(after))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


EXACT = (
    "| instance | workloads | iGniter's greedy | `bestfit` | `patterns` | proven bound | gap |"
    " plan after | proof after |"
)
LOOP = "| plan | workload | batch, share | SLO ms | mean ms: expected, measured | P99 ms: simulated, measured | late |"
GUARD = (
    "| latency too short | share | first repair: decided, switched | P99 before, SLO | then: median, largest P99 |"
    " second repair: switched | failed | others over their SLO |"
)
CONFIDENCE = "| coefficients | no margin | 0.9 | 0.99 | the largest |"
KNOWN = "| instance | workloads | GPUs | cost/h | proven bound/h | gap % |"
NEIGHBOURS = (
    "| instance (replicas) | busy: GPUs | cost/h | bound | status | actual: GPUs | cost/h | bound | status | saved % |"
    " simulated | seconds | verify | late % busy | late % actual | P99s hold | surely over |"
)
TRUTH = "| rule | method | workloads whose P99 holds | requests over SLO (Poisson) | cost / optimum under `half` |"


def result(name: str) -> Path:
    """The newest result of this name that the page links to."""
    return ROOT / "bench" / "results" / re.findall(rf"bench/results/({name}-[\d-]+)\.md", BENCHMARKS)[-1]


def seconds(text: str) -> str:
    return f"{float(text):.1f} s" if text else "-"


def exact_rows(name: str) -> dict[str, list[str]]:
    """What a CSV of bench.exact makes of every instance."""
    by_name: dict[str, dict[str, dict[str, str]]] = {}
    with result(name).with_suffix(".csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            by_name.setdefault(row["instance"], {})[row["method"]] = row
    found = {}
    for instance, methods in by_name.items():
        plan = methods["patterns"]
        gap = "proven optimal" if plan["status"] == "optimal" else f"{float(plan['gap_percent']):.2f} %"
        found[instance] = [
            f"{int(plan['workloads']):,}",
            *(f"{float(methods[method]['cost_per_hour']):.2f}" for method in ("igniter", "bestfit")),
            f"{float(plan['cost_per_hour']):.2f} ({int(plan['gpus']):,} GPUs)",
            f"{float(plan['bound_per_hour']):.2f}",
            gap,
            seconds(plan["best_s"]),
            seconds(plan["proof_s"] if plan["status"] == "optimal" else ""),
        ]
    return found


def test_cost_and_proof() -> None:
    made = exact_rows("exact")
    table = rows(BENCHMARKS, EXACT)
    assert len(table) > 10
    for name, *cells in table:
        assert cells == made[name], name


def test_several_cards() -> None:
    made = exact_rows("exact-cards")
    assert {name: cells for name, *cells in rows(BENCHMARKS.split("<!-- CARDS -->")[1], EXACT)} == made


def test_the_loop_on_a_real_card() -> None:
    name = max(re.findall(r"bench/results/(loop-[\d-]+\.json)", BENCHMARKS))
    plans = json.loads((ROOT / "bench" / "results" / name).read_text(encoding="utf-8"))["plans"]
    made = []
    for plan, found in plans.items():
        for workload in dict.fromkeys(row["workload"] for row in found["rows"]):
            runs = [row for row in found["rows"] if row["workload"] == workload]
            row = runs[0]
            expected = row["simulated_mean_ms"] + found["overhead"][row["model"]]["client_ms"]
            made.append(
                [
                    f"`{plan}`",
                    f"{row['model']}, {row['rate_rps']:.0f} req/s",
                    f"{row['batch']}, {row['share_percent']:.1f} %",
                    f"{row['slo_ms']:g}",
                    f"{expected:.2f}, " + " / ".join(f"{run['mean_ms']:.2f}" for run in runs),
                    f"{row['simulated_p99_ms']:.1f}, " + " / ".join(f"{run['p99_ms']:.1f}" for run in runs),
                    " / ".join(f"{100 * run['late_fraction']:.2f}" for run in runs) + " %",
                ]
            )
    assert rows(BENCHMARKS, LOOP) == made
    held = {plan: sum(row["holds"] is True for row in found["rows"]) for plan, found in plans.items()}
    assert held == {"deadline-099": 6, "p99-099": 18}
    off = [abs(row["mean_error"]) for row in plans["deadline-099"]["rows"]]
    assert f"{100 * sum(off) / len(off):.1f} % off on average**, {100 * max(off):.1f} % at\n  worst" in BENCHMARKS


def test_the_guard_on_a_card() -> None:
    table = rows(BENCHMARKS, GUARD)
    made = []
    for name in ("bert", "vgg", "res"):
        found = json.loads((ROOT / "bench" / "results" / f"guard-gpu-{name}-2026-11-27.json").read_text("utf-8"))
        own = [event for event in found["events"] if event["workload"] == name]
        repair = next(event for event in own if event["event"] == "repair")
        switches = [event["after_s"] for event in own if event["event"] == "switched"]
        before, after = ([entry["p99_ms"] for entry in found["series"] if entry["server"] == k] for k in (1, 2))
        states = {entry["workload"]: entry for entry in found["workloads"]}
        over = [entry for entry in states.values() if entry["p99_ms"] > entry["slo_ms"] and entry["workload"] != name]
        failed, requests = (sum(entry[key] for entry in states.values()) for key in ("failed", "requests"))
        second = next(at for at in switches if at > 70.0) - 70.0
        made.append(
            [
                f"{repair['share_percent']:.1f} -> {repair['to_share_percent']:.1f} %",
                f"{repair['after_s']:.1f} s, {switches[0]:.1f} s",
                f"{max(before):.0f} of {states[name]['slo_ms']:.0f} ms",
                f"{statistics.median(after):.1f}, {max(after):.1f} ms",
                f"{second:.1f} s",
                f"{failed} of {requests:,}",
                [entry["workload"] for entry in over],
            ]
        )
    others = {"none": [], "alexnet, repaired twice": ["alex"]}
    said = [[row[5].split(" after")[0], *row[6:7], others[row[7]]] for row in table]
    assert [[*row[1:5], *rest] for row, rest in zip(table, said, strict=True)] == made


def test_what_confidence_costs() -> None:
    sections: dict[str, dict[str, list[str]]] = {}
    for line in result("confidence").with_suffix(".md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            own = sections.setdefault(line[3:], {})
        elif line.startswith("| ") and sections:
            name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            own[name] = [cell.partition(" (")[0] for cell in cells]
    for name, *cells in rows(BENCHMARKS, CONFIDENCE):
        coefficients, _, where = name.partition(", ")
        if where != "V100":
            (found,) = (own[where] for title, own in sections.items() if where in own and coefficients in title)
            assert cells == found
            continue
        own = sections[f"V100: {coefficients}"]
        columns = zip(*(own[key] for key in own if key in shipped_instances()), strict=True)
        made = []
        for column in columns:
            total = sum(int(cell) for cell in column if cell != "no plan")
            made.append(
                f"{total}, and Table 3 not at all" if own["igniter-table3"][len(made)] == "no plan" else f"{total}"
            )
        assert cells == made


def test_known_results() -> None:
    table = rows(BENCHMARKS, KNOWN)
    assert sorted(row[0] for row in table) == sorted(shipped_instances())
    for name, workloads, gpus, cost, bound, gap in table:
        known = best_known(name)
        assert known is not None
        assert workloads == str(len(read_instance(name).workloads))
        assert gpus == str(known.best_cost.gpus)
        best, proven = known.best_cost.cost_per_hour, known.best_bound.cost_per_hour
        assert (cost, bound, gap) == (f"{best:.2f}", f"{proven:.2f}", f"{100 * (best - proven) / best:.2f}")


@pytest.mark.parametrize("text", [README, BENCHMARKS], ids=["README", "benchmarks"])
def test_what_truth_costs(text: str) -> None:
    made = {}
    for line in result("truth").with_suffix(".md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) > 10 and "." in cells[6]:
            made.setdefault((cells[0], cells[1], cells[2]), (cells[6], cells[7], cells[10]))
    methods = {"iGniter's greedy": "`igniter`", "`patterns`": "`patterns`"}
    table = rows(text, TRUTH)
    assert len(table) == 6
    for rule, method, hold, late, cost in table:
        name, _, replicas = rule.partition(", up to ")
        ratio, fraction, workloads = made[name, replicas.split(" ")[0] or "1", methods[method]]
        assert float(cost) == pytest.approx(float(ratio), abs=0.00501)
        assert float(late.removesuffix(" %")) == pytest.approx(float(fraction), abs=0.0501)
        assert hold == workloads


def test_neighbours_as_they_are() -> None:
    head = "| instance, up to 3 replicas | ever busy: cost/h (bound) | as they are: cost/h (bound) |"
    head += " saved | late at most | over |"
    made = rows(result("neighbours").with_suffix(".md").read_text(encoding="utf-8"), NEIGHBOURS)
    assert rows(BENCHMARKS, head) == [
        [
            f"`{row[0].partition(':')[0]}`",
            f"{row[2]} ({row[3]})",
            f"{row[6]} ({row[7]})",
            f"{row[9]} %",
            f"{row[14]} %",
            f"{row[16]} of {row[15].split()[-1]}",
        ]
        for row in made
    ]


def test_fresh_readings() -> None:
    head = "| readings of | groups | readings | mean | P90 | worst | bias | within 0.9 | within 0.99 |"
    assert rows(BENCHMARKS, head) == rows(result("fresh").with_suffix(".md").read_text(encoding="utf-8"), head)


def test_fresh_readings_give_what_the_table_says() -> None:
    from bench.fresh import HEAD, cases, row

    shown = rows(result("fresh").with_suffix(".md").read_text(encoding="utf-8"), HEAD)
    assert shown == [[cell.strip() for cell in row(*case).strip("|").split("|")] for case in cases()]


def test_other_traffic() -> None:
    """The page on traffic shows Table 3, which is the first of the file."""
    page = (ROOT / "docs" / "traffic.md").read_text(encoding="utf-8")
    name = re.findall(r"bench/results/(truth-traffic-[\d-]+\.md)", page)[-1]
    made = (ROOT / "bench" / "results" / name).read_text(encoding="utf-8").split("\n## igniter-table3 ")[1]
    head = next(line for line in made.splitlines() if line.startswith("| planned for "))
    shown = rows(page, head)
    assert len(shown) > 5
    assert shown == rows(made, head)


def test_least_costs_that_survive() -> None:
    page = (ROOT / "docs" / "robust.md").read_text(encoding="utf-8")
    name = re.findall(r"bench/results/(stress-[\d-]+\.md)", page)[-1]
    made = (ROOT / "bench" / "results" / name).read_text(encoding="utf-8")
    head = next(line for line in page.splitlines() if line.startswith("| instance | rule | none"))
    shown = rows(page, head)
    assert len(shown) > 3
    columns = [cell.strip() for cell in head.strip("|").split("|")][2:]
    for instance, rule, *cells in shown:
        section = made.split(f"\n### {instance}, {rule} (")[1]
        least = {row[0]: row[1:3] for row in rows(section, section.split("\n\n")[1].splitlines()[0])}
        for words, cell in zip(columns, cells, strict=True):
            cost, bound = least.get(words, ("-", "-"))
            expected = cost if bound in {cost, "-"} else f"{cost} (at least {bound})"
            assert cell == expected.replace("infeasible", "no plan"), (instance, rule, words)
