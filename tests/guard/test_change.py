"""Changing one server of a deployment, on stand-in servers: nothing is lost, whatever is killed."""

import json
import signal
from pathlib import Path

import psutil
import pytest

from igniter_opt.base.errors import DeploymentError, InputError
from igniter_opt.deploy import launch
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.endpoints import ENDPOINTS_FILE
from igniter_opt.deploy.records import ReplicaRecord
from igniter_opt.deploy.state import Deployment
from igniter_opt.deploy.status import read_status
from igniter_opt.deploy.triton.inference import endpoint, is_ready
from igniter_opt.guard.change import BackgroundChanger, ChangeOutcome, PlacementChange, Switched, check, perform, resume
from igniter_opt.guard.decide import Settings
from igniter_opt.guard.feed import FeedReader
from igniter_opt.guard.journal import Event
from igniter_opt.guard.run import guard
from tests.deploy.child import Fault
from tests.deploy.conftest import Site
from tests.deploy.test_faults import steps
from tests.deploy.test_launch import changed_plan, pids
from tests.guard.child import BACK, MORE, change_killed_at, site_of

CHANGE_STEPS = 15


def state_of(site: Site) -> Deployment:
    state = site.store.load()
    assert state is not None
    return state


def ready(site: Site, workload: str = "A") -> ReplicaRecord:
    (record,) = (r for r in state_of(site).replicas if r.workload == workload and r.phase == "ready")
    return record


def named(site: Site, workload: str = "A") -> str:
    """Where the endpoints file sends a workload's requests."""
    found = json.loads((site.store.folder / ENDPOINTS_FILE).read_text())
    return str(found["workloads"][workload]["replicas"][0]["http"])


def assert_serving(site: Site) -> None:
    """Every workload's server in the endpoints file is one of ours, and ready."""
    for workload in ("A", "R", "S"):
        port = int(named(site, workload).rpartition(":")[2])
        (record,) = (r for r in state_of(site).replicas if r.ports.http == port)
        assert record.workload == workload
        assert is_ready(endpoint(record, "127.0.0.1"))


def test_more_share_and_back(site: Site, stranger: psutil.Process) -> None:
    site.deploy()
    before, first = pids(site), ready(site)
    guarded = site_of(site)
    assert check(guarded).name == "test"

    switched = []
    perform(guarded, MORE, switched.append)
    record = ready(site)
    assert (record.share_percent, record.gpu, record.device) == (30.0, first.gpu, first.device)
    assert record.planned is not None
    assert (record.planned.share_percent, record.planned.spec) == (20.0, first.spec)
    assert len(switched) == 1
    assert named(site) == f"http://127.0.0.1:{record.ports.http}"
    after = pids(site)
    assert after["A"] != before["A"] and (after["R"], after["S"]) == (before["R"], before["S"])
    assert len(site.processes()) == 6  # three servers with a child each

    status = read_status(site.store, state_of(site), site.backend())
    assert status.ok
    (server,) = (server for server in status.servers if server.workload == "A")
    assert (server.share_percent, server.plan_share_percent) == (30.0, 20.0)

    assert check(guarded).name == "test"
    perform(guarded, BACK, switched.append)
    assert ready(site).planned is None and ready(site).spec == first.spec
    assert site.deploy().nothing
    site.teardown()
    site.assert_clean()
    assert stranger.is_running()


def test_deploying_the_plan_again_puts_it_back(site: Site) -> None:
    site.deploy()
    perform(site_of(site), MORE, lambda _: None)
    result = site.deploy()
    reasons = {(action.verb, action.why) for action in result.changes.actions() if action.verb != "keep"}
    why = "a guard changed it (V100-1 at 20 % to V100-1 at 30 %)"
    assert reasons == {("start", why), ("stop", why)}
    assert ready(site).share_percent == 20.0
    assert site.deploy().nothing


def test_deploying_another_plan_takes_over(site: Site) -> None:
    site.deploy()
    perform(site_of(site), MORE, lambda _: None)
    site.deploy(changed_plan(site, R=300))
    assert all(record.planned is None for record in state_of(site).replicas)
    with pytest.raises(InputError, match="does not run this plan any more"):
        perform(site_of(site), MORE, lambda _: None)


def test_number_of_steps(site: Site) -> None:
    site.deploy()
    fault = Fault(None)
    perform(site_of(site, hook=fault), MORE, lambda _: None)
    assert len(fault.steps) == CHANGE_STEPS


@pytest.mark.parametrize("step", steps(CHANGE_STEPS, {1, 3, 6, 10, 12, 13}))
def test_killed_at_any_step(site: Site, stranger: psutil.Process, step: int) -> None:
    """The endpoints name running servers all along; the next guard finishes or undoes the rest, as does deploying."""
    site.deploy()
    others = pids(site)
    assert change_killed_at(site, step) == -signal.SIGKILL
    assert_serving(site)
    if step % 3 == 2:
        site.deploy()
        assert ready(site).share_percent == 20.0
    else:
        resume(site_of(site))
        assert ready(site).share_percent in (20.0, 30.0)
        assert resume(site_of(site)) == []
    assert_serving(site)
    assert named(site) == f"http://127.0.0.1:{ready(site).ports.http}"
    state = state_of(site)
    assert [record.phase for record in state.replicas] == ["ready"] * 3
    assert read_status(site.store, state, site.backend()).ok
    assert len(site.processes()) == 6
    assert (pids(site)["R"], pids(site)["S"]) == (others["R"], others["S"])
    site.teardown()
    site.assert_clean()
    assert stranger.is_running()


def break_server(site: Site) -> str:
    """Make every server that is started from now on exit at once; return what it was."""
    text = site.server.read_text()
    site.server.unlink()  # running servers keep theirs
    site.server.write_text("#!/bin/sh\necho 'error: no device'\nexit 1\n")
    site.server.chmod(0o755)
    return text


def test_a_server_that_does_not_start(site: Site) -> None:
    site.deploy()
    before = pids(site)
    text = break_server(site)
    with pytest.raises(DeploymentError, match=r"(?s)exited before it was ready.*no device"):
        perform(site_of(site), MORE, lambda _: None)
    assert pids(site) == before
    assert_serving(site)
    assert len(site.processes()) == 6
    site.server.write_text(text)
    perform(site_of(site), MORE, lambda _: None)
    assert ready(site).share_percent == 30.0


def test_targets_for_prometheus_follow(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "targets.json"
    site.deploy(file_sd=file)
    before = file.read_text()
    perform(site_of(site), MORE, lambda _: None)
    assert file.read_text() != before
    assert f'"127.0.0.1:{ready(site).ports.metrics}"' in file.read_text()
    site.teardown()
    assert not file.exists()


def test_a_change_in_the_background(site: Site) -> None:
    site.deploy()
    changer = BackgroundChanger(site_of(site), lambda: 12.5)
    assert changer.poll() == []
    changer.begin(MORE)
    changer.wait()
    news = changer.poll()
    assert [type(entry) for entry in news] == [Switched, ChangeOutcome]
    assert isinstance(news[0], Switched) and news[0].at == 12.5
    break_server(site)
    changer.begin(BACK)
    changer.wait()
    (outcome,) = changer.poll()
    assert isinstance(outcome, ChangeOutcome) and "exited before it was ready" in outcome.problem


def test_a_server_that_would_not_be_the_same(site: Site, tmp_path: Path) -> None:
    """Other programs, or files changed by hand, are found out before anything is started."""
    site.deploy()
    other = tmp_path / "elsewhere"
    other.mkdir()
    moved = site.server.rename(other / "tritonserver")
    site.server.symlink_to(moved)
    with pytest.raises(InputError, match="would not be the one that was deployed"):
        check(site_of(site))
    site.server.unlink()
    moved.rename(site.server)
    check(site_of(site))
    folder = site.store.server_folder(ready(site).token) / "repository/alexnet/1"
    (folder / "extra").write_text("x")
    with pytest.raises(InputError, match="would not be the one that was deployed"):
        perform(site_of(site), MORE, lambda _: None)


def test_unknown_places(site: Site) -> None:
    site.deploy()
    with pytest.raises(InputError, match="nothing of the deployment runs on V100-9"):
        perform(site_of(site), PlacementChange(("A", 1), "V100-9", 30.0, ""), lambda _: None)
    with pytest.raises(InputError, match="Z#1 is not deployed any more"):
        perform(site_of(site), PlacementChange(("Z", 1), "V100-1", 30.0, ""), lambda _: None)


def test_one_guard_at_a_time_and_no_launcher_beside_it(site: Site) -> None:
    site.deploy()
    before = pids(site)
    with site.store.guarded():
        with pytest.raises(InputError, match="is watched by a guard already \\(process"):
            guard(site_of(site), Settings(duration_s=0.5))
        with pytest.raises(InputError, match="is watched by a guard \\(process"):
            site.deploy()
        with pytest.raises(InputError, match="is watched by a guard \\(process"):
            launch.teardown(site.store, site.backend(), Options())
        perform(site_of(site), MORE, lambda _: None)
    assert pids(site)["R"] == before["R"]
    site.teardown()
    site.assert_clean()


def test_a_guard_of_nothing_wrong_does_nothing(site: Site) -> None:
    site.deploy()
    before, events = pids(site), []
    end = guard(site_of(site), Settings(duration_s=0.6), report=events.append)
    assert (end.over, end.judged) == ((), False)
    assert [event.event for event in events] == ["watching", "ended"]
    assert pids(site) == before
    with site.store.locked(), pytest.raises(InputError, match="being changed by another launcher"):
        guard(site_of(site), Settings(duration_s=0.5))
    site.teardown()
    with pytest.raises(InputError, match="no deployment 'test'"):
        guard(site_of(site), Settings(duration_s=0.5))


def test_a_feed_that_never_comes_is_told_and_gives_no_verdict(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.deploy()
    monkeypatch.setattr("igniter_opt.guard.run._SILENT_S", 0.3)
    events: list[Event] = []
    reader = FeedReader(site.folder / "fed.jsonl")
    end = guard(site_of(site), Settings(duration_s=0.8), feed=reader, report=events.append)
    waiting, silent = [event.why for event in events if event.event == "note"]
    assert waiting == f"{reader.path} does not exist yet; it is waited for"
    assert silent.startswith("no line came for ") and "which does not exist" in silent
    assert events[-1].why == "no verdict: no request was seen of any placement"
    assert (end.judged, len(end.unseen)) == (False, 3)


def test_lines_end_a_silence(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.deploy()
    monkeypatch.setattr("igniter_opt.guard.run._SILENT_S", 30.0)
    path, events = site.folder / "fed.jsonl", list[Event]()
    path.touch()
    reader = FeedReader(path)
    path.write_text('{"at": 1.0, "workload": "A", "latencies_ms": [1.0]}\n')
    end = guard(site_of(site), Settings(duration_s=0.6), feed=reader, report=events.append)
    assert [event.event for event in events] == ["watching", "ended"]
    assert end.judged and end.unseen == ("R#1", "S#1")
    assert events[-1].why == "no request was seen of R#1, S#1"


def test_what_lacks_servers_is_not_guarded(site: Site) -> None:
    site.deploy()
    state = state_of(site)
    site.store.save(state.model_copy(update={"replicas": state.replicas[:2]}))
    with pytest.raises(InputError, match="has no server; run `igniter-opt deploy` again"):
        guard(site_of(site), Settings(duration_s=0.5))
