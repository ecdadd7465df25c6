"""Ways to share a card: what it grants, whether a set of grants fits, and who disturbs whom.

There are two, the rows of `SHARING`. Under MPS a grant is a share of the SMs, and all that run on the card disturb
each other (`interference`). Under MIG it is a slice at a slot, which nobody outside of it disturbs; what happens
inside, where `processes` equal processes of one model run under MPS, is measured (`slices`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

from igniter_opt.physics.mig_cards import MEMORY_SLOTS, SEVENTHS, MigCard, Slice
from igniter_opt.physics.parameters import HardwareCoefficients

_ROUNDING, _PART_OF_UNIT = 1e-9, 1e-6
GrantT = TypeVar("GrantT")


class Misfit(NamedTuple):
    """What is wrong with a grant, or (`grant` None) with all of a card together: the kind, and in words."""

    kind: str
    grant: int | None
    message: str


class Sharing(ABC, Generic[GrantT]):
    """A way to share one kind of card.

    Attributes
    ----------
    name, words
        What profiles call the way, and what reports do.
    """

    name: str
    words: str

    @abstractmethod
    def misfits(self, grants: Sequence[GrantT]) -> Iterator[Misfit]:
        """Yield why a card cannot grant all of these; nothing where it can."""

    @abstractmethod
    def disturbed_by(self, grants: Sequence[GrantT], which: int) -> list[int]:
        """Return which of the others disturb one of the grants."""


class MpsShares(Sharing[float]):
    """Shares of the SMs, in percent, under MPS."""

    name, words = "mps", "shares under MPS"

    def __init__(self, hardware: HardwareCoefficients) -> None:
        self.hardware = hardware

    def misfits(self, grants: Sequence[float]) -> Iterator[Misfit]:
        """Yield shares that are no multiple of the unit or out of range, and a sum of more than the card."""
        for number, share in enumerate(grants):
            yield from (Misfit("share", number, message) for message in self.wrong_share(share))
        total = sum(grants)
        if total > 100 * (1 + _ROUNDING):
            yield Misfit("share", None, f"the shares add up to {total:g} %, more than 100 %")

    def wrong_share(self, share: float) -> Iterator[str]:
        """Yield what is wrong with one share by itself."""
        unit, least = self.hardware.share_unit_percent, self.hardware.least_level
        levels = share / unit
        if not 0 < share <= 100 * (1 + _ROUNDING):
            yield f"share {share:g} % is not in (0, 100]"
        elif abs(levels - round(levels)) > _PART_OF_UNIT or round(levels) < 1:
            yield f"share {share:g} % is no multiple of the share unit {unit:g} %"
        elif round(levels) < least:
            yield f"share {share:g} % is below the least that the card grants, {least * unit:g} %"

    def disturbed_by(self, grants: Sequence[float], which: int) -> list[int]:
        """Return all others."""
        return [number for number in range(len(grants)) if number != which]


class Cut(NamedTuple):
    """A slice by its name, and the memory slot at which it begins."""

    slice: str
    slot: int


class MigSlices(Sharing[Cut]):
    """Slices of a card under MIG."""

    name, words = "mig", "slices under MIG"

    def __init__(self, card: MigCard) -> None:
        self.card = card

    def misfits(self, grants: Sequence[Cut]) -> Iterator[Misfit]:
        """Yield slices that the card does not have, slots at which they cannot begin, and overlaps."""
        taken: dict[int, int] = {}
        sevenths = 0
        for number, cut in enumerate(grants):
            kind = self.card.slice(cut.slice)
            if kind is None:
                names = ", ".join(entry.name for entry in self.card.slices)
                yield Misfit("slice", number, f"card {self.card.key} has no slice {cut.slice!r} (its slices: {names})")
                continue
            if cut.slot not in kind.starts:
                slots = ", ".join(map(str, kind.starts))
                yield Misfit("geometry", number, f"a {kind.name} cannot begin at slot {cut.slot}, only at {slots}")
                continue
            sevenths += kind.sevenths
            clash = next((taken[slot] for slot in kind.occupied(cut.slot) if slot in taken), None)
            if clash is not None:
                other = grants[clash]
                yield Misfit(
                    "geometry", number, f"{kind.name} at slot {cut.slot} overlaps {other.slice} at slot {other.slot}"
                )
            for slot in kind.occupied(cut.slot):
                taken.setdefault(slot, number)
        if sevenths > SEVENTHS:
            yield Misfit("geometry", None, f"its slices take {sevenths} sevenths of the SMs")

    def disturbed_by(self, grants: Sequence[Cut], which: int) -> list[int]:
        """Return nobody."""
        return []


SHARING: dict[str, type[Sharing[float]] | type[Sharing[Cut]]] = {"mps": MpsShares, "mig": MigSlices}
"""All ways by the name that profiles call them."""


# ---- geometries -------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def geometries(card: MigCard) -> tuple[tuple[int, ...], ...]:
    """Return how many slices of each kind one card yields at once, for every choice that none other contains.

    What covers a demand of slices with a smaller choice covers it with a larger one, for the same price, so that the
    others are of no use. In the order of ``card.slices``.
    """
    found: set[tuple[int, ...]] = set()

    def extend(slot: int, counts: tuple[int, ...], sevenths: int) -> None:
        found.add(counts)
        for start in range(slot, MEMORY_SLOTS):
            for number, kind in enumerate(card.slices):
                fits = start in kind.starts and start + kind.slots <= MEMORY_SLOTS
                if fits and sevenths + kind.sevenths <= SEVENTHS:
                    more = tuple(count + (k == number) for k, count in enumerate(counts))
                    extend(start + kind.slots, more, sevenths + kind.sevenths)

    extend(0, (0,) * len(card.slices), 0)
    return tuple(sorted((counts for counts in found if not _contained(counts, found)), reverse=True))


def _contained(counts: tuple[int, ...], among: set[tuple[int, ...]]) -> bool:
    """Whether another choice has one slice more of some kind: choices that fit shrink one slice at a time."""
    return any(tuple(c + (k == one) for k, c in enumerate(counts)) in among for one in range(len(counts)))


@lru_cache(maxsize=4096)
def layout(card: MigCard, counts: tuple[int, ...]) -> tuple[Cut, ...] | None:
    """Return slots for so many slices of each kind on one card, by ascending slot; None where they do not fit."""

    def place(slot: int, left: tuple[int, ...], sevenths: int) -> tuple[Cut, ...] | None:
        if not any(left):
            return ()
        for start in range(slot, MEMORY_SLOTS):
            # The largest first, so that what stays free is in one piece.
            for number in reversed(range(len(left))):
                kind: Slice = card.slices[number]
                if not left[number] or start not in kind.starts or start + kind.slots > MEMORY_SLOTS:
                    continue
                if sevenths + kind.sevenths > SEVENTHS:
                    continue
                rest = tuple(count - (k == number) for k, count in enumerate(left))
                found = place(start + kind.slots, rest, sevenths + kind.sevenths)
                if found is not None:
                    return (Cut(kind.name, start), *found)
        return None

    return place(0, counts, 0)
