"""Instances from a Prometheus over real HTTP: what is known of made-up traffic is found again."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import igniter_opt as ig
from igniter_opt import Arrivals, read_instance
from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.data.asked import PLACEHOLDER_SLO_MS
from igniter_opt.data.demand import read_demand
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.profile import read_profile
from igniter_opt.observe.client import Prometheus
from igniter_opt.observe.demand import ObservedDemand
from igniter_opt.observe.from_prometheus import FromPrometheus
from igniter_opt.observe.sources import DURATION_US, FAILURES, QUEUE_US, REQUESTS, SUMMARY_US
from tests.cli.helpers import invoke, rejected
from tests.observe.fake import NOW, Fake, counted, vector
from tests.observe.test_dispersion import gamma

TYPES = [GpuType(name="V100", profile=read_profile("v100"), price_per_hour=3.06)]
WINDOW_S = 4 * 3600.0
BEGIN = NOW - WINDOW_S
# Of all steps between two times that are no multiples of ten minutes.
STEPS = 23
SCRAPES = BEGIN - 60.0 + 15.0 * np.arange(int((WINDOW_S + 60.0) / 15.0) + 1)


def add(fake: Fake, model: str, times: FloatArray, offset: float = 0.0, **labels: str) -> None:
    scrapes = SCRAPES + offset
    own = {"model": model, "version": "1", "instance": f"127.0.0.1:{8002 + len(fake.series.get(REQUESTS, []))}"}
    fake.add(REQUESTS, {"job": "triton", **own, **labels}, scrapes, counted(BEGIN - 100.0 + times, scrapes))


def made(fake: Fake, **options: Any) -> FromPrometheus:
    given: dict[str, Any] = {"window_s": WINDOW_S, "slo_ms": 60.0, **options}
    return ig.instance_from_prometheus(fake.url, TYPES, "mine", **given)


def test_rates_burstiness_and_arrivals(fake: Fake) -> None:
    add(fake, "resnet50", gamma(4.0, 30.0, seconds=16_000), workload="search")
    add(fake, "vgg19", gamma(1.0, 8.0, 1, seconds=16_000))
    found = made(fake)
    search, vgg = found.streams
    assert (search.workload, vgg.workload) == ("search", "vgg19")
    assert search.rate_rps == pytest.approx(30.0, rel=0.02)
    assert vgg.rate_rps == pytest.approx(8.0, rel=0.02)
    assert search.steps == vgg.steps == STEPS
    assert search.burstiness == pytest.approx(4.0, rel=0.2)
    assert vgg.arrivals == Arrivals()
    assert found.instance.slo_rule == "p99"
    first, second = found.instance.workloads
    assert (first.model, second.model) == ("resnet50", "vgg19")  # as Triton's labels say
    assert found.instance.arrivals_of(first).burstiness == pytest.approx(4.0, rel=0.2)
    assert found.instance.arrivals_of(second) == Arrivals()
    assert not found.placeholders
    calm = made(fake, arrivals="poisson").instance
    assert [calm.arrivals_of(entry) for entry in calm.workloads] == [Arrivals(), Arrivals()]
    found.write("mine.yaml")
    assert read_instance("mine.yaml") == found.instance
    head = Path("mine.yaml").read_text().splitlines()[:3]
    assert head[0].startswith("# Made by igniter-opt") and "(instances from-prometheus)" in head[0]
    assert head[1] == f"# From Prometheus at {fake.url}: 2025-11-24T12:10:00+00:00 to 2025-11-24T16:00:00+00:00."
    assert "mean rates, with headroom up to P95" in head[2]
    assert ig.solve(found.instance, "igniter").plan.gpus


def test_mean_peak_and_headroom_by_hand(fake: Fake) -> None:
    """Hours of 10, 20 and 40 req/s and one of 10."""
    rates = np.repeat([10.0, 20.0, 40.0, 10.0], 240)
    cumulative = np.concatenate([[0.0], np.cumsum(rates * 15.0)])
    times = BEGIN + 15.0 * np.arange(len(cumulative))
    fake.add(REQUESTS, {"model": "alexnet", "instance": "a"}, times, cumulative)
    found = made(fake)
    edges = np.arange(math.ceil(BEGIN / 600) * 600, NOW + 1, 600.0)
    expected = np.diff(np.interp(edges, times, cumulative)) / 600.0
    (stream,) = found.streams
    assert stream.rate_rps == pytest.approx(expected.mean())
    peak = np.sort(expected)[math.ceil(0.95 * STEPS) - 1]
    assert stream.peak_rps == pytest.approx(peak) and stream.busiest_rps == pytest.approx(expected.max())
    assert stream.headroom == pytest.approx(peak / expected.mean() - 1.0, abs=0.001)
    (workload,) = found.instance.workloads
    assert found.instance.planned_workloads[0].rate_rps == pytest.approx(peak, rel=1e-3)
    (workload,) = made(fake, rates="peak", percentile=80).instance.workloads
    assert workload.rate_rps == pytest.approx(np.sort(expected)[math.ceil(0.8 * STEPS) - 1], rel=1e-5)
    assert workload.headroom is None
    (workload,) = made(fake, rates="mean").instance.workloads
    assert workload.rate_rps == pytest.approx(expected.mean(), rel=1e-5) and workload.headroom is None
    assert found.demand.rates_rps["alexnet"] == pytest.approx(expected)
    assert found.demand.times == pytest.approx(edges[:-1])


def test_replicas_are_summed_and_a_restart_is_seen(fake: Fake) -> None:
    times = gamma(1.0, 40.0, seconds=16_000)
    half = np.random.default_rng(0).random(len(times)) < 0.5
    add(fake, "alexnet", times[half], workload="A")
    add(fake, "alexnet", times[~half], 6.5, workload="A")
    _, _, values = fake.series[REQUESTS][0]
    values[400:] -= values[400]
    (stream,) = made(fake).streams
    assert (stream.servers, stream.restarts) == (2, 1)
    assert stream.rate_rps == pytest.approx(40.0, rel=0.01)
    assert stream.arrivals == Arrivals()


def test_latencies_failures_and_summaries(fake: Fake) -> None:
    add(fake, "alexnet", gamma(1.0, 10.0, seconds=16_000))
    labels, times, values = fake.series[REQUESTS][0]
    fake.add(DURATION_US, labels, times, 5000.0 * values)
    fake.add(QUEUE_US, labels, times, 2000.0 * values)
    fake.add(FAILURES, labels, times, values / 9.0)
    (stream,) = made(fake).streams
    assert stream.mean_ms == pytest.approx(5.0) and stream.queue_ms == pytest.approx(2.0)
    assert (stream.p99_ms, stream.failed) == (None, pytest.approx(0.1))
    assert any("alexnet: 10 % of its requests failed" in text for text in made(fake).cautions())
    query = f'quantile_over_time(0.95, {SUMMARY_US}{{quantile="0.99"}}[13800000ms])'
    rows = [(labels, 11_000.0), ({**labels, "instance": "other"}, 17_500.0), ({**labels, "version": "2"}, math.nan)]
    fake.answers[query] = vector(rows)
    assert made(fake).streams[0].p99_ms == 17.5


def test_queries_of_the_user_s(fake: Fake) -> None:
    def rate(parameters: Any) -> Any:
        start, end = float(parameters["start"]), float(parameters["end"])
        times = np.arange(start, end + 1, float(parameters["step"]))
        values = [[t, "NaN" if k == 2 else str(5.0 + k)] for k, t in enumerate(times.tolist())]
        return {"resultType": "matrix", "result": [{"metric": {}, "values": values}]}

    fake.answers["sum(rate(mine[600000ms]))"] = rate
    fake.answers["idc(mine[13800000ms])"] = vector([({}, 3.0)])
    fake.answers["p99_ms"] = vector([({"any": "thing"}, 21.5)])
    asked = {
        "api": {
            "model": "alexnet",
            "slo_ms": 40,
            "rate_query": "sum(rate(mine[$step]))",
            "burstiness_query": "idc(mine[$window])",
            "p99_query": "p99_ms",
        }
    }
    found = made(fake, asked=asked)
    (stream,) = found.streams
    known = np.array([5.0 + k for k in range(STEPS) if k != 2])
    assert (stream.steps, stream.servers) == (STEPS - 1, 0)
    assert stream.rate_rps == pytest.approx(known.mean())
    assert (stream.p99_ms, stream.arrivals) == (21.5, Arrivals("gamma", burstiness=3.0))
    assert np.isnan(found.demand.rates_rps["api"][2])
    del asked["api"]["burstiness_query"]
    assert any("taken for Poisson" in text for text in made(fake, asked=asked).cautions())
    for answer, says in (
        (vector([]), "gives 0 values; it must give one"),
        (vector([({}, math.nan)]), "gives nan; it must give a number above 0"),
    ):
        fake.answers["p99_ms"] = answer
        with pytest.raises(InputError, match=says):
            made(fake, asked=asked)
    two = {"resultType": "matrix", "result": [{"metric": {"a": k}, "values": [[NOW, "1"]]} for k in "xy"]}
    fake.answers["sum(rate(mine[600000ms]))"] = two
    with pytest.raises(InputError, match=r"gives 2 series; make them one, by sum"):
        made(fake, asked=asked)
    below = {"resultType": "matrix", "result": [{"metric": {}, "values": [[NOW - 3400, "-1"]]}]}
    fake.answers["sum(rate(mine[600000ms]))"] = below
    with pytest.raises(InputError, match="rates below 0"):
        made(fake, asked=asked)


def test_which_series_are_whose(fake: Fake) -> None:
    steady = gamma(1.0, 5.0, seconds=16_000)
    add(fake, "resnet50-v3", steady, env="prod")
    add(fake, "resnet50-v3", steady, env="test")
    add(fake, "my model/2", steady, team="x")
    asked = {"search": {"model": "resnet50", "series": {"model": "resnet50-v3", "env": "prod"}}}
    names = [entry.workload for entry in made(fake, asked=asked).streams]
    assert names == ["my-model-2", "resnet50-v3", "search"]
    found = made(fake, asked=asked)
    assert found.placeholders == ("my-model-2", "resnet50-v3")
    assert any("nobody said model and SLO of my-model-2" in text for text in found.cautions())
    found = made(fake, label="team")
    assert [entry.workload for entry in found.streams] == ["x"]
    assert "2 series without a label team: left out" in found.notes
    made(fake, select='{env="prod"}')
    assert fake.asked[-1][1]["query"].startswith(
        'quantile_over_time(0.95, nv_inference_request_summary_us{env="prod",q'
    )
    with pytest.raises(InputError, match=r"no series .* of workload serch; did you mean 'search'"):
        made(fake, asked={**asked, "serch": {}})
    add(fake, "my model 2", steady)
    with pytest.raises(InputError, match="my model 2, my model/2 would all be workload my-model-2"):
        made(fake)


def test_a_server_that_is_scraped_twice_is_told(fake: Fake) -> None:
    steady = gamma(1.0, 5.0, seconds=16_000)
    add(fake, "alexnet", steady, instance="a:8002")
    add(fake, "alexnet", steady, instance="a:8002", job="again")
    assert any("scraped more than once (jobs again, triton)" in text for text in made(fake).cautions())


def test_gaps_silence_and_unused_models(fake: Fake) -> None:
    add(fake, "alexnet", gamma(1.0, 5.0, seconds=16_000))
    add(fake, "ssd", np.array([]))
    labels, times, values = fake.series[REQUESTS][0]
    there = (np.arange(len(times)) < 300) | ((np.arange(len(times)) > 420) & (np.arange(len(times)) < 800))
    fake.series[REQUESTS][0] = (labels, times[there], values[there])
    found = made(fake)
    (stream,) = found.streams
    assert stream.rate_rps == pytest.approx(5.0, rel=0.03)
    assert 0.2 < stream.unknown < 0.5
    notes = "\n".join(found.cautions())
    assert "ssd: no requests" in notes
    assert "% of the time is not known" in notes and "it may not run any more" in notes
    with pytest.raises(InputError, match="ssd: no requests"):
        made(fake, asked={"ssd": {"slo_ms": 50}})


def test_holes_of_the_demand_are_filled() -> None:
    nan = np.nan
    rates = {"a": np.array([nan, 3.0, nan, nan, 5.0, nan]), "b": np.array([nan, nan, 1.0, 2.0, nan, nan])}
    demand, filled = ObservedDemand(600.0 * np.arange(10, 16), rates).complete()
    assert demand.rates.T.tolist() == [[3.0, 5.0, 5.0, 5.0], [0.0, 1.0, 2.0, 0.0]]
    assert (demand.step_s, demand.start_s, filled) == (600.0, 6600.0, 4)
    with pytest.raises(InputError, match="has 1 steps, and must have 2"):
        ObservedDemand(600.0 * np.arange(3), {"a": np.array([nan, 3.0, nan])}).complete()


def test_what_prometheus_says_besides_is_told(fake: Fake) -> None:
    add(fake, "alexnet", gamma(1.0, 5.0, seconds=16_000))
    fake.warnings = ["a store is away"]
    assert "Prometheus says: a store is away" in made(fake).notes


def test_what_cannot_be(fake: Fake) -> None:
    with pytest.raises(InputError, match="there is no series nv_inference_request_success from 2025-11-24T12"):
        made(fake)
    add(fake, "alexnet", gamma(1.0, 5.0, seconds=16_000))
    for options, says in (
        ({"step_s": 20.0}, r"scraped every 15 s; a step takes two scrapes: give a --step of 30 s"),
        ({"step_s": 7200.0}, "not two whole steps"),
        ({"step_s": 0.0}, "the step must be"),
        ({"window_s": math.inf}, "the window"),
        ({"window_s": 1e9, "step_s": 1.0}, "1,000,000,000 steps"),
        ({"percentile": 0.95}, "must be in 50..100"),
        ({"rates": "men"}, "did you mean 'mean'"),
        ({"arrivals": "trace"}, "arrivals: unknown kind"),
        ({"asked": {"alexnet": {"slo": 3}}}, "unknown key 'slo'"),
        ({"asked": {"alexnet": {"series": "model"}}}, "series: must be a mapping"),
        ({"asked": {"alexnet": {"series": {}}}}, "series: must be a mapping"),
        ({"asked": {"alexnet": {"rate_query": 3}}}, "rate_query: must be a query"),
        ({"asked": {"a b": {"slo_ms": 3}}}, "is no name of a workload"),
        ({"until": BEGIN - 1e6}, "there is no series|no requests"),
    ):
        with pytest.raises(InputError, match=says):
            made(fake, **options)
    with pytest.raises(InputError, match="at least one GPU type"):
        ig.instance_from_prometheus(fake.url, [], "mine")


def test_the_command(fake: Fake) -> None:
    add(fake, "resnet50", gamma(4.0, 30.0, seconds=16_000), workload="search")
    Path("asked.yaml").write_text("search: {slo_ms: 60, max_replicas: 2}\n")
    words = ["instances", "from-prometheus", fake.url, "--window", "4h", "--workloads", "asked.yaml"]
    run = invoke(*words, "-o", "mine.yaml", "--demand", "demand.csv")
    assert run.code == 0, run.err
    assert "gamma arrivals (burstiness" in run.out and "wrote demand.csv: 23 steps" in run.err
    (workload,) = read_instance("mine.yaml").workloads
    assert (workload.model, workload.slo_ms, workload.max_replicas) == ("resnet50", 60, 2)
    rows = list(csv.DictReader(Path("demand.csv").read_text().splitlines()))
    assert len(rows) == STEPS and list(rows[0]) == ["time_s", "search"]
    assert read_demand("demand.csv").start_s == NOW - 250.0 - STEPS * 600.0
    assert float(rows[0]["search"]) == pytest.approx(30, rel=0.2)
    run = invoke(*words, "-o", "mine.yaml", "--json", "--rates", "peak", "--until", "2025-11-24T15:00")
    (stream,) = json.loads(run.out)["streams"]
    assert stream["steps"] == 17 and stream["dispersion"]["index"] == pytest.approx(4.0, rel=0.3)
    run = invoke(*words[:5], "-o", "other.yaml")
    assert run.code == 0 and f"resnet50 and {PLACEHOLDER_SLO_MS:g} ms" not in run.out
    assert "note: placeholders, to be replaced" in run.err


def test_bad_words(fake: Fake) -> None:
    add(fake, "alexnet", gamma(1.0, 5.0, seconds=16_000))
    Path("not.csv").write_text("a,b\n1,2\n")
    Path("plan.json").write_text("{}")
    words = ["instances", "from-prometheus", fake.url, "-o", "x.yaml", "--slo-ms", "50", "--window", "4h"]
    for more, says in (
        (["--step", "long"], "--step: must be a time such as"),
        (["--until", "yesterday"], "--until: must be a time such as"),
        (["--timeout", "0"], "the time-out must be"),
        (["--demand", "not.csv"], "is not a demand"),
        (["--demand", "x.yaml"], "would overwrite"),
        (["--demand", "x.json"], "is written as .csv"),
        (["--token-file", "none"], "none: no such file"),
        (["--workloads", "x.yaml"], "no such file"),
        (["--slo-ms", "-1"], "must be greater than 0"),
        (["-o", "plan.json"], "is written as .yaml"),
    ):
        said = rejected(*words, *more)
        assert says in said
    with pytest.raises(InputError, match="found 3"):
        Prometheus(3)  # type: ignore[arg-type]
