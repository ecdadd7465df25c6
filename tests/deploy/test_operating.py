"""What an operator sees when servers die, files are lost or disks are full: where it is, and the promised exit code."""

from pathlib import Path

import psutil

from igniter_opt.deploy.state import _MOST_KEPT_LOGS, Store
from igniter_opt.deploy.status import read_status
from tests.cli.helpers import script
from tests.deploy.conftest import Site
from tests.deploy.test_cli import on
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
