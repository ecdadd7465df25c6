"""The metrics of a plan and of its servers, in Prometheus's own format, and who may not listen where."""

import json
import math
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import igniter_opt as ig
from igniter_opt.base.errors import InputError
from igniter_opt.data.plan import Plan
from igniter_opt.deploy.approval import plan_digest
from igniter_opt.deploy.state import Deployment, Store
from igniter_opt.observe.exporter import PlanCollector, metrics_text, serving
from igniter_opt.observe.families import METRICS
from igniter_opt.simulation.servers import servers_of
from tests.cli.helpers import invoke, rejected
from tests.deploy.test_endpoints import STATE

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return ig.solve("igniter-three", "igniter").plan


def values(text: str) -> Values:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(found: Values, name: str, **labels: str) -> float:
    fits = [value for (own, has), value in found.items() if own == f"igniter_opt_{name}" and set(labels.items()) <= has]
    assert len(fits) == 1, (name, labels)
    return fits[0]


def read(plan: Plan | None, store: Store | None = None, name: str = "d") -> Values:
    with closing(PlanCollector(plan, store, name)) as collector:
        return values(metrics_text(collector))


def test_what_is_planned_and_predicted(plan: Plan) -> None:
    found = read(plan)
    assert of(found, "plan_cost_per_hour", deployment="d") == plan.solver.cost_per_hour
    assert of(found, "plan_gpus", gpu_type="V100") == len(plan.gpus)
    assert of(found, "plan_holds") == 1.0
    info = {"instance_name": plan.instance.name, "method": "igniter", "slo_rule": "half", "currency": "USD"}
    assert of(found, "plan_info", **info) == 1.0
    for workload in plan.instance.workloads:
        assert of(found, "workload_slo_seconds", workload=workload.name) == workload.slo_ms / 1000.0
    for check in ig.verify(plan).placements:
        labels = {"placement": f"{check.gpu}/{check.workload}#{check.replica}", "gpu_type": check.type}
        assert of(found, "placement_predicted_latency_seconds", **labels) == pytest.approx(check.latency_ms / 1000.0)
        assert of(found, "placement_latency_limit_seconds", **labels) == pytest.approx(check.limit_ms / 1000.0)
        assert of(found, "placement_share_ratio", **labels) == pytest.approx(check.share_percent / 100.0)
        assert of(found, "placement_batch_size", **labels) == check.batch
    # A heuristic has no bound, and nobody asked for a deployment.
    assert not {"igniter_opt_plan_gap_ratio", "igniter_opt_plan_lower_bound_per_hour", "igniter_opt_plan_deployed"} & {
        name for name, _ in found
    }


def test_headroom_and_bound() -> None:
    planned = ig.solve("igniter-motivation", "assignment", headroom=0.25).plan
    found = read(planned)
    assert of(found, "plan_lower_bound_per_hour") == planned.solver.lower_bound_per_hour
    for workload in planned.instance.workloads:
        rate = of(found, "workload_requests_per_second", workload=workload.name)
        assert rate == workload.rate_rps
        assert of(found, "workload_planned_requests_per_second", workload=workload.name) == pytest.approx(1.25 * rate)


def test_plans_that_do_not_hold_or_cannot_be_served(plan: Plan) -> None:
    gpu = plan.gpus[0]
    first, *others = gpu.placements
    squeezed = gpu.model_copy(update={"placements": (first.model_copy(update={"share_percent": 5.0}), *others)})
    assert of(read(plan.model_copy(update={"gpus": (squeezed, *plan.gpus[1:])})), "plan_holds") == 0.0
    unknown = gpu.model_copy(update={"placements": (first.model_copy(update={"model": "nobody"}), *others)})
    found = read(plan.model_copy(update={"gpus": (unknown, *plan.gpus[1:])}))
    assert of(found, "plan_holds") == 0.0
    assert not any(math.isnan(value) for value in found.values())


@contextmanager
def triton(statistics: Any) -> Iterator[int]:
    """A server that has these statistics of whatever model."""

    class Own(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"model_stats": [statistics]}).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


class Kept(Store):
    """A store whose state is what it was told."""

    state: Deployment | None = None
    fails = False

    def load(self) -> Deployment | None:
        if self.fails:
            raise InputError("cannot be read")
        return self.state


def deployed(plan: Plan, ports: dict[str, int], folder: Path, **changes: Any) -> Kept:
    """A deployment of a plan of one GPU, whose servers listen on these ports by workload."""
    template = STATE.replicas[0]
    records = tuple(
        template.model_copy(
            update={
                "workload": entry.workload,
                "replica": entry.replica,
                "model": entry.model,
                "gpu": plan.gpus[0].name,
                "share_percent": entry.share_percent,
                "phase": "ready",
                "host": "local",
                "ports": template.ports.model_copy(update={"http": ports[entry.workload]}),
            }
        )
        for entry in plan.gpus[0].placements
    )
    host = STATE.hosts[0].model_copy(update={"name": "local", "address": "127.0.0.1"})
    store = Kept(folder, "d")
    update = {"replicas": records, "hosts": (host,), "plan_digest": plan_digest(plan), "plan_path": None, **changes}
    store.state = STATE.model_copy(update=update)
    return store


STATISTICS = {
    "inference_stats": {
        "success": {"count": 70, "ns": 70 * 9_000_000},
        "fail": {"count": 3, "ns": 5},
        "queue": {"count": 70, "ns": 70 * 2_000_000},
        "compute_input": {"count": 70, "ns": 0},
        "compute_infer": {"count": 70, "ns": 70 * 6_000_000},
        "compute_output": {"count": 70, "ns": 0},
    },
    "execution_count": 40,
    "batch_stats": [
        {"batch_size": 1, "compute_infer": {"count": 10, "ns": 10 * 4_000_000}},
        {"batch_size": 2, "compute_infer": {"count": 30, "ns": 30 * 6_000_000}},
    ],
}


def test_what_servers_say_and_what_their_batches_should_have_taken(plan: Plan, tmp_path: Path) -> None:
    with triton(STATISTICS) as port:
        store = deployed(plan, {"A": port, "R": port, "S": 1}, tmp_path)  # nobody listens there
        found = read(plan, store)
    assert of(found, "plan_deployed") == 1.0
    assert (of(found, "server_up", workload="A"), of(found, "server_up", workload="S")) == (1.0, 0.0)
    assert of(found, "server_requests_total", workload="A") == 70.0
    assert of(found, "server_failures_total", workload="A") == 3.0
    assert of(found, "server_queue_seconds_total", workload="A") == pytest.approx(0.14)
    assert of(found, "server_request_seconds_total", workload="A") == pytest.approx(0.63)
    assert of(found, "server_batches_total", workload="A") == 40.0
    assert of(found, "server_batch_seconds_total", workload="A") == pytest.approx(0.22)
    (server,) = next(own for own in servers_of(plan) if own[0].placement.workload == "A")
    whole = (server.gpu + server.load + server.feedback) / 1e9
    predicted = of(found, "server_predicted_batch_seconds_total", workload="A")
    assert predicted == pytest.approx(10 * whole[0] + 30 * whole[1])


@pytest.mark.parametrize("statistics", [{}, {"inference_stats": 3}, "x", {**STATISTICS, "batch_stats": [{}]}])
def test_statistics_that_make_no_sense(plan: Plan, tmp_path: Path, statistics: Any) -> None:
    with triton(statistics) as port:
        found = read(plan, deployed(plan, dict.fromkeys("ARS", port), tmp_path))
    assert of(found, "server_up", workload="A") == 0.0


def test_another_plan_is_deployed(plan: Plan, tmp_path: Path) -> None:
    found = read(plan, deployed(plan, dict.fromkeys("ARS", 1), tmp_path, plan_digest="0" * 64))
    assert of(found, "plan_deployed") == 0.0
    assert not any("server" in name for name, _ in found)


def test_a_deployment_is_followed(plan: Plan, tmp_path: Path) -> None:
    ig.write_plan(plan, tmp_path / "one.json")
    store = deployed(plan, dict.fromkeys("ARS", 1), tmp_path, plan_path=str(tmp_path / "one.json"))
    with closing(PlanCollector(None, store, "d")) as collector:
        assert of(values(metrics_text(collector)), "plan_info", method="igniter") == 1.0
        other = ig.solve("igniter-three", "ffd++").plan
        ig.write_plan(other, tmp_path / "two.json")
        store.state = deployed(other, dict.fromkeys("ARS", 1), tmp_path, plan_path=str(tmp_path / "two.json")).state
        assert of(values(metrics_text(collector)), "plan_info", method="ffd++") == 1.0
        (tmp_path / "two.json").unlink()
        assert of(values(metrics_text(collector)), "plan_info", method="ffd++") == 1.0
    with pytest.raises(InputError, match="no such file"):
        PlanCollector(None, store, "d")
    ig.write_plan(plan, tmp_path / "two.json")
    with pytest.raises(InputError, match="is another plan than deployment"):
        PlanCollector(None, store, "d")
    store.state = None
    with pytest.raises(InputError, match="there is no deployment 'd'"):
        PlanCollector(None, store, "d")


def test_it_is_served_until_it_ends(plan: Plan) -> None:
    with closing(PlanCollector(plan, None, "d")) as collector:
        with serving(collector, "127.0.0.1", 0) as port:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                found = values(answer.read().decode())
            assert of(found, "plan_holds") == 1.0
            with pytest.raises(InputError, match="cannot listen there"), serving(collector, "127.0.0.1", port):
                pass
        with pytest.raises(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2)


def test_a_state_that_cannot_be_read_just_now(plan: Plan, tmp_path: Path) -> None:
    store = deployed(plan, dict.fromkeys("ARS", 1), tmp_path)
    with closing(PlanCollector(plan, store, "d")) as collector:
        store.fails = True
        assert of(values(metrics_text(collector)), "plan_deployed") == 0.0


def test_names_and_words() -> None:
    for name, row in METRICS.items():
        assert name == row.name and row.words.endswith(".") and row.labels[0] == "deployment"


def test_the_command(plan: Plan, tmp_path: Path) -> None:
    ig.write_plan(plan, "plan.json")
    run = invoke("metrics", "plan.json", "--once", "--state", "state", "--name", "mine")
    assert run.code == 0, run.err
    assert of(values(run.out), "plan_deployed", deployment="mine") == 0.0
    rejected("metrics", says=("give a plan file or the name of a deployment",))
    rejected("metrics", "nobody", "--once", "--state", "state", says=("there is no deployment 'nobody'",))
    rejected("metrics", "no.json", "--once", says=("no.json: no such file",))
    rejected("metrics", "a b", "--once", "--state", "state")
    rejected("metrics", "d", "--name", "x", says=("--name goes with a plan file",))
    rejected("metrics", "plan.json", "--port", "70000")
    rejected("metrics", "plan.json", "--host", "nowhere.invalid", says=("cannot listen there",))
    rejected("metrics", "plan.json", "--dashboard", "d.json", says=("give neither a plan nor --once",))
    rejected("metrics", "--dashboard", "plan.json", says=("is not a dashboard",))
    rejected("metrics", "--dashboard", "d.yaml", says=("is written as .json",))
    assert invoke("metrics", "--dashboard", "d.json").code == 0
    assert invoke("metrics", "--dashboard", "d.json").code == 0
