"""What an operator sees when servers die, files are lost or disks are full: where it is, and the promised exit code."""

import errno
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from igniter_opt.base.errors import InputError
from igniter_opt.deploy.approval import approval_path
from igniter_opt.deploy.state import _MOST_KEPT_LOGS, Store
from igniter_opt.deploy.status import read_status
from tests.cli.helpers import SCRIPT, script
from tests.deploy.conftest import Site
from tests.deploy.test_cli import on
from tests.deploy.test_launch import changed_plan
from tests.guard.test_change import state_of


def test_a_guard_that_saw_nothing_ends_without_a_verdict(site: Site, tmp_path: Path) -> None:
    assert on(site, "deploy").code == 0
    options = ["--name", "test", "--state", site.folder / "state", "--tritonserver", site.server]
    run = script("guard", site.plan, *options, "--feed", tmp_path / "fed.jsonl", "--for", "0.6")
    assert run.code == 2, run.err
    assert "fed.jsonl does not exist yet" in run.out
    assert "ended: no verdict: no request was seen of any placement" in run.out


def test_the_logs_of_servers_that_died_are_kept(site: Site) -> None:
    site.deploy()
    for _ in range(2):
        (record,) = [record for record in state_of(site).replicas if record.workload == "A"]
        assert "started" in (site.store.server_folder(record.token) / "log").read_text()
        site.kill(record.token)
        said: list[str] = []
        site.deploy(report=said.append)
        assert f"logs of servers that had ended: {site.store.folder / 'failed'}" in said
    first, second = sorted((site.store.folder / "failed").glob("*-V100-1-A#1-*.log"))
    assert "started" in first.read_text() and "started" in second.read_text()
    assert read_status(site.store, state_of(site), site.backend()).failed_logs == str(site.store.folder / "failed")


def test_so_many_logs_are_kept(tmp_path: Path) -> None:
    store = Store(tmp_path, "test")
    for number in range(_MOST_KEPT_LOGS + 5):
        folder = store.server_folder(f"{number:08x}00000000")
        folder.mkdir(parents=True)
        (folder / "log").write_text(str(number))
        store.remove_server_folder(folder.name, keep_log="A#1")
    assert len(list((store.folder / "failed").iterdir())) == _MOST_KEPT_LOGS


def test_status_sees_what_runs_of_a_lost_state_and_beside_a_broken_one(site: Site) -> None:
    site.deploy()
    where = ["--state", site.store.root]
    found = script("status", *where, "--json").json()
    assert found[0]["ok"]
    for server in found[0]["servers"]:
        assert Path(server["log"]).is_file()
        assert psutil.pid_exists(int(server["handle"]))
        assert Path(server["log"]).parent.name == server["token"]
    broken = Store(site.store.root, "broken")
    broken.create()
    broken.file.write_text("{")
    run = script("status", *where)
    assert run.code == 2
    assert run.out.count(" yes ") == 3
    assert f"error: {broken.file}: " in run.err
    assert [entry["ok"] for entry in script("status", *where, "--json").json()] == [True, False]
    broken.file.unlink()
    site.store.file.unlink()
    for more in ([], ["--name", "test"]):
        run = script("status", *where, *more)
        assert run.code == 1
        assert "test: its state is lost, and what carries its label still runs" in run.out
    assert script("teardown", *where, "--name", "test").code == 0
    assert script("status", *where).code == 0
    site.assert_clean()


def test_a_dry_run_needs_no_approval_and_refuses_the_same_folders(site: Site) -> None:
    approval_path(site.plan).unlink()
    run = on(site, "deploy", "--dry-run")
    assert run.code == 0, run.err
    assert "note: as it is, deploy would refuse: " in run.err and "is not approved" in run.err
    assert on(site, "deploy").code == 1
    for more in ([], ["--dry-run"]):
        run = on(site, "deploy", "--state", site.plan, *more)
        assert run.code == (2 if more else 1)
    assert "is no folder" in run.err


def test_a_full_disk_names_the_place_and_what_was_undone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("igniter_opt.deploy.apply.create_repository", full)
    with pytest.raises(InputError) as caught:
        site.deploy()
    said = f"{site.store.folder}: No space left on device; everything that this run started was stopped again"
    assert str(caught.value).startswith(said)
    site.assert_clean()


def test_a_drain_that_is_cut_short_is_said_and_ends_with_130(site: Site) -> None:
    assert on(site, "deploy").code == 0
    changed = changed_plan(site, R=300.0)
    options = ["--name", "test", "--state", site.store.root, "--base-port", site.base_port, "--drain", "60"]
    command = [SCRIPT, "deploy", changed, "--models", site.models, "--cpu", "--tritonserver", site.server, *options]
    child = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("waiting 60 s"):
            break
    child.send_signal(signal.SIGINT)
    said = child.stderr.read()
    assert child.wait(60) == 130
    assert "drain cut short: the old servers are stopped now" in said
    assert "the new plan is what runs" in said
    assert len(site.processes()) == 2 * len(state_of(site).replicas)
