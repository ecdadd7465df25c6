"""How a service begins and ends: nothing that was finished is lost, however it ends."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import igniter_opt as ig
from igniter_opt.data.plan import plan_from_data
from igniter_opt.serve.examples import EXAMPLES
from igniter_opt.serve.job import JobRecord, ServiceJob
from igniter_opt.serve.jobs import GoneError, Jobs
from igniter_opt.serve.kept import KeptJobs
from igniter_opt.serve.requests import BODIES
from igniter_opt.serve.settings import ServiceLimits, Token, listen, read_token
from tests.serve.service import LONG, Service, is_there, private, service

SLOW = {"plan": EXAMPLES["verify"]["plan"], **LONG}


def finished(running: Service, times: int) -> dict[str, Any]:
    """Results of some jobs that have ended, by identifier."""
    jobs = [running.post("predict", EXAMPLES["predict"], wait=60).json() for _ in range(times)]
    return {job["id"]: job["result"] for job in jobs}


def check_results(running: Service, known: dict[str, Any]) -> None:
    for identifier, result in known.items():
        assert running.client.get(f"/v1/jobs/{identifier}/result").json() == result


@pytest.mark.parametrize("wait_s", [0.0, 0.1])
def test_a_service_that_is_killed_leaves_nothing_half_written(tmp_path: Path, wait_s: float) -> None:
    state = tmp_path / "state"
    with service(state, "--workers", "2") as running:
        known = finished(running, 2)
        slow = running.post("simulate", SLOW).json()
        running.until(slow["id"], "running")
        others = [running.post("predict", EXAMPLES["predict"]).json()["id"] for _ in range(10)]
        time.sleep(wait_s)
        workers = running.workers()
        running.end(signal.SIGKILL)
    until = time.monotonic() + 30
    while any(map(is_there, workers)):
        assert time.monotonic() < until, "a worker outlived its service"
        time.sleep(0.1)
    (state / ".igniter-opt-abc123").write_text("half of a fi")
    with service(state, "--workers", "1") as running:
        check_results(running, known)
        assert running.job(slow["id"])["state"] == "interrupted"
        assert running.client.get(f"/v1/jobs/{slow['id']}/result").status_code == 409
        for identifier in others:
            job = running.job(identifier)
            assert job["state"] in ("done", "interrupted")
            status = running.client.get(f"/v1/jobs/{identifier}/result").status_code
            assert status == (200 if job["has_result"] else 409)
        assert not (state / ".igniter-opt-abc123").exists()
        assert len(running.client.get("/v1/jobs").json()) == 13
    assert all(json.loads(path.read_text()) for path in state.glob("*.json"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_that_is_stopped_keeps_the_best_so_far(tmp_path: Path, number: signal.Signals) -> None:
    state = tmp_path / "state"
    with service(state, "--workers", "1", "--stop-seconds", "20") as running:
        known = finished(running, 1)
        asked = {"instance": "uniform-24-1", "method": "assignment", "time_limit": 300, "max_replicas": 2}
        job, waits = running.post("solve", asked).json(), running.post("predict", EXAMPLES["predict"]).json()
        until = time.monotonic() + 60
        while "cost_per_hour" not in (running.job(job["id"])["progress"] or {}):
            assert time.monotonic() < until
            time.sleep(0.1)
        # Somebody follows; the service does not wait for that.
        with running.client.stream("GET", f"/v1/jobs/{waits['id']}/events") as stream:
            began = time.monotonic()
            running.process.send_signal(number)
            stream.read()
        code, said = running.end()
        assert (code, said) == (0, "ended; what was finished is kept\n")
        assert time.monotonic() - began < 40
    with service(state) as running:
        check_results(running, known)
        ended = running.job(job["id"])
        assert (ended["state"], ended["early"]) == ("interrupted", "the service ended")
        found = running.client.get(f"/v1/jobs/{job['id']}/result").json()
        assert ig.verify(plan_from_data(found["plan"], "result")).ok
        assert running.job(waits["id"])["state"] == "interrupted"


def test_a_result_without_its_record_is_found_again(tmp_path: Path) -> None:
    """A service may be killed between writing a result and the record that says so."""
    kept = KeptJobs(tmp_path / "state")
    with kept.held():
        job = ServiceJob(
            JobRecord(id="0" * 16, kind="predict", state="running", created_at="2026-11-29T00:00:00+00:00")
        )
        kept.write(job)
        kept.write_result(job, b'{"a": 1}')
        (found,) = KeptJobs(tmp_path / "state").read()
    assert (found.record.state, found.record.has_result) == ("done", True)
    assert kept.result(found) == b'{"a": 1}'


def refuses(folder: Path, why: str) -> None:
    with pytest.raises(ig.InputError, match=why), KeptJobs(folder).held():
        pass


def test_two_services_do_not_share_a_folder(tmp_path: Path) -> None:
    with KeptJobs(tmp_path / "state").held():
        refuses(tmp_path / "state", "another service keeps its jobs here")


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    refuses(tmp_path / "mine", r"other things than a service's jobs \('thesis.tex'\)")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    refuses(tmp_path / "open", "others can write to it")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    refuses(tmp_path / "link", "is a link")


def test_a_damaged_record_is_said_and_nothing_removed(tmp_path: Path) -> None:
    kept = KeptJobs(tmp_path / "state")
    with kept.held():
        (kept.folder / f"{'1' * 16}.job.json").write_text("{")
        (kept.folder / f"{'2' * 16}.result.json").write_text("{}")
        with pytest.raises(ig.InputError, match="not JSON"):
            kept.read()
        assert (kept.folder / f"{'2' * 16}.result.json").exists()


# ---- who may ask ------------------------------------------------------------------------------------

SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105


def test_without_the_token_nothing_is_served(tmp_path: Path) -> None:
    token = private(tmp_path / "token", SECRET + "\n")
    with service(tmp_path / "state", "--host", "0.0.0.0", "--token-file", str(token)) as running:  # noqa: S104
        url = running.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        running.client.base_url = url
        for head in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": SECRET}, {"Authorization": "Bearer"}):
            for path in ("/v1/jobs", "/openapi.json", "/v1/version"):
                answer = running.client.get(path, headers=head)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert running.client.post("/v1/predict", json=EXAMPLES["predict"], headers=head).status_code == 401
        assert running.client.get("/healthz").json() == {"status": "ok"}
        known = {"Authorization": f"Bearer {SECRET}"}
        answer = running.client.post("/v1/predict?wait=60", json=EXAMPLES["predict"], headers=known)
        assert answer.json()["state"] == "done"


def test_other_machines_take_a_token() -> None:
    for host in ("0.0.0.0", "::"):  # noqa: S104
        with pytest.raises(ig.InputError, match="takes a --token-file"):
            listen(host, 0, None)
    for host in ("127.0.0.1", "localhost"):
        listen(host, 0, None).close()
    with pytest.raises(ig.InputError, match="no address or name of this machine"):
        listen("nowhere.invalid", 0, None)
    with pytest.raises(ig.InputError, match="--port: must be 0 to 65535"):
        listen("127.0.0.1", 70_000, None)
    with listen("127.0.0.1", 0, None) as taken, pytest.raises(ig.InputError, match="cannot be listened on"):
        listen("127.0.0.1", taken.getsockname()[1], None)


def test_a_token_is_secret_or_refused(tmp_path: Path) -> None:
    token = private(tmp_path / "token", SECRET + "\n")
    assert read_token(token).admits(SECRET.encode())
    assert not read_token(token).admits(SECRET.encode() + b"0")
    assert not Token(SECRET).admits(b"")
    for mode in (0o640, 0o604, 0o666):
        token.chmod(mode)
        with pytest.raises(ig.InputError, match="others can"):
            read_token(token)
    for text in ("", "short", "two words that are long enough"):
        with pytest.raises(ig.InputError, match="a token is one word of 16 characters"):
            read_token(private(tmp_path / "token", text))
    with pytest.raises(ig.InputError, match=r"nowhere: cannot be read"):
        read_token(tmp_path / "nowhere")
    if os.geteuid() == 0:
        os.chown(private(tmp_path / "token", SECRET), 12345, 12345)
        with pytest.raises(ig.InputError, match="belongs to another user"):
            read_token(tmp_path / "token")


def test_a_job_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with service(state, "--workers", "1") as running:
        state.rename(tmp_path / "elsewhere")
        answer = running.post("predict", EXAMPLES["predict"])
        assert (answer.status_code, answer.json()["detail"]) == (507, "the service cannot keep jobs at the moment")
        assert running.client.get("/v1/jobs").json() == []
        (tmp_path / "elsewhere").rename(state)
        assert running.post("predict", EXAMPLES["predict"], wait=60).json()["state"] == "done"


def test_jobs_end_also_where_that_cannot_be_written(tmp_path: Path) -> None:
    """As on a full disk: waiting ones are cancelled, and the service ends with all of them marked."""
    state = tmp_path / "state"
    with service(state, "--workers", "1", "--stop-seconds", "5") as running:
        slow = running.post("simulate", SLOW).json()
        running.until(slow["id"], "running")
        waiting = [running.post("predict", EXAMPLES["predict"]).json()["id"] for _ in range(4)]
        state.rename(tmp_path / "elsewhere")
        ended = running.client.delete(f"/v1/jobs/{waiting[0]}")
        assert (ended.status_code, ended.json()["state"]) == (200, "cancelled")
        assert running.job(waiting[0])["state"] == "cancelled"
        assert running.client.delete(f"/v1/jobs/{slow['id']}").json()["state"] == "cancelled"
        # What comes of a job cannot be kept: it has failed, and so it is said.
        assert running.until(waiting[1], "failed")["error"]["kind"] == "internal"
        code, said = running.end()
        assert (code, said.splitlines()[-1]) == (0, "ended; what was finished is kept")
        assert f"error: {state}/{waiting[0]}.job.json: the folder {state} does not exist" in said
    (tmp_path / "elsewhere").rename(state)
    with service(state) as running:
        assert {running.job(identifier)["state"] for identifier in waiting} == {"interrupted"}


def test_the_end_of_a_service_goes_through_all_that_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be written, and one is just being taken on."""
    monkeypatch.setattr("igniter_opt.serve.jobs.forkserver.ensure_running", lambda: None)
    monkeypatch.setattr(Jobs, "_work", lambda self: self._waiting.get())  # no job is begun
    kept = KeptJobs(tmp_path / "state")
    body = BODIES["predict"].model_validate(EXAMPLES["predict"])
    with kept.held():
        jobs = Jobs(kept, ServiceLimits(workers=1))
        waiting = [jobs.submit("predict", body) for _ in range(3)]

        def full(job: ServiceJob) -> None:
            monkeypatch.setattr(kept, "write", fail)
            jobs.stop()

        def fail(job: ServiceJob) -> None:
            raise ig.InputError("No space left on device")

        monkeypatch.setattr(kept, "write", full)
        late = jobs.submit("predict", body)
        assert [job.record.state for job in (*waiting, late)] == ["interrupted"] * 4
        assert not any(thread.is_alive() for thread in jobs._threads)


def test_a_result_that_is_gone_is_said_without_the_services_paths(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with service(state, "--workers", "1") as running:
        job = running.post("predict", EXAMPLES["predict"], wait=60).json()
        (state / f"{job['id']}.result.json").unlink()
        answer = running.client.get(f"/v1/jobs/{job['id']}/result")
        assert (answer.status_code, answer.json()["detail"]) == (500, f"the result of job {job['id']} cannot be read")
        ended = running.client.delete(f"/v1/jobs/{job['id']}", params={"forget": True})
        assert (ended.status_code, ended.json()["state"], ended.json()["result"]) == (200, "done", None)
        assert str(tmp_path) not in answer.text + ended.text
        assert running.client.get(f"/v1/jobs/{job['id']}").status_code == 404
        assert f"{job['id']}.result.json: no such file" in running.end()[1]


def test_a_job_that_is_forgotten_meanwhile_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("igniter_opt.serve.jobs.forkserver.ensure_running", lambda: None)
    kept = KeptJobs(tmp_path / "state")
    with kept.held():
        record = JobRecord(id="0" * 16, kind="predict", state="done", created_at="2026-11-29", has_result=True)
        kept.write(ServiceJob(record))
        kept.write_result(ServiceJob(record), b"{}")
        jobs = Jobs(kept, ServiceLimits(workers=1))
        job = jobs.get("0" * 16)
        assert job is not None and jobs.result(job) == b"{}"
        jobs.forget(job)
        with pytest.raises(GoneError, match=f"^job {'0' * 16} is no longer kept$"):
            jobs.result(job)
        jobs.stop()
