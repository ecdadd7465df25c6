"""The row and the clock: one formula for numbers, arrays and compiled code, and written nowhere else."""

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import igniter_opt
import igniter_opt.formulations
from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.compiled import compiled
from igniter_opt.physics.rows import (
    clock,
    clocks,
    clocks_above_cap,
    gpu_latency,
    linear_row,
    needed,
    needed_beside,
    power_at_clock,
)

FOLDERS = [Path(module.__path__[0]) for module in (igniter_opt, igniter_opt.formulations)]
HOME = FOLDERS[0] / "physics" / "rows.py"
# base, kernels, delay, sensitivity, cache, traffic sensitivity, traffic
ROWS = np.random.default_rng(0).uniform(0.1, 3.0, (200, 7))
# Clock line (intercept, slope) and power: above and below the cap
CLOCKS = np.random.default_rng(1).uniform([1.1, -0.002, 0.0], [1.3, -0.001, 400.0], (200, 3))


@compiled
def all_needed(rows: FloatArray, known: FloatArray, beside: FloatArray) -> None:
    for k in range(rows.shape[0]):
        base, kernels, delay, own, cache, other, traffic = rows[k]
        known[k] = needed(base, kernels, delay, own, cache, other, traffic)
        beside[k] = needed_beside(base, own, cache, other, traffic)


@compiled
def all_latencies(rows: FloatArray, ratio: float, found: FloatArray) -> None:
    for k in range(rows.shape[0]):
        fixed, kernels, delay, own, cache, other, traffic = rows[k]
        found[k] = gpu_latency(fixed, kernels, delay, 2.0, own, cache, other, traffic, ratio)


@compiled
def all_clocks(lines: FloatArray, found: FloatArray, power: FloatArray) -> None:
    for k in range(lines.shape[0]):
        found[k] = clock(lines[k, 0], lines[k, 1], lines[k, 2])
        power[k] = power_at_clock(lines[k, 0], lines[k, 1], found[k])


def test_numbers_arrays_and_compiled_code_agree_to_the_last_bit() -> None:
    known, beside, latency = np.empty((3, len(ROWS)))
    all_needed(ROWS, known, beside)
    base, kernels, delay, own, cache, other, traffic = ROWS.T
    assert np.array_equal(known, needed(base, kernels, delay, own, cache, other, traffic))
    assert known.tolist() == [needed(*row) for row in ROWS.tolist()]
    assert np.array_equal(beside, needed_beside(base, own, cache, other, traffic))
    assert beside.tolist() == [needed_beside(row[0], *row[3:]) for row in ROWS.tolist()]
    all_latencies(ROWS, 0.7, latency)
    assert np.array_equal(latency, gpu_latency(base, kernels, delay, 2.0, own, cache, other, traffic, 0.7))
    ratio, power = np.empty((2, len(CLOCKS)))
    all_clocks(CLOCKS, ratio, power)
    assert np.array_equal(ratio, clocks(*CLOCKS.T))
    assert ratio.tolist() == [clock(*line) for line in CLOCKS.tolist()]
    assert power.tolist() == [power_at_clock(f0, f1, clock(f0, f1, at)) for f0, f1, at in CLOCKS.tolist()]
    assert 0 < np.count_nonzero(ratio < 1.0) < len(ratio)


def test_the_same_quantity_in_other_orders_is_the_same_up_to_rounding() -> None:
    base, kernels, delay, own, cache, other, traffic = ROWS.T
    known = needed(base, kernels, delay, own, cache, other, traffic)
    alone = needed(base, kernels, delay, own, 0.0, other, 0.0)
    assert needed_beside(alone, own, cache, other, traffic) == pytest.approx(known, rel=1e-14)
    # Of A = s + k with k = 0.1 the part that contention lengthens.
    latency = gpu_latency(base - 0.1, kernels, delay, 0.1, own / 0.1, cache, other / 0.1, traffic, 0.5)
    assert latency == pytest.approx(known / 0.5, rel=1e-13)
    mine = np.full(len(ROWS), 0.2), np.full(len(ROWS), 0.3)
    row = linear_row(base, kernels, own, mine[0], other, mine[1], 4.0)
    assert row.at(delay, cache + mine[0], traffic + mine[1]) == pytest.approx(known / 4.0, rel=1e-13)
    intercept, slope, power = CLOCKS.T
    cap = power_at_clock(intercept, slope, 1.0)
    for line, at, most in zip(slope.tolist(), power.tolist(), cap.tolist(), strict=True):
        expected = clock(1.0 - line * most, line, at)
        assert float(clocks_above_cap(line, at - most)) == pytest.approx(expected, rel=1e-13)


def terminal(node: ast.expr) -> str:
    """The last name of an expression: ``packed.kernels[c]`` is called ``kernels``."""
    while isinstance(node, ast.Subscript | ast.Call):
        node = node.value if isinstance(node, ast.Subscript) else node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def formulas(tree: ast.AST) -> Iterator[str]:
    """Places where a row or the clock is written out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            names = {terminal(node.left), terminal(node.right)}
            if names & {"kernels"} and names & {"delay", "delay_ms"}:
                yield f"row, line {node.lineno}"
        if isinstance(node, ast.Call) and terminal(node.func) in {"min", "minimum"}:
            one = any(isinstance(entry, ast.Constant) and entry.value == 1.0 for entry in node.args)
            if one and any(isinstance(entry, ast.BinOp) and isinstance(entry.op, ast.Add) for entry in node.args):
                yield f"clock, line {node.lineno}"


# CP-SAT computes with integers: its rows are scaled, and each coefficient is rounded towards validity by itself.
INTEGERS = "cpsat_model.py"


def test_row_and_clock_are_written_once() -> None:
    paths = [path for folder in FOLDERS for path in folder.rglob("*.py") if path.name != INTEGERS]
    found = {path: list(formulas(ast.parse(path.read_text()))) for path in paths}
    assert found[HOME]
    assert {path: places for path, places in found.items() if places and path != HOME} == {}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("packed.base[c] + packed.kernels[c] * delay + contention", 1),
        ("ratio = min(1.0, intercept + slope * power)", 1),
        ("np.minimum(1.0, 1.0 + slope * (power - cap))", 1),
        ("clock = np.minimum(1.0, frequency / top)", 0),
        ("needed(base, kernels, delay, e, cache, f, traffic) <= limit * clock(f0, f1, power)", 0),
    ],
)
def test_formulas_are_recognised(text: str, count: int) -> None:
    assert len(list(formulas(ast.parse(text)))) == count
