"""What is undone when a rollout fails: what this run made, and what it changed; nothing that is somebody else's."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from igniter_opt.base.errors import InputError
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.kubernetes.client import connect
from igniter_opt.deploy.kubernetes.cluster_changes import ObjectChange
from igniter_opt.deploy.kubernetes.fields import shared_fields, united_fields
from igniter_opt.deploy.kubernetes.names import MANAGER, as_applied, metadata
from igniter_opt.deploy.kubernetes.rollout import Rollout
from tests.deploy.kubernetes.fake_server import FakeServer, fake_server

pytest.importorskip("kubernetes")

Object = dict[str, Any]
ALL_RESTORED = "everything that this run changed is as it was before"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as found:
        yield found


def service(name: str, kind: str = "Service", **spec: Any) -> Object:
    about = metadata("ig", "test", name, {}, {})
    return as_applied({"apiVersion": "v1", "kind": kind, "metadata": about, "spec": spec})


def there(found: Object, uid: str = "u1", age_s: float = 0.0, **about: Any) -> Object:
    """An object as the server has it."""
    made = datetime.now(UTC) + timedelta(seconds=1 - age_s)
    stamp = made.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {**found, "metadata": {**found["metadata"], "uid": uid, "creationTimestamp": stamp, **about}}


def failed(server: FakeServer, folder: Path, *changes: ObjectChange, take_over: bool = False) -> str:
    """Roll changes out; return why that failed."""
    client = connect(server.kubeconfig(folder), None, None)
    client.patience_s = 1.0
    with pytest.raises(InputError) as error:
        Rollout(client, "test", Options(), take_over=take_over).start(changes, [])
    return str(error.value)


def sent(server: FakeServer, method: str) -> list[tuple[str, Any]]:
    return [(path.partition("?")[0].rpartition("/")[2], body) for verb, path, body in server.asked if verb == method]


FIRST, SECOND = service("first"), service("second")
CREATED = [ObjectChange("create", entry, None) for entry in (FIRST, SECOND)]
FORBIDDEN = (403, {"message": "no"})
Patch = Callable[[int], "tuple[int, Any] | None"]


def first_answered(patch: Patch, found: Object | None) -> Callable[[str, str, Any], "tuple[int, Any] | None"]:
    """The first object is answered as said, by how often it was applied; the second is refused."""
    times = [0]

    def answers(method: str, path: str, body: Any) -> tuple[int, Any] | None:
        if method == "PATCH" and "/second" in path:
            return FORBIDDEN
        if method == "PATCH":
            times[0] += 1
            return patch(times[0])
        if method == "GET":
            return (404, {}) if found is None else (200, found)
        return 200, {}

    return answers


def test_what_this_run_made_is_deleted_by_its_uid(server: FakeServer, tmp_path: Path) -> None:
    server.answers = first_answered(lambda _: (201, there(FIRST, "mine")), None)
    assert ALL_RESTORED in failed(server, tmp_path, *CREATED)
    ((name, body),) = sent(server, "DELETE")
    assert (name, body["preconditions"]) == ("first", {"uid": "mine"})


def test_what_somebody_made_meanwhile_is_left(server: FakeServer, tmp_path: Path) -> None:
    """Between comparing and applying: with fields of its own, so that ours is refused."""
    server.answers = first_answered(lambda _: (409, {"message": "conflict"}), there(FIRST, "theirs"))
    assert ALL_RESTORED in failed(server, tmp_path, *CREATED)
    assert not sent(server, "DELETE")


def test_what_another_launcher_made_meanwhile_is_left_and_named(server: FakeServer, tmp_path: Path) -> None:
    server.answers = first_answered(lambda _: (200, there(FIRST, "theirs")), there(FIRST, "theirs"))
    said = failed(server, tmp_path, *CREATED)
    assert "cannot create Service/first: it was made since this run looked" in said
    assert "Service/first: somebody else made it meanwhile" in said
    assert ALL_RESTORED not in said
    assert not sent(server, "DELETE")


def lost(then: tuple[int, Any]) -> Patch:
    """The first answer is lost."""
    return lambda time: None if time == 1 else then


@pytest.mark.parametrize("status", [200, 503])
def test_what_was_made_when_the_answer_was_lost_is_deleted(server: FakeServer, tmp_path: Path, status: int) -> None:
    found = there(FIRST, "mine")
    server.answers = first_answered(lost((status, found)), found)
    failed(server, tmp_path, *CREATED)
    ((_, body),) = sent(server, "DELETE")
    assert body["preconditions"] == {"uid": "mine"}


@pytest.mark.parametrize(
    ("found", "named"),
    [
        (there(FIRST, age_s=60), True),  # older than the request
        (there(service("first", port=2)), True),  # of another plan
        ({**there(FIRST), "metadata": {"name": "first", "uid": "x"}}, False),  # not ours at all
        ({**there(FIRST), "metadata": {**there(FIRST)["metadata"], "creationTimestamp": None}}, True),
    ],
)
def test_what_may_be_another_ones_when_the_answer_was_lost_is_left(
    server: FakeServer, tmp_path: Path, found: Object, named: bool
) -> None:
    server.answers = first_answered(lost((503, {})), found)
    said = failed(server, tmp_path, *CREATED)
    assert not sent(server, "DELETE")
    assert ("Service/first: it is there, and may be of another launcher" in said, ALL_RESTORED in said) == (
        named,
        not named,
    )


def test_nothing_is_deleted_after_a_refusal_and_what_may_be_left_is_named(server: FakeServer, tmp_path: Path) -> None:
    server.answers = first_answered(lost(FORBIDDEN), there(FIRST))
    assert "Service/first: it is there, and may be of another launcher" in failed(server, tmp_path, *CREATED)
    assert not sent(server, "DELETE")


# Fields that are somebody else's.


def fields(manager: str, spec: Object, **about: Any) -> Object:
    return {"manager": manager, "operation": "Apply", "fieldsV1": {"f:spec": spec}, **about}


def put_back(server: FakeServer, folder: Path, live: Object, new: Object, restored: Object | None) -> tuple[str, Any]:
    """Take an object over and fail afterwards; return what was said, and the spec that was applied in the end."""
    applied = [there(new), live if restored is None else restored]

    def answers(method: str, path: str, body: Any) -> tuple[int, Any]:
        if method == "PATCH":
            return FORBIDDEN if "/second" in path else (200, applied.pop(0))
        return 200, there(new)

    server.answers = answers
    said = failed(server, folder, ObjectChange("update", new, live), CREATED[1], take_over=True)
    last = [body for name, body in sent(server, "PATCH") if name == "first"][-1]
    assert last["metadata"]["uid"] == live["metadata"]["uid"]
    return said, last.get("spec")


OURS: Object = {"f:replicas": {}, "f:paused": {}}
TAKEN = {**service("first", kind="Deployment", replicas=1, paused=False), "apiVersion": "apps/v1"}
NEW = there(TAKEN, managedFields=[fields(MANAGER, OURS)])


@pytest.mark.parametrize(
    "managed",
    [
        # Never applied by us.
        [fields("kubectl", {"f:replicas": {}})],
        # Ours, and then scaled by somebody.
        [fields(MANAGER, {"f:paused": {}}), fields("kubectl", {"f:replicas": {}}, operation="Update")],
        [fields(MANAGER, {"f:paused": {}}), fields("hpa", {"f:replicas": {}}, subresource="scale")],
    ],
)
def test_fields_that_were_taken_over_get_their_values_back(
    server: FakeServer, tmp_path: Path, managed: list[Object]
) -> None:
    live = there({**TAKEN, "spec": {"replicas": 3, "paused": True}}, managedFields=managed)
    said, spec = put_back(server, tmp_path, live, NEW, None)
    assert spec == {"replicas": 3, "paused": True}
    assert f"has the values that it had before (fields that were taken over stay {MANAGER}'s)" in said


def test_what_does_not_get_its_values_back_is_named(server: FakeServer, tmp_path: Path) -> None:
    live = there({**TAKEN, "spec": {"replicas": 3}}, managedFields=[fields("kubectl", {"f:replicas": {}})])
    restored = {**live, "spec": {"replicas": 1}}
    said, _ = put_back(server, tmp_path, live, NEW, restored)
    assert "not all could be undone" in said
    assert "Deployment/first: not all of its fields are as before" in said
    assert "as it was before" not in said


def test_fields_are_shared_and_united() -> None:
    key = 'k:{"name":"triton"}'
    ours: Object = {"f:spec": {"f:list": {".": {}, key: {".": {}, "f:image": {}, "f:args": {}}}, "f:paused": {}}}
    theirs: Object = {"f:spec": {"f:list": {key: {".": {}, "f:image": {}}}, "f:replicas": {}}, "f:status": {}}
    assert shared_fields(ours, theirs) == {"f:spec": {"f:list": {key: {"f:name": {}, "f:image": {}}}}}
    only_there: Object = {"f:spec": {"f:list": {key: {".": {}, "f:tty": {}}}}}
    assert shared_fields(ours, only_there) == {}, "an empty part would be the whole"
    both = united_fields(ours, theirs)
    assert both["f:spec"]["f:list"][key].keys() == {".", "f:image", "f:args"}
    assert both["f:spec"].keys() == {"f:list", "f:paused", "f:replicas"}
