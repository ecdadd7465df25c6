"""The file of targets for Prometheus: what it says, when it changes, and that nobody else's file is touched."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from igniter_opt.base.errors import InputError
from igniter_opt.deploy import launch
from igniter_opt.deploy.prometheus import OWNER_LABEL, check_targets_file, remove_targets, targets, write_targets
from igniter_opt.deploy.state import Store
from tests.cli.helpers import invoke
from tests.deploy.conftest import Site
from tests.deploy.test_endpoints import STATE
from tests.deploy.test_launch import changed_plan

OWNER = STATE.owner


def test_groups_have_the_form_that_prometheus_reads() -> None:
    """A list of objects with `targets`, host and port each, and `labels`, texts by names of labels."""
    found = targets(STATE)
    assert [group["targets"] for group in found] == [["10.0.0.1:8002"], ["10.0.0.1:8005"], ["[fd00::1]:8008"]]
    for group in found:
        assert set(group) == {"targets", "labels"}
        for name, value in group["labels"].items():
            assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name)
            assert isinstance(value, str)
        # Labels that Triton's metrics have themselves would be renamed there.
        assert not {"model", "version", "gpu_uuid", "job", "instance"} & set(group["labels"])
    assert found[2]["labels"] == {
        "deployment": "d", "workload": "B.x-1", "gpu": "V100-1", "placement": "V100-1/B.x-1#1", OWNER_LABEL: OWNER,
    }  # fmt: skip


def named(file: Path) -> dict[str, str]:
    groups: list[Any] = json.loads(file.read_text())
    return {group["labels"]["workload"]: group["targets"][0] for group in groups}


def served(site: Site) -> dict[str, str]:
    state = site.store.load()
    assert state is not None
    return {record.workload: f"127.0.0.1:{record.ports.metrics}" for record in state.replicas}


def test_targets_follow_the_deployment_until_teardown(site: Site, tmp_path: Path) -> None:
    file, other = tmp_path / "targets.json", tmp_path / "other.json"
    site.deploy()
    assert not file.exists()
    site.deploy(file_sd=file)  # nothing else changes
    assert named(file) == served(site)
    assert file.stat().st_mode & 0o444 == 0o444  # Prometheus is another user
    first = file.stat().st_ino
    site.deploy()
    assert file.stat().st_ino == first, "written though nothing changed"
    site.deploy(changed_plan(site, R=300))  # the option need not be repeated
    assert named(file) == served(site)
    site.deploy(changed_plan(site, R=300), file_sd=other)
    assert not file.exists()
    assert named(other) == served(site)
    site.teardown()
    assert not other.exists()
    site.assert_clean()


def test_what_is_somebody_else_s_by_now_is_left_alone(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "targets.json"
    site.deploy(file_sd=file)
    theirs = '[{"targets": ["db:9100"], "labels": {"job": "node"}}]'
    file.write_text(theirs)
    said: list[str] = []
    site.deploy(changed_plan(site, R=300), report=said.append)
    assert any("warning: Prometheus is not told" in line and str(file) in line for line in said)
    assert served(site)
    site.teardown()
    assert file.read_text() == theirs
    site.assert_clean()


@pytest.mark.parametrize(
    "content",
    [
        "x",
        "{}",
        "[3]",
        '[{"targets": ["db:9100"]}]',
        json.dumps([{"targets": [], "labels": {OWNER_LABEL: OWNER}}, {"targets": ["db:1"], "labels": {}}]),
        json.dumps([{"targets": [], "labels": {OWNER_LABEL: "1" * 16}}]),
    ],
)
def test_other_files_are_refused_and_kept(tmp_path: Path, content: str) -> None:
    file = tmp_path / "targets.json"
    file.write_text(content)
    with pytest.raises(InputError, match="is not this deployment's file of targets"):
        check_targets_file(file, OWNER)
    remove_targets(file, OWNER)
    assert file.read_text() == content


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in \.json"):
        check_targets_file(tmp_path / "targets.txt", OWNER)
    with pytest.raises(InputError, match="is no UTF-8"):
        check_targets_file(tmp_path / "\udcff.json", OWNER)
    with pytest.raises(InputError, match="does not exist; create it first"):
        check_targets_file(tmp_path / "nowhere" / "targets.json", OWNER)
    victim, link = tmp_path / "victim.json", tmp_path / "link.json"
    victim.write_text("")
    link.symlink_to(victim)
    with pytest.raises(InputError, match="is a link"):
        check_targets_file(link, OWNER)
    write_targets(STATE.model_copy(update={"file_sd": str(victim)}))  # an empty file is nobody's
    remove_targets(link, OWNER)
    assert link.is_symlink() and victim.exists()
    remove_targets(victim, OWNER)
    assert not victim.exists()
    remove_targets(victim, OWNER)


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_bad_path_is_found_out_before_anything_is_started(site: Site, more: list[str]) -> None:
    before = site.plan.read_text()
    options = ["--models", site.models, "--cpu", "--tritonserver", site.server, "--state", site.folder / "state"]
    run = invoke("deploy", site.plan, *options, "--name", "test", "--file-sd", site.plan, *more)
    assert run.code == 2
    assert f"error: {site.plan}: exists and is not this deployment's file of targets; choose another path" in run.err
    assert site.plan.read_text() == before
    assert not site.processes()


def test_plan_models_state_and_targets_may_be_texts(site: Site, tmp_path: Path) -> None:
    request = launch.Request(
        plan=str(site.plan),
        models=str(site.models),
        cpu=True,
        file_sd=str(tmp_path / "targets.json"),
        options=site.request().options,
    )
    store = Store(str(site.folder / "state"), "test")
    launch.deploy(request, store, site.backend())
    assert set(named(tmp_path / "targets.json")) == {"A", "R", "S"}
    launch.teardown(store, site.backend(), request.options)
    site.assert_clean()
