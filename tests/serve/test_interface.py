"""The interface: what it says of itself holds, and what is wrong is said in one way."""

import json
import re
import time
from typing import Any

import httpx
import pytest

import igniter_opt as ig
from igniter_opt.data.plan import plan_from_data
from igniter_opt.serve.examples import EXAMPLES
from igniter_opt.serve.job import Kind
from igniter_opt.serve.requests import BODIES
from tests.serve.service import LONG, Service


def events(text: str) -> list[dict[str, Any]]:
    """The events of a stream."""
    found = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append({**fields, "data": json.loads(fields["data"])})
    return found


@pytest.mark.parametrize("kind", list(BODIES))
def test_the_examples_of_the_description_work(shared: Service, kind: Kind) -> None:
    described = shared.client.get("/openapi.json").json()["paths"][f"/v1/{kind}"]["post"]
    (example,) = described["requestBody"]["content"]["application/json"]["examples"].values()
    answer = shared.post(kind, example["value"], wait=60)
    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert (job["state"], job["error"], job["kind"]) == ("done", None, kind)
    assert shared.client.get(answer.headers["location"] + "/result").json() == job["result"]


def test_a_plan_is_the_one_that_the_package_finds(shared: Service) -> None:
    job = shared.post("solve", {"instance": "igniter-motivation", "method": "patterns"}, wait=60).json()
    found = job["result"]
    assert (found["status"], found["holds"], found["violations"]) == ("optimal", True, [])
    plan, ours = plan_from_data(found["plan"], "result"), ig.solve("igniter-motivation", "patterns").plan
    assert plan.gpus == ours.gpus
    assert ig.verify(plan).ok


def test_results_are_those_of_the_commands(shared: Service) -> None:
    plan = ig.solve("igniter-motivation", "ffd").plan
    data = json.loads(plan.model_dump_json(by_alias=True, exclude_none=True))
    judged = shared.post("verify", {"plan": data}, wait=60).json()["result"]
    assert judged.pop("cautions") == []
    assert judged == ig.verify(plan).to_dict()
    card = {"profile": "v100", "placements": [{"model": "vgg19", "batch": 3, "share_percent": 41}]}
    found = shared.post("predict", card, wait=60).json()["result"]
    assert found["placements"][0]["latency_ms"] == pytest.approx(ig.predict("v100", [("vgg19", 3, 41)]).latency_ms[0])
    assert "no multiple of the share unit" in found["cautions"][0]


def test_no_plan_is_said_and_is_no_fault(shared: Service) -> None:
    tight = {
        **EXAMPLES["solve"]["instance"],
        "workloads": [{"name": "a", "model": "alexnet", "slo_ms": 0.1, "rate_rps": 1}],
    }
    job = shared.post("solve", {"instance": tight}, wait=60).json()
    assert (job["state"], job["error"]["kind"], job["has_result"]) == ("failed", "no-plan", False)
    answer = shared.client.get(f"/v1/jobs/{job['id']}/result")
    assert (answer.status_code, answer.json()["detail"]) == (422, job["error"]["message"])


def test_progress_is_followed_and_taken_up_again(shared: Service) -> None:
    job = shared.post("solve", {"instance": "igniter-table3", "method": "patterns"}).json()
    found = events(shared.client.get(f"/v1/jobs/{job['id']}/events").text)
    assert [event["event"] for event in found[:-1]] == ["progress"] * (len(found) - 1)
    assert found[-1]["event"] == "end"
    assert found[-1]["data"]["state"] == "done"
    assert [int(event["id"]) for event in found] == list(range(1, len(found) + 1))
    known = [event["data"] for event in found if "cost_per_hour" in event["data"]]
    assert known[-1]["lower_bound_per_hour"] <= known[-1]["cost_per_hour"]
    again = shared.client.get(f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": found[0]["id"]}).text
    assert events(again) == found[1:]
    nonsense = shared.client.get(f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": "x"}).text
    assert events(nonsense) == found


def test_events_come_while_a_job_runs(shared: Service) -> None:
    job = shared.post("simulate", {"plan": EXAMPLES["verify"]["plan"], **LONG}).json()
    with shared.client.stream("GET", f"/v1/jobs/{job['id']}/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                assert json.loads(line[5:])["of_all"] == 2000
                break
    assert shared.job(job["id"])["state"] == "running"
    assert shared.client.get(f"/v1/jobs/{job['id']}/result").status_code == 409
    ended = shared.client.delete(f"/v1/jobs/{job['id']}").json()
    assert (ended["state"], ended["error"]["kind"]) == ("cancelled", "stopped")
    assert shared.client.delete(f"/v1/jobs/{job['id']}").json() == ended, "to end what has ended changes nothing"


def test_a_cancelled_solve_gives_the_best_so_far(shared: Service) -> None:
    asked = {"instance": "uniform-24-1", "method": "assignment", "time_limit": 300, "max_replicas": 2}
    job = shared.post("solve", asked).json()
    until = time.monotonic() + 60
    while "cost_per_hour" not in (shared.job(job["id"])["progress"] or {}):
        assert time.monotonic() < until
        time.sleep(0.1)
    ended = shared.client.delete(f"/v1/jobs/{job['id']}").json()
    assert (ended["state"], ended["early"], ended["has_result"]) == ("cancelled", "a client cancelled it", True)
    assert ended["result"]["interrupted"]
    assert ig.verify(plan_from_data(ended["result"]["plan"], "result")).ok
    assert shared.client.delete(f"/v1/jobs/{job['id']}", params={"forget": True}).json() == ended
    assert shared.client.get(f"/v1/jobs/{job['id']}").status_code == 404


def problem_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and detail of a problem, which is in the form of RFC 9457."""
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert set(found) == {"type", "title", "status", "detail"}
    assert found["status"] == answer.status_code
    return answer.status_code, found["detail"]


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("solve", {"instance": "igniter-tabel3"}, "did you mean 'igniter-table3'"),
        ("solve", {"gap": 2}, "body.gap: Input should be less than 1; found 2"),
        ("solve", {"method": 3}, "body.method"),
        ("solve", {"bogus": 1}, "body.bogus"),
        ("solve", {"time_limit": 10_000}, "time_limit must be at most 600 s here"),
        ("solve", {"arrivals": {"kind": "gamma", "burst": 4}}, "unknown key 'burst'"),
        ("solve", {"instance": {"name": "x"}}, "instance: gpu_types: this key is required and missing"),
        ("verify", {"plan": {"schema": "other"}}, "unknown plan schema 'other'"),
        ("predict", {"profile": "v10"}, "a profile cannot be named by a file here"),
        ("predict", {"placements": []}, "body.placements"),
        ("simulate", {"seeds": 0}, "body.seeds"),
        ("replan", {"weights": {"move": -1}}, "body.weights.move"),
    ],
)
def test_what_is_wrong_is_said_at_once(shared: Service, kind: Kind, changes: dict[str, Any], message: str) -> None:
    status, detail = problem_of(shared.post(kind, {**EXAMPLES[kind], **changes}))
    assert (status, message in detail) == (422, True), detail


def test_what_only_the_work_finds_is_said_by_the_job(shared: Service) -> None:
    job = shared.post("solve", {**EXAMPLES["solve"], "method": "paterns"}, wait=60).json()
    assert (job["state"], job["error"]["kind"]) == ("failed", "bad-input")
    assert "did you mean 'patterns'" in job["error"]["message"]


def test_requests_that_are_none(shared: Service) -> None:
    json_head = {"content-type": "application/json"}
    assert problem_of(shared.client.post("/v1/solve", content=b'{"instance":', headers=json_head))[0] == 422
    assert problem_of(shared.client.post("/v1/solve", content=b"[" * 100_000, headers=json_head))[0] == 400
    assert problem_of(shared.client.post("/v1/solve", content=b"9" * 10_000, headers=json_head))[0] in (400, 422)
    assert problem_of(shared.client.post("/v1/solve", content=b"{}"))[0] == 415
    assert problem_of(shared.client.put("/v1/solve", json={}))[0] == 405
    assert problem_of(shared.client.get("/nothing"))[0] == 404
    # Not sent on to where the header Host says.
    assert problem_of(shared.client.get("/v1/jobs/", headers={"Host": "localhost:1"}))[0] == 404
    assert problem_of(shared.client.get("/v1/jobs/0123456789abcdef"))[0] == 404
    assert problem_of(shared.client.get("/v1/jobs/..%2f..%2fetc%2fpasswd"))[0] in (404, 422)
    assert problem_of(shared.client.get("/v1/jobs", headers={"Host": "evil.example"}))[0] == 421


def test_a_name_is_no_path(shared: Service) -> None:
    """What happens to names within instances and plans is tested where they are read (tests/data)."""
    for name in ("/etc/passwd", "../instances/igniter-table3", "igniter-table3.yaml", "results/igniter-table3", ""):
        assert "is shipped" in problem_of(shared.post("solve", {"instance": name}))[1]
        assert (
            "cannot be named by a file"
            in problem_of(shared.post("predict", {**EXAMPLES["predict"], "profile": name}))[1]
        )
    instance = {**EXAMPLES["solve"]["instance"], "slo_rule": "p99"}
    by_file = {"kind": "trace", "file": "/etc/passwd"}
    for body in (
        {"instance": {**instance, "arrivals": by_file}},
        {"instance": instance, "arrivals": by_file},
        {"instance": {**instance, "gpu_types": [{**instance["gpu_types"][0], "profile": "/etc/passwd"}]}},
    ):
        assert "cannot be named by a file" in problem_of(shared.post("solve", body))[1]
    plan = EXAMPLES["verify"]["plan"]
    hidden = {**plan, "instance": {**plan["instance"], "arrivals": by_file}}
    for kind, body in (
        ("verify", {"plan": hidden}),
        ("simulate", {"plan": hidden}),
        ("simulate", {"plan": plan, "arrivals": by_file}),
        ("replan", {"plan": hidden, "instance": "igniter-table3"}),
        ("solve", {"instance": "igniter-table3", "start": hidden}),
    ):
        assert "cannot be named by a file" in problem_of(shared.post(kind, body))[1]


def test_what_the_service_says_of_itself(shared: Service) -> None:
    assert shared.client.get("/healthz").json() == {"status": "ok"}
    version = shared.client.get("/v1/version").json()
    assert (version["version"], version["limits"]["workers"]) == (ig.__version__, 2)
    names = shared.client.get("/v1/shipped").json()
    assert {"igniter-table3"} <= set(names["instances"])
    assert {"v100", "h100"} <= set(names["profiles"])
    jobs = shared.client.get("/v1/jobs", params={"most": 3}).json()
    assert len(jobs) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", job["id"]) for job in jobs)
