"""A workload that cannot be served: exit code 1, what it could get, and advice that really makes it feasible."""

import random
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.helpers import INSTANCE, invoke, script, with_value, write_instance

RULES = ["half", "deadline", "p99"]
# Impossible under all rules: SLO under every latency; rate over every throughput; both moderate but in conflict.
HOPELESS: dict[str, dict[str, Any]] = {
    "slo": {"model": "vgg19", "slo_ms": 1, "rate_rps": 100},
    "rate": {"model": "alexnet", "slo_ms": 60, "rate_rps": 50_000},
    "conflict": {"model": "resnet50", "slo_ms": 6, "rate_rps": 1500},
    "replicas": {"model": "ssd", "slo_ms": 40, "rate_rps": 5000, "max_replicas": 3},
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def instance_with(workload: dict[str, Any], rule: str) -> Path:
    """An instance of a workload that is easy to serve and one that may not be."""
    data = with_value(rule, "slo_rule")
    return write_instance(with_value([INSTANCE["workloads"][0], {"name": "H", **workload}], "workloads", data=data))


def advice(message: str) -> dict[str, float]:
    """The values that the message says would make the workload feasible."""
    found = re.findall(r"(slo_ms|rate_rps|max_replicas) of ([0-9.e+]*\d)(?: or (?:more|less))?|$", message)
    return {key: float(value) for key, value in found if key}


def advised(workload: dict[str, Any], key: str, value: float) -> dict[str, Any]:
    return {**workload, key: int(value) if key == "max_replicas" else value}


@pytest.mark.parametrize("method", ["auto", "assignment"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("case", HOPELESS)
def test_message_says_what_is_possible(case: str, rule: str, method: str) -> None:
    workload = HOPELESS[case]
    run = invoke("solve", instance_with(workload, rule), "--method", method, "-o", "plan.json", "--plot", "plan.png")
    assert (run.code, run.out) == (1, "")
    said = [line for line in run.err.splitlines() if not line.startswith("warning: ")]
    assert said[0].startswith(f"no plan: workload H ({workload['model']}, SLO {workload['slo_ms']:g} ms, ")
    assert f"rule {rule})" in run.err
    best = r"its best( P99)? latency is [\d.]+ ms|its queue grows without end, so that it has no P99 latency"
    assert re.search(rf"alone ({best}), and its best rate within the SLO is [\d.]+ req/s\.", run.err)
    assert "It becomes feasible with " in run.err
    assert advice(run.err)
    assert "workload A" not in run.err
    assert not Path("plan.json").exists()
    assert not Path("plan.png").exists()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("case", HOPELESS)
def test_following_the_advice_works(case: str, rule: str) -> None:
    workload = HOPELESS[case]
    remedies = advice(invoke("solve", instance_with(workload, rule)).err)
    for key, value in remedies.items():
        run = invoke("solve", instance_with(advised(workload, key, value), rule), "-o", "plan.json")
        assert run.code == 0, f"{key} of {value:g}: {run.err}"
        assert invoke("verify", "plan.json").code == 0


def test_each_remedy_is_offered_somewhere() -> None:
    offered = {
        (rule, key)
        for rule in RULES
        for workload in HOPELESS.values()
        for key in advice(invoke("solve", instance_with(workload, rule)).err)
    }
    assert offered == {(rule, key) for rule in RULES for key in ("slo_ms", "rate_rps", "max_replicas")}


def test_advice_on_random_workloads_works_and_is_tight() -> None:
    rng = random.Random(3)
    checked = 0
    while checked < 18:
        rule, model = rng.choice(RULES), rng.choice(["alexnet", "resnet50", "vgg19", "ssd"])
        workload = {
            "model": model,
            "slo_ms": round(10 ** rng.uniform(0, 2), 3),
            "rate_rps": round(10 ** rng.uniform(1, 4), 1),
        }
        run = invoke("solve", instance_with(workload, rule))
        if run.code == 0:
            continue
        checked += 1
        for key, value in advice(run.err).items():
            label = f"{rule} {workload} {key} of {value:g}"
            assert invoke("solve", instance_with(advised(workload, key, value), rule)).code == 0, label
            if key != "max_replicas":
                beyond = value * (0.99 if key == "slo_ms" else 1.01)
                assert invoke("solve", instance_with(advised(workload, key, beyond), rule)).code == 1, label


def test_too_few_gpus() -> None:
    data = with_value(1, "gpu_types", 0, "count")
    workloads = [{"name": name, "model": "vgg19", "slo_ms": 30, "rate_rps": 400} for name in "AB"]
    path = write_instance(with_value(workloads, "workloads", data=data))
    run = invoke("solve", path, "--method", "assignment", "-o", "plan.json")
    assert (run.code, run.out) == (1, "")
    assert "no plan exists: 2 workloads that only V100 can serve (A, B) take at least" in run.err
    assert not Path("plan.json").exists()


def test_advice_says_that_it_knows_nothing_of_counts() -> None:
    path = instance_with(HOPELESS["slo"], "half")
    assert "whether there are GPUs enough" not in invoke("solve", path).err
    data = with_value(2, "gpu_types", 0, "count", data=with_value([{"name": "H", **HOPELESS["slo"]}], "workloads"))
    assert (
        "by itself; whether there are GPUs enough for all is another question"
        in invoke("solve", write_instance(data)).err
    )


def test_heuristics_name_the_workload() -> None:
    path = instance_with(HOPELESS["slo"], "half")
    for method in ("igniter", "ffd", "ffd++", "gpulets", "gslice"):
        run = invoke("solve", path, "--method", method, "-o", "plan.json")
        assert (run.code, run.out) == (1, ""), method
        assert run.err.startswith("no plan: ")
        assert "workload H" in run.err
        assert not Path("plan.json").exists()


def test_script_exits_with_1() -> None:
    run = script("solve", instance_with(HOPELESS["conflict"], "deadline"), "--json")
    assert (run.code, run.out) == (1, "")
    assert "It becomes feasible with slo_ms of " in run.err
    assert "Traceback" not in run.err
