"""The endpoints file, and what load balancers make of it."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igniter_opt.base.errors import InputError
from igniter_opt.deploy.endpoints import endpoints, endpoints_from_data
from igniter_opt.deploy.load_balancers import render_endpoints
from igniter_opt.deploy.records import HostRecord, Ports, ReplicaRecord
from igniter_opt.deploy.state import Deployment, listener_slots


def record(workload: str, replica: int, port: int, **more: object) -> ReplicaRecord:
    fields: dict[str, object] = {
        "token": f"{port:016x}", "phase": "ready", "workload": workload, "replica": replica, "model": "m",
        "gpu": "V100-1", "host": "one", "device": "GPU-1", "device_name": "V100", "share_percent": 10, "batch": 1,
        "queue_delay_us": 0, "rate_rps": 100, "spec": "0" * 64, "config_digest": "0" * 64,
        "ports": Ports(http=port, grpc=port + 1, metrics=port + 2),
    }  # fmt: skip
    return ReplicaRecord.model_validate(fields | more)


def deployment(*replicas: ReplicaRecord) -> Deployment:
    hosts = (HostRecord(name="one", address="10.0.0.1"), HostRecord(name="six", address="fd00::1"))
    return Deployment(
        name="d",
        owner="0" * 16,
        machine="m",
        backend="docker",
        cpu=False,
        hosts=hosts,
        created_at="",
        replicas=replicas,
    )


STATE = deployment(
    record("A", 2, 8003, rate_rps=50),
    record("A", 1, 8000),
    record("A", 1, 8030, phase="retired"),
    record("B.x-1", 1, 8006, host="six"),
    record("C", 1, 8009, phase="starting"),
)


def test_only_ready_replicas_are_named() -> None:
    found = endpoints(STATE).workloads
    assert set(found) == {"A", "B.x-1"}
    assert [replica.http for replica in found["A"].replicas] == ["http://10.0.0.1:8000", "http://10.0.0.1:8003"]
    assert found["B.x-1"].replicas[0].grpc == "[fd00::1]:8007"
    assert endpoints_from_data(json.loads(render_endpoints(STATE, "json")), "endpoints.json") == endpoints(STATE)


def test_envoy_weights_replicas_by_rate() -> None:
    resources = json.loads(render_endpoints(STATE, "envoy"))["static_resources"]
    first = resources["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert [entry["load_balancing_weight"] for entry in first] == [100, 50]
    assert [entry["endpoint"]["address"]["socket_address"]["port_value"] for entry in first] == [8001, 8004]
    ports = [entry["address"]["socket_address"]["port_value"] for entry in resources["listeners"]]
    assert len(set(ports)) == 2


def test_nginx_has_both_protocols() -> None:
    text = render_endpoints(STATE, "nginx")
    assert re.findall(r"server (\S+) weight=(\d+);", text)[:2] == [("10.0.0.1:8000", "100"), ("10.0.0.1:8003", "50")]
    assert "server [fd00::1]:8007 weight=100;" in text
    assert text.count("{") == text.count("}")
    assert 'upstream "d--A-http"' in text and 'proxy_pass "http://d--A-http"' in text


def test_two_deployments_share_one_load_balancer() -> None:
    other = STATE.model_copy(update={"name": "e"})
    names, ports = [], []
    for text in (render_endpoints(STATE, "nginx"), render_endpoints(other, "nginx", 9100)):
        names += re.findall(r'upstream "([^"]+)"', text)
        ports += re.findall(r"listen (\S+?)[ ;]", text)
    assert len(set(names)) == len(names) == 8
    assert len(set(ports)) == len(ports) == 8
    assert '"port_value": 9101' in render_endpoints(other, "envoy", 9100)
    for first in (0, 65533):
        with pytest.raises(InputError, match="--first-listener"):
            render_endpoints(STATE, "nginx", first)


def listening(state: Deployment) -> dict[str, list[int]]:
    """The ports by workload: nginx's for HTTP and gRPC, then Envoy's."""
    found = {}
    text = render_endpoints(state, "nginx")
    for workload in endpoints(state).workloads:
        ports = re.findall(rf"server {{  # {re.escape(workload)}: \w+\n    listen 127.0.0.1:(\d+)", text)
        found[workload] = [int(port) for port in ports]
    for entry in json.loads(render_endpoints(state, "envoy"))["static_resources"]["listeners"]:
        found[entry["name"]].append(entry["address"]["socket_address"]["port_value"])
    return found


def test_a_workload_keeps_its_listener() -> None:
    assert listening(STATE) == {"A": [9000, 9001, 9000], "B.x-1": [9002, 9003, 9001]}
    # A is gone, 0 is new and would be first by its name.
    state = deployment(record("B.x-1", 1, 8006), record("0", 1, 8012))
    state = state.model_copy(update={"listeners": {"A": 0, "B.x-1": 1}})
    assert listening(state) == {"B.x-1": [9002, 9003, 9001], "0": [9004, 9005, 9002]}


@given(st.lists(st.sets(st.sampled_from("ABCDEF")), min_size=1, max_size=6))
def test_listeners_are_kept_and_nobody_shares_one(plans: list[set[str]]) -> None:
    slots: dict[str, int] = {}
    for workloads in plans:
        before, slots = slots, listener_slots(slots, workloads)
        assert set(slots) == workloads
        assert len(set(slots.values())) == len(slots)
        assert all(slots[name] == before[name] for name in workloads & set(before))
        # What was somebody's until now is nobody else's at once.
        gone = {before[name] for name in set(before) - workloads}
        assert not gone & {slots[name] for name in workloads - set(before)}
        assert max(slots.values(), default=0) < 12


def test_unknown_form() -> None:
    with pytest.raises(InputError, match="did you mean 'envoy'"):
        render_endpoints(STATE, "envoi")


def test_another_schema_is_refused_by_the_key_that_is_in_the_file() -> None:
    data = json.loads(render_endpoints(STATE, "json")) | {"schema": "x"}
    with pytest.raises(InputError, match=r"^here: schema: must be one of igniter-opt/endpoints@1; found 'x'"):
        endpoints_from_data(data, "here")
