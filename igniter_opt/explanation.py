"""What `explain` finds about placements, as data and in words."""

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from igniter_opt.base.display import Shown
from igniter_opt.base.frames import frame
from igniter_opt.base.schema import in_short, summary
from igniter_opt.base.text import rounded
from igniter_opt.slo.rules import proven_within

if TYPE_CHECKING:
    import pandas as pd

Limiting = Literal["latency", "throughput", "memory", "model"]
ChangeKind = Literal["share", "batch", "gpu", "type"]
# What binds where the predictor would allow less than a proof that rests on a rule's safe limits.
SAFE_LIMITS = "safe limits"
# Of what a change would break, in words.
_MOST_SHOWN = 3
# What holds for every answer, said once.
CONDITIONS = (
    "Every answer is the predictor's, for one change at a time with all other placements as they are; changed together"
    " more may hold, which is what `solve` searches. That a placement stands here does not prove that it must."
)


@dataclass(frozen=True)
class Shortfall:
    """By how much something misses.

    Attributes
    ----------
    kind
        ``latency`` (ms), ``throughput`` (req/s), ``memory`` (MiB) or ``model`` (not profiled).
    workload
        Whose latency or throughput it is; None where it is the GPU's.
    value, limit
        What it would be, with the plan's margin, and what it may be at most (throughput: at least).
    """

    kind: Limiting
    workload: str | None
    value: float
    limit: float

    @property
    def words(self) -> str:
        """The same in words."""
        value, limit, by = (rounded(entry) for entry in (self.value, self.limit, abs(self.value - self.limit)))
        match self.kind:
            case "latency" if not math.isfinite(self.value):
                return f"{self.workload} would have a latency without bound, its limit is {limit} ms"
            case "latency":
                return f"{self.workload} would take {by} ms too long ({value}, limit {limit})"
            case "throughput":
                return f"{self.workload} would carry {by} req/s too few ({value} of {limit})"
            case "memory":
                return f"it would take {by} MiB too much memory ({value} of {limit})"
            case "model":
                return "its profile does not have the model"


@dataclass(frozen=True)
class Alternative:
    """One change of a placement and what comes of it.

    Attributes
    ----------
    kind
        ``share``: the next smaller share. ``batch``: another batch. ``gpu``: another GPU of the plan, others there as
        they are. ``type``: alone on an empty GPU of a type.
    place
        The GPU, or the type.
    batch, share_percent
        With which it holds at the least share, or misses by least; None where nothing was to be tried.
    holds, shortfalls
        Whether everything on that GPU holds; else what does not.
    price_per_hour
        Of that share of a GPU; for kind ``type`` only.
    none_left
        Whether the plan has all GPUs of the type that there are, so that it is no choice; for kind ``type`` only.
    """

    kind: ChangeKind
    place: str
    batch: int | None
    share_percent: float | None
    holds: bool
    shortfalls: tuple[Shortfall, ...] = ()
    price_per_hour: float | None = None
    none_left: bool = False

    @property
    def words(self) -> str:
        """What comes of it."""
        shown = [entry.words for entry in self.shortfalls[:_MOST_SHOWN]]
        more = len(self.shortfalls) - len(shown)
        return "holds" if self.holds else "; ".join(shown + [f"and {more} more"] * (more > 0))


@dataclass(frozen=True)
class NeighbourEffect:
    """What a neighbour adds to a latency (ms): now, less without that neighbour. The parts need not add up."""

    workload: str
    model: str
    added_ms: float


@dataclass(frozen=True)
class PlacementExplanation:
    """Why a placement is as it is.

    Attributes
    ----------
    workload
        Its name, ``name#2`` for the second replica.
    latency_ms, latency_with_margin_ms, limit_ms
        What the SLO rule limits; the limit is for the latency with the plan's margin.
    alone_ms
        The latency (with margin) at this batch and share without neighbours.
    predicted_throughput_rps, throughput_rps
        As in the plan, and with the plan's margin.
    binds
        What a smaller share would break: kinds of `Shortfall`, or ``least share`` of the card; ``safe limits`` if
        nothing by the predictor, but the plan's total share is proven least within the limits that solvers use under
        its rule; empty if nothing.
    batches
        All batches that hold at this share.
    alternatives
        One change at a time.
    unable_gpus, full_gpus, unexamined_gpus
        Other GPUs of the plan: of a type that does not hold it even alone; with less room than it needs; and with room,
        but not tried, as others have more.
    elsewhere_per_hour
        Least that the plan would cost more with this placement elsewhere: nothing in a GPU that has room, else the
        price of another GPU, less that of its own where it leaves none behind; None where neither can be had.
    """

    gpu: str
    type: str
    workload: str
    model: str
    batch: int
    share_percent: float
    share_unit_percent: float
    rate_rps: float
    slo_ms: float
    latency_ms: float
    latency_with_margin_ms: float
    limit_ms: float
    alone_ms: float
    predicted_throughput_rps: float
    throughput_rps: float
    holds: bool
    binds: tuple[str, ...]
    batches: tuple[int, ...]
    neighbours: tuple[NeighbourEffect, ...]
    alternatives: tuple[Alternative, ...]
    unable_gpus: int
    full_gpus: int
    unexamined_gpus: int
    elsewhere_per_hour: float | None

    def of_kind(self, kind: ChangeKind) -> list[Alternative]:
        """Return the alternatives of a kind."""
        return [entry for entry in self.alternatives if entry.kind == kind]

    @property
    def binding(self) -> str:
        """What binds, in words."""
        if not self.holds:
            return "the placement does not hold"
        if self.binds in ((), (SAFE_LIMITS,)):
            smaller = self.of_kind("share")[0]
            would = f"{rounded(smaller.share_percent or 0)} % with batch {smaller.batch} would hold"
            if not self.binds:
                return f"nothing: {would}, too"
            return (
                f"{SAFE_LIMITS}: {would} by the exact analysis, but the limits that solvers use under this rule, on the"
                " safe side, do not admit it (the total share is proven least within them)"
            )
        if self.binds == ("least share",):
            return "the least share that the card grants"
        unit = rounded(self.share_unit_percent)
        return f"{' and '.join(self.binds)}: one step of {unit} % less, and {self.of_kind('share')[0].words}"


@dataclass(frozen=True)
class Explanation(Shown):
    """What `explain` says of a plan's placements, or of one workload's."""

    instance: str
    method: str
    status: str
    rule: str
    latency_name: str
    margin: float
    currency: str
    placements: tuple[PlacementExplanation, ...]

    def __repr__(self) -> str:
        names = in_short(entry.workload for entry in self.placements)
        return summary("Explanation", instance=self.instance, method=self.method, placements=names)

    @property
    def origin(self) -> str:
        """Where the plan comes from and what that says about its placements."""
        within = proven_within(self.rule)
        proven = {
            "optimal": f"no plan costs less (proven{within}), but others may cost the same",
            "feasible": f"a cheaper plan may exist, down to the proven bound{f' ({within.strip()})' if within else ''}",
        }.get(self.status, "nothing is proven about its cost")
        margin = f", margin {self.margin:g}" if self.margin else ""
        return f"{self.instance}: placed by {self.method}, rule {self.rule}{margin}; {proven}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data (the form of ``explain --json``)."""
        data = asdict(self)
        for mine, entry in zip(data["placements"], self.placements, strict=True):
            mine["binding"] = entry.binding
            for inner, alternative in zip(mine["alternatives"], entry.alternatives, strict=True):
                inner["words"] = alternative.words
        return {**data, "conditions": CONDITIONS}

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per placement, its alternatives in numbers and words."""
        return frame(explanation_rows(self))


def explanation_rows(explanation: Explanation) -> list[dict[str, Any]]:
    """Return one row per placement."""
    return [
        {
            "GPU": entry.gpu,
            "type": entry.type,
            "workload": entry.workload,
            "model": entry.model,
            "batch": entry.batch,
            "share_percent": entry.share_percent,
            "latency_ms": entry.latency_ms,
            "latency_with_margin_ms": entry.latency_with_margin_ms,
            "limit_ms": entry.limit_ms,
            "alone_ms": entry.alone_ms,
            "rate_rps": entry.rate_rps,
            "throughput_rps": entry.throughput_rps,
            "binds": ", ".join(entry.binds) or ("nothing" if entry.holds else "does not hold"),
            "other_gpus_that_hold": sum(other.holds for other in entry.of_kind("gpu")),
            "elsewhere_per_hour": entry.elsewhere_per_hour,
        }
        for entry in explanation.placements
    ]


def room_elsewhere(entry: PlacementExplanation) -> str:
    """Say which other GPUs of the plan would hold a placement, and why the others would not."""
    others = entry.of_kind("gpu")
    holding = [other.place for other in others if other.holds]
    whole = len(others) + entry.full_gpus + entry.unable_gpus + entry.unexamined_gpus
    if not whole:
        return "none"
    reasons = {
        "with room, but it would not hold": len(others) - len(holding),
        "too full": entry.full_gpus,
        "of a type that does not hold it even alone": entry.unable_gpus,
        "not tried": entry.unexamined_gpus,
    }
    rest = [f"{number:,} {why}" for why, number in reasons.items() if number]
    return f"of {whole:,}, {in_short(holding) or 'none'} would hold it" + (f" ({', '.join(rest)})" if rest else "")
