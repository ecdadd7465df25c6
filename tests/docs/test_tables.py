"""The tables of the README and of docs/benchmarks.md say what `bench/results` and the shipped results say."""

import csv
import json
import re
from pathlib import Path

import pytest

from igniter_opt.instance import read_instance, shipped_instances
from igniter_opt.known import best_known
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
CARDS = EXACT.replace("| `patterns`", "| `assignment` | `patterns`")
LOOP = "| plan | workload | batch, share | SLO ms | mean ms: expected, measured | P99 ms: simulated, measured | late |"
KNOWN = "| instance | workloads | GPUs | cost/h | proven bound/h | gap % |"
TRUTH = "| rule | method | cost / optimum under `half` | requests over SLO (Poisson) | workloads whose P99 holds |"


def result(name: str) -> Path:
    """The newest result of this name that the page links to."""
    return ROOT / "bench" / "results" / re.findall(rf"bench/results/({name}-[\d-]+)\.md", BENCHMARKS)[-1]


def seconds(text: str) -> str:
    return f"{float(text):.1f} s" if text else "-"


def found_by(row: dict[str, str]) -> str:
    """Cost and bound of an exact method, if it was run."""
    if not row["cost_per_hour"]:
        return "-"
    return f"{float(row['cost_per_hour']):.2f} (at least {float(row['bound_per_hour']):.2f})"


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
            *([] if name == "exact" else [found_by(methods["assignment"])]),
            f"{float(plan['cost_per_hour']):.2f} ({int(plan['gpus']):,} GPUs)",
            f"{float(plan['bound_per_hour']):.2f}",
            gap,
            seconds(plan["best_s"]),
            seconds(plan["proof_s"] if plan["status"] == "optimal" else ""),
        ]
    return found


@pytest.mark.parametrize("text", [README, BENCHMARKS], ids=["README", "benchmarks"])
def test_cost_and_proof(text: str) -> None:
    made = exact_rows("exact")
    table = rows(text, EXACT)
    assert len(table) > 10
    for name, *cells in table:
        assert cells == made[name], name


def test_several_cards() -> None:
    made = exact_rows("exact-cards")
    assert {name: cells for name, *cells in rows(BENCHMARKS, CARDS)} == made


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
    assert len(table) >= 4
    for rule, method, cost, late, hold in table:
        name, _, replicas = rule.partition(", up to ")
        ratio, fraction, workloads = made[name, replicas.split(" ")[0] or "1", methods[method]]
        assert float(cost) == pytest.approx(float(ratio), abs=0.00501)
        assert float(late.removesuffix(" %")) == pytest.approx(float(fraction), abs=0.0501)
        assert hold == workloads
