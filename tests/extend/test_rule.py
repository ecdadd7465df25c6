"""An SLO rule from outside the package: one file (`third`) and one row, and everything follows it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import igniter_opt as ig
from igniter_opt.base.errors import InfeasibleError, InputError
from igniter_opt.data.plan import Plan, plan_json
from igniter_opt.guard.choose import returns
from igniter_opt.slo.batcher import queue_delay_us
from igniter_opt.slo.rules import RULES, register_rule, rule_of, unregister_rule
from tests.cli.helpers import invoke
from tests.extend.third import Third
from tests.test_structure import MODULES

OWN = ["half", "deadline", "p99", "parvagpu"]
FILE = """\
name: mine
slo_rule: third
gpu_types:
  - {name: V100, profile: v100, price_per_hour: 3.06}
workloads:
  - {name: A, model: alexnet, slo_ms: 15, rate_rps: 500}
  - {name: R, model: resnet50, slo_ms: 40, rate_rps: 300}
  - {name: S, model: ssd, slo_ms: 60, rate_rps: 60}
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mine.yaml"
    path.write_text(FILE)
    register_rule(Third())
    yield path
    unregister_rule("third")
    assert list(RULES) == OWN


def keeps_to_a_third(plan: Plan) -> bool:
    slo_ms = {workload.name: workload.slo_ms for workload in plan.instance.workloads}
    return all(
        p.predicted_latency_ms <= slo_ms[p.workload] / 3.0 * (1 + 1e-9) and p.predicted_throughput_rps >= p.rate_rps
        for gpu in plan.gpus
        for p in gpu.placements
    )


@pytest.mark.parametrize("method", ["igniter", "ffd++", "bestfit", "patterns", "assignment"])
def test_methods_keep_it(file: Path, method: str) -> None:
    plan = ig.solve(file, method).plan
    assert ig.verify(plan).ok
    assert keeps_to_a_third(plan)
    assert all(p.queue_delay_us in {10_000, 26_666, 40_000} for gpu in plan.gpus for p in gpu.placements)


@pytest.mark.parametrize("method", ["gpulets", "gslice", "ffd"])
def test_methods_that_promise_nothing_are_judged_by_it(file: Path, method: str) -> None:
    plan = ig.solve(file, method).plan
    assert ig.verify(plan).ok == keeps_to_a_third(plan)


def test_exact_methods_agree_and_a_looser_rule_costs_no_more(file: Path) -> None:
    found = ig.solve(file, "patterns")
    assert found.status == ig.solve(file, "assignment").status == "optimal"
    assert found.cost == ig.solve(file, "assignment").cost
    assert ig.solve(file, "patterns", slo_rule="half").cost <= found.cost


def test_verify_refuses_what_only_another_rule_admits(file: Path) -> None:
    plan = ig.solve(file, "igniter", slo_rule="half").plan
    third = plan.model_copy(update={"instance": plan.instance.with_options("third")})
    assert not keeps_to_a_third(third)
    assert {entry.kind for entry in ig.verify(third).violations} == {"latency", "queue-delay"}


def test_words_say_what_would_help(file: Path) -> None:
    text = file.read_text().replace("slo_ms: 15", "slo_ms: 1.5")
    file.write_text(text)
    with pytest.raises(InfeasibleError, match="rule third") as caught:
        ig.solve(file, "igniter")
    needed = float(str(caught.value).split("slo_ms of ")[1].split(" ")[0])
    file.write_text(text.replace("slo_ms: 1.5,", f"slo_ms: {needed},"))
    assert ig.solve(file, "patterns").cost > 0
    file.write_text(text.replace("slo_ms: 1.5,", f"slo_ms: {0.99 * needed},"))
    with pytest.raises(InfeasibleError):
        ig.solve(file, "patterns")


def test_servers_and_the_guard_follow_it(file: Path) -> None:
    plan = ig.solve(file, "patterns").plan
    gpu = plan.gpus[0]
    bare = gpu.placements[0].model_copy(update={"queue_delay_us": None})
    assert queue_delay_us(plan, bare) == gpu.placements[0].queue_delay_us
    simulation = ig.simulate(plan, "constant", requests=2000)
    assert simulation.ok
    key = (bare.workload, bare.replica)
    assert returns(plan, key, gpu.name, bare.share_percent, 0.5 * bare.rate_rps, {})
    assert not returns(plan, key, gpu.name, bare.share_percent, 9.0 * bare.rate_rps, {})


def test_commands_follow_it(file: Path, tmp_path: Path) -> None:
    plan, page = tmp_path / "plan.json", tmp_path / "report.html"
    solved = invoke("solve", file, "-o", plan)
    assert solved.code == 0
    assert "SLO rule third" in solved.out
    assert invoke("solve", file, "--slo-rule", "half").code == 0
    assert invoke("verify", plan).code == 0
    assert invoke("simulate", plan, "--arrivals", "constant", "--requests", "2000").code == 0
    assert invoke("report", plan, "--what-if-time", "1", "-o", page).code == 0
    assert "at most a third of a workload" in page.read_text()
    wrong = invoke("solve", file, "--slo-rule", "thrid")
    assert (wrong.code, "half, deadline, p99, parvagpu, third" in wrong.err) == (2, True)
    refused = invoke("solve", file, "--percentile", "0.9")
    schema = ig.Instance.model_json_schema()
    assert schema["properties"]["slo_rule"]["enum"] == [*OWN, "third"]
    assert (refused.code, "p99 only; the rule is third" in refused.err) == (2, True)


def test_nothing_of_it_stays(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(FILE)
    register_rule(Third())
    try:
        plan = ig.solve(path, "igniter").plan
    finally:
        unregister_rule("third")
    with pytest.raises(InputError, match=r"slo_rule: must be one of half, deadline, p99, parvagpu; found 'third'"):
        ig.read_instance(path)
    written = tmp_path / "plan.json"
    written.write_text(plan_json(plan))
    with pytest.raises(InputError, match=r"slo_rule: must be one of half, deadline, p99, parvagpu; found 'third'"):
        ig.read_plan(written)
    with pytest.raises(InputError, match="unknown SLO rule 'third'"):
        ig.verify(plan)


def test_the_table_refuses_what_would_break_it() -> None:
    with pytest.raises(InputError, match="there is an SLO rule half already"):
        register_rule(RULES["half"])
    with pytest.raises(InputError, match="found 'third'"):
        register_rule("third")  # type: ignore[arg-type]
    nameless = Third()
    nameless.name = "a third"
    with pytest.raises(InputError, match="no name"):
        register_rule(nameless)
    for name in ("half", "third"):
        with pytest.raises(InputError, match="was registered"):
            unregister_rule(name)
    assert list(RULES) == OWN


def test_a_rule_has_its_instances_parameters() -> None:
    instance = ig.read_instance("igniter-three").with_options("p99", percentile=0.9)
    assert rule_of(instance).latency_name == "P90 latency"
    assert RULES["p99"].latency_name == "P99 latency"


def names_compared(tree: ast.AST) -> list[str]:
    """Rules' names that code compares with or matches."""
    asked: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            asked += [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            asked.append(node.value)
    inner = [part for node in asked for part in ast.walk(node)]
    return [part.value for part in inner if isinstance(part, ast.Constant) and part.value in OWN]


def test_nobody_asks_for_a_rules_name() -> None:
    found = {name: names_compared(ast.parse(path.read_text())) for name, path in MODULES.items()}
    assert not {name: names for name, names in found.items() if names}


def test_comparisons_with_names_are_found() -> None:
    code = "if rule in ('half', 'x'): pass\nmatch rule:\n    case 'deadline': pass\nrule = 'p99'"
    assert names_compared(ast.parse(code)) == ["half", "deadline"]
