"""SCIP, by PySCIPOpt: a program in, values and a valid bound out, as `highs.run_mip` does with HiGHS.

The bound is SCIP's dual bound less 1e-6 of it (`_BOUND_ERROR`). SCIP leaves out nodes whose bound reaches the best
objective less its epsilon of 1e-9, ends at a gap of exactly 0 unless another is asked for, and takes linear programs
for solved with reduced costs that are off by 1e-7 (``numerics/dualfeastol``); 1e-6 in units of the dearest GPU is what
`assignment_solver` grants HiGHS for the same.
"""

import time
from collections.abc import Callable
from typing import Any

import highspy
import numpy as np
from pyscipopt import SCIP_EVENTTYPE, Eventhdlr, Model

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import SolverError
from igniter_opt.base.stop import StopRequest, in_a_thread
from igniter_opt.formulations.highs import MipEvent, MipResult
from igniter_opt.formulations.solvers.files import COLUMN, handed_over, less_error, objective_of, rounded_values

_BOUND_ERROR = 1e-6
# Rows and whole numbers hold up to this, as HiGHS is asked to keep them.
_FEASIBILITY = 1e-8
_STATUS = {"optimal": "optimal", "gaplimit": "optimal", "infeasible": "infeasible", "inforunbd": "infeasible"}
_STOPPED = {"timelimit", "nodelimit", "userinterrupt", "memlimit", "totalnodelimit", "unknown", "bestsollimit"}
# Values beyond this are infinite to SCIP.
_INFINITE = 1e20
START_ACCEPTED = "the start is feasible"
_EVENTS = SCIP_EVENTTYPE.BESTSOLFOUND | SCIP_EVENTTYPE.NODESOLVED


class _Watch(Eventhdlr):  # type: ignore[misc]
    """Reports progress; an exception there ends the solve."""

    def __init__(self, on_event: Callable[[MipEvent], None] | None, failures: list[BaseException]) -> None:
        self.on_event, self.failures, self.began = on_event, failures, time.perf_counter()

    def eventinit(self) -> None:
        """Ask for events."""
        self.model.catchEvent(_EVENTS, self)

    def eventexit(self) -> None:
        """Ask for none any more."""
        self.model.dropEvent(_EVENTS, self)

    def eventexec(self, event: Any) -> None:
        """Report one."""
        if self.on_event is None or self.failures:
            return
        improved = event.getType() & SCIP_EVENTTYPE.BESTSOLFOUND != 0
        elapsed = time.perf_counter() - self.began
        objective, bound = _finite(self.model.getPrimalbound()), _finite(self.model.getDualbound())
        try:
            self.on_event(MipEvent(elapsed, objective, bound, self.model.getNTotalNodes(), improved))
        except BaseException as error:
            self.failures.append(error)
            self.model.interruptSolve()


def run_mip(
    lp: highspy.HighsLp,
    start: FloatArray | None = None,
    *,
    time_limit: float = np.inf,
    gap: float = 0.0,
    seed: int = 0,
    stop: StopRequest | None = None,
    on_event: Callable[[MipEvent], None] | None = None,
    row_name: Callable[[int], str] = "row {}".format,
) -> MipResult:
    """Solve an integer program; parameters, result and errors are those of `highs.run_mip`."""
    stop, failures = stop or StopRequest(), list[BaseException]()
    began = time.perf_counter()
    model = Model()
    with handed_over(lp, start, row_name) as path:
        log = path.with_suffix(".log")
        model.hideOutput()
        model.setLogfile(str(log))
        model.readProblem(str(path))
        for name, value in {
            "misc/catchctrlc": False,
            "numerics/feastol": _FEASIBILITY,
            "limits/gap": gap,
            "limits/time": max(0.0, min(_INFINITE, time_limit - (time.perf_counter() - began))),
            "randomization/randomseedshift": seed,
            "parallel/maxnthreads": 1,
            "lp/threads": 1,
        }.items():
            model.setParam(name, value)
        columns = {variable.name: variable for variable in model.getVars()}
        order = [columns[COLUMN(position)] for position in range(lp.num_col_)]
        notes = [] if start is None else [_give_start(model, order, start)]
        model.includeEventhdlr(_Watch(on_event, failures), "igniter-opt", "progress")

        def look() -> None:
            # Asked for before the search, or after it, it would be an error.
            if stop.is_set() and model.getStageName() in ("PRESOLVING", "SOLVING"):
                model.interruptSolve()

        with stop.on_interrupt():
            in_a_thread(model.optimizeNogil, "scip", look)
        model.setLogfile(None)
        if failures:
            raise failures[0]
        notes += log.read_text("utf-8", errors="replace").splitlines() if log.exists() else []
    return _collected(model, order, lp, notes)


def _give_start(model: Model, order: list[Any], start: FloatArray) -> str:
    solution = model.createSol()
    for variable, value in zip(order, start.tolist(), strict=True):
        model.setSolVal(solution, variable, value)
    taken = model.addSol(solution, free=True)
    return START_ACCEPTED if taken else "the start is refused"


def _collected(model: Model, order: list[Any], lp: highspy.HighsLp, log: list[str]) -> MipResult:
    said = model.getStatus()
    if said not in _STATUS and said not in _STOPPED:
        raise SolverError(f"SCIP ended with status {said!r}; please report this")
    result = MipResult(_STATUS.get(said, "stopped"), None, np.inf, -np.inf, log)
    if model.getNSols() > 0:
        best = model.getBestSol()
        values = rounded_values(lp, np.array([model.getSolVal(best, variable) for variable in order]))
        result.values, result.objective = dict(enumerate(values.tolist())), objective_of(lp, values)
    bound = _finite(model.getDualbound())
    if np.isfinite(bound):
        result.bound = less_error(bound, _BOUND_ERROR)
    return result


def _finite(value: float) -> float:
    return value if abs(value) < _INFINITE else float(np.copysign(np.inf, value))
