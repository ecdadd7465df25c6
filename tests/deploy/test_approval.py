"""Approval binds to what the plan says, not to how its file is laid out."""

import copy
import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

import igniter_opt as ig
from igniter_opt.base.errors import InputError, RefusedError
from igniter_opt.data.plan import Plan, plan_from_data, plan_json, read_plan
from igniter_opt.deploy.approval import (
    approval_path,
    check_approval,
    make_approval,
    plan_digest,
    tightest,
    write_approval,
)
from tests.base.test_ownership import STRANGER, as_root


@pytest.fixture(scope="module")
def plan() -> Plan:
    return ig.solve(ig.read_instance("igniter-three"), "igniter").plan


def test_digest_ignores_layout_key_order_and_run_time(plan: Plan) -> None:
    data = json.loads(plan_json(plan))
    shuffled = json.loads(json.dumps(dict(reversed(list(data.items())))))
    shuffled["solver"]["runtime_s"] = 99.0
    assert plan_digest(plan_from_data(shuffled, "x")) == plan_digest(plan)
    assert plan_digest(plan).startswith("sha256:")


def leaves(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values; of the long columns of measurements the first, the middle and the last."""
    if isinstance(data, dict):
        return [leaf for key, value in data.items() for leaf in leaves(value, (*path, key))]
    if isinstance(data, list):
        chosen = sorted({0, len(data) // 2, len(data) - 1}) if len(data) > 50 else range(len(data))
        return [leaf for key in chosen for leaf in leaves(data[key], (*path, key))]
    return [path]


def test_any_other_change_changes_the_digest(plan: Plan) -> None:
    data = json.loads(plan_json(plan))
    tried = 0
    for path in leaves(data):
        if path in {("solver", "runtime_s"), ("schema",)}:
            continue
        changed = copy.deepcopy(data)
        target = changed
        for key in path[:-1]:
            target = target[key]
        value = target[path[-1]]
        target[path[-1]] = value + "x" if isinstance(value, str) else (value or 0) + 1
        try:
            other = plan_from_data(changed, "x")
        except InputError:
            continue
        tried += 1
        assert plan_digest(other) != plan_digest(plan), path
    assert tried > 100


def test_approved_plan_is_accepted_and_a_changed_one_is_not(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    ig.write_plan(plan, path)
    with pytest.raises(RefusedError, match="is not approved"):
        check_approval(plan, path)
    approval = make_approval(plan)
    write_approval(approval, approval_path(path))
    assert check_approval(read_plan(path), path) == approval
    assert approval.servers == 3
    assert approval.verification.cost_per_hour == 3.06

    other = ig.solve(ig.read_instance("igniter-motivation"), "igniter").plan
    with pytest.raises(RefusedError, match="is not the plan that"):
        check_approval(other, path)


def test_a_plan_that_no_longer_holds_is_refused(plan: Plan, tmp_path: Path) -> None:
    data = json.loads(plan_json(plan))
    for placement in data["gpus"][0]["placements"]:
        placement["share_percent"] = 2.5
    bad = plan_from_data(data, "x")
    with pytest.raises(RefusedError, match="does not hold"):
        make_approval(bad)
    # Even a forged approval does not help.
    path = tmp_path / "plan.json"
    forged = make_approval(plan).model_copy(update={"plan_digest": plan_digest(bad)})
    write_approval(forged, approval_path(path))
    with pytest.raises(RefusedError, match="does not hold"):
        check_approval(bad, path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "igniter-opt/approval@1"}', '{"schema": "other"}'])
def test_a_file_that_is_no_approval(plan: Plan, tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    approval_path(path).write_text(text)
    with pytest.raises(InputError, match=r"plan\.approval\.json"):
        check_approval(plan, path)


def test_tightest_is_relative_to_the_limit(plan: Plan) -> None:
    checks = ig.verify(plan).placements
    slacks = [check.slack_ms / check.limit_ms for check in tightest(checks)]
    assert slacks == sorted(slacks)
    assert slacks[0] == min(check.slack_ms / check.limit_ms for check in checks)


def test_an_approval_that_others_could_have_written_is_none(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    file = approval_path(path)
    write_approval(make_approval(plan), file)
    file.chmod(0o666)
    with pytest.raises(InputError, match=f"^{file}: others can write to it"):
        check_approval(plan, path)
    file.chmod(0o644)
    tmp_path.chmod(0o777)
    with pytest.raises(InputError, match=f"^{tmp_path}: others can write to it"):
        check_approval(plan, path)
    tmp_path.chmod(0o1777)
    check_approval(plan, path)


@as_root
def test_an_approval_of_another_user_is_none_but_by_sudo(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plan.json"
    file = approval_path(path)
    write_approval(make_approval(plan), file)
    os.chown(file, STRANGER, STRANGER)
    with pytest.raises(InputError, match=rf"{file}: belongs to another user .*run `igniter-opt approve"):
        check_approval(plan, path)
    monkeypatch.setenv("SUDO_UID", str(STRANGER))
    check_approval(plan, path)
    monkeypatch.setenv("SUDO_UID", "root")
    with pytest.raises(InputError, match="belongs to another user"):
        check_approval(plan, path)


@as_root
def test_another_user_s_approval_counts_where_they_are_named(plan: Plan, tmp_path: Path) -> None:
    colleague = pwd.getpwnam("nobody")
    path = tmp_path / "plan.json"
    file = approval_path(path)
    write_approval(make_approval(plan), file)
    os.chown(file, colleague.pw_uid, colleague.pw_gid)
    with pytest.raises(InputError, match=r"belongs to another user \(nobody\); .*--allow-approver"):
        check_approval(plan, path)
    check_approval(plan, path, ["nobody"])
    # Nobody else is let in by that: not a third user, nor who can write where the colleague lets others.
    file.chmod(0o666)
    with pytest.raises(InputError, match="others can write to it"):
        check_approval(plan, path, ["nobody"])
    file.chmod(0o644)
    os.chown(file, STRANGER, STRANGER)
    with pytest.raises(InputError, match="belongs to another user"):
        check_approval(plan, path, ["nobody"])


def test_an_approver_whom_nobody_knows(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_approval(make_approval(plan), approval_path(path))
    for name in ("no-such-user", "a\0b", "-x", ""):
        with pytest.raises(InputError, match="--allow-approver: this machine knows no user"):
            check_approval(plan, path, [name])


def test_paths_may_be_texts(plan: Plan, tmp_path: Path) -> None:
    path = str(tmp_path / "plan.json")
    write_approval(make_approval(plan), str(approval_path(path)))
    assert check_approval(plan, path).servers == 3
    with pytest.raises(InputError, match="of type Approval"):
        write_approval(path, make_approval(plan))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected a path"):
        approval_path(3)  # type: ignore[arg-type]


def test_an_approval_is_not_written_through_a_link(plan: Plan, tmp_path: Path) -> None:
    file, victim = approval_path(tmp_path / "plan.json"), tmp_path / "victim"
    victim.write_text("precious")
    file.symlink_to(victim)
    with pytest.raises(InputError, match="is a link; remove it"):
        write_approval(make_approval(plan), file)
    assert victim.read_text() == "precious"
