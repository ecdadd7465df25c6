"""Placements that come are paired with those that go, the most alike first."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from igniter_opt.deploy.differences import PlacementDifference, ServedPlacement, counts, server_changes, successors


def served(workload: str = "A", place: str = "x", share: float = 10.0, **more: object) -> ServedPlacement:
    fields: dict[str, object] = {
        "workload": workload, "replica": 1, "model": "m", "gpu": place, "place": place, "batch": 1,
        "share_percent": share, "rate_rps": 100.0, "queue_delay_us": 0,
    }  # fmt: skip
    return ServedPlacement(**(fields | more))  # type: ignore[arg-type]


placements = st.lists(
    st.builds(served, st.sampled_from("ABC"), st.sampled_from("xyz"), st.sampled_from([10.0, 20.0])), max_size=7
)


@given(placements, placements)
def test_as_many_pairs_as_workloads_allow_and_each_placement_once(
    old: list[ServedPlacement], new: list[ServedPlacement]
) -> None:
    pairs = successors(old, new)
    assert len({k for k, _ in pairs}) == len({position for _, position in pairs}) == len(pairs)
    assert all(old[k].workload == new[position].workload for k, position in pairs)
    common = Counter(entry.workload for entry in old) & Counter(entry.workload for entry in new)
    assert Counter(new[position].workload for _, position in pairs) == common


def test_the_most_alike_are_paired() -> None:
    old = [served(place="x"), served(place="y", replica=2)]
    assert successors(old, [served(place="y", share=20.0)]) == [(1, 0)]
    assert successors(old, [served(place="z", replica=2)]) == [(1, 0)]
    assert successors(old, [served("B")]) == []


def test_what_changes_is_said_with_units() -> None:
    new = served(place="y", share=12.5, model="n", batch=4, queue_delay_us=7, rate_rps=50.0)
    assert list(map(str, server_changes(served(), new))) == [
        "GPU x to y",
        "model m to n",
        "batch 1 to 4",
        "share 10 % to 12.5 %",
        "queue delay 0 us to 7 us",
    ]
    kept = PlacementDifference("keep", served(), served(rate_rps=50.0))
    assert list(map(str, kept.changes)) == ["rate 100 req/s to 50 req/s"]
    assert counts([kept, kept, PlacementDifference("start", None, new)]) == {
        "start": 1,
        "change": 0,
        "stop": 0,
        "keep": 2,
    }
    assert kept.to_dict()["changes"] == [{"what": "rate", "old": "100 req/s", "new": "50 req/s"}]
