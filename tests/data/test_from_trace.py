"""Instances from recorded requests: what is known of made-up streams is found again."""

import math
from pathlib import Path

import numpy as np
import pytest

from igniter_opt import Arrivals, read_instance, write_instance
from igniter_opt.base.arrays import FloatArray
from igniter_opt.data.asked import PLACEHOLDER_SLO_MS
from igniter_opt.data.from_trace import FromTrace, TracedArrivals, instance_from_trace
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.profile import read_profile
from tests.cli.helpers import invoke, rejected

SHARED = next((folder / "shared" for folder in Path(__file__).parents if (folder / "shared").is_dir()), Path("nowhere"))
HOUR = SHARED / "reference" / "traffic" / "azure-2023-conversation-s.csv"
TYPES = [GpuType(name="V100", profile=read_profile("v100"), price_per_hour=3.06)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(path: str, times: FloatArray, start: float = 1.7e9) -> str:
    Path(path).write_text("timestamp\n" + "\n".join(f"{start + time:.7f}" for time in times))
    return path


def renewal(burstiness: float, rate: float, requests: int, seed: int = 0) -> FloatArray:
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.gamma(1.0 / burstiness, burstiness / rate, requests))


def made(path: str, kind: TracedArrivals = "gamma", window_s: float = 60.0, percentile: float = 95.0) -> FromTrace:
    return instance_from_trace(
        [("A", path)],
        TYPES,
        "mine",
        arrivals=kind,
        window_s=window_s,
        percentile=percentile,
        model="alexnet",
        slo_ms=40,
    )


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 1.5, 4.0, 16.0])
def test_the_burstiness_of_a_steady_stream_is_found(burstiness: float) -> None:
    found = made(written("a.csv", renewal(burstiness, 50.0, 200_000)))
    (stream,) = found.streams
    assert stream.burstiness == pytest.approx(burstiness, rel=0.05)
    assert stream.rate_rps == pytest.approx(50.0, rel=0.02)
    # Chance in windows of 3,000 requests, 95 of 100 of which are below.
    assert stream.headroom == pytest.approx(1.65 * math.sqrt(burstiness / 3000), abs=0.6 * math.sqrt(burstiness / 3000))
    (workload,) = found.instance.workloads
    planned = found.instance.arrivals_of(workload)
    assert planned == (Arrivals() if burstiness == 1.0 else Arrivals("gamma", burstiness=planned.burstiness))
    assert not stream.is_clustered


def test_drift_becomes_headroom_and_is_not_counted_as_burstiness() -> None:
    """The rate doubles and falls again: P95 of the windows' rates over the mean, by hand."""
    rng = np.random.default_rng(1)
    counts = rng.poisson(np.repeat([1000, 2000, 4000, 1000], 25))
    times = np.concatenate([60.0 * k + np.sort(rng.random(n)) * 60.0 for k, n in enumerate(counts)])
    times[0], times[-1] = 0.0, 6000.0
    found = made(written("a.csv", times))
    (stream,) = found.streams
    rates = np.sort(np.bincount(np.minimum(times // 60.0, 99).astype(int)) / 60.0)
    expected = rates[math.ceil(0.95 * 100) - 1] / ((len(times) - 1) / 6000.0) - 1.0
    assert stream.windows == 100
    assert stream.headroom == pytest.approx(expected, abs=0.002)
    assert stream.headroom == pytest.approx(1.0, abs=0.05)
    assert stream.burstiness == pytest.approx(1.0, abs=0.02)
    assert np.var(np.diff(times)) / np.mean(np.diff(times)) ** 2 > 1.3  # what all gaps together would say
    assert found.instance.workloads[0].headroom == stream.headroom
    assert found.instance.planned_workloads[0].rate_rps == pytest.approx(4000 / 60.0, rel=0.05)
    higher = made("a.csv", percentile=100.0).streams[0]
    assert higher.headroom == pytest.approx(rates[-1] / higher.rate_rps - 1.0, abs=0.002)
    assert made("a.csv", percentile=50.0).streams[0].headroom == 0.0


def test_clusters_are_told_apart_from_gaps() -> None:
    """Bursts of a Markov-modulated stream show in the counts far more than in the gaps."""
    times = (
        Arrivals("mmpp", burst_ratio=4.0, burst_seconds=1.0).times_ns(100.0, 100_000, np.random.default_rng(2)) / 1e9
    )
    found = made(written("a.csv", times))
    # Four of five gaps are of the high rate of 160/s, one of the low rate of 40/s.
    assert found.streams[0].burstiness == pytest.approx(2 * (0.8 / 160**2 + 0.2 / 40**2) * 100**2 - 1.0, rel=0.05)
    assert (found.streams[0].dispersion or 0.0) > 5.0
    assert any("clusters that gamma arrivals do not have" in text for text in found.cautions())
    assert not made("a.csv", "trace").cautions()


def test_arrivals_as_recorded_have_no_headroom_and_their_own_rate() -> None:
    found = made(written("a.csv", renewal(2.0, 20.0, 5000)), "trace")
    (workload,) = found.instance.workloads
    recorded = found.instance.arrivals_of(workload).recorded
    assert recorded is not None
    assert (recorded.times_at_ns("A", workload.rate_rps) == recorded.times_ns("A")).all()
    assert (found.instance.headroom_words, found.streams[0].headroom) == (None, 0.0)


@pytest.mark.parametrize("kind", ["gamma", "poisson", "trace"])
def test_it_is_an_instance_like_any_other(kind: TracedArrivals) -> None:
    first, second = renewal(3.0, 30.0, 4000), renewal(0.5, 10.0, 2000, 1)
    rows = sorted([(time, "search") for time in first] + [(time, "video") for time in second])
    Path("all.csv").write_text("timestamp,workload\n" + "\n".join(f"{time:.7f},{name}" for time, name in rows))
    written("other.csv", renewal(1.0, 5.0, 3000, 2))
    asked = {"search": {"model": "vgg19", "slo_ms": 50, "max_replicas": 2}, "mine": {"slo_ms": 70}}
    found = instance_from_trace(
        [(None, "all.csv"), ("mine", "other.csv")], TYPES, "x", window_s=20.0, arrivals=kind, asked=asked, model="ssd"
    )
    write_instance(found.instance, "x.yaml")
    assert read_instance("x.yaml") == found.instance
    kept = {w.name: (w.model, w.slo_ms, w.max_replicas) for w in found.instance.workloads}
    assert kept == {"search": ("vgg19", 50, 2), "video": ("ssd", PLACEHOLDER_SLO_MS, None), "mine": ("ssd", 70, None)}
    assert found.placeholders == ("video",)
    assert "Placeholders: model and SLO of video." in found.instance.description
    kinds = {found.instance.arrivals_of(workload).kind for workload in found.instance.workloads}
    assert kinds == ({"gamma", "poisson"} if kind == "gamma" else {kind})


def test_the_command_writes_it_and_says_what_it_saw() -> None:
    written("requests.csv", renewal(4.0, 20.0, 30_000))
    Path("models.yaml").write_text("requests: {model: resnet50, slo_ms: 40}\n")
    words = (
        "instances",
        "from-trace",
        "requests.csv",
        "--workloads",
        "models.yaml",
        "--window",
        "1min",
        "-o",
        "my.yaml",
    )
    run = invoke(*words)
    assert run.code == 0
    assert "gamma arrivals" in run.out
    assert "wrote my.yaml: 1 workload\n" in run.err
    assert "placeholder" not in run.err
    (workload,) = read_instance("my.yaml").workloads
    assert (workload.name, workload.model, workload.slo_ms) == ("requests", "resnet50", 40)
    found = invoke(*words, "--json").json()
    assert found["placeholders"] == []
    assert found["streams"][0]["headroom"] == workload.headroom
    named = invoke("instances", "from-trace", "search=requests.csv", "--window", "4min", "-o", "other.yaml")
    assert (
        "note: placeholders, to be replaced before anything is planned: nobody said model and SLO of search"
        in named.err
    )
    assert "note: P95 of 6 windows is the busiest one; a longer trace or a shorter --window has more" in named.err
    traced = ("instances", "from-trace", "requests.csv", "--arrivals", "trace", "--window", "1min", "-o", "traced.yaml")
    # Its own file is replaced, however far down the keys are that it is known by.
    assert [invoke(*traced).code for _ in range(2)] == [0, 0]
    assert Path("traced.yaml").read_bytes().find(b"\nworkloads:") > 65_536


TWO = [f"{k}" for k in range(2000)]


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        (TWO, ("--percentile", "0.95"), "the percentile of windows must be in 50..100 (95 is 95 %); found 0.95"),
        (TWO, ("--percentile", "nan"), "the percentile of windows must be in 50..100"),
        (TWO, ("--window", "soon"), "--window: must be a time such as 30s, 10min or 1h; found 'soon'"),
        (TWO, ("--window", "0s"), "the window must be 0.001 to 1e9 seconds; found 0"),
        (
            TWO,
            ("--window", "1h"),
            "goes on for 33.3 min, which is not two windows of 1 h; give a --window of 100 s or so",
        ),
        (TWO, ("--arrivals", "mmpp"), "--arrivals: unknown kind 'mmpp' (kinds: gamma, poisson, trace)"),
        (TWO, ("--profile", "h100"), "give --price once for each --profile"),
        (TWO, ("--price", "1", "--price", "2"), "1 profile(s) and 2 price(s)"),
        (TWO, ("--model", "resnet"), "unknown model 'resnet'; did you mean 'resnet50'?"),
        (TWO, ("--slo-ms", "-4"), "slo_ms: must be greater than 0; found -4"),
        (TWO, ("--max-replicas", "0"), "max_replicas: must be at least 1; found 0"),
        (TWO, ("--workloads", "nowhere.yaml"), "nowhere.yaml: no such file"),
        (TWO, ("--workloads", "list.yaml"), "list.yaml: expected a mapping of workloads to {model: ..., slo_ms: ...}"),
        (
            TWO,
            ("--workloads", "other.yaml"),
            "other.yaml: the trace has no requests of workload 'request'; did you mean",
        ),
        (TWO, ("--workloads", "key.yaml"), "key.yaml: requests: unknown key 'slo'; did you mean 'slo_ms'?"),
        (TWO, ("--workloads", "text.yaml"), "text.yaml: requests: must be a mapping such as {model: resnet50"),
        (["0", "5e9"], ("--window", "1s"), "has 5,000,000,000 windows of 1 s; give a longer --window"),
        (TWO[:50], ("--window", "10s"), "has 50 requests, too few to see how bursty it is: it takes 100; leave it out"),
        (["5"], (), "has 1 request at one time, so that it has no rate; leave it out"),
        (["5", "5", "5"], (), "has 3 requests at one time, so that it has no rate"),
        ([], (), "the trace is empty"),
        (["2", "1"], (), "row 2: the time 1.0 of workload requests is before 2.0 above it; sort the rows by"),
        (["1", "inf"], (), "the timestamp is infinity; it must be a finite number of seconds"),
        (["timestamp,workload", "1,a b"], (), "row 1: 'a b' is no name of a workload: it must be 1 to 63 letters"),
    ],
)
def test_bad_input(rows: list[str], options: tuple[str, ...], says: str) -> None:
    Path("requests.csv").write_text("\n".join(rows))
    Path("list.yaml").write_text("[1]")
    Path("other.yaml").write_text("request: {model: resnet50}")
    Path("key.yaml").write_text("requests: {model: resnet50, slo: 40}")
    Path("text.yaml").write_text("requests: resnet50")
    window = () if "--window" in options else ("--window", "1min")
    rejected("instances", "from-trace", "requests.csv", *window, *options, "-o", "mine.yaml", says=(says,))
    assert not Path("mine.yaml").exists()


def test_what_is_read_is_not_overwritten() -> None:
    Path("requests.csv").write_text("\n".join(TWO))
    rejected(
        "instances", "from-trace", "requests.csv", "-o", "requests.csv", says=("--output would overwrite what is read",)
    )


@pytest.mark.skipif(not HOUR.is_file(), reason="the recorded hour is not at hand")
def test_a_real_hour() -> None:
    found = instance_from_trace([("chat", HOUR)], TYPES, "chat", window_s=60.0, model="resnet50", slo_ms=100)
    (stream,) = found.streams
    assert stream.requests == 19_366
    assert stream.rate_rps == pytest.approx(5.53, abs=0.01)
    # The variation of its gaps is 1.09, drift included, and so its square 1.19.
    assert 1.0 < (stream.burstiness or 0.0) < 1.19
    times = np.loadtxt(HOUR)
    rates = np.bincount((times // 60.0).astype(int))[: stream.windows] / 60.0
    assert stream.busiest_rps == pytest.approx(rates.max())
    expected = np.sort(rates)[math.ceil(0.95 * stream.windows) - 1] / stream.rate_rps - 1.0
    assert stream.headroom == pytest.approx(expected, abs=0.001)
