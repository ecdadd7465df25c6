"""CBC, the program that the package `cbcbox` brings: a program in, values and a valid bound out, as `highs.run_mip`.

The bound is what CBC prints less 1e-4 of it (`_BOUND_ERROR`): six digits are printed, a node is left out whose bound is
within 1e-5 of the best objective (its ``increment``, which CBC takes larger where all objectives are multiples of a
number, so that none lies between), and linear programs are solved to 1e-7. At the optimum, where it prints no bound,
the objective takes its place: the gaps at which it stops are set to what is asked for.
"""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import highspy
import numpy as np
from cbcbox import cbc_bin_path

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import SolverError
from igniter_opt.base.stop import StopRequest
from igniter_opt.formulations.highs import MipEvent, MipResult
from igniter_opt.formulations.solvers.files import COLUMN, handed_over, less_error, objective_of, rounded_values

_BOUND_ERROR = 1e-4
_FEASIBILITY = "1e-8"
START_ACCEPTED = "MIPStart provided solution"
# After a request to stop, or its time limit, CBC has so many seconds to say what it has.
_PATIENCE_S = 10.0
_LOOK_EVERY_S = 0.1
# nodes, open nodes, depth, best objective, [how it was found], best bound, gap, seconds; its other tables have no gap
_PROGRESS = re.compile(r"\s+(\d+)\s+\d+\s+\d+\s+(\S+)\s+(?:.*\s)?(\S+)\s+(?:[\d.]+%|\u2014)\s+[\d.]+\s*")
_RESULT = "Result - "
# What is infeasible before the search is said in other words; words that are not known claim nothing.
_INFEASIBLE = (f"{_RESULT}Problem proven infeasible", "Bound tightening: infeasibility proved")
_BOUND = "Lower bound:"


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
    stop = stop or StopRequest()
    began = time.perf_counter()
    with handed_over(lp, start, row_name) as path:
        solution = path.with_name("solution.txt")
        begin = []
        if start is not None:
            begin = ["-mipStart", "start.txt"]
            _write_start(path.with_name("start.txt"), start)
        left = max(0.0, time_limit - (time.perf_counter() - began))
        limit = ["-seconds", repr(left), "-timeMode", "elapsed"] if np.isfinite(left) else []
        options = ["-threads", "0", "-ratioGap", repr(gap), "-allowableGap", "0", "-randomCbcSeed", str(seed or 1)]
        options += ["-primalTolerance", _FEASIBILITY, "-integerTolerance", _FEASIBILITY]
        command = [cbc_bin_path(), path.name, *limit, *options, *begin, "-solve", "-solution", solution.name]
        log, code = _run(command, path.parent, left, stop, on_event)
        return _collected(lp, log, code, solution)


def _write_start(path: Path, values: FloatArray) -> None:
    rows = (f"{k} {COLUMN(k)} {value!r} 0" for k, value in enumerate(values.tolist()))
    path.write_text("\n".join(["start - objective value 0", *rows, ""]), "utf-8")


def _run(
    command: list[str],
    folder: Path,
    time_limit: float,
    stop: StopRequest,
    on_event: Callable[[MipEvent], None] | None,
) -> tuple[list[str], int]:
    """Run CBC; return its log and exit code, 0 where we ended it.

    A stop request reaches it as Ctrl-C would, which it answers with what it has.
    """
    log, failures, began = list[str](), list[BaseException](), time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 (the package's own program, in a folder of ours)
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,  # Ctrl-C is for us to pass on
    )

    def read(lines: Iterable[str]) -> None:
        best = np.inf
        for line in lines:
            log.append(line.rstrip("\n"))
            event = _event(line, time.perf_counter() - began, best)
            if event is not None and on_event is not None and not failures:
                best = min(best, event.objective)
                try:
                    on_event(event)
                except BaseException as error:
                    failures.append(error)

    assert process.stdout is not None  # noqa: S101 (it is a pipe)
    reader = threading.Thread(target=read, args=(process.stdout,), name="cbc", daemon=True)
    reader.start()
    deadline = began + time_limit + _PATIENCE_S
    asked = killed = False
    try:
        with stop.on_interrupt():
            while process.poll() is None:
                if (stop.is_set() or failures) and not asked:
                    asked, deadline = True, time.perf_counter() + _PATIENCE_S
                    process.send_signal(signal.SIGINT)
                if time.perf_counter() > deadline:
                    killed = True
                    process.kill()
                time.sleep(_LOOK_EVERY_S)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        reader.join()
        process.stdout.close()
    if failures:
        raise failures[0]
    return log, 0 if asked or killed else process.returncode


def _event(line: str, elapsed: float, best: float) -> MipEvent | None:
    """Read a line of the table of the search; None if it is none."""
    found = _PROGRESS.fullmatch(line)
    if found is None:
        return None
    nodes, objective, bound = int(found[1]), _number(found[2]), _number(found[3])
    return MipEvent(
        elapsed,
        np.inf if objective is None else objective,
        -np.inf if bound is None else less_error(bound, _BOUND_ERROR),
        nodes,
        objective is not None and objective < best,
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _collected(lp: highspy.HighsLp, log: list[str], code: int, solution: Path) -> MipResult:
    said = next((line.removeprefix(_RESULT) for line in reversed(log) if line.startswith(_RESULT)), None)
    result = MipResult("stopped", None, np.inf, -np.inf, log)
    if code != 0:
        last = next((line.strip() for line in reversed(log) if line.strip()), "no message")
        raise SolverError(f"CBC ended with exit code {code} ({last}); please report this")
    if any(line.startswith(_INFEASIBLE) for line in log):
        result.status = "infeasible"
        return result
    if said is None:  # ended before it could say anything, as after a request to stop amid presolve
        return result
    if said.startswith("Optimal solution found"):
        result.status = "optimal"
    result.values = _values(lp, solution)
    if result.values is not None:
        result.objective = objective_of(lp, np.array(list(result.values.values())))
    bounds = [_number(line.removeprefix(_BOUND).strip()) for line in log if line.startswith(_BOUND)]
    bound = bounds[-1] if bounds else (result.objective if result.status == "optimal" else None)
    if bound is not None and np.isfinite(bound):
        result.bound = less_error(bound, _BOUND_ERROR)
    return result


def _values(lp: highspy.HighsLp, path: Path) -> dict[int, float] | None:
    """Read a solution: a line that says what it is, then position, name, value and reduced cost of what is not 0."""
    if not path.exists():
        return None
    head, *rows = path.read_text("utf-8").splitlines() or [""]
    if "no integer solution" in head or "infeasible" in head.lower():
        return None
    values = np.zeros(lp.num_col_)
    for row in rows:
        _, name, value, *_ = row.removeprefix("**").split()
        values[int(name.removeprefix(COLUMN("")))] = float(value)
    return dict(enumerate(rounded_values(lp, values).tolist()))
