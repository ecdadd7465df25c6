"""Plans whose neighbours are simulated as they are: what that changes, what it must not, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from igniter_opt.base.errors import InputError, SimulationInterruptedError
from igniter_opt.base.stop import StopRequest
from igniter_opt.data.instance_files import read_instance
from igniter_opt.data.plan import Plan
from igniter_opt.simulate import simulate
from igniter_opt.simulation.servers import companies_of, servers_of, tied_together
from igniter_opt.solve import solve
from tests.test_simulate import replicated, with_placement


@pytest.fixture(scope="module")
def three() -> Plan:
    return solve(read_instance("igniter-three"), "igniter").plan


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Two types of GPUs, and replicas."""
    return solve(read_instance("cards-table3"), "igniter", max_replicas=2, slo_rule="p99", coefficients="refined").plan


def test_actual_neighbours_slow_less(plan: Plan) -> None:
    """Nobody runs full batches all the time: latencies are lower than promised, and not by much."""
    options = {"requests": 20_000, "seeds": 3}
    full, actual = (simulate(plan, **options, neighbours=kind) for kind in ("full", "actual"))  # type: ignore[arg-type]
    assert (full.settings["neighbours"], actual.settings["neighbours"]) == ("full", "actual")
    ratios = []
    for one, other in zip(full.workloads, actual.workloads, strict=True):
        ratios.append(other.estimates["mean_ms"].value / one.estimates["mean_ms"].value)
        assert other.estimates["offered_rps"].value == pytest.approx(one.rate_rps, rel=0.05)
        assert [part.gpu for part in other.placements] == [part.gpu for part in one.placements]
    assert max(ratios) < 1.02
    assert 0.7 < np.mean(ratios) < 0.999
    assert actual.ok


def test_a_workload_alone_on_its_gpu_has_no_neighbours() -> None:
    instance = read_instance("igniter-motivation")
    plan = solve(instance.model_copy(update={"workloads": instance.workloads[:1]}), "igniter").plan
    # All by number and by time is the same with one workload and constant arrivals, but for where it begins.
    (one,), (other,) = (
        simulate(plan, "constant", requests=5000, neighbours=kind).workloads  # type: ignore[arg-type]
        for kind in ("full", "actual")
    )
    for name in ("mean_ms", "p99_ms", "utilisation"):
        assert other.estimates[name].value == pytest.approx(one.estimates[name].value, rel=1e-3)


def test_all_streams_last_as_long(three: Plan) -> None:
    """The mean workload has the number asked for; others have theirs in the same time."""
    found = simulate(three, requests=3000, seeds=2, neighbours="actual")
    rates = np.array([entry.rate_rps for entry in found.workloads])
    expected = 2 * 3000 * rates / rates.mean()
    assert [entry.requests for entry in found.workloads] == pytest.approx(expected, rel=0.1)
    slow = with_rate(three, 0.01)
    entry = simulate(slow, requests=10, seeds=1, neighbours="actual").workloads[0]
    assert entry.requests > 10


def with_rate(plan: Plan, rate: float) -> Plan:
    """Give the first workload another rate."""
    first = plan.instance.workloads[0].model_copy(update={"rate_rps": rate})
    instance = plan.instance.model_copy(update={"workloads": (first, *plan.instance.workloads[1:])})
    gpu = plan.gpus[0]
    position = [placement.workload for placement in gpu.placements].index(first.name)
    return with_placement(plan, position, rate_rps=rate).model_copy(update={"instance": instance})


def test_what_would_take_forever_is_refused(three: Plan) -> None:
    with pytest.raises(InputError, match=r"neighbours actual: .* requests would have to be simulated together"):
        simulate(with_rate(three, 1e-6), requests=10, seeds=1, neighbours="actual")
    with pytest.raises(InputError, match=r"neighbours: unknown kind 'some'.*full, actual"):
        simulate(three, neighbours="some")  # type: ignore[arg-type]


def test_seeds_make_runs_repeatable(three: Plan) -> None:
    options = {"requests": 2000, "seeds": 3, "noise": 0.2, "neighbours": "actual"}
    found = simulate(replicated(three, 2), "gamma", **options).to_dict()  # type: ignore[arg-type]
    assert found == simulate(replicated(three, 2), "gamma", **options).to_dict()  # type: ignore[arg-type]
    assert found != simulate(replicated(three, 2), "gamma", **options, seed=1).to_dict()  # type: ignore[arg-type]


def test_constant_streams_meet_at_random(three: Plan) -> None:
    """How they lie to each other matters, so runs differ; traces say it themselves."""
    found = simulate(three, "constant", requests=500, seeds=3, neighbours="actual")
    assert found.settings["runs"] == 3
    assert all(entry.estimates["mean_ms"].low is not None for entry in found.workloads)
    assert simulate(three, "constant", requests=500, seeds=3).settings["runs"] == 1


def test_a_margin_and_noise_reach_the_gpu(three: Plan) -> None:
    plain = simulate(three, scale=0.01, requests=2000, seeds=2, neighbours="actual")
    slower = simulate(three, scale=0.01, requests=2000, seeds=2, neighbours="actual", margin=0.5)
    noisy = simulate(three, scale=0.01, requests=2000, seeds=2, neighbours="actual", noise=0.5)
    for one, other, third in zip(plain.workloads, slower.workloads, noisy.workloads, strict=True):
        assert other.estimates["p50_ms"].value > one.estimates["p50_ms"].value
        assert third.estimates["p999_ms"].value > 1.2 * one.estimates["p999_ms"].value


def test_replicas_tie_gpus_together(plan: Plan) -> None:
    companies = companies_of(plan)
    servers = servers_of(plan)
    for company, gpu in zip(companies, plan.gpus, strict=True):
        own = [servers[number][k] for number, k in company.members]
        assert [server.placement for server in own] == list(gpu.placements)
        assert {server.gpu_name for server in own} == {gpu.name}
    groups = tied_together(companies)
    assert sorted(number for numbers, _ in groups for number in numbers) == list(range(len(servers)))
    assert sum(len(own) for _, own in groups) == len(companies)
    group_of = {number: k for k, (numbers, _) in enumerate(groups) for number in numbers}
    for k, (_, own) in enumerate(groups):
        assert all(group_of[number] == k for company in own for number, _ in company.members)
    names = [{server.gpu_name for server in own} for own in servers]
    for one in range(len(servers)):
        for other in range(one):
            if names[one] & names[other]:
                assert group_of[one] == group_of[other]
    assert len(groups) > 1 or any(len(own) > 1 for own in servers)


def test_a_plan_of_whole_gpus_falls_apart(three: Plan) -> None:
    assert [numbers for numbers, _ in tied_together(companies_of(three))] == [[0, 1, 2]]
    separate = [p.model_copy(update={}) for p in three.gpus[0].placements]
    gpus = tuple(three.gpus[0].model_copy(update={"name": f"G{k}", "placements": (p,)}) for k, p in enumerate(separate))
    found = tied_together(companies_of(three.model_copy(update={"gpus": gpus})))
    assert sorted(numbers for numbers, _ in found) == [[0], [1], [2]]
    assert all(len(own) == 1 for _, own in found)


def test_a_trace_is_served_as_it_is(three: Plan, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    rows = sorted((k / w.rate_rps, w.name) for w in three.instance.workloads for k in range(300))
    path.write_text("timestamp,workload\n" + "".join(f"{at!r},{name}\n" for at, name in rows))
    found = simulate(three, "trace", traces=[(None, path)], neighbours="actual")
    assert [entry.requests for entry in found.workloads] == [300, 300, 300]
    assert found.settings["runs"] == 1
    full = simulate(three, "trace", traces=[(None, path)])
    for one, other in zip(full.workloads, found.workloads, strict=True):
        assert other.estimates["mean_ms"].value <= one.estimates["mean_ms"].value * 1.001


def test_interrupted_runs_say_so(three: Plan) -> None:
    stop = StopRequest()
    stop.set()
    with pytest.raises(SimulationInterruptedError):
        simulate(three, neighbours="actual", stop=stop)
