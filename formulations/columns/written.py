"""The integer master of `patterns` as a program to be written, and the duals of its linear relaxation."""

import textwrap
from collections.abc import Sequence

import numpy as np

from igniter_opt.formulations.written import relaxed
from igniter_opt.packing.items import Catalogue
from igniter_opt.packing.plans import Pattern
from igniter_opt.problem.costs import PriceGrid
from igniter_opt.problem.program import Duals, IntegerProgram

_WIDTH = 110


def written_master(
    known: Catalogue, grid: PriceGrid, patterns: Sequence[Pattern]
) -> tuple[IntegerProgram, Duals | None]:
    """Return the integer master over some patterns, and the duals of its relaxation (None where it has no solution)."""
    program = master_program(known, grid, list(dict.fromkeys(patterns)))
    return program, master_duals(known, program)


def master_program(known: Catalogue, grid: PriceGrid, patterns: Sequence[Pattern]) -> IntegerProgram:
    """Return the master of `formulations.patterns` over some patterns, every workload of a class served (``cover``)."""
    places = [(k, item.replicas) for k, item in ((item.workload_class, item) for item in known.items)]
    choices = [k for k, items in enumerate(known.class_items) if len(items) > 1]
    counted = [g for g, count in enumerate(grid.counts) if count is not None]
    rows = [f"cover_k{k}_r{replicas}" for k, replicas in places]
    rows += [f"replicas_k{k}" for k in choices] + [f"count_g{g}" for g in counted]
    at = {name: position for position, name in enumerate(rows)}
    row_lower = [0.0 if k in choices else float(known.demand[k] * replicas) for k, replicas in places]
    row_upper = [np.inf] * len(places)
    for k in choices:
        row_lower.append(float(known.demand[k]))
        row_upper.append(float(known.demand[k]))
    for g in counted:
        row_lower.append(-np.inf)
        row_upper.append(float(grid.counts[g] or 0))
    columns: list[tuple[str, float, dict[int, float]]] = []
    for number, (g, members) in enumerate(patterns):
        entries = {item: float(members.count(item)) for item in dict.fromkeys(members)}
        if g in counted:
            entries[at[f"count_g{g}"]] = 1.0
        columns.append((f"p{number}_g{g}", float(grid.cost(grid.units[g])), entries))
    for item, (k, replicas) in enumerate(places):
        if k in choices:
            columns.append((f"z_k{k}_r{replicas}", 0.0, {item: -float(replicas), at[f"replicas_k{k}"]: 1.0}))
    sizes = [len(entries) for _, _, entries in columns]
    return IntegerProgram(
        formulation="patterns",
        notes=_notes(known),
        cost=np.array([cost for _, cost, _ in columns]),
        lower=np.zeros(len(columns)),
        upper=np.full(len(columns), np.inf),
        whole=np.ones(len(columns), dtype=np.bool_),
        row_lower=np.array(row_lower),
        row_upper=np.array(row_upper),
        start=np.concatenate([[0], np.cumsum(sizes)]),
        row=np.array([row for _, _, entries in columns for row in sorted(entries)], dtype=np.int64),
        value=np.array([entries[row] for _, _, entries in columns for row in sorted(entries)]),
        columns=tuple(name for name, _, _ in columns),
        rows=tuple(rows),
    )


def _notes(known: Catalogue) -> tuple[str, ...]:
    problem = known.problem
    lines = [
        "The master of igniter_opt.formulations.patterns over the columns at the end of a search.",
        "pN_gG: how many GPUs of type gG carry pattern N, whose entries say how many replicas of each item that is.",
        "z_kK_rR: how many workloads of class kK have R equal replicas. cover_kK_rR: all these replicas are carried.",
        "replicas_kK: every workload of class kK has some number of replicas. count_gG: GPUs of type gG that exist.",
    ]
    for g, gpu in enumerate(problem.gpu_types):
        lines.append(f"g{g}: {gpu.name}, {gpu.price_per_hour:g} {problem.instance.currency} per hour")
    for k, entry in enumerate(known.classes):
        first = problem.workloads[entry.workloads[0]]
        names = ", ".join(problem.workloads[workload].name for workload in entry.workloads)
        text = f"k{k}: {first.model}, SLO {first.slo_ms:g} ms, {first.rate_rps:g} requests/s: {names}"
        lines += textwrap.wrap(text, _WIDTH, subsequent_indent="    ", break_long_words=False)
    return tuple(lines)


def master_duals(known: Catalogue, program: IntegerProgram) -> Duals | None:
    """Return the duals of the linear relaxation of `master_program`; None where its columns do not cover everything."""
    found = relaxed(program)
    if found is None:
        return None
    optimum, by_row = found
    problem, dual = known.problem, dict(zip(program.rows, by_row.tolist(), strict=True))
    workloads: dict[str, float] = {}
    items: dict[tuple[str, int], float] = {}
    for k, (entry, own) in enumerate(zip(known.classes, known.class_items, strict=True)):
        values = {known.items[item].replicas: max(0.0, dual[program.rows[item]]) for item in own}
        worth = min(replicas * value for replicas, value in values.items())
        for workload in entry.workloads:
            name = problem.workloads[workload].name
            workloads[name] = dual.get(f"replicas_k{k}", worth)
            items |= {(name, replicas): value for replicas, value in values.items()}
    prices = {gpu.name: max(0.0, -dual.get(f"count_g{g}", 0.0)) for g, gpu in enumerate(problem.gpu_types)}
    return Duals(workloads, items, prices, optimum)
