"""Ways to share a card: what fits, and who disturbs whom."""

import re

import pytest

from igniter_opt.data.profile import read_profile
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.mig_cards import MIG_CARDS
from igniter_opt.physics.sharing import SHARING, Cut, MigSlices, MpsShares, geometries, layout
from tests.support.mig import NAMES, SLICES, cuts

A100 = MIG_CARDS["a100-80gb"]
# SMs of every slice, written down a second time.
SMS = {
    "A100": [14, 14, 28, 42, 56, 98],
    "H100": [16, 26, 32, 60, 64, 132],
    "H200": [16, 26, 32, 60, 64, 132],
}


def test_the_table_has_both_ways() -> None:
    assert list(SHARING) == ["mps", "mig"]


def test_under_mps_all_disturb_each_other_and_shares_add_up() -> None:
    shares = MpsShares(fit_coefficients(read_profile("v100")).hardware)
    assert not list(shares.misfits([50.0, 50.0]))
    assert [entry.message for entry in shares.misfits([60.0, 50.0])] == ["the shares add up to 110 %, more than 100 %"]
    assert [entry.grant for entry in shares.misfits([50.0, 0.1])] == [1]
    assert shares.disturbed_by([30.0, 30.0, 40.0], 1) == [0, 2]


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        ([Cut("3g.40gb", 0), Cut("3g.40gb", 4)], []),
        ([Cut("4g.40gb", 0), Cut("2g.20gb", 4), Cut("1g.10gb", 6)], []),
        ([Cut("3g.40gb", 0), Cut("2g.20gb", 2)], ["geometry"]),
        ([Cut("4g.40gb", 4)], ["geometry"]),
        ([Cut("3g.40gb", 2)], ["geometry"]),
        ([Cut("2g.20gb", 6)], ["geometry"]),
        ([Cut("1g.20gb", 1)], ["geometry"]),
        ([Cut("7g.80gb", 0), Cut("1g.10gb", 6)], ["geometry", "geometry"]),
        ([Cut("1g.10gb", 7)], ["geometry"]),
        ([Cut("5g.40gb", 0)], ["slice"]),
        ([Cut("1g.5gb", 0)], ["slice"]),
    ],
)
def test_slices_fit_or_not(given: list[Cut], kinds: list[str]) -> None:
    assert [entry.kind for entry in MigSlices(A100).misfits(given)] == kinds
    assert MigSlices(A100).disturbed_by(given, 0) == []


def test_geometries_are_the_choices_that_no_other_contains() -> None:
    assert tuple(kind.name for kind in A100.slices) == NAMES
    every = cuts()
    largest = {
        one
        for one in every
        if not any(one != two and all(a <= b for a, b in zip(one, two)) for two in every)  # noqa: B905
    }
    assert set(geometries(A100)) == largest
    for counts in every:
        found = layout(A100, counts)
        assert found is not None
        assert not list(MigSlices(A100).misfits(found))
        assert tuple(sum(cut.slice == name for cut in found) for name in NAMES) == counts
    assert layout(A100, (0, 0, 0, 1, 0, 1)) is None
    assert layout(A100, (0, 0, 2, 0, 1, 0)) is None


@pytest.mark.parametrize("card", MIG_CARDS.values(), ids=MIG_CARDS)
def test_cards_are_cut_alike(card) -> None:
    # Of the A100's slices the test has a second table; all cards have eight parts of memory and seven of SMs.
    assert [(kind.sevenths, kind.slots, kind.starts) for kind in card.slices] == list(SLICES.values())
    for kind in card.slices:
        words = re.fullmatch(r"(\d)g\.(\d+)gb", kind.name)
        assert words is not None
        assert int(words[1]) == kind.sevenths
        # Names round up; the driver keeps a part of every slice's memory.
        assert 0.85 * int(words[2]) <= kind.memory_mib / 1024 < int(words[2])
        assert 0.9 * card.memory_gb * kind.slots / 8 < kind.memory_mib / 1024 <= card.memory_gb * kind.slots / 8
        assert kind.sms <= card.sms
    assert [kind.sms for kind in card.slices] == SMS[card.gpu]
    assert len(geometries(card)) == len(geometries(A100))
    assert card.slice_named("3") == card.slice_named("3g") == card.slices[3]
    assert card.slice_named("5g") is None
    memory = [kind.memory_mib for kind in card.slices]
    assert memory == sorted(memory)
