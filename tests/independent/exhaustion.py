"""The cheapest plan by trying all: replica counts, partitions into GPUs, types, batches and shares.

The judge's formulas alone say what is feasible. Nothing is left out but

- for rules half and deadline, a batch and share that another can replace in any plan (`_replaceable`), and sets of
  which a part does not fit (`_fits_less`); both rest on the model being monotone, which `monotone` checks number by
  number. Where it is not, or under rule p99, all batches and shares are tried.

Rounding: coefficients fitted by another route differ in their last digits. So every search finds two optima: of plans
that hold with `tolerance` to spare, and of plans that hold if this much is forgiven. What solvers say must lie between.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from tests.independent.cards import Card
from tests.independent.judge import (
    Neighbours,
    Place,
    added_delay,
    batch_times,
    cache,
    feedback,
    gpu_latency,
    keeps_percentile,
    latency_limit,
    loading,
    power,
    strain,
    traffic,
)
from tests.independent.partial import kept_to_limits


class Item(NamedTuple):
    """One replica: its workload's model and SLO, its own rate per second."""

    model: str
    slo: float
    rate: float


@dataclass
class Choice:
    """One batch and level of an item, with all that it brings to a GPU."""

    place: Place
    level: int
    power: float
    cache: float
    traffic: float
    memory: float
    ratios: tuple[float, ...] = ()


class Plans(NamedTuple):
    """An optimum: cost per hour and, at that cost, least total share in percent; None if there is no plan."""

    cost: Fraction
    share: float


@dataclass
class Optima:
    """Least plans that hold with the tolerance to spare, and that hold if it is forgiven.

    `kept`, under rule p99: of plans that keep to the solvers' limits on the safe side, with `LIMITS` to spare; else
    it is `spared`.
    """

    spared: Plans | None
    forgiven: Plans | None
    kept: Plans | None


# Solvers find their limits of rule p99 from below to 3e-4 (docs: percentile_rule).
LIMITS = 4e-4
_KINDS = ("spared", "forgiven", "kept")


@dataclass
class Search:
    """One instance (an instance file's content with profiles inside) and its cards."""

    instance: dict[str, Any]
    cards: list[Card]
    margin: float = 0.0
    tolerance: float = 1e-8
    shares: dict[tuple[int, tuple[Item, ...]], dict[str, int | None]] = field(default_factory=dict)
    choices: dict[tuple[int, Item], list[Choice]] = field(default_factory=dict)
    judged: dict[tuple[Any, ...], dict[str, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rule = self.instance.get("slo_rule", "half")
        self.q = self.instance.get("percentile") or 0.99
        self.types = self.instance["gpu_types"]
        used = {workload["model"] for workload in self.instance["workloads"]}
        self.monotone = [monotone(card, used) for card in self.cards]

    # ---- one GPU ----------------------------------------------------------------------------------------------

    def memory(self, g: int) -> float:
        own = self.types[g].get("memory_mib") or self.cards[g].memory
        return math.inf if own is None else float(own)

    def choices_of(self, g: int, item: Item) -> list[Choice]:
        """All batches and levels of an item on a type; under half and deadline less what is replaceable."""
        key = (g, item)
        if key not in self.choices:
            card = self.cards[g]
            found: list[Choice] = []
            model = card.models[item.model]
            for level in range(card.least_level, card.levels + 1):
                for batch in range(1, model.max_batch + 1):
                    place = Place(model, batch, round(level * card.unit, 9))
                    memory = model.memory(batch)
                    if memory > self.memory(g) or not math.isfinite(model.active(batch, place.share)):
                        continue
                    choice = Choice(place, level, power(place), cache(place), traffic(place), memory)
                    if self.rule != "p99" and self.monotone[g]:
                        # Alone it suffers least (see `_fits_less`).
                        alone = Neighbours(0, 0.0, 0.0, 0.0)
                        if self.strain(g, item, place, alone) > 1.0 + self.tolerance:
                            continue
                        choice.ratios = self._ratios(g, item, choice)
                        if any(_replaceable(choice, other) for other in found):
                            continue
                        found = [other for other in found if not _replaceable(other, choice)]
                    found.append(choice)
            self.choices[key] = found
        return self.choices[key]

    def strain(self, g: int, item: Item, place: Place, beside: Neighbours) -> float:
        return strain(self.cards[g], self.rule, item.slo, item.rate, place, beside, self.margin)

    def _ratios(self, g: int, item: Item, choice: Choice) -> tuple[float, ...]:
        """How much of an item's room its own terms take: constant ones, and per unit of all it can suffer from."""
        card, place = self.cards[g], choice.place
        model = place.model
        alone, whole = model.active(place.batch, place.share), model.active(place.batch, 100.0)
        back = feedback(card, place)
        room = latency_limit(self.rule, item.slo, item.rate, place.batch) - loading(card, place) - back
        room = min(room, 1000.0 * place.batch / item.rate - back)
        suffered = [
            (per_active * alone + per_kernel * model.kernels + per_whole * whole) / room
            for per_active, per_kernel, per_whole in (model.suffers, model.suffers_traffic)
        ]
        caused = (choice.level, choice.power, choice.cache, choice.traffic, choice.memory)
        return (*caused, (model.delay + alone) / room, 1.0 / room, *suffered)

    def least_levels(self, g: int, items: tuple[Item, ...]) -> dict[str, int | None]:
        """Least total level of the items together on one GPU, of each kind of optimum; None if they do not fit."""
        key = (g, items)
        if key not in self.shares:
            self.shares[key] = self._search(g, items)
        return self.shares[key]

    def _search(self, g: int, items: tuple[Item, ...]) -> dict[str, int | None]:
        best: dict[str, int | None] = dict.fromkeys(_KINDS)
        if any(item.model not in self.cards[g].models for item in items):
            return best
        if self.rule != "p99" and self.monotone[g] and len(items) > 2 and not self._fits_less(g, items):
            return best
        levels = self.cards[g].levels
        by_level: list[dict[int, list[Choice]]] = []
        for item in items:
            table: dict[int, list[Choice]] = {}
            for choice in self.choices_of(g, item):
                table.setdefault(choice.level, []).append(choice)
            by_level.append(table)
        for total in range(len(items), levels + 1):
            for split in _splits(total, [sorted(table) for table in by_level]):
                for chosen in itertools.product(*(table[level] for table, level in zip(by_level, split, strict=True))):
                    if best["forgiven"] is not None and best["spared"] is not None and best["kept"] is not None:
                        return best
                    for kind, holds in self._holds(g, items, chosen, best).items():
                        if holds and best[kind] is None:
                            best[kind] = total
        return best

    def _fits_less(self, g: int, items: tuple[Item, ...]) -> bool:
        """Whether every set with one item less fits.

        Take one placement off a GPU that holds. What the others have stays as it is: n, and with it Δ(n), is no
        larger, and so are the sums of cache use, traffic and power, since no placement's is negative; the slow-downs
        are non-negative multiples of these, and φ falls with power. So no latency grows, and all still hold.
        """
        return all(self.least_levels(g, items[:k] + items[k + 1 :])["forgiven"] is not None for k in range(len(items)))

    def _holds(
        self, g: int, items: tuple[Item, ...], chosen: tuple[Choice, ...], best: dict[str, int | None]
    ) -> dict[str, bool]:
        """Whether placements hold together, for the kinds of optimum that are not found yet."""
        wanted = {kind: True for kind in _KINDS if best[kind] is None}
        if math.fsum(choice.memory for choice in chosen) > self.memory(g):
            return {}
        for k, (item, own) in enumerate(zip(items, chosen, strict=True)):
            others = [choice for j, choice in enumerate(chosen) if j != k]
            beside = Neighbours(
                len(others),
                math.fsum(choice.cache for choice in others),
                math.fsum(choice.traffic for choice in others),
                math.fsum(choice.power for choice in others),
            )
            found = self._one_holds(g, item, own, beside)
            wanted = {kind: holds and found[kind] for kind, holds in wanted.items()}
            if not any(wanted.values()):
                break
        return wanted

    def _one_holds(self, g: int, item: Item, own: Choice, beside: Neighbours) -> dict[str, bool]:
        if self.rule != "p99":
            taken = self.strain(g, item, own.place, beside)
            spared = taken <= 1.0 - self.tolerance
            return {"spared": spared, "forgiven": taken <= 1.0 + self.tolerance, "kept": spared}
        key = (g, item, own.place.batch, own.level, *beside)
        if key not in self.judged:
            card, place = self.cards[g], own.place
            times = batch_times(card, place, beside, self.margin)
            found = {}
            for kind, sign in (("forgiven", 1.0), ("spared", -1.0)):
                found[kind] = found.get("forgiven", True) and keeps_percentile(
                    item.slo, self.q, item.rate, times, sign * self.tolerance
                )
            full = gpu_latency(card, place, beside) * (1.0 + LIMITS)
            safe = kept_to_limits(card, place, full, self.margin) if found["spared"] else None
            found["kept"] = safe is not None and keeps_percentile(item.slo, self.q, item.rate, safe, -self.tolerance)
            self.judged[key] = found
        return self.judged[key]

    # ---- all GPUs ---------------------------------------------------------------------------------------------

    def run(self) -> Optima:
        """Try all."""
        best: dict[str, Plans | None] = dict.fromkeys(_KINDS)
        demands = self.instance["workloads"]
        prices = [Fraction(str(gpu["price_per_hour"])) for gpu in self.types]
        for counts in itertools.product(*(range(1, (w.get("max_replicas") or 1) + 1) for w in demands)):
            items = [
                Item(w["model"], w["slo_ms"], w["rate_rps"] / n)
                for w, n in zip(demands, counts, strict=True)
                for _ in range(n)
            ]
            for partition in partitions(len(items)):
                blocks = [tuple(sorted(items[k] for k in block)) for block in partition]
                for types in itertools.product(range(len(self.types)), repeat=len(blocks)):
                    used = Counter(types)
                    if any(used[g] > (gpu.get("count") or math.inf) for g, gpu in enumerate(self.types)):
                        continue
                    cost = sum((prices[g] for g in types), Fraction(0))
                    for kind in _KINDS:
                        if (known := best[kind]) is not None and cost > known.cost:
                            continue
                        levels = [self.least_levels(g, block)[kind] for g, block in zip(types, blocks, strict=True)]
                        if any(level is None for level in levels):
                            continue
                        units = zip(types, levels, strict=True)
                        share = math.fsum((level or 0) * self.cards[g].unit for g, level in units)
                        if known is None or (cost, share) < known:
                            best[kind] = Plans(cost, share)
        return Optima(**best)


def _splits(total: int, allowed: list[list[int]]) -> Iterator[tuple[int, ...]]:
    """All ways to take one level of each list with this sum."""
    if len(allowed) == 1:
        if total in allowed[0]:
            yield (total,)
        return
    for level in allowed[0]:
        if level < total:
            for rest in _splits(total - level, allowed[1:]):
                yield (level, *rest)


def partitions(count: int) -> Iterator[list[list[int]]]:
    """All ways to put 0 .. count - 1 into groups."""
    if count == 0:
        yield []
        return
    for smaller in partitions(count - 1):
        yield [*smaller, [count - 1]]
        for k in range(len(smaller)):
            yield [[*group, count - 1] if j == k else group for j, group in enumerate(smaller)]


def _replaceable(one: Choice, other: Choice) -> bool:
    """Whether `other` can take the place of `one` on any GPU that holds, at no larger share.

    With `other` the neighbours' rows are no harder, as its power, cache use, traffic and memory are no larger. Its own
    requirement, divided by the room L that its limit leaves, reads
    ``(s + k)/L + Δ K/L + (C - c) e/L + (D - d) e'/L ≤ φ``: every coefficient on the left is no larger, what they are
    multiplied by is that of the neighbours and not negative, and φ is no smaller since its power is no larger.
    """
    return all(theirs <= own for own, theirs in zip(one.ratios, other.ratios, strict=True))


def monotone(card: Card, used: set[str]) -> bool:
    """Whether neighbours never help: everything caused and suffered is non-negative, and the clock falls with power."""
    if card.clock_slope > 0 or card.delay_slope < 0 or added_delay(card, 2) < 0:
        return False
    for name in used & set(card.models):
        model = card.models[name]
        if min(*model.suffers, *model.suffers_traffic) < 0:
            return False
        for level in range(card.least_level, card.levels + 1):
            for batch in range(1, model.max_batch + 1):
                place = Place(model, batch, level * card.unit)
                if (
                    math.isfinite(model.active(batch, place.share))
                    and min(power(place), cache(place), traffic(place)) < 0
                ):
                    return False
    return True
