"""The folder of deployments is its user's alone: whoever writes there decides what is taken for ours."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from igniter_opt.base.errors import InputError
from igniter_opt.deploy.records import Ports, ReplicaRecord
from igniter_opt.deploy.state import STATE_SCHEMA, Deployment, Store, new_token
from igniter_opt.guard.journal import Event, GuardLog
from tests.base.test_ownership import STRANGER, as_root, give_away


def state(store: Store) -> Deployment:
    return Deployment(
        name=store.name,
        owner=store.owner,
        machine="m",
        backend="process",
        cpu=True,
        hosts=(),
        created_at="2026-01-01T00:00:00+00:00",
    )


def use_all(store: Store) -> list[Callable[[], object]]:
    """Everything that begins to use a deployment's folder."""

    def lock() -> None:
        with store.locked():
            pass

    def guard() -> None:
        with store.guarded():
            pass

    return [store.create, store.load, lock, guard]


def refused(store: Store, says: str) -> None:
    for use in use_all(store):
        with pytest.raises(InputError) as caught:
            use()
        assert says in str(caught.value)


def test_what_is_kept_is_readable_by_its_user_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = Store(tmp_path / "new" / "root", "x")
        store.create()
        with store.locked():
            store.save(state(store))
        GuardLog(store.folder).append(Event(at="t", event="note"))
    finally:
        os.umask(before)
    assert store.load() == state(store)
    for path in (store.root.parent, *store.root.rglob("*"), store.root):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_folder_that_everybody_can_write_to_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "root", "x")
    store.create()
    store.folder.chmod(0o777)
    refused(store, f"{store.folder}: others can write to it; `chmod go-w {store.folder}`, or choose another --state")
    store.folder.chmod(0o1777)
    refused(store, "others can write to it")
    store.folder.chmod(0o700)
    store.root.chmod(0o777)
    refused(store, f"{store.root}: others can write to it")
    store.root.chmod(0o1777)  # as /tmp, where nobody else can move the folder away
    assert store.load() is None


@as_root
def test_a_stranger_cannot_have_root_use_their_folder(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o1777)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    store = Store(root, "x")
    store.folder.mkdir()
    for name in ("state.json", "endpoints.json", "lock", "guard.lock", "guard.jsonl"):
        (store.folder / name).symlink_to(victim)
    give_away(store.folder)
    refused(store, f"{store.folder}: belongs to another user (uid {STRANGER}); choose another --state")
    assert victim.read_text() == "precious"


@as_root
def test_a_stranger_cannot_move_the_folder_away(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    os.chown(root, STRANGER, STRANGER)
    refused(Store(root, "x"), f"{root}: belongs to another user")
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("name", ["state.json", "lock", "guard.lock", "servers", "failed", "guard.jsonl"])
def test_no_link_in_the_folder_is_followed(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / "root", "x")
    store.create()
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").touch()
    (store.folder / name).symlink_to(victim)
    refused(store, f"{store.folder / name}: is a link")
    assert (victim / "precious").exists()


def test_no_server_folder_is_a_link(tmp_path: Path) -> None:
    store = Store(tmp_path / "root", "x")
    store.create()
    (store.folder / "servers").mkdir()
    store.server_folder(new_token()).symlink_to(tmp_path)
    refused(store, "is a link, and none is followed here")


def test_the_folder_itself_is_no_link_but_its_root_may_be(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    store = Store(tmp_path / "link", "x")
    store.create()
    assert store.load() is None
    (tmp_path / "real" / "y").symlink_to("x")
    refused(Store(tmp_path / "link", "y"), "is a link")


def test_the_log_of_guards_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "guard.jsonl").symlink_to("victim")
    with pytest.raises(InputError, match=r"guard\.jsonl: cannot be written"):
        GuardLog(tmp_path).append(Event(at="t", event="note"))
    assert (tmp_path / "victim").read_text() == "precious"


def test_writing_the_state_follows_no_link(tmp_path: Path) -> None:
    store = Store(tmp_path / "root", "x")
    store.create()
    (tmp_path / "victim").write_text("precious")
    store.file.symlink_to(tmp_path / "victim")
    store.save(state(store))
    assert (tmp_path / "victim").read_text() == "precious"
    assert json.loads(store.file.read_text())["schema"] == STATE_SCHEMA


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (
            "igniter-opt/deployment@2",
            r"written by a newer version of igniter-opt \(igniter-opt/deployment@2;",
        ),
        ("igniter-opt/plan@1", r"not a state file \(schema is 'igniter-opt/plan@1'\)"),
        (None, r"not a state file \(schema is nothing\)"),
    ],
)
def test_other_schemas_are_told_apart(tmp_path: Path, schema: str | None, says: str) -> None:
    store = Store(tmp_path / "root", "x")
    store.create()
    data = {**state(store).model_dump(mode="json", by_alias=True), "schema": schema}
    store.file.write_text(json.dumps(data))
    with pytest.raises(InputError, match=says):
        store.load()


def test_the_loosest_slo_has_a_queue_delay_that_can_be_recorded() -> None:
    record = ReplicaRecord(
        token=new_token(), phase="ready", workload="a", replica=1, model="m", gpu="g", host="h", device="d",
        device_name="d", share_percent=10, batch=1, queue_delay_us=10**12, rate_rps=1, spec="0" * 64,
        config_digest="0" * 64, ports=Ports(http=1, grpc=2, metrics=3),
    )  # fmt: skip
    assert record.queue_delay_us == 10**12


def test_a_state_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    store = Store(tmp_path, "test")
    store.create()
    store.save(state(store))
    before = store.file.read_bytes()
    with pytest.raises(InputError, match="the state of test, which is not written: plan_path: must be text; found 3"):
        store.save(state(store).model_copy(update={"plan_path": 3}))
    assert store.file.read_bytes() == before
