"""The difference engine: applying it gives what was wanted, with as few changes as the targets allow."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from igniter_opt.deploy.changes import Health, compare
from igniter_opt.deploy.differences import counts
from igniter_opt.deploy.inventory import Device
from igniter_opt.deploy.records import ReplicaRecord
from igniter_opt.deploy.targets import Placed, Target, text_digest
from igniter_opt.deploy.triton.model_repository import ModelSource
from tests.deploy.test_endpoints import deployment, record

SOURCE = ModelSource("m", Path(), None, {}, "", None)
SPECS = [letter * 64 for letter in "0ab"]
places = st.tuples(st.sampled_from(["A", "B", "C"]), st.sampled_from(SPECS), st.sampled_from(["GPU-1", "GPU-2"]))
phases = st.sampled_from(["ready", "ready", "starting", "retired"])
healths = st.sampled_from(["ready", "ready", "ready", "gone", "unready", "changed"])


def wanted(workload: str, spec: str, gpu: str, replica: int) -> Placed:
    target = Target(workload, replica, "m", "g", 1, 10.0, 100.0, 0, None, SOURCE, "", spec)
    return Placed(target, Device("one", gpu, "V100"))


@given(
    running=st.lists(st.tuples(places, phases, healths), max_size=6),
    targets=st.lists(places, max_size=6),
)
def test_applying_the_changes_gives_the_targets(running: list[Any], targets: list[tuple[str, str, str]]) -> None:
    records: list[ReplicaRecord] = []
    health: dict[str, Health] = {}
    for k, ((workload, spec, gpu), phase, condition) in enumerate(running):
        made = record(workload, k, 8000 + 3 * k, spec=spec, device=gpu, phase=phase)
        records.append(made)
        health[made.token] = cast(Health, condition)
    placed = [wanted(*place, replica) for replica, place in enumerate(targets)]
    changes = compare(deployment(*records), placed, health, mps=False)

    # Every record has exactly one fate, every target exactly one server.
    fates = (
        [r.token for r, _ in changes.clean] + [r.token for _, r in changes.keep] + [r.token for r, _ in changes.stop]
    )
    assert sorted(fates) == sorted(record.token for record in records)
    after = [entry for entry, _ in changes.start] + [entry for entry, _ in changes.keep]
    assert Counter(map(id, after)) == Counter(map(id, placed))
    for entry, kept in changes.keep:
        assert health[kept.token] == "ready"
        assert (kept.workload, kept.spec, kept.device) == (
            entry.target.workload,
            entry.target.spec,
            entry.device.uuid,
        )
    # What is ready and wanted stays.
    usable = Counter((r.workload, r.spec, r.device) for r in records if health[r.token] == "ready")
    assert len(changes.keep) == sum((usable & Counter(targets)).values())
    # What may still serve somebody is never stopped before the new servers are ready.
    assert all(isinstance(r, ReplicaRecord) for r, _ in changes.clean)
    for cleaned, _ in changes.clean:
        assert health[cleaned.token] == "gone" or cast(ReplicaRecord, cleaned).phase == "starting"
    assert changes.nothing == (not changes.clean and not changes.start and not changes.stop)

    # What is shown accounts for every target and every server that is not just cleaned up, once.
    differences = changes.differences()
    assert len([entry for entry in differences if entry.new is not None]) == len(placed)
    assert len([entry for entry in differences if entry.old is not None]) == len(records) - len(changes.clean)
    numbers = counts(differences)
    assert numbers["keep"] == len(changes.keep)
    assert numbers["start"] + numbers["change"] == len(changes.start)
    assert numbers["stop"] + numbers["change"] == len(changes.stop)


def test_reasons_name_what_changed() -> None:
    state = deployment(record("A", 1, 8000), record("B", 1, 8003))
    health: dict[str, Health] = {entry.token: "ready" for entry in state.replicas}
    target = Target("A", 1, "m", "g", 4, 12.5, 100.0, 7, None, SOURCE, "", "b" * 64)
    changes = compare(state, [Placed(target, Device("one", "GPU-1", "V100"))], health, mps=False)
    assert [why for _, why in changes.start] == [
        "changed: batch 1 to 4, share 10 % to 12.5 %, queue delay 0 us to 7 us"
    ]
    assert [why for _, why in changes.stop] == ["replaced", "not in the plan"]
    actions = [(action.verb, action.what) for action in changes.actions()]
    assert actions == [("start", "g/A#1 (m, batch 4, 12.5 %)"), ("stop", "V100-1/A#1"), ("stop", "V100-1/B#1")]
    assert [(entry.mark, entry.placement, entry.why) for entry in changes.differences()] == [
        ("change", "g/A#1", ""),
        ("stop", "V100-1/B#1", "not in the plan"),
    ]


def test_marks_say_why_where_no_setting_differs() -> None:
    known = text_digest("")
    state = deployment(
        record("A", 1, 8000, config_digest=known), record("B", 1, 8003), record("C", 1, 8006), record("C", 2, 8009)
    )
    health: dict[str, Health] = dict.fromkeys((entry.token for entry in state.replicas), "ready")
    health[state.replicas[1].token] = "changed"
    health[state.replicas[2].token] = "gone"
    placed = [wanted("A", "a" * 64, "GPU-1", 1), wanted("B", "0" * 64, "GPU-1", 1), wanted("D", "0" * 64, "GPU-1", 1)]
    found = {entry.placement: entry for entry in compare(state, placed, health, mps=False).differences()}
    assert {name: (entry.mark, entry.why) for name, entry in found.items()} == {
        "g/A#1": ("change", "model files, memory or server program"),
        "g/B#1": ("change", "its server was changed by hand"),
        "g/D#1": ("start", ""),
        "V100-1/C#2": ("stop", "not in the plan"),
    }


def test_marks_of_replicas_more_and_less() -> None:
    state = deployment(record("A", 1, 8000), record("B", 1, 8003), record("B", 2, 8006))
    health: dict[str, Health] = dict.fromkeys((entry.token for entry in state.replicas), "ready")
    places = [("A", "a" * 64, 1), ("A", "a" * 64, 2), ("B", "0" * 64, 1)]
    placed = [wanted(workload, spec, "GPU-1", replica) for workload, spec, replica in places]
    found = compare(state, placed, health, mps=False).differences()
    assert [(entry.mark, entry.placement, entry.why) for entry in found] == [
        ("change", "g/A#1", "other settings in config.pbtxt"),
        ("start", "g/A#2", "one replica more"),
        ("keep", "g/B#1", "port 8003"),
        ("stop", "V100-1/B#2", "one replica less"),
    ]


def test_a_server_that_stays_under_another_share_says_why() -> None:
    """Only on the processor: there the share is no part of what a server is."""
    made = record("A", 0, 8000, spec=SPECS[0], device="GPU-1")
    same, other = (wanted("A", SPECS[0], "GPU-1", 0) for _ in range(2))
    same = replace(same, target=replace(same.target, share_percent=made.share_percent))
    other = replace(other, target=replace(other.target, share_percent=made.share_percent + 2.5))
    for placed, why in ((same, "port 8000"), (other, "a processor enforces no share, so its server stays; port 8000")):
        (entry,) = compare(deployment(made), [placed], {made.token: "ready"}, mps=False).differences()
        assert (entry.mark, entry.why) == ("keep", why)
