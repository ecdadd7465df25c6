"""How placements that shall be served differ from those that are: the terms of `deploy --dry-run` and of `diff`."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from igniter_opt.base.text import rounded

Mark = Literal["start", "change", "stop", "keep"]
MARKS: tuple[Mark, ...] = ("start", "change", "stop", "keep")


@dataclass(frozen=True)
class FieldChange:
    """One thing that changes, with its unit in both texts; None is nothing."""

    what: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        return f"{self.what} {self.old or 'none'} to {self.new or 'none'}"


@dataclass(frozen=True)
class ServedPlacement:
    """A placement as it is or shall be served (share in percent, rate in req/s, queue delay in us).

    Attributes
    ----------
    gpu
        What the plan calls its GPU.
    place
        What identifies the card: host and UUID, or between plans the GPU's name in the old one.
    """

    workload: str
    replica: int
    model: str
    gpu: str
    place: str
    batch: int
    share_percent: float
    rate_rps: float
    queue_delay_us: int

    @property
    def placement(self) -> str:
        """Name of the placement as in messages."""
        return f"{self.gpu}/{self.workload}#{self.replica}"

    @property
    def settings(self) -> tuple[object, ...]:
        """What a running server cannot change: two placements with the same are served alike."""
        return self.workload, self.model, self.batch, self.share_percent, self.queue_delay_us


def changed_fields(pairs: Iterable[tuple[str, object, object]], show: Callable[[Any], str] = str) -> list[FieldChange]:
    """Return what differs, given names with old and new values."""
    return [FieldChange(what, show(old), show(new)) for what, old, new in pairs if old != new]


def server_changes(old: ServedPlacement, new: ServedPlacement) -> list[FieldChange]:
    """Return why one server cannot stand for another: GPU, model, batch, share, queue delay."""
    return [
        *changed_fields(
            [("GPU", old.place, new.place), ("model", old.model, new.model), ("batch", old.batch, new.batch)]
        ),
        *changed_fields([("share", old.share_percent, new.share_percent)], lambda value: f"{rounded(value)} %"),
        *changed_fields([("queue delay", old.queue_delay_us, new.queue_delay_us)], lambda value: f"{value} us"),
    ]


@dataclass(frozen=True)
class PlacementDifference:
    """What becomes of one placement.

    Attributes
    ----------
    old, new
        What it is and what it shall be; None where there is none.
    why
        What the fields do not say.
    """

    mark: Mark
    old: ServedPlacement | None
    new: ServedPlacement | None
    why: str = ""

    @property
    def placement(self) -> str:
        """Name of the placement, in the new plan where it has one there."""
        entry = self.new or self.old
        return "" if entry is None else entry.placement

    @property
    def changes(self) -> list[FieldChange]:
        """What changes, the rate included, which a server need not be started anew for."""
        if self.old is None or self.new is None:
            return []
        rates = [("rate", self.old.rate_rps, self.new.rate_rps)]
        return [
            *server_changes(self.old, self.new),
            *changed_fields(rates, lambda value: f"{rounded(value)} req/s"),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "mark": self.mark,
            "placement": self.placement,
            "old": None if self.old is None else asdict(self.old),
            "new": None if self.new is None else asdict(self.new),
            "changes": [asdict(change) for change in self.changes],
            "why": self.why,
        }


def counts(differences: Iterable[PlacementDifference]) -> dict[Mark, int]:
    """Return how many placements have which mark."""
    marks = [difference.mark for difference in differences]
    return {mark: marks.count(mark) for mark in MARKS}


def successors(old: Sequence[ServedPlacement], new: Sequence[ServedPlacement]) -> list[tuple[int, int]]:
    """Pair placements that go with those that come: of one workload, those that are most alike.

    Returns
    -------
    list
        Positions in `old` and `new`, in the order of `new`.
    """
    by_workload: dict[str, list[int]] = {}
    for position, entry in enumerate(old):
        by_workload.setdefault(entry.workload, []).append(position)
    pairs = []
    for position, entry in enumerate(new):
        left = by_workload.get(entry.workload, [])
        if left:
            best = min(left, key=lambda k: (len(server_changes(old[k], entry)), old[k].replica != entry.replica))
            left.remove(best)
            pairs.append((best, position))
    return pairs
