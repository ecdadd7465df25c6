"""Geometry of the report's charts, in percent of their width or height; the templates draw them as inline SVG."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from igniter_opt.base.text import counted, rounded
from igniter_opt.data.history import HistoryPoint
from igniter_opt.data.plan import Placement, Plan, PlanGpu
from igniter_opt.physics.mig_cards import MEMORY_SLOTS
from igniter_opt.report.palette import FILLS, TEXTURES, Paint
from igniter_opt.verify import PlacementCheck, Verification

# Names are written on bars up to this many GPUs; beyond it GPUs are drawn smaller and in columns.
MOST_LABELLED_GPUS = 40
_PIXELS_PER_CHARACTER, _WIDTH_PX = 7.2, 820.0
# An axis of costs spans at least this part of the highest, so that a tie does not look like a gap.
_LEAST_SPAN = 0.1


class Segment(NamedTuple):
    """A placement on a GPU's bar (percent of the bar): what is written on it, and its details in words.

    `label` and `model` are empty where there is no room for them.
    """

    left: float
    width: float
    paint: Paint
    label: str
    model: str
    details: str
    ok: bool


class Bar(NamedTuple):
    """A GPU: its segments, what is free (percent of the SMs), and everything in words.

    Slices under MIG stand where they are in the card's memory, which they take in eighths.
    """

    name: str
    type: str
    segments: list[Segment]
    free: float
    words: str


def replica_name(workload: str, replica: int) -> str:
    """Name a placement; the first replica has its workload's name."""
    return workload if replica == 1 else f"{workload}#{replica}"


def gpu_bars(plan: Plan, verification: Verification, paint: Mapping[str, Paint]) -> list[Bar]:
    """Return every GPU as a bar of shares, in the plan's order."""
    checks = iter(sorted_checks(plan, verification))
    return [_bar(plan, gpu, [next(checks) for _ in gpu.placements], paint) for gpu in plan.gpus]


def sorted_checks(plan: Plan, verification: Verification) -> list[PlacementCheck]:
    """Return the judged placements in the plan's order (`verify` puts unpredictable ones first)."""
    found: dict[tuple[str, str, int], list[PlacementCheck]] = {}
    for check in verification.placements:
        found.setdefault((check.gpu, check.workload, check.replica), []).append(check)
    return [found[gpu.name, entry.workload, entry.replica].pop(0) for gpu in plan.gpus for entry in gpu.placements]


def _bar(plan: Plan, gpu: PlanGpu, checks: Sequence[PlacementCheck], paint: Mapping[str, Paint]) -> Bar:
    segments, left, gpus = [], 0.0, len(plan.gpus)
    # Shares of a plan that does not hold may exceed the GPU: drawn to scale within the bar all the same.
    scale = 100.0 / max(100.0, gpu.total_share_percent)
    for check, placement in zip(checks, gpu.placements, strict=True):
        width = check.share_percent * scale
        if (at := slice_place(plan, gpu, placement)) is not None:
            left, width = at
        name = replica_name(check.workload, check.replica)
        labelled = gpus <= MOST_LABELLED_GPUS and _fits(name, width)
        segments.append(
            Segment(
                round(left, 3),
                round(width, 3),
                paint.get(check.model, Paint(len(FILLS) - 1, TEXTURES[-1])),
                name if labelled else "",
                check.model if labelled and _fits(f"{name} · {check.model}", width) else "",
                details(check) + slice_words(placement),
                check.ok,
            )
        )
        left += width
    free = max(0.0, 100.0 - gpu.total_share_percent)
    words = ", ".join(
        f"{replica_name(check.workload, check.replica)} {placement.slice or f'{rounded(check.share_percent)} %'}"
        for check, placement in zip(checks, gpu.placements, strict=True)
    )
    return Bar(gpu.name, gpu.type, segments, round(free, 3), f"{gpu.name}: {words}; {rounded(free)} % free")


def slice_place(plan: Plan, gpu: PlanGpu, placement: Placement) -> tuple[float, float] | None:
    """Return where a slice stands on its card, as left edge and width in percent of the memory; None: it is none."""
    if placement.slice is None or placement.slot is None:
        return None
    cards = {entry.name: entry.slice_profile.mig_card for entry in plan.instance.cut_types}
    kind = cards[gpu.type].slice(placement.slice) if gpu.type in cards else None
    slots = 1 if kind is None else kind.slots
    return 100.0 * placement.slot / MEMORY_SLOTS, 100.0 * slots / MEMORY_SLOTS


def slice_words(placement: Placement) -> str:
    """Say which slice a placement is, and how many processes run in it; nothing where it is none."""
    if placement.slice is None:
        return ""
    return f", {placement.slice} at slot {placement.slot}, {counted(placement.processes or 1, 'process', 'es')}"


def _fits(text: str, width: float) -> bool:
    return len(text) * _PIXELS_PER_CHARACTER + 10 <= width / 100 * _WIDTH_PX


def details(check: PlacementCheck) -> str:
    """Say everything about a placement in one line."""
    latency = "no latency"
    if math.isfinite(check.latency_ms):
        inflated = check.limit_ms - check.slack_ms
        margin = f" ({inflated:.2f} with margin)" if inflated > check.latency_ms * (1 + 1e-9) else ""
        latency = f"{check.latency_ms:.2f}{margin} of {check.limit_ms:.2f} ms"
    carries = f", can carry {check.throughput_rps:.1f}" if math.isfinite(check.throughput_rps) else ""
    return (
        f"{replica_name(check.workload, check.replica)}: {check.model}, batch {check.batch}, share"
        f" {rounded(check.share_percent)} %, latency {latency}, {check.rate_rps:g} req/s{carries}"
        + ("" if check.ok else " (violated)")
    )


class Histogram(NamedTuple):
    """Numbers of placements by latency as percent of the limit: bars of ten percent from 0."""

    bars: list[tuple[int, int, float]]
    most: int


def latency_histogram(verification: Verification) -> Histogram | None:
    """Count placements by how much of their latency limit they use; the last bar has all over the limit."""
    used = used_percents(verification.placements)
    if not used:
        return None
    # Latencies at their limits (relative 1e-9) are within it.
    counts = np.bincount([min(10, int(entry / (1 + 1e-9) // 10)) if entry > 0 else 0 for entry in used], minlength=11)
    within_limit = sum(1 for entry in used if 100 <= entry <= 100 * (1 + 1e-9))
    counts[9] += within_limit
    counts[10] -= min(within_limit, int(counts[10]))
    most = int(counts.max())
    return Histogram([(10 * k, int(count), 100.0 * count / most) for k, count in enumerate(counts)], most)


def used_percents(checks: Sequence[PlacementCheck]) -> list[float]:
    """Latencies (with the plan's margin) as percent of their limits, where they are finite."""
    found = [used_percent(check) for check in checks]
    return [entry for entry in found if entry is not None]


def used_percent(check: PlacementCheck) -> float | None:
    """Latency (with the plan's margin) as percent of its limit."""
    if not math.isfinite(check.slack_ms) or not check.limit_ms > 0:
        return None
    return 100.0 * (1.0 - check.slack_ms / check.limit_ms)


class Curve(NamedTuple):
    """Cost and bound over time: SVG paths in a square of 100 by 100, and labels of the axes in percent."""

    cost: str
    bound: str
    costs: list[tuple[float, str]]
    times: list[tuple[float, str]]


def proof_curve(points: Sequence[HistoryPoint], money: Any) -> Curve:
    """Draw the best plan's cost and the proven bound as steps; `money` formats a cost."""
    end = max(points[-1].elapsed_s, 1e-3)
    values = [
        value
        for point in points
        for value in (point.cost_per_hour, point.lower_bound_per_hour)
        if value is not None and value > 0
    ]
    low, high = min(values), max(values)
    low = min(low, (1.0 - _LEAST_SPAN) * high)
    pad = 0.08 * (high - low)
    low, high = low - pad, high + pad

    def y(value: float) -> float:
        return round(100.0 * (high - value) / (high - low), 2)

    def path(named: list[tuple[float, float | None]]) -> str:
        text, last = "", None
        for seconds, value in named:
            x = round(100.0 * seconds / end, 2)
            if value is None or value <= 0:
                continue
            text += f"M{x} {y(value)}" if last is None else f"H{x}V{y(value)}"
            last = value
        return text

    step = nice_step((high - low) / 4)
    costs = [(y(value), money(value)) for value in np.arange(math.ceil(low / step) * step, high, step).tolist()]
    tick = nice_step(end / 5)
    times = [
        (round(100.0 * value / end, 2), f"{value:g} s") for value in np.arange(0, end * 1.0001, tick).round(9).tolist()
    ]
    return Curve(
        path([(point.elapsed_s, point.cost_per_hour) for point in points]),
        path([(point.elapsed_s, point.lower_bound_per_hour) for point in points]),
        costs,
        times,
    )


def nice_step(least: float) -> float:
    """Return the least of 1, 2, 2.5, 5 times a power of ten that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(max(least, 1e-9)))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= least * (1 - 1e-9))
