"""The report as one HTML page: numbers put into words and tables, charts drawn by the templates."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jinja2

from igniter_opt.base.kinds import REPORT_MARK
from igniter_opt.data.plan import Plan
from igniter_opt.data.slice_profile import UNTOUCHED, SliceProfile
from igniter_opt.data.verdict import FEWEST_BEYOND
from igniter_opt.deploy.approval import plan_digest
from igniter_opt.problem.costs import common_step
from igniter_opt.report import palette
from igniter_opt.report.charts import (
    MOST_LABELLED_GPUS,
    gpu_bars,
    latency_histogram,
    proof_curve,
    replica_name,
    slice_words,
    sorted_checks,
    used_percent,
)
from igniter_opt.report.findings import HOURS_PER_MONTH, Baseline, Findings
from igniter_opt.report.measured import MeasuredFile, MeasuredWorkload
from igniter_opt.sensitivity import (
    GROWTH_PERCENT,
    RATE_CHANGES_PERCENT,
    SLO_CHANGES_PERCENT,
    Change,
    Sensitivity,
    WorkloadChanges,
)
from igniter_opt.slo.rules import proven_within, rule_of
from igniter_opt.verify import PlacementCheck

# Stands near the top of every page; by it a page of ours is known.
_COLUMNS = [
    *(("slo", percent) for percent in SLO_CHANGES_PERCENT),
    *(("rate", percent) for percent in RATE_CHANGES_PERCENT),
]
_MOST_SUGGESTIONS = 6
# Measured latencies over SLO are drawn on a logarithmic scale from here to a power of ten.
_LEAST_OVER = 0.1


def render_page(findings: Findings) -> str:
    """Return the page: complete without scripts, and without anything to be fetched."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("igniter_opt.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    money = _Money(findings.plan)
    environment.filters |= {"money": money, "number": _number, "count": "{:,}".format}
    plan = findings.plan
    models = sorted({placement.model for gpu in plan.gpus for placement in gpu.placements})
    paint = palette.paints(models)
    bars = gpu_bars(plan, findings.verification, paint)
    checks = sorted_checks(plan, findings.verification)
    return environment.get_template("report.html").render(
        findings=findings,
        plan=plan,
        generator=REPORT_MARK,
        digest=plan_digest(plan),
        palette=palette,
        hours=HOURS_PER_MONTH,
        month=plan.solver.cost_per_hour * HOURS_PER_MONTH,
        verdict=_verdict(findings),
        proof=_proof(plan, money),
        rule=_rule(plan),
        latency_name=rule_of(plan.instance).latency_name,
        headlines=_headlines(findings),
        cheaper=_cheaper(findings),
        baselines=[_baseline(entry, findings) for entry in findings.baselines],
        curve=None if findings.history is None else proof_curve(findings.history.points, money),
        bars=bars,
        types=_types(plan),
        why_cards=_why_cards(findings, money),
        compact=len(bars) > MOST_LABELLED_GPUS,
        free=100.0 * len(bars) - plan.total_share_percent,
        legend=[(model, paint[model]) for model in models],
        histogram=latency_histogram(findings.verification),
        placements=_placements(plan, checks),
        cut=bool(plan.instance.cut_types),
        workloads=_workloads(findings, checks),
        measured=[_measured(entry, findings, checks) for entry in findings.measurements],
        study=None if findings.sensitivity is None else _study(findings.sensitivity, plan, money),
    )


class _Money:
    """Formats costs with the decimals that the prices have, at least two."""

    def __init__(self, plan: Plan) -> None:
        step = common_step([gpu.price_per_hour for gpu in plan.instance.gpu_types])
        self.digits = max(2, -int(step.normalize().as_tuple().exponent))

    def __call__(self, value: float) -> str:
        return f"{value:,.{self.digits}f}".replace("-", "−")


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}".replace("-", "−")


def _rule(plan: Plan) -> str:
    margin, headroom = plan.solver.margin, plan.instance.headroom_words
    return (
        rule_of(plan.instance).words
        + (f"; GPU latencies are taken {100 * margin:g} % longer than predicted" if margin else "")
        + (f"; rates are planned {headroom} higher than said, and placements carry those" if headroom else "")
        + _slices(plan)
    )


def _slices(plan: Plan) -> str:
    """Say of cards under MIG where their numbers come from, and how far they were tried."""
    profiles = {gpu.slice_profile.name: gpu.slice_profile for gpu in plan.instance.cut_types}
    if not profiles:
        return ""
    names = ", ".join(name + _how_read(entry) for name, entry in profiles.items())
    return f"; slices under MIG are planned by the readings of profile {names}, and {UNTOUCHED}"


def _how_read(profile: SliceProfile) -> str:
    if profile.synthetic:
        return " (synthetic)"
    step = profile.latency_resolution_ms
    return f" (latencies read to {step:g} ms: less than that left to a limit may miss it)" if step else ""


def _verdict(findings: Findings) -> str:
    plan, verification = findings.plan, findings.verification
    number = len(plan.instance.workloads)
    if verification.ok:
        what = "its workload" if number == 1 else f"all {number:,} workloads"
        return f"The plan holds: by the predictor {what} get their rate within their latency limits."
    over = len(verification.workloads_over_slo)
    return (
        f"The plan does not hold: {len(verification.violations):,} violation(s);"
        f" {over:,} of {number:,} workloads miss their latency limit or rate."
    )


def _proof(plan: Plan, money: _Money) -> str:
    solver = plan.solver
    plans = f"plan{proven_within(plan.instance.slo_rule)}"
    if solver.status == "optimal":
        return f"Proven optimal: no {plans} for these workloads costs less than {money(solver.cost_per_hour)} per hour."
    if solver.lower_bound_per_hour is None or solver.gap is None:
        return "Nothing is proven: the plan comes from a heuristic, and a cheaper one may exist."
    return (
        f"Within {100 * solver.gap:.2f} % of the optimum: it is proven that no {plans} costs less than"
        f" {money(solver.lower_bound_per_hour)} per hour."
    )


def _types(plan: Plan) -> list[tuple[str, int, float]]:
    """GPU types in use: name, number and price."""
    numbers = {gpu.name: 0 for gpu in plan.instance.gpu_types}
    for gpu in plan.gpus:
        numbers[gpu.type] = numbers.get(gpu.type, 0) + 1
    prices = {gpu.name: gpu.price_per_hour for gpu in plan.instance.gpu_types}
    return [(name, number, prices.get(name, math.nan)) for name, number in numbers.items() if number]


def _why_cards(findings: Findings, money: _Money) -> str:
    """Say why the plan has the cards that it has, as far as is known."""
    used = [card for card in findings.cards if card.used]
    rest = [card for card in findings.cards if not card.used]
    if not used:
        return ""
    names = " and ".join(card.name for card in used)
    cost, proven = findings.plan.solver.cost_per_hour, findings.plan.solver.status == "optimal"
    within = proven_within(findings.plan.instance.slo_rule)
    text = f"The plan has {names}" + (f", and no mix of the types costs less (proven{within})." if proven else ".")
    excluded = [c for c in rest if c.bound_alone_per_hour is not None and c.bound_alone_per_hour > cost]
    if excluded:
        text += " By themselves, " + ", ".join(
            f"{card.name} would cost {money(card.bound_alone_per_hour or 0.0)} at least" for card in excluded
        )
        text += f" against {money(cost)}."
    return text


def _headlines(findings: Findings) -> list[Baseline]:
    """Baselines whose savings stand at the head of the page."""
    found = (findings.headline_baseline, findings.dedicated_baseline) if findings.verification.ok else ()
    return list({entry.method: entry for entry in found if entry is not None}.values())


def _cheaper(findings: Findings) -> tuple[float, str] | None:
    """Return cost and origin of the cheapest plan met on the way, if it is cheaper than the one reported."""
    found = [
        (entry.cost_per_hour, f"by {entry.description}")
        for entry in findings.baselines
        if entry.cost_per_hour is not None and entry.saving_per_hour is not None and entry.saving_per_hour < 0
    ]
    study = findings.sensitivity
    if study is not None and study.cheaper_plan is not None:
        found.append((study.cost_per_hour, "found while looking for what would change the cost"))
    return min(found, default=None) if findings.verification.ok else None


def _baseline(entry: Baseline, findings: Findings) -> dict[str, Any]:
    costs = [row.cost_per_hour for row in findings.baselines if row.cost_per_hour is not None]
    most = max([*costs, findings.plan.solver.cost_per_hour]) or 1.0
    bound = findings.plan.solver.lower_bound_per_hour
    reason = ""
    if entry.cost_per_hour is None:
        reason = entry.message or "no plan"
    elif not entry.usable:
        number = len(findings.plan.instance.workloads)
        reason = f"{entry.workloads_over_slo or 0:,} of {number:,} miss SLO or rate"
    return {
        "row": entry,
        "reason": reason,
        "width": None if entry.cost_per_hour is None else 100.0 * entry.cost_per_hour / most,
        "own_width": 100.0 * findings.plan.solver.cost_per_hour / most,
        "bound": None if bound is None else 100.0 * bound / most,
        "month": None if entry.saving_per_hour is None else entry.saving_per_hour * HOURS_PER_MONTH,
    }


def _placements(plan: Plan, checks: Sequence[PlacementCheck]) -> list[dict[str, Any]]:
    placed = {(gpu.name, p.workload, p.replica): p for gpu in plan.gpus for p in gpu.placements}
    return [
        {
            "check": check,
            "name": replica_name(check.workload, check.replica),
            "used": used_percent(check),
            "slice": slice_words(placed[check.gpu, check.workload, check.replica]).removeprefix(", "),
        }
        for check in checks
    ]


def _workloads(findings: Findings, checks: Sequence[PlacementCheck]) -> list[dict[str, Any]]:
    """One row per workload: its tightest placement against the limit."""
    found: dict[str, list[PlacementCheck]] = {}
    for check in checks:
        found.setdefault(check.workload, []).append(check)
    rows = []
    for workload in findings.plan.instance.workloads:
        placed = found.get(workload.name, [])
        worst = max(placed, key=_tightness, default=None)
        throughput = sum(check.throughput_rps for check in placed)
        rows.append(
            {
                "workload": workload,
                "replicas": len(placed),
                "worst": worst,
                "used": None if worst is None else used_percent(worst),
                "throughput": throughput,
                "ok": bool(placed) and all(check.ok for check in placed),
            }
        )
    return rows


def _tightness(check: PlacementCheck) -> float:
    used = used_percent(check)
    return math.inf if used is None else used


# ---- measurements -----------------------------------------------------------------------------------


def _measured(entry: MeasuredFile, findings: Findings, checks: Sequence[PlacementCheck]) -> dict[str, Any]:
    slos = {workload.name: workload.slo_ms for workload in findings.plan.instance.workloads}
    rates = {workload.name: workload.rate_rps for workload in findings.plan.instance.workloads}
    percentile = rule_of(findings.plan.instance).has_percentile
    predicted = _predicted(findings, checks, percentile)
    known = [row for row in entry.workloads if row.workload in slos]
    overs = [row.p99_ms / slos[row.workload] for row in known if row.p99_ms is not None]
    most = 10.0 ** max(1, math.ceil(math.log10(max([*overs, 1.0]))))

    def at(over: float) -> float:
        place = math.log(max(over, _LEAST_OVER) / _LEAST_OVER) / math.log(most / _LEAST_OVER)
        return min(100.0, 100.0 * place)

    rows = [
        _measured_row(row, slos[row.workload], rates[row.workload], predicted.get(row.workload), percentile, at)
        for row in known
    ]
    seen = {row.workload for row in entry.workloads}
    return {
        "entry": entry,
        "rows": rows,
        "with_ratio": any(row["ratio"] is not None for row in rows),
        "percentile": percentile,
        "verdict": None if entry.verdict is None else entry.verdict.text[:1].upper() + entry.verdict.text[1:],
        "added": [row.overhead_ms for row in known if row.overhead_ms is not None],
        "most": most,
        "slo_at": at(1.0),
        "few": FEWEST_BEYOND if any(row.few for row in known) else None,
        "with_failed": any(row.failed is not None for row in known),
        "foreign": [row.workload for row in entry.workloads if row.workload not in slos],
        "missing": [name for name in slos if name not in seen],
    }


def _predicted(findings: Findings, checks: Sequence[PlacementCheck], percentile: bool) -> dict[str, float]:
    """Predicted latency by workload: the worst replica's percentile if a rule has one, else the mean over requests."""
    totals: dict[str, tuple[float, float]] = {}
    for check in checks:
        rate, total = totals.get(check.workload, (0.0, 0.0))
        if percentile:
            totals[check.workload] = 1.0, max(total, check.latency_ms)
        else:
            totals[check.workload] = rate + check.rate_rps, total + check.rate_rps * check.latency_ms
    return {name: total / rate for name, (rate, total) in totals.items() if rate > 0}


def _measured_row(
    row: MeasuredWorkload,
    slo: float,
    rate: float,
    predicted: float | None,
    percentile: bool,
    at: Callable[[float], float],
) -> dict[str, Any]:
    found = row.p99_ms if percentile else row.compute_ms
    ratio = found / predicted if found is not None and predicted else None
    return {
        "row": row,
        "slo": slo,
        "rate": rate,
        "predicted": predicted,
        "ratio": ratio,
        "over": None if row.p99_ms is None else row.p99_ms / slo,
        "from": None if row.p50_ms is None else at(row.p50_ms / slo),
        "to": None if row.p99_ms is None else at(row.p99_ms / slo),
    }


# ---- what would change the cost ---------------------------------------------------------------------


def _study(study: Sensitivity, plan: Plan, money: _Money) -> dict[str, Any]:
    slos = {workload.name: workload for workload in plan.instance.workloads}
    examined = [entry for entry in study.workloads if entry.changes]
    idle = [entry for entry in examined if _idle(study, entry)]
    shown = [entry for entry in examined if not _idle(study, entry)]
    return {
        "study": study,
        "shown": shown,
        "prices": []
        if study.prices is None
        else sorted(zip(plan.instance.workloads, study.prices.workloads, strict=True), key=lambda pair: -pair[1]),
        "columns": [_column(kind, percent) for kind, percent in _COLUMNS],
        "everything": [_cell(study, _find(study.everything, kind, percent), money) for kind, percent in _COLUMNS],
        "growth": [
            {
                "percent": percent,
                "change": change,
                "more": None if change.cost_per_hour is None else change.cost_per_hour - study.cost_per_hour,
                "optimal": change.cost_per_hour is not None and change.cost_per_hour == change.lower_bound_per_hour,
            }
            for percent in GROWTH_PERCENT
            if (change := _find(study.everything, "rate", percent)) is not None
        ],
        "rows": [
            {
                "entry": entry,
                "workload": slos[entry.workload],
                "cells": [_cell(study, _find(entry.changes, kind, percent), money) for kind, percent in _COLUMNS],
            }
            for entry in shown
        ],
        "idle": [name for entry in idle for name in (entry.workload, *entry.same)],
        "left": [name for entry in study.workloads if not entry.changes for name in (entry.workload, *entry.same)],
        "of_all": len(plan.instance.workloads),
        "suggestions": _suggestions(study, slos),
        "open": any(study.saving_per_hour(change) is None for entry in examined for change in entry.changes),
    }


def _idle(study: Sensitivity, entry: WorkloadChanges) -> bool:
    """Whether it is proven that no relaxation of the workload alone saves anything."""
    return all(study.saves_nothing(change) for change in entry.changes)


def _find(changes: Sequence[Change], kind: str, percent: int) -> Change | None:
    return next((change for change in changes if (change.kind, change.percent) == (kind, percent)), None)


def _column(kind: str, percent: int) -> str:
    return f"{'SLO' if kind == 'slo' else 'rate'} {percent:+d} %".replace("-", "−")


def _cell(study: Sensitivity, change: Change | None, money: _Money) -> dict[str, str]:
    """Put a change's outcome into a cell: text, class and explanation."""
    if change is None:
        return {"text": "", "kind": "none", "why": "not examined: the time was up"}
    saving = study.saving_per_hour(change)
    if saving is None:
        why = change.message or "open: no cheaper plan was found, and none is proven not to exist"
        return {"text": "?" if change.message is None else "no plan", "kind": "open", "why": why}
    if saving > 0:
        needed = study.needs_the_change(change)
        why = "a verified plan" + (
            "; without the change no plan this cheap exists (proven)"
            if needed
            else "; may exist without the change too"
        )
        return {"text": money(saving) + ("" if needed else " *"), "kind": "saves", "why": why}
    if saving < 0:
        return {"text": "+" + money(-saving), "kind": "costs", "why": "a verified plan"}
    reasons = {
        "prices": "proven by the shadow price: even without the workload no plan is cheaper",
        "without": "proven: even without the workload no plan is cheaper",
        "solve": "proven by solving the changed instance",
    }
    return {"text": "0", "kind": "nothing", "why": reasons[change.proof]}


def _suggestions(study: Sensitivity, slos: dict[str, Any]) -> list[dict[str, Any]]:
    """The smallest relaxations of one workload that save something, those of the most saving and least change first."""
    found = []
    for entry in study.workloads:
        for kind, changes in (("slo", SLO_CHANGES_PERCENT), ("rate", RATE_CHANGES_PERCENT)):
            for percent in changes:
                change = entry.change("slo" if kind == "slo" else "rate", percent)
                saving = None if change is None else study.saving_per_hour(change)
                if change is not None and saving is not None and saving > 0:
                    workload = slos[entry.workload]
                    before = workload.slo_ms if kind == "slo" else workload.rate_rps
                    found.append(
                        {
                            "workload": entry.workload,
                            "same": len(entry.same),
                            "model": workload.model,
                            "kind": kind,
                            "percent": f"{percent:+d}".replace("-", "−"),
                            "size": abs(percent),
                            "before": f"{before:g}",
                            "after": f"{before * (100 + percent) / 100:g}",
                            "saving": saving,
                            "month": saving * HOURS_PER_MONTH,
                            "needed": study.needs_the_change(change),
                        }
                    )
                    break
    return sorted(found, key=lambda row: (row["size"], -row["saving"], row["kind"]))[:_MOST_SUGGESTIONS]
