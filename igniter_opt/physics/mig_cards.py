"""The one table of cards that MIG cuts: which slices each has, where a slice may begin, what it holds.

Source: NVIDIA's Multi-Instance GPU User Guide (supported profiles and their placements,
https://docs.nvidia.com/datacenter/tesla/mig-user-guide/), and what ``nvidia-smi mig -lgip`` and ``-lgipp`` of such
cards print (SMs, memory). A card's memory has eight slots, its SMs come in sevenths. Slices with media
extensions (``+me``) are left out: inference takes none. None of these cards was at hand when this was written.
"""

from dataclasses import dataclass

MEMORY_SLOTS, SEVENTHS = 8, 7
_MIB_PER_GIB = 1024.0


@dataclass(frozen=True)
class Slice:
    """A kind of slice of a card.

    Attributes
    ----------
    name
        As ``nvidia-smi mig`` calls it, without ``MIG``: 3g.40gb has three sevenths of the SMs and about 40 GB.
    sevenths, slots, starts
        How many of the SMs' sevenths and of the memory's slots it takes, and at which slots it may begin.
    sms, memory_mib
        What it has.
    """

    name: str
    sevenths: int
    slots: int
    starts: tuple[int, ...]
    sms: int
    memory_mib: float

    @property
    def share_percent(self) -> float:
        """Its part of the card's SMs as plans count it: sevenths, in percent."""
        return 100.0 * self.sevenths / SEVENTHS

    def occupied(self, start: int) -> range:
        """Return the memory slots that it takes from a slot on."""
        return range(start, start + self.slots)


@dataclass(frozen=True)
class MigCard:
    """A card that MIG cuts into slices.

    Attributes
    ----------
    key
        What profiles call it.
    gpu
        The maker's name, in words that its product names have.
    memory_gb, sms
        By which nearly equal cards are told apart; SMs that slices can have in all (a whole card without MIG may have
        more).
    """

    key: str
    gpu: str
    memory_gb: int
    sms: int
    slices: tuple[Slice, ...]

    def slice(self, name: str) -> Slice | None:
        """Return the slice of this name; None if the card has none."""
        return next((entry for entry in self.slices if entry.name == name), None)

    def slice_named(self, text: str) -> Slice | None:
        """Return the slice that people mean by ``3g.40gb``, ``3g`` or ``3``: of several the one with least memory."""
        short = text.strip().lower().removeprefix("mig ").removeprefix("mig-")
        short = f"{short}g" if short.isdigit() else short
        return self.slice(short) or next((entry for entry in self.slices if entry.name.split(".")[0] == short), None)


# Where slices of so many sevenths begin; those with more memory than sevenths begin where two slots are free.
_STARTS = {1: tuple(range(7)), 2: (0, 2, 4), 3: (0, 4), 4: (0,), 7: (0,)}
_ROOMY_STARTS = (0, 2, 4, 6)
_SLOTS = {1: 1, 2: 2, 3: 4, 4: 4, 7: 8}


def _card(key: str, gpu: str, memory_gb: int, rows: tuple[tuple[str, int, float], ...]) -> MigCard:
    """Build a card of rows (slice, SMs, GiB); the second slice of one seventh is the one with two slots."""
    slices: list[Slice] = []
    for name, sms, gib in rows:
        sevenths = int(name[0])
        roomy = any(entry.sevenths == sevenths for entry in slices)
        starts = _ROOMY_STARTS if roomy else _STARTS[sevenths]
        slots = 2 * _SLOTS[sevenths] if roomy else _SLOTS[sevenths]
        slices.append(Slice(name, sevenths, slots, starts, sms, gib * _MIB_PER_GIB))
    return MigCard(key, gpu, memory_gb, slices[-1].sms, tuple(slices))


_CARDS = (
    _card(
        "a100-40gb",
        "A100",
        40,
        (
            ("1g.5gb", 14, 4.75),
            ("1g.10gb", 14, 9.75),
            ("2g.10gb", 28, 9.75),
            ("3g.20gb", 42, 19.62),
            ("4g.20gb", 56, 19.62),
            ("7g.40gb", 98, 39.5),
        ),
    ),
    _card(
        "a100-80gb",
        "A100",
        80,
        (
            ("1g.10gb", 14, 9.5),
            ("1g.20gb", 14, 19.5),
            ("2g.20gb", 28, 19.5),
            ("3g.40gb", 42, 39.25),
            ("4g.40gb", 56, 39.25),
            ("7g.80gb", 98, 78.75),
        ),
    ),
    _card(
        "h100-80gb",
        "H100",
        80,
        (
            ("1g.10gb", 16, 9.62),
            ("1g.20gb", 26, 19.5),
            ("2g.20gb", 32, 19.5),
            ("3g.40gb", 60, 39.25),
            ("4g.40gb", 64, 39.25),
            ("7g.80gb", 132, 78.75),
        ),
    ),
    _card(
        "h200-141gb",
        "H200",
        141,
        (
            ("1g.18gb", 16, 16.0),
            ("1g.35gb", 26, 32.5),
            ("2g.35gb", 32, 32.5),
            ("3g.71gb", 60, 69.5),
            ("4g.71gb", 64, 69.5),
            ("7g.141gb", 132, 139.5),
        ),
    ),
)
MIG_CARDS: dict[str, MigCard] = {card.key: card for card in _CARDS}
"""All of them by their key."""
