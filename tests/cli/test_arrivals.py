"""Arrivals that plans are asked for on the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.helpers import invoke, rejected


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    times = np.cumsum(np.random.default_rng(0).exponential(0.01, 2000))
    Path("requests.csv").write_text("\n".join(f"{time:.6f}" for time in times))
    return tmp_path


@pytest.mark.parametrize(
    ("options", "expected", "words", "basis"),
    [
        (
            ("--arrivals", "mmpp", "--burst-ratio", "3", "--burst-seconds", "0.5"),
            {"kind": "mmpp", "burst_ratio": 3, "burst_seconds": 0.5},
            "mmpp arrivals (burst ratio 3, burst seconds 0.5)",
            "the exact chain",
        ),
        (("--trace", "requests.csv"), {"kind": "trace", "file": "requests.csv"}, "as recorded", "the recorded"),
    ],
)
def test_a_plan_says_what_it_is_for(
    options: tuple[str, ...], expected: dict[str, object], words: str, basis: str
) -> None:
    asked = ("--slo-rule", "p99", "--max-replicas", "2", "--method", "bestfit", "-o", "plan.json")
    run = invoke("solve", "igniter-three", *asked, *options)
    assert run.code == 0, run.err
    assert words in " ".join(run.out.split())
    arrivals = json.loads(Path("plan.json").read_text())["instance"]["arrivals"]
    assert {key: value for key, value in arrivals.items() if key != "recorded"} == expected
    Path("requests.csv").unlink()
    assert basis in invoke("verify", "plan.json", "--json").json()["basis"]


def test_a_plan_is_simulated_and_compared_under_what_it_is_for() -> None:
    instance = Path("mine.yaml")
    instance.write_text(
        "name: mine\nslo_rule: p99\narrivals: {kind: gamma, burstiness: 3}\n"
        "gpu_types: [{name: V100, profile: v100, price_per_hour: 3.06}]\nworkloads:\n"
        "  - {name: A, model: alexnet, slo_ms: 40, rate_rps: 100}\n"
        "  - {name: B, model: alexnet, slo_ms: 40, rate_rps: 50, arrivals: {kind: trace, file: requests.csv}}\n"
    )
    assert invoke("solve", "mine.yaml", "--method", "bestfit", "-o", "plan.json").code == 0
    few = ("--requests", "2000", "--seeds", "1")
    words = "gamma arrivals (burstiness 3) or arrivals as recorded in requests.csv"
    shown = invoke("simulate", "plan.json", *few)
    assert words in " ".join(shown.out.split()), shown.err
    found = invoke("simulate", "plan.json", *few, "--json").json()
    assert found["arrivals_by_workload"] == dict(zip("AB", words.split(" or "), strict=True))
    assert invoke("simulate", "plan.json", *few, "--arrivals", "poisson", "--json").json()["arrivals"] == "poisson"
    compared = invoke("compare", "mine.yaml", "--methods", "bestfit", "--requests", "2000")
    assert f"simulated with {words}" in " ".join(compared.out.split()), compared.err
    (row,) = invoke("compare", "mine.yaml", "--methods", "bestfit", "--requests", "2000", "--json").json()
    assert row["simulated_arrivals"] == words


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--arrivals", "bursty"), "--arrivals: unknown kind 'bursty' (kinds: poisson, gamma, mmpp, trace)"),
        (("--arrivals", "constant"), "--arrivals: unknown kind 'constant'"),
        (("--burstiness", "4"), "--burstiness goes with --arrivals gamma"),
        (("--burst-seconds", "4"), "--burst-seconds goes with --arrivals mmpp"),
        (("--arrivals", "mmpp", "--burstiness", "4"), "burstiness belongs to gamma arrivals; the arrivals are mmpp"),
        (("--arrivals", "gamma", "--burstiness", "-1"), "burstiness must be between 0.0001 and 10000; found -1"),
        (("--arrivals", "gamma", "--trace", "requests.csv"), "a trace file belongs to trace arrivals"),
        (("--arrivals", "trace"), "trace arrivals need a file of times"),
        (("--trace", "nowhere.csv"), "nowhere.csv: no such file"),
        (("--trace", "requests.csv", "--percentile", "0.9999"), "it takes 100,000 at least"),
    ],
)
def test_bad_options(options: tuple[str, ...], says: str) -> None:
    rejected("solve", "igniter-three", "--slo-rule", "p99", *options, says=(says,))


def test_a_rule_that_does_not_plan_for_them_says_so() -> None:
    run = invoke("solve", "igniter-motivation", "--arrivals", "gamma", "--burstiness", "4", "--method", "igniter")
    assert run.code == 0
    assert "the SLO rule half assumes a constant rate and does not plan for gamma arrivals (burstiness 4)" in run.err
    assert "constant rate" not in invoke("solve", "igniter-motivation", "--method", "igniter").err
    p99 = ("--slo-rule", "p99", "--max-replicas", "2", "--method", "igniter")
    assert "constant rate" not in invoke("solve", "igniter-motivation", "--arrivals", "mmpp", *p99).err
