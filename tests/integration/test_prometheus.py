"""A real Prometheus that scrapes real Triton servers under load, the plan's metrics beside them, and all the way back.

What was sent is known, request by request: Prometheus must give back its number, rates and kind, an instance made of it
must be solved, and every query of the dashboard must have data.
"""

import csv
import math
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import igniter_opt as ig
from igniter_opt.base.errors import InputError
from igniter_opt.deploy import launch
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.approval import approval_path, make_approval, write_approval
from igniter_opt.deploy.backends.process import ProcessBackend
from igniter_opt.deploy.endpoints import endpoints
from igniter_opt.deploy.state import Store
from igniter_opt.deploy.triton.install import Installation
from igniter_opt.measure.options import MeasureOptions
from igniter_opt.measure.run import measure
from igniter_opt.observe.dashboard import queries
from igniter_opt.observe.demand import time_text
from igniter_opt.rehearse.emulation import write_emulated_models
from tests.cli.helpers import Running, script
from tests.integration.conftest import missing

BASE_PORT, PROMETHEUS, EXPORTER = 31400, 31490, 31491
URL = f"http://127.0.0.1:{PROMETHEUS}"
SCRAPE_S, STEP_S, LOAD_S = 0.4, 4.0, 25.0
# Planned for; sent is a part of it, so that servers have time enough and answer as requests come.
RATES, SCALE, SEED = {"bursty": 400.0, "calm": 250.0}, 0.15, 1
BURSTINESS = 4.0
CONFIG = f"""\
global: {{scrape_interval: {SCRAPE_S * 1000:.0f}ms}}
scrape_configs:
  - job_name: triton
    file_sd_configs: [{{files: [targets.json]}}]
  - job_name: plan
    static_configs: [{{targets: ["127.0.0.1:{EXPORTER}"]}}]
"""


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[ig.Prometheus]:
    program = shutil.which("prometheus")
    if program is None:
        missing("no prometheus (Debian: prometheus)")
    (tmp_path / "prometheus.yml").write_text(CONFIG)
    options = [
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{PROMETHEUS}",
    ]
    with (tmp_path / "prometheus.log").open("w") as log:
        process = subprocess.Popen([program, *options], cwd=tmp_path, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    yield ig.Prometheus(URL)
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Stage:
    """Two workloads, one of them bursty, deployed on emulated models, and the plan's metrics."""

    def __init__(self, folder: Path) -> None:
        self.plan, self.state = folder / "plan.json", folder / "state"
        self.instance = ig.Instance.model_validate(
            {
                "name": "observed",
                "slo_rule": "half",
                "gpu_types": [{"name": "V100", "profile": ig.read_profile("v100"), "price_per_hour": 3.06}],
                "workloads": [
                    {"name": "bursty", "model": "alexnet", "slo_ms": 60, "rate_rps": RATES["bursty"],
                     "arrivals": {"kind": "gamma", "burstiness": BURSTINESS}},
                    {"name": "calm", "model": "resnet50", "slo_ms": 60, "rate_rps": RATES["calm"]},
                ],
            }
        )  # fmt: skip
        with pytest.warns(ig.Caution, match="does not plan for gamma arrivals"):  # they are what is sent
            self.made = ig.solve(self.instance, "assignment").plan
        ig.write_plan(self.made, self.plan)
        write_approval(make_approval(self.made), approval_path(self.plan))
        write_emulated_models(self.made, folder / "models")
        self.store = Store(self.state, "observed")
        request = launch.Request(
            plan=self.plan,
            models=folder / "models",
            cpu=True,
            file_sd=folder / "targets.json",
            options=Options(base_port=BASE_PORT),
        )
        launch.deploy(request, self.store, ProcessBackend())
        self.exporter = Running("metrics", "observed", "--state", self.state, "--port", str(EXPORTER))

    def load(self) -> dict[str, int]:
        """Send requests; return how many there were of each workload, all of them answered."""
        state = self.store.load()
        assert state is not None
        options = MeasureOptions(duration_s=LOAD_S, warm_up_s=0.0, seed=SEED, scale=SCALE)
        found = measure(endpoints(state), options, plan=self.made)
        assert all(entry.failed == 0 for entry in found.workloads)
        return {entry.workload: entry.requests for entry in found.workloads}

    def close(self) -> None:
        self.exporter.process.terminate()
        assert self.exporter.wait(20).code == 130
        launch.teardown(self.store, ProcessBackend(), Options())


@pytest.fixture
def stage(triton: Installation, tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.close()


def wait_for(what: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if what():
                return
        except InputError:  # it does not listen yet
            pass
        time.sleep(0.1)
    raise AssertionError(otherwise)


def test_what_was_sent_is_what_is_observed(prometheus: ig.Prometheus, stage: Stage, tmp_path: Path) -> None:
    def scraped() -> bool:
        return len(prometheus.instant("up == 1", prometheus.now())) == len(RATES) + 1

    wait_for(scraped, "the servers are not scraped")
    time.sleep(2 * SCRAPE_S)
    first = prometheus.now()
    sent = stage.load()
    last = prometheus.now()
    time.sleep(4 * SCRAPE_S)

    # Every request is there: rates times seconds, over a time that begins before the load and ends after it.
    made, demand, asked = (tmp_path / name for name in ("made.yaml", "demand.csv", "asked.yaml"))
    asked.write_text("bursty: {slo_ms: 60}\ncalm: {slo_ms: 60, max_replicas: 2}\n")
    end = math.floor(prometheus.now())
    window = end - math.floor(first)
    words = [
        "instances",
        "from-prometheus",
        URL,
        "--workloads",
        asked,
        "--select",
        '{job="triton"}',
        "-o",
        made,
        "--json",
    ]
    run = script(*words, "--window", f"{window}s", "--until", time_text(end), "--step", "1s", "--demand", demand)
    assert run.code == 0, run.err
    rows = list(csv.DictReader(demand.read_text().splitlines()))
    for name, requests in sent.items():
        rates = [float(row[name]) for row in rows]
        # Where a busy machine left out scrapes for four intervals, nothing is known, and what is there is filled in.
        filled = 0.0 if "not known" not in run.err else 2.0 * max(rates)
        assert sum(rates) == pytest.approx(requests, abs=0.01 * requests + filled)

    # Within the load: rates within 15 % of what was sent, as its ends are known to some seconds; and its kind.
    # Of 62 scrapes the index of dispersion has an error of a fifth (by the times that are sent, it is 3.7 to 5.5 and
    # 0.9 to 1.1, as scrapes fall); a busy machine that answers or scrapes late adds to it. So within a factor of two.
    run = script(*words, "--window", f"{LOAD_S:.0f}s", "--step", f"{STEP_S:.0f}s", "--until", time_text(last))
    assert run.code == 0, run.err
    found = {entry["workload"]: entry for entry in run.json()["streams"]}
    for name, requests in sent.items():
        assert found[name]["rate_rps"] == pytest.approx(requests / LOAD_S, rel=0.15), name
        assert found[name]["failed"] == 0.0 and 0.0 < found[name]["queue_ms"] < found[name]["mean_ms"]
    assert BURSTINESS / 2.0 < found["bursty"]["burstiness"] < 2.0 * BURSTINESS
    assert 0.5 < found["calm"]["burstiness"] < BURSTINESS / 2.0
    instance = ig.read_instance(made)
    assert [(entry.model, entry.slo_ms) for entry in instance.workloads] == [("alexnet", 60), ("resnet50", 60)]
    result = ig.solve(instance, "igniter")
    assert ig.verify(result.plan).ok

    # The metrics of the plan, and the dashboard.
    for title, query in queries("obs.*", "10s"):
        values = [value for _, value in prometheus.instant(query, last)]
        assert values and all(map(math.isfinite, values)), f"{title}: {query}"
    predicted = {
        labels["workload"]: value
        for labels, value in prometheus.instant("igniter_opt_placement_predicted_latency_seconds", last)
    }
    for check in ig.verify(stage.made).placements:
        assert predicted[check.workload] == pytest.approx(check.latency_ms / 1000.0)
    for name, requests in sent.items():
        query = f'sum(igniter_opt_server_requests_total{{workload="{name}"}})'
        theirs = prometheus.instant(f'sum(nv_inference_request_success{{workload="{name}"}})', prometheus.now())
        assert prometheus.instant(query, prometheus.now()) == theirs
        assert theirs[0][1] >= requests
    # Emulated models take the predicted times, and a little more.
    error = "sum(igniter_opt_server_batch_seconds_total) / sum(igniter_opt_server_predicted_batch_seconds_total)"
    assert 0.9 < prometheus.instant(error, last)[0][1] < 5.0
