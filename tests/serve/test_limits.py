"""What a service does not take on, and that it stays up whatever becomes of its jobs."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import igniter_opt as ig
from igniter_opt.serve.examples import EXAMPLES
from igniter_opt.serve.settings import ServiceLimits
from tests.serve.service import LONG, Service, service

SLOW = {"plan": EXAMPLES["verify"]["plan"], **LONG}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that takes on little."""
    options = ["--workers", "1", "--queue", "2", "--keep", "3", "--body-mib", "0.1", "--max-workloads", "20"]
    more = ["--job-seconds", "1000", "--memory-mib", "512", "--stop-seconds", "5"]
    with service(tmp_path_factory.mktemp("small") / "state", *options, *more) as running:
        yield running


def test_a_request_that_is_too_large_is_refused(small: Service) -> None:
    large = {"instance": {"name": "x" * 200_000}}
    answer = small.post("solve", large)
    assert (answer.status_code, answer.json()["detail"]) == (413, "a request may have 104,857 bytes here")

    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 2000

    answer = small.client.post("/v1/solve", content=pieces(), headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_an_instance_that_is_too_large_is_refused(small: Service) -> None:
    instance = EXAMPLES["solve"]["instance"]
    several = [{**instance["workloads"][0], "name": f"w{k}"} for k in range(21)]
    for workloads in (several, [{**instance["workloads"][0], "max_replicas": 21}]):
        answer = small.post("solve", {"instance": {**instance, "workloads": workloads}})
        assert (answer.status_code, "at most 20 workloads" in answer.json()["detail"]) == (422, True)
    assert small.post("solve", {"instance": "uniform-100-1"}).status_code == 422


def test_jobs_beyond_the_queue_are_refused_for_the_moment(small: Service) -> None:
    running = small.post("simulate", SLOW).json()
    small.until(running["id"], "running")
    waiting = [small.post("simulate", SLOW).json() for _ in range(2)]
    answer = small.post("simulate", SLOW)
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert [small.job(job["id"])["state"] for job in waiting] == ["queued", "queued"]
    assert small.client.get("/v1/version").status_code == 200
    # One that waits is ended at once, and makes room.
    ended = small.client.delete(f"/v1/jobs/{waiting[0]['id']}").json()
    assert (ended["state"], ended["started_at"]) == ("cancelled", None)
    last = small.post("simulate", SLOW).json()
    for job in (last, waiting[1], running):
        assert small.client.delete(f"/v1/jobs/{job['id']}").json()["state"] == "cancelled"


def test_a_killed_worker_is_a_failed_job_and_no_more(small: Service) -> None:
    job = small.post("simulate", SLOW).json()
    os.kill(small.worker(), signal.SIGKILL)
    failed = small.until(job["id"], "failed")
    assert failed["error"]["kind"] == "killed"
    assert "signal 9" in failed["error"]["message"]
    assert small.client.get(f"/v1/jobs/{job['id']}/result").status_code == 409
    assert small.post("predict", EXAMPLES["predict"], wait=60).json()["state"] == "done"


def test_a_killed_forerunner_of_the_workers_is_replaced(small: Service) -> None:
    """The process that workers are forked from is not the service's own."""
    children = Path(f"/proc/{small.process.pid}/task/{small.process.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    job = small.post("predict", EXAMPLES["predict"], wait=60).json()
    assert job["state"] in ("done", "failed")
    assert small.post("predict", EXAMPLES["predict"], wait=60).json()["state"] == "done"


def test_a_job_that_needs_too_much_memory_fails(small: Service) -> None:
    asked = {"plan": EXAMPLES["verify"]["plan"], "requests": 10_000_000, "warm_up": 10_000_000, "seeds": 1}
    failed = small.post("simulate", asked, wait=60).json()
    assert (failed["state"], failed["error"]["kind"]) == ("failed", "memory")
    assert "512 MiB" in failed["error"]["message"]
    assert small.post("predict", EXAMPLES["predict"], wait=60).json()["state"] == "done"


def test_only_so_many_ended_jobs_are_kept(small: Service) -> None:
    for _ in range(4):
        small.post("predict", EXAMPLES["predict"], wait=60)
    assert len(small.client.get("/v1/jobs").json()) == 3


def test_a_job_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with service(tmp_path / "state", "--workers", "2", "--job-seconds", "1.5", "--stop-seconds", "5") as running:
        hopeless = running.post("simulate", SLOW).json()
        some = running.post("solve", {"instance": "uniform-24-1", "method": "patterns", "max_replicas": 4}).json()
        failed = running.until(hopeless["id"], "failed")
        assert failed["error"]["kind"] == "time"
        ended = running.until(some["id"], "done", "failed")
        # Whether there was a plan by then, the machine decides; without one, it is said why.
        assert ended["has_result"] or ended["error"]["kind"] == "time"


def test_limits_have_limits() -> None:
    with pytest.raises(ig.InputError, match="workers must be 1 to 256; found -1"):
        ServiceLimits(workers=-1)
    with pytest.raises(ig.InputError, match="memory_mib must be 512 to"):
        ServiceLimits(memory_mib=1)


def test_a_hundred_clients_at_once(shared: Service) -> None:
    """Every one of them gets its own answer, or is told when to come again, and all come through."""
    again = Counter[int]()
    gate = threading.Barrier(100)

    def client(number: int) -> float:
        gate.wait(30)
        share = 10 + number / 4
        body = {**EXAMPLES["predict"], "placements": [{"model": "vgg19", "batch": 2, "share_percent": share}]}
        with httpx.Client(base_url=shared.url, timeout=120) as mine:
            for _ in range(200):
                answer = mine.post("/v1/predict", json=body, params={"wait": 60})
                again[answer.status_code] += 1
                if answer.status_code != 429:
                    break
                time.sleep(min(2, int(answer.headers["retry-after"])))
            answer.raise_for_status()
            job = answer.json()
            while job["state"] in ("queued", "running"):
                mine.get(f"/v1/jobs/{job['id']}/events")
                job = mine.get(f"/v1/jobs/{job['id']}").json()
            found = mine.get(f"/v1/jobs/{job['id']}/result").json()["placements"][0]
            assert found["share_percent"] == share
            return float(found["latency_ms"])

    with ThreadPoolExecutor(100) as pool:
        latencies = list(pool.map(client, range(100)))
    assert latencies == sorted(latencies, reverse=True), "more share, less latency"
    assert set(again) <= {200, 202, 429}
    assert len(shared.workers()) <= 2
