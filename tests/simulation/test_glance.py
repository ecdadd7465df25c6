"""What random arrivals make of a plan, at a glance: the rules of `simulate`, in plain Python and little time."""

from pathlib import Path

import numpy as np
import pytest

import igniter_opt as ig
from igniter_opt import Arrivals
from igniter_opt.data.plan import Plan
from igniter_opt.physics.batcher import serve
from igniter_opt.physics.batches import serve_plainly
from igniter_opt.simulation import glance as module
from igniter_opt.simulation.glance import late_at_a_glance
from tests.cli.helpers import invoke

pytestmark = pytest.mark.filterwarnings("ignore:the SLO rule half assumes a constant rate")


@pytest.mark.parametrize("seed", range(20))
def test_plain_and_compiled_serving_are_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    largest, requests = int(rng.integers(1, 9)), 300
    arrival = np.floor(np.cumsum(rng.exponential(1e6, requests)))
    parts = [np.sort(np.floor(rng.uniform(0, scale, largest))) for scale in (3e6, 2e5, 1e5)]
    delay = float(np.floor(rng.choice([0.0, 2e6])))
    found = []
    for one in (serve, serve_plainly):
        latency, batches = np.empty(requests), np.zeros(largest, dtype=np.int64)
        totals = one(arrival, 30, arrival[30], arrival[-1], delay, *parts, np.empty(0), latency, batches)
        found.append((totals, latency.tolist(), batches.tolist()))
    assert found[0] == found[1]


@pytest.mark.parametrize("rule", ["half", "deadline"])
@pytest.mark.parametrize("method", ["igniter", "auto"])
def test_it_says_about_what_a_simulation_does(rule: str, method: str) -> None:
    """A run of so many requests differs from another by 0.03 on these plans."""
    plan = ig.solve("igniter-table3", method, slo_rule=rule).plan
    found = late_at_a_glance(plan)
    assert found is not None
    assert (found.workloads, found.of, found.arrivals) == (12, 12, "Poisson arrivals")
    assert found.ratio == pytest.approx(ig.simulate(plan, requests=20_000, seeds=3).violation_ratio, abs=0.12)
    assert late_at_a_glance(plan) == found


def test_arrivals_and_rates_are_the_plan_s(tmp_path: Path) -> None:
    plain = ig.solve("igniter-three", "igniter").plan
    bursty = ig.solve("igniter-three", "igniter", arrivals=Arrivals("gamma", burstiness=9.0)).plan
    roomy = ig.solve("igniter-three", "igniter", headroom=1.0).plan
    times = np.arange(20_000) / 100.0  # as regular as the rule takes them to be
    (tmp_path / "even.csv").write_text("\n".join(map(str, times)))
    even = ig.solve("igniter-three", "igniter", arrivals=Arrivals("trace", file=str(tmp_path / "even.csv"))).plan
    late = {name: ratio(plan) for name, plan in {"p": plain, "b": bursty, "r": roomy, "e": even}.items()}
    assert late["e"] == 0.0 < late["r"] < late["p"] < late["b"]
    assert late["r"] < 0.5 * late["p"]


def ratio(plan: Plan) -> float:
    found = late_at_a_glance(plan)
    assert found is not None
    return found.ratio


@pytest.mark.parametrize("name", ["igniter-motivation", "uniform-300-1"])
def test_how_much_is_served_is_bounded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    served = []

    def counting(times: object, *others: object) -> object:
        served.append(len(times))  # type: ignore[arg-type]
        return serve_plainly(times, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "serve_plainly", counting)
    plan = ig.solve(name, "igniter").plan
    found = late_at_a_glance(plan)
    assert found is not None
    assert (found.workloads, found.of) == (min(60, found.of), len(plan.instance.workloads))
    assert sum(served) <= 60_000


def test_solve_says_it_and_the_option_that_mends_it() -> None:
    said = "of requests would be late (simulated, 3 workloads); --slo-rule p99 --max-replicas 3 plans for them"
    for rule in ("half", "deadline"):
        run = invoke("solve", "igniter-three", "--method", "igniter", "--slo-rule", rule)
        share = 100 * ratio(ig.solve("igniter-three", "igniter", slo_rule=rule).plan)
        assert f"under Poisson arrivals about {share:.0f} %" in " ".join(run.out.split())
        assert said in " ".join(run.out.split())
    split = ("--max-replicas", "2")
    run = invoke("solve", "igniter-three", "--method", "igniter", *split, "--arrivals", "gamma", "--burstiness", "9")
    assert "under gamma arrivals (burstiness 9) about " in " ".join(run.out.split())
    assert "; --slo-rule p99 plans for them" in " ".join(run.out.split())
    run = invoke("solve", "igniter-three", "--method", "igniter", "--slo-rule", "p99", *split)
    assert "would be late" not in run.out


def test_compare_says_it_of_the_cheapest_plans() -> None:
    few = ("--methods", "igniter,patterns", "--requests", "2000")
    run = invoke("compare", "igniter-three", *few)
    assert "of the cheapest plan's requests would be late (simulated, 3 workloads); --slo-rule p99" in run.out
    run = invoke("compare", "igniter-three", "igniter-motivation", *few)
    assert "of the cheapest plans' requests would be late (simulated, 6 workloads)" in run.out
    rows = invoke("compare", "igniter-three", *few, "--json").json()
    assert all(row["simulated_violation_ratio"] > 0.0 for row in rows)
    assert "would be late" not in invoke("compare", "igniter-three", *few[:2], "--requests", "0").out
    assert (
        "would be late" not in invoke("compare", "igniter-three", *few, "--slo-rule", "p99", "--max-replicas", "2").out
    )
