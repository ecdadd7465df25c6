"""Plans under traffic: what is known by hand, recomputed plainly, and the plans of Table 3."""

import math
from pathlib import Path

import numpy as np
import pytest

import igniter_opt as ig
from igniter_opt.base.errors import InputError
from igniter_opt.data.instance_files import parse_instance, read_instance
from igniter_opt.data.plan import Plan
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.partial_batches import batch_service_times
from igniter_opt.simulate import simulate
from igniter_opt.simulation.results import Simulation
from igniter_opt.solve import solve
from tests.support.reference_simulation import serve_plainly


@pytest.fixture(scope="module")
def three() -> Plan:
    return solve(read_instance("igniter-three"), "igniter").plan


@pytest.fixture(scope="module")
def table3() -> Plan:
    return solve(read_instance("igniter-table3"), "igniter").plan


def with_placement(plan: Plan, position: int = 0, **changes: object) -> Plan:
    """Change one placement of the first GPU."""
    placements = list(plan.gpus[0].placements)
    placements[position] = placements[position].model_copy(update=changes)
    first = plan.gpus[0].model_copy(update={"placements": tuple(placements)})
    return plan.model_copy(update={"gpus": (first, *plan.gpus[1:])})


def replicated(plan: Plan, copies: int) -> Plan:
    """Repeat a plan's GPUs, each with an equal part of the rates."""
    gpus = []
    for number in range(copies):
        for gpu in plan.gpus:
            placements = tuple(
                p.model_copy(update={"replica": number + 1, "rate_rps": p.rate_rps / copies}) for p in gpu.placements
            )
            gpus.append(gpu.model_copy(update={"name": f"{gpu.name}-{number + 1}", "placements": placements}))
    return plan.model_copy(update={"gpus": tuple(gpus)})


def service_ns(plan: Plan) -> dict[str, tuple[list[float], list[float], list[float]]]:
    """GPU, loading and feedback times by batch of every placement, whole nanoseconds, by workload and replica."""
    found = {}
    coefficients = fit_coefficients(plan.instance.gpu_types[0].profile)
    for gpu in plan.gpus:
        index = [coefficients.index(p.model) for p in gpu.placements]
        times = batch_service_times(
            coefficients, index, [p.batch for p in gpu.placements], [p.share_percent for p in gpu.placements]
        )
        for k, p in enumerate(gpu.placements):
            parts = (times.gpu_ms[k], times.load_ms[k], times.feedback_ms[k])
            gpu_ns, load_ns, feedback_ns = ([math.floor(ms * 1e6 + 0.5) for ms in part] for part in parts)
            found[f"{p.workload}#{p.replica}"] = (gpu_ns, load_ns, feedback_ns)
    return found


def write_trace(times: dict[str, np.ndarray], path: Path) -> None:
    rows = sorted((float(t), name) for name, own in times.items() for t in own)
    path.write_text("timestamp,workload\n" + "".join(f"{t!r},{name}\n" for t, name in rows))


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_a_trace_recomputed_plainly(three: Plan, copies: int, tmp_path: Path) -> None:
    """Everything that is said about a small trace, from a plain event loop, replicas in turn."""
    plan = replicated(three, copies)
    rng = np.random.default_rng(copies)
    times = {w.name: np.cumsum(rng.exponential(1 / w.rate_rps, 400).round(6)) for w in plan.instance.workloads}
    start = min(own[0] for own in times.values())
    write_trace(times, tmp_path / "trace.csv")
    found = simulate(plan, "trace", traces=[(None, tmp_path / "trace.csv")], split="round-robin")
    services = service_ns(plan)
    assert found.settings["runs"] == 1
    for entry in found.workloads:
        stream = np.floor((times[entry.workload] - start) * 1e9 + 0.5)
        begin, end = stream[0], stream[-1]
        window = (end - begin) / 1e9
        together: list[float] = []
        completed, busy, waited, sizes = 0, 0.0, 0.0, []
        for k, placement in enumerate(p for g in plan.gpus for p in g.placements if p.workload == entry.workload):
            own = stream[k::copies].tolist()
            gpu, load, feedback = services[f"{entry.workload}#{k + 1}"]
            assert placement.queue_delay_us is not None
            latency, batches = serve_plainly(own, placement.queue_delay_us * 1e3, gpu, load, feedback)
            starts = [batch[0] for batch in batches for _ in range(batch[2])]
            completed += sum(begin < a + late <= end for a, late in zip(own, latency, strict=True))
            busy += sum(max(0, min(s + t, end) - s) for s, t, _, _ in batches)
            waited += sum(max(0, min(s, end) - a) for a, s in zip(own, starts, strict=True))
            sizes += [batch[2] for batch in batches]
            together += latency
            part = entry.placements[k]
            assert part.estimates["mean_ms"].value == pytest.approx(np.mean(latency) / 1e6)
            assert part.max_queue == max(batch[3] for batch in batches)
            assert (part.replica, part.batch, part.requests) == (k + 1, placement.batch, len(own))
        assert entry.requests == 400
        assert entry.max_queue == max(part.max_queue for part in entry.placements)
        assert entry.batch_histogram == {size: sizes.count(size) for size in sorted(set(sizes))}
        ranked = sorted(together)
        expected = {
            "offered_rps": 399 / window,
            "throughput_rps": completed / window,
            "mean_ms": np.mean(ranked) / 1e6,
            "p50_ms": ranked[199] / 1e6,
            "p95_ms": ranked[379] / 1e6,
            "p99_ms": ranked[395] / 1e6,
            "p999_ms": ranked[399] / 1e6,
            "percentile_ms": ranked[395] / 1e6,
            "violation_ratio": sum(late > entry.slo_ms * 1e6 for late in together) / 400,
            "utilisation": busy / (end - begin) / copies,
            "mean_batch": np.mean(sizes),
            "mean_queue": waited / (end - begin),
        }
        assert {name: found.value for name, found in entry.estimates.items()} == pytest.approx(expected)
        assert entry.holds == (expected["percentile_ms"] <= entry.slo_ms)
        assert all(found.low is None for found in entry.estimates.values())


def test_constant_arrivals_by_hand(table3: Plan) -> None:
    """Batches fill at the rate and find the instance free: a request waits for those behind it, then t_inf."""
    found = simulate(table3, "constant", requests=20_000)
    assert found.ok
    assert found.violation_ratio == 0
    placements = {p.workload: p for gpu in table3.gpus for p in gpu.placements}
    for entry in found.workloads:
        p = placements[entry.workload]
        fill = (p.batch - 1) * 1000 / p.rate_rps
        assert entry.estimates["p999_ms"].value == pytest.approx(fill + p.predicted_latency_ms, abs=1e-5)
        assert entry.estimates["mean_ms"].value == pytest.approx(fill / 2 + p.predicted_latency_ms, abs=2e-2)
        assert entry.estimates["throughput_rps"].value == pytest.approx(p.rate_rps, rel=2e-3)
        assert entry.estimates["utilisation"].value == pytest.approx(p.rate_rps / p.predicted_throughput_rps, rel=2e-3)
        # But for the first batch counted, and a last one that has nobody to wait for.
        assert sum(number for size, number in entry.batch_histogram.items() if size != p.batch) <= 2


def test_table3_of_the_greedy_under_poisson(table3: Plan) -> None:
    """Its shares leave hardly more throughput than the rate, so that queues grow as soon as arrivals are random."""
    found = simulate(table3, "poisson", requests=50_000, seeds=4)
    ratios = {entry.workload: entry.estimates["violation_ratio"].value for entry in found.workloads}
    assert ratios.pop("W3") == pytest.approx(0.018, abs=0.01)
    assert all(0.25 < ratio < 0.97 for ratio in ratios.values())
    assert found.workloads_over_slo == [w.name for w in table3.instance.workloads]
    assert 20 < found.worst_p99_over_slo < 80
    for entry in found.workloads:
        assert 0.78 < entry.estimates["utilisation"].value < 1
        estimate = entry.estimates["violation_ratio"]
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low < estimate.value < estimate.high
    rates = [w.rate_rps for w in table3.instance.workloads]
    each = [entry.estimates["violation_ratio"].value for entry in found.workloads]
    assert found.violation_ratio == pytest.approx(np.average(each, weights=rates))


def test_deadline_plans_hold_under_constant_arrivals_only() -> None:
    plan = solve(read_instance("uniform-24-1").with_options("deadline", None), "ffd++").plan
    assert ig.verify(plan).ok
    assert simulate(plan, "constant", requests=5000).ok
    assert not simulate(plan, "poisson", requests=5000, seeds=2).ok


@pytest.mark.parametrize("method", ["igniter", "bestfit"])
def test_plans_of_rule_p99_hold_under_poisson(method: str) -> None:
    """What rule p99 promises by the analysis of the queue, the simulation finds, within its confidence."""
    plan = solve(read_instance("igniter-table3"), method, slo_rule="p99", max_replicas=3).plan
    assert {p.queue_delay_us for gpu in plan.gpus for p in gpu.placements} == {0}
    found = simulate(plan, requests=100_000, seeds=8)
    checks = {(check.workload, check.replica): check for check in ig.verify(plan).placements}
    parts = [part for entry in found.workloads for part in entry.placements]
    ratios = []
    for part in parts:
        estimate = part.estimates["p99_ms"]
        assert part.replica is not None
        assert estimate.low is not None
        assert estimate.low <= part.slo_ms
        ratios.append(estimate.value / checks[part.workload, part.replica].latency_ms)
    assert np.mean(ratios) == pytest.approx(1, abs=0.01)
    assert max(abs(ratio - 1) for ratio in ratios) < 0.05
    assert found.violation_ratio < 0.01


def test_the_plan_says_which_percentile_counts() -> None:
    plan = solve(read_instance("igniter-three"), "igniter", slo_rule="p99", percentile=0.95, max_replicas=4).plan
    assert {entry.percentile for entry in simulate(plan, requests=100, seeds=1).workloads} == {0.95}
    assert {entry.percentile for entry in simulate(plan, requests=100, percentile=0.9).workloads} == {0.9}


def same(one: Simulation, other: Simulation) -> bool:
    return one.to_dict() == other.to_dict()


def test_seeds_make_runs_repeatable(three: Plan) -> None:
    options = {"requests": 2000, "seeds": 3, "noise": 0.2}
    found = simulate(replicated(three, 2), "gamma", **options)  # type: ignore[arg-type]
    assert same(found, simulate(replicated(three, 2), "gamma", **options))  # type: ignore[arg-type]
    assert not same(found, simulate(replicated(three, 2), "gamma", **options, seed=1))  # type: ignore[arg-type]


def test_plans_of_one_instance_get_the_same_requests(three: Plan) -> None:
    slower = simulate(three, requests=2000, seeds=2, margin=0.3)
    for entry, other in zip(simulate(three, requests=2000, seeds=2).workloads, slower.workloads, strict=True):
        assert entry.estimates["offered_rps"] == other.estimates["offered_rps"]
        assert entry.estimates["mean_ms"].value < other.estimates["mean_ms"].value


def test_splitting(three: Plan) -> None:
    """Replicas in turn get more regular requests than at random, and wait less."""
    plan = replicated(three, 3)
    assert simulate(plan, "constant", requests=1000).settings["split"] == "round-robin"
    assert simulate(plan, requests=10, seeds=1).settings["split"] == "random"
    in_turn, at_random = (simulate(plan, requests=20_000, seeds=3, split=way) for way in ("round-robin", "random"))  # type: ignore[arg-type]
    for one, other in zip(in_turn.workloads, at_random.workloads, strict=True):
        assert one.estimates["p99_ms"].value < other.estimates["p99_ms"].value
        assert [part.replica for part in one.placements] == [1, 2, 3]
        assert [part.gpu for part in one.placements] == ["V100-1-1", "V100-1-2", "V100-1-3"]
        assert max(part.requests for part in one.placements) - min(part.requests for part in one.placements) <= 3
        assert sum(part.requests for part in other.placements) == other.requests == 60_000


def test_noise_has_the_mean_and_variation_asked_for(three: Plan) -> None:
    """At a low rate nobody queues: latencies of single requests show the GPU latency's distribution."""
    plan = with_placement(three, queue_delay_us=0)
    name = plan.gpus[0].placements[0].workload
    plain, noisy = (simulate(plan, scale=1e-3, requests=20_000, seeds=2, noise=cv) for cv in (0.0, 0.3))
    gpu = service_ns(plan)[f"{name}#1"][0][0] / 1e6
    before, after = (next(e for e in found.workloads if e.workload == name).estimates for found in (plain, noisy))
    assert after["mean_ms"].value == pytest.approx(before["mean_ms"].value, rel=0.01)
    sigma = math.sqrt(math.log(1 + 0.3**2))
    expected = before["p50_ms"].value - gpu + gpu * math.exp(2.3263 * sigma - sigma**2 / 2)
    assert after["p99_ms"].value == pytest.approx(expected, rel=0.02)


def test_overload_is_told_apart(three: Plan) -> None:
    found = simulate(three, scale=3.0, requests=5000, seeds=2)
    for entry in found.workloads:
        assert entry.estimates["utilisation"].value == pytest.approx(1.0, abs=1e-3)
        assert entry.estimates["throughput_rps"].value < 0.6 * entry.estimates["offered_rps"].value
        assert not entry.holds
        assert entry.certain


def test_the_percentile_that_counts(three: Plan) -> None:
    results = {p: simulate(three, "gamma", requests=5000, seeds=2, percentile=p) for p in (0.01, 0.5, 0.999, 1.0)}
    for p, found in results.items():
        for entry in found.workloads:
            assert entry.percentile == p
            assert entry.holds == (entry.estimates["percentile_ms"].value <= entry.slo_ms)
    held = [len(found.workloads_over_slo) for found in results.values()]
    assert held == sorted(held)
    assert held[0] < held[-1]
    for name, p in (("p50_ms", 0.5), ("p999_ms", 0.999)):
        for entry in results[p].workloads:
            assert entry.estimates[name] == entry.estimates["percentile_ms"]


def test_certainty(three: Plan) -> None:
    """A workload whose SLO lies within the interval of its percentile is not decided."""
    entry = simulate(three, requests=500, seeds=4).workloads[0]
    estimate = entry.estimates["percentile_ms"]
    assert estimate.low is not None
    for slo, expected in ((estimate.value + 1e-3, False), (estimate.low / 2, True)):
        workloads = (three.instance.workloads[0].model_copy(update={"slo_ms": slo}), *three.instance.workloads[1:])
        plan = three.model_copy(update={"instance": three.instance.model_copy(update={"workloads": workloads})})
        found = simulate(plan, requests=500, seeds=4).workloads[0]
        assert found.estimates["percentile_ms"] == estimate
        assert found.certain == expected


def test_single_requests_and_tables(three: Plan) -> None:
    found = simulate(replicated(three, 2), requests=1, seeds=2, warm_up=0)
    assert [entry.requests for entry in found.workloads] == [2, 2, 2]
    assert found.to_frame().shape[0] == 3
    assert found.to_frame("placement")["gpu"].nunique() == 2
    assert len(found.to_csv().splitlines()) == 1 + 3 + 6
    assert found.to_dict()["workloads"][0]["offered_rps"] is None
    assert found.to_dict()["workloads"][0]["placements"][0]["replica"] == 1


def test_plans_without_batcher_settings_get_those_of_their_rule(three: Plan) -> None:
    old = three
    for position in range(len(three.gpus[0].placements)):
        old = with_placement(old, position, queue_delay_us=None)
    assert same(simulate(old, requests=1000, seeds=1), simulate(three, requests=1000, seeds=1))


def test_a_placement_without_a_clock_answers_nobody(three: Plan) -> None:
    """A card whose clock falls so steeply that nothing is left of it: infinite latencies, not an error."""
    card = three.instance.gpu_types[0].profile
    models = {}
    for name, model in card.models.items():
        grid = model.solo_grid
        clock = tuple(tuple(100.0 for _ in row) for row in grid.frequency_mhz)
        models[name] = model.model_copy(update={"solo_grid": grid.model_copy(update={"frequency_mhz": clock})})
    run = card.hardware.coexecution.model_copy(update={"frequency_mhz": (60.0, 20.0, 9.0, 3.0, 1.0)})
    changes = {"max_power_w": 1.0, "max_frequency_mhz": 100.0, "coexecution": run}
    profile = card.model_copy(update={"models": models, "hardware": card.hardware.model_copy(update=changes)})
    gpu_type = three.instance.gpu_types[0].model_copy(update={"profile": profile})
    hungry = ig.Workload(name="V", model="vgg19", slo_ms=50, rate_rps=400, max_replicas=4)
    instance = three.instance.model_copy(update={"gpu_types": (gpu_type,), "workloads": (hungry,)})
    changes = {"workload": "V", "model": "vgg19", "batch": 32, "share_percent": 25.0, "rate_rps": 100.0}
    four = tuple(three.gpus[0].placements[0].model_copy(update={**changes, "replica": k}) for k in (1, 2, 3, 4))
    gpus = (three.gpus[0].model_copy(update={"placements": four}),)
    found = simulate(three.model_copy(update={"instance": instance, "gpus": gpus}), requests=1000, seeds=2)
    for entry in (*found.workloads, *found.workloads[0].placements):
        assert math.isinf(entry.estimates["percentile_ms"].value)
        assert entry.estimates["violation_ratio"].value == 1
        assert entry.estimates["throughput_rps"].value == 0
        assert not entry.holds
        assert entry.to_dict()["p99_ms"] is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batch": 0}, "the plan cannot be served: V100-1/R#1: batch 0 is not in 1..32"),
        ({"batch": 999}, "batch 999 is not in 1..32"),
        ({"workload": "Z"}, "the instance has no workload 'Z'"),
        ({"model": "bert"}, "model is 'bert'"),
        ({"share_percent": 130.0}, "share 130 % is not in (0, 100] (and 1 more; `verify` lists them)"),
        ({"rate_rps": 0.0}, "rate 0 req/s is not positive"),
    ],
)
def test_plans_that_nobody_can_serve(three: Plan, changes: dict[str, object], says: str) -> None:
    with pytest.raises(InputError) as caught:
        simulate(with_placement(three, **changes))
    assert says in str(caught.value)


def test_a_workload_that_is_not_placed(three: Plan) -> None:
    gpu = three.gpus[0]
    less = three.model_copy(update={"gpus": (gpu.model_copy(update={"placements": gpu.placements[1:]}),)})
    with pytest.raises(InputError, match=f"workload {gpu.placements[0].workload} is not placed"):
        simulate(less)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"requests": 0}, "requests must be between 1 and 10,000,000; found 0"),
        ({"requests": 10**8}, "found 1e+08"),
        ({"seeds": 0}, "seeds must be between 1 and 1,000; found 0"),
        ({"seed": -1}, "seed must be at least 0; found -1"),
        ({"warm_up": -1}, "warm_up must be between 0 and"),
        ({"scale": 0.0}, "scale must be between 1e-06 and 1,000,000; found 0"),
        ({"noise": -0.1}, "noise must be between 0 and 10; found -0.1"),
        ({"noise": math.nan}, "noise must be between 0 and 10; found nan"),
        ({"margin": -1.0}, "margin must be between 0 and 100; found -1"),
        ({"percentile": 99.0}, "percentile must be a probability above 0, such as 0.99, and at most 1; found 99"),
        ({"split": "even"}, "split: unknown way 'even'"),
        ({"arrivals": "pareto"}, "arrivals: unknown kind 'pareto'"),
        ({"arrivals": "trace"}, "arrivals trace: give a trace file"),
        ({"arrivals": "trace", "traces": [(None, "x.csv")], "requests": 5}, "a trace has its own number of requests"),
        ({"traces": [(None, "x.csv")]}, "a trace belongs to arrivals trace; the arrivals are as planned"),
        ({"arrivals": "trace", "traces": [(None, "x.csv")]}, "x.csv: no such file"),
    ],
)
def test_options_out_of_range(three: Plan, options: dict[str, object], says: str) -> None:
    with pytest.raises(InputError) as caught:
        simulate(three, **options)  # type: ignore[arg-type]
    assert says in str(caught.value)


def test_warm_up_longer_than_the_trace(tmp_path: Path) -> None:
    text = "name: one\ngpu_types: [{name: V100, profile: v100, price_per_hour: 1}]\n"
    instance = parse_instance(
        text + "workloads: [{name: A, model: alexnet, slo_ms: 15, rate_rps: 100}]", "one", tmp_path
    )
    plan = solve(instance, "igniter").plan
    path = tmp_path / "trace.csv"
    path.write_text("0\n0.1\n0.2\n")
    options = {"arrivals": "trace", "traces": [(None, path)]}
    assert simulate(plan, **options, warm_up=2).workloads[0].requests == 1  # type: ignore[arg-type]
    # Half the time between requests is twice the rate.
    assert simulate(plan, **options, scale=2.0).workloads[0].estimates["offered_rps"].value == pytest.approx(20)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="warm_up: the trace has only 3 requests of workload A; found 3"):
        simulate(plan, **options, warm_up=3)  # type: ignore[arg-type]
