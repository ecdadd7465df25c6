"""SCIP and CBC beside exhaustion and HiGHS; CP-SAT has a process of its own (`test_cpsat`)."""

import importlib
from importlib.util import find_spec

import numpy as np
import pytest

from igniter_opt import InfeasibleError, InputError, read_instance, solve, verify
from igniter_opt.base import optional
from igniter_opt.base.errors import SolverError
from igniter_opt.base.stop import StopRequest
from igniter_opt.formulations.highs import Columns, integer_program, run_mip
from igniter_opt.formulations.solvers.table import MIP_SOLVERS
from tests.formulations.test_assignment import random_case
from tests.support.brute_force import cheapest

OTHERS = [
    pytest.param(
        row.name, marks=pytest.mark.skipif(find_spec(row.package) is None, reason=f"needs the extra '{row.extra}'")
    )
    for row in MIP_SOLVERS.values()
    if row.package is not None and row.takes_programs
]
ALL_SEEDS, SAMPLE = 120, 10
TABLE3 = read_instance("igniter-table3")


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(
    "seed", [pytest.param(k, marks=[pytest.mark.slow] if k >= SAMPLE else []) for k in range(ALL_SEEDS)]
)
def test_optimum_equals_brute_force(name: str, seed: int) -> None:
    instance, margin = random_case(seed)
    expected = cheapest(instance, margin)
    try:
        result = solve(instance, "assignment", margin=margin, mip_solver=name, warm_start=seed % 2 == 0)
    except InfeasibleError:
        assert expected is None
        return
    assert verify(result.plan).ok
    assert expected is not None
    assert result.status == "optimal"
    assert (result.cost, result.total_share_percent) == pytest.approx(expected)
    assert result.lower_bound == pytest.approx(expected[0])
    assert result.plan.solver.total_share_lower_bound_percent == pytest.approx(expected[1])


def random_program(seed: int):  # type: ignore[no-untyped-def]
    """Cover rows for whole numbers up to 3, or up to 1.5, which is 1; every third one has no solution."""
    rng = np.random.default_rng(seed)
    dense = rng.integers(0, 4, (8, 12)).astype(float)
    rows, columns = np.nonzero(dense.T)[::-1]
    start = np.concatenate([[0], np.cumsum(np.count_nonzero(dense, axis=0))])
    matrix = Columns(8, start, rows, dense.T[columns, rows])
    lower = rng.integers(3, 12, 8) + (0.0 if seed % 3 else 90.0)
    lp = integer_program(rng.random(12) + 0.5, matrix, lower, np.full(8, np.inf))
    lp.col_upper_ = np.full(12, (3.0, 1.5)[seed % 2])
    return lp


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("seed", range(9))
def test_programs_have_the_optimum_that_highs_finds(name: str, seed: int) -> None:
    lp = random_program(seed)
    expected, found = run_mip(lp), MIP_SOLVERS[name].run(lp)
    assert found.status == expected.status == ("optimal" if seed % 3 else "infeasible")
    assert found.objective == pytest.approx(expected.objective)
    if found.values is not None:
        values = np.array([found.values[k] for k in range(12)])
        assert np.all(Columns.of(lp).times(values) >= np.asarray(lp.row_lower_) - 1e-9)
        assert expected.objective * (1 - 3e-4) < found.bound <= expected.objective


@pytest.mark.parametrize("name", OTHERS)
def test_a_complete_start_is_taken(name: str) -> None:
    accepted = importlib.import_module(f"igniter_opt.formulations.{MIP_SOLVERS[name].module}").START_ACCEPTED
    result = solve(TABLE3, "assignment", mip_solver=name, start=solve(TABLE3, "igniter").plan)
    assert sum(accepted in line for line in result.log) >= 1


@pytest.mark.parametrize("name", OTHERS)
def test_a_wrong_start_is_refused(name: str) -> None:
    with pytest.raises(SolverError, match="the start violates row"):
        MIP_SOLVERS[name].run(random_program(1), np.zeros(12))


@pytest.mark.parametrize("name", OTHERS)
def test_a_stop_request_ends_the_solve_with_a_valid_bound(name: str) -> None:
    stop, lp = StopRequest(), random_program(4)
    stop.set()
    result = MIP_SOLVERS[name].run(lp, stop=stop)
    assert result.bound <= run_mip(lp).objective <= result.objective + 1e-9


def test_what_raises_while_it_reports_ends_the_solve() -> None:
    pytest.importorskip("pyscipopt")

    def fail(_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        MIP_SOLVERS["scip"].run(random_program(4), on_event=fail)


def test_lines_of_cbcs_search_are_told_from_its_other_tables() -> None:
    event = pytest.importorskip("igniter_opt.formulations.solvers.cbc")._event
    found = event(
        "    12        1      0               6  RINS                          5   16.67%      2.81\n", 3.0, np.inf
    )
    assert (found.nodes, found.objective, found.improved) == (12, 6.0, True)
    assert 5 - 6e-4 < found.bound < 5
    found = event(
        "         1        2      0               \u2014                                6        \u2014      14.1\n",
        3.0,
        np.inf,
    )
    assert (found.objective, found.improved) == (np.inf, False)
    assert event("    48      968       10     46      12.75                5     2.20\n", 3.0, np.inf) is None


@pytest.mark.parametrize("name", OTHERS)
def test_without_time_nothing_is_claimed(name: str) -> None:
    result = MIP_SOLVERS[name].run(random_program(1), time_limit=0.0)
    assert result.bound <= run_mip(random_program(1)).objective


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> None:
        raise ImportError(name=module)

    monkeypatch.setattr(optional.importlib, "import_module", missing)
    with pytest.raises(InputError, match=r"--mip-solver scip: this needs the package 'pyscipopt' .* '\.\[solvers\]'"):
        MIP_SOLVERS["scip"].require()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mip_solver": "gurobi"}, "unknown solver 'gurobi'"),
        ({"method": "patterns", "mip_solver": "cp-sat"}, "give --method assignment"),
        ({"method": "igniter", "mip_solver": "scip"}, "give --method assignment"),
        ({"method": "auto", "mip_solver": "scip"}, "method patterns hands no integer program to SCIP"),
        ({"method": "ffd++", "keep_model": True}, "method ffd\\+\\+ has none"),
        ({"method": "assignment", "mip_solver": "cp-sat", "keep_model": True}, "has one of its own"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, object], message: str) -> None:
    needed = MIP_SOLVERS.get(str(options.get("mip_solver")))
    if needed is not None and needed.package is not None:
        pytest.importorskip(needed.package)
    with pytest.raises(InputError, match=message):
        solve(TABLE3, **options)  # type: ignore[arg-type]
