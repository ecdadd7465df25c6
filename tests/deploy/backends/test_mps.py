"""MPS daemons and shares, with a stand-in control program: what every server is told, and that all of it ends."""

import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from igniter_opt.base.errors import DeploymentError, InputError
from igniter_opt.deploy import launch
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.backends import mps
from igniter_opt.deploy.backends.mps import PROGRAM, thread_percentage
from igniter_opt.deploy.inventory import read_devices
from igniter_opt.deploy.records import DaemonRecord
from igniter_opt.deploy.state import new_token
from igniter_opt.deploy.status import read_status
from tests.base.test_ownership import as_root, give_away
from tests.deploy.conftest import Site
from tests.deploy.fake_nvml import FakeNvml
from tests.deploy.test_launch import changed_plan, pids, verbs

V100 = {"uuid": "GPU-1111", "name": "Tesla V100-SXM2-16GB", "mib": 16384}


@pytest.fixture(autouse=True)
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    program = tmp_path / "bin" / PROGRAM
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{(Path(__file__).parents[1] / 'fake_mps_control.py').read_text()}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    # A daemon of the user's own must not leak into ours.
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/nonexistent/users-own")
    monkeypatch.setenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "7")
    # Other runs on this machine have theirs.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert not pipes()


def pipes() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("igniter-opt-mps-*"))


def request(site: Site, plan: Path | None = None, *cards: dict[str, object]) -> launch.Request:
    return replace(site.request(plan), cpu=False, devices=read_devices(FakeNvml(*(cards or (V100,))), otherwise=""))


def deploy(site: Site, plan: Path | None = None, *cards: dict[str, object]) -> launch.Prepared:
    return launch.deploy(request(site, plan, *cards), site.store, site.backend())


def environments(site: Site) -> dict[str, dict[str, str]]:
    return {name: psutil.Process(int(pid)).environ() for name, pid in pids(site).items()}


def test_every_server_has_its_share_and_its_gpus_daemon(site: Site, stranger: psutil.Process) -> None:
    deploy(site)
    state = site.store.load()
    assert state is not None
    (daemon,) = state.daemons
    found = environments(site)
    assert {name: e["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] for name, e in found.items()} == {
        "R": "45",
        "A": "20",
        "S": "15",
    }
    for environment in found.values():
        assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-1111"
        assert environment["CUDA_MPS_PIPE_DIRECTORY"].endswith(daemon.token)
        assert "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT" not in environment
    assert pipes()
    assert read_status(site.store, state, site.backend()).ok

    assert deploy(site).nothing
    assert verbs(deploy(site, changed_plan(site, R=300))) == ["keep", "keep", "start", "stop"]
    state = site.store.load()
    assert state is not None
    assert state.daemons == (daemon,)
    site.teardown()
    site.assert_clean()
    assert stranger.is_running()


def test_a_daemon_that_died_is_replaced_with_its_clients(site: Site) -> None:
    deploy(site)
    state = site.store.load()
    assert state is not None
    (daemon,) = state.daemons
    site.kill(daemon.token)
    status = read_status(site.store, state, site.backend())
    assert all("MPS daemon is gone" in server.drift for server in status.servers)
    assert verbs(deploy(site)) == ["clean", *["start"] * 4, *["stop"] * 3]
    state = site.store.load()
    assert state is not None
    assert state.daemons[0].token != daemon.token
    assert read_status(site.store, state, site.backend()).ok
    site.teardown()
    site.assert_clean()


def test_a_daemon_that_does_not_start_is_rolled_back(site: Site) -> None:
    with pytest.raises(DeploymentError, match="Cannot find MPS control daemon"):
        deploy(site, None, {**V100, "uuid": "GPU-broken"})
    site.assert_clean()


def test_a_failed_server_takes_its_new_daemon_with_it(site: Site) -> None:
    site.misbehave("ssd", "exit")
    with pytest.raises(DeploymentError):
        deploy(site)
    site.assert_clean()


def test_moving_to_another_card_ends_the_idle_daemon(site: Site) -> None:
    cards = (V100, {**V100, "uuid": "GPU-2222"})
    deploy(site, None, *cards)
    moved = replace(request(site, None, *cards), overrides={"V100-1": "GPU-2222"})
    result = launch.deploy(moved, site.store, site.backend())
    assert verbs(result) == [*["start"] * 4, *["stop"] * 4]
    state = site.store.load()
    assert state is not None
    assert [daemon.device for daemon in state.daemons] == ["GPU-2222"]
    launch.teardown(site.store, site.backend(), Options())
    site.assert_clean()


def test_strangers_on_the_card_are_reported(site: Site) -> None:
    card = {**V100, "pids": [1]}
    prepared = launch.prepare(
        request(site, None, card), site.store, site.backend(), *launch.check(request(site), site.backend())
    )
    assert [device.uuid for device in prepared.strangers] == ["GPU-1111"]


def test_no_control_program(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(InputError, match="nvidia-cuda-mps-control is not on PATH"):
        deploy(site)
    assert not site.store.folder.exists()


@pytest.mark.parametrize(("share", "text"), [(2.5, "2.5"), (45.0, "45"), (100.0, "100"), (100 / 66, "1.5152")])
def test_thread_percentage(share: float, text: str) -> None:
    assert thread_percentage(share) == text


@given(units=st.integers(1, 66), sms=st.sampled_from([80, 108, 132]))
def test_a_share_in_units_of_two_sms_is_not_rounded_below_them(units: int, sms: int) -> None:
    """MPS rounds down to whole units: n units must come out as n."""
    units = min(units, sms // 2)
    share = float(thread_percentage(units * (200 / sms)))
    assert int(share * sms / 100 / 2) == units


@as_root
def test_pipes_of_another_user_are_neither_used_nor_removed(tmp_path: Path) -> None:
    """Everybody can see their names, and make them anew once something has cleaned the folder for temporary files."""
    token = new_token()
    folder = mps.pipe_folder(token)
    folder.mkdir()
    (folder / "control").touch()
    (folder / "log").mkdir()
    give_away(folder)
    heard = tmp_path / "heard"
    (tmp_path / "bin" / PROGRAM).write_text(f"#!/bin/sh\ntouch {heard}\n")
    assert not mps.answers(DaemonRecord(token=token, host="local", device="GPU-1"))
    mps.stop("none", [token])
    assert not heard.exists() and (folder / "control").exists()
    (folder / "control").unlink()
    (folder / "log").rmdir()
    folder.rmdir()
