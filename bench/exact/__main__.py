"""Exact methods, heuristics and CP-SAT on the same instances in one go: cost, bound, time, memory.

Run: python -m bench.exact [--sets small,medium,seeds,large,mixed,huge] [--time-limit S] [--methods A,B] [--output DIR]

Writes ``exact-DATE.md``, ``.csv``, ``-history.json`` and plots. The files are written anew after every row, so an
interrupted run keeps what it has. Every run has a process of its own (`bench.exact.run`). Plots can be drawn again
with ``python -m bench.exact.plots bench/results/exact-DATE.csv``.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType

from bench.exact import table as exact_table
from bench.exact.run import CPSAT, METHODS, SOLVERS, Row, run, why_skipped
from bench.instances import SETS, build
from bench.provenance import PACKAGES, RESULTS, ROOT, header, today
from igniter_opt.base.files import write_bytes_atomically

# Seconds for exact methods, by set; more for instances with more workloads than this.
TIME_LIMITS = MappingProxyType(
    {
        "small": 60.0,
        "medium": 60.0,
        "seeds": 60.0,
        "large": 240.0,
        "mixed": 120.0,
        "cards": 60.0,
        "card-seeds": 60.0,
        "p99": 300.0,
        "huge": 300.0,
    }
)
LONGER_FROM, LONGER_FACTOR = 1000, 2.0
# These runs fill numba's cache; they use counts, replicas and both objectives.
WARM_UP = ("igniter-table3", "igniter-table3-replicas3", "synthetic-types-24-1")
WARM_UP_S = 6.0
# A process is ended after this many times the limit and this many seconds more.
PATIENCE = (3.0, 300.0)
NOTES = f"""
Every row is one process. Seconds begin when the instance is read and the modules are imported; starting plans and
compiling the instance count. Before the first row numba's cache is filled, and a run in which numba still had to
compile something is made again; a remark says so where compilation is in the numbers all the same. *First plan*, *best
plan*: until the first plan and until one of the final cost was known; *proof*: until its cost was proven optimal.
*Total*: until the method ended, which for the exact ones includes the second objective, least share at that cost.
Peak memory is the process's, Python and libraries included. `scip`, `cbc` and `{CPSAT}` are `assignment` with
``--mip-solver``: the first two solve the same rows and columns as HiGHS does, `{CPSAT}` is OR-Tools CP-SAT on a model
of its own (`formulations/solvers/cpsat.py`) with two workers, for the cost alone. All begin with the best heuristic
plan. CBC is a process of its own, whose memory is not counted. Every plan was judged by `igniter_opt.verify`, and after
every row all bounds are compared with all plans of the same instance, those in `instances/results/` included; a bound
above a plan ends the run. GPU types called synthetic are scaled copies of the V100's measurements, not real cards.
Time limits: {{limits}}.
"""


class RunFailedError(Exception):
    """A run's process ended without a result."""


def time_limit(group: str, workloads: int, given: float | None) -> float:
    """Return the seconds for an exact solve."""
    if given is not None:
        return given
    longer = group == "large" and workloads >= LONGER_FROM
    return TIME_LIMITS[group] * (LONGER_FACTOR if longer else 1.0)


def run_apart(instance: str, method: str, limit: float) -> Row:
    """Run one method on one instance in a process of its own.

    Raises
    ------
    RunFailedError
        The process failed, or did not end.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "row.json"
        command = [sys.executable, "-m", "bench.exact", "--one", instance, method, "--one-output", str(output)]
        patience = PATIENCE[0] * limit + PATIENCE[1]
        try:
            done = subprocess.run(
                [*command, "--time-limit", repr(limit)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                timeout=patience,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RunFailedError(f"not ended after {patience:.0f} s") from None
        if done.returncode != 0 or not output.exists():
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}, no message"]
            raise RunFailedError(lines[-1])
        return Row.model_validate_json(output.read_text("utf-8"))


def measured(instance: str, method: str, limit: float) -> Row:
    """Run one method on one instance; once more if numba compiled anything, which fills its cache."""
    row = run_apart(instance, method, limit)
    if row.compiled:
        row = run_apart(instance, method, limit)
    if row.compiled:
        row.message = f"{row.message} compilation of {row.compiled} functions is in the numbers".strip()
    return row


class Table:
    """The files of one benchmark run."""

    def __init__(self, folder: Path, given_limit: float | None) -> None:
        self.path = folder / f"exact-{today()}.csv"
        folder.mkdir(parents=True, exist_ok=True)
        limits = ", ".join(f"{name} {seconds:g} s" for name, seconds in TIME_LIMITS.items())
        limits += f" (large from {LONGER_FROM:,} workloads {LONGER_FACTOR * TIME_LIMITS['large']:g} s)"
        if given_limit is not None:
            limits = f"{given_limit:g} s"
        packages = (*PACKAGES, "numba", "ortools", "pyscipopt", "cbcbox")
        # Made at the beginning: what is measured is what is checked out then.
        self.head = header("Cost, bound, time and memory of the methods", packages) + NOTES.format(limits=limits)
        self.rows: list[Row] = []

    def add(self, row: Row) -> None:
        """Add a row and write all files anew; raise ContradictionError if a bound is above a plan."""
        self.rows.append(row)
        problem = ""
        try:
            exact_table.check_bounds(self.rows)
        except exact_table.ContradictionError as error:
            problem = f"\n**CONTRADICTION: {error}**\n"
            raise
        finally:
            text = self.head + problem + "\n" + exact_table.markdown(self.rows)
            write_bytes_atomically(self.path.with_suffix(".md"), text.encode())
            exact_table.write_csv(self.rows, self.path)
            exact_table.write_histories(self.rows, exact_table.histories_path(self.path))


def run_all(sets: Sequence[str], methods: Sequence[str], limit: float | None, folder: Path) -> Table:
    """Run everything and write the files."""
    table = Table(folder, limit)
    if set(methods) & {"bestfit", "assignment", "patterns", *SOLVERS}:
        for name in WARM_UP:
            _say(f"filling numba's cache: {name}")
            run_apart(name, "patterns", WARM_UP_S)
    for group in sets:
        for name in SETS[group]:
            workloads = len(build(name).workloads)
            seconds = time_limit(group, workloads, limit)
            for method in methods:
                message = why_skipped(method, workloads)
                if message is not None:
                    row = Row(instance=name, workloads=workloads, method=method, status="skipped", message=message)
                else:
                    try:
                        row = measured(name, method, seconds)
                    except RunFailedError as error:
                        row = Row(instance=name, workloads=workloads, method=method, message=str(error))
                row.group, row.time_limit_s = group, seconds
                table.add(row)
                _say(exact_table.line(row, table.rows) + (f" {row.message}" if row.message else ""))
    return table


def _say(line: str) -> None:
    print(line, flush=True)


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Return an argument type: names, separated by commas, in the order in which they are known."""

    def parse(text: str) -> list[str]:
        asked = [name.strip() for name in text.split(",")]
        for name in asked:
            if name not in known:
                raise argparse.ArgumentTypeError(f"unknown name {name!r} (known: {', '.join(known)})")
        return [name for name in known if name in asked]

    return parse


def main() -> int:
    """Run the benchmark, or one row of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=_names(tuple(SETS)), default=list(SETS), metavar="A,B", help="instance sets")
    parser.add_argument("--methods", type=_names(METHODS), default=list(METHODS), metavar="A,B")
    parser.add_argument("--time-limit", type=float, metavar="S", help="for every exact solve, instead of the sets'")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR", help="folder of the files")
    parser.add_argument("--one", nargs=2, metavar=("INSTANCE", "METHOD"), help="one run in this process, as JSON")
    parser.add_argument("--one-output", type=Path, metavar="FILE", help="where --one writes, by default stdout")
    arguments = parser.parse_args()
    if arguments.one:
        name, method = arguments.one
        seconds = TIME_LIMITS["small"] if arguments.time_limit is None else arguments.time_limit
        text = run(name, method, seconds).model_dump_json(indent=1)
        if arguments.one_output is None:
            print(text)
        else:
            arguments.one_output.write_text(text, "utf-8")
        return 0
    table = run_all(arguments.sets, arguments.methods, arguments.time_limit, arguments.output)
    from bench.exact.plots import draw

    for path in draw(table.rows, table.path):
        _say(f"drew {path.name}")
    failed = [f"{row.instance}, {row.method}: {row.message}" for row in table.rows if row.status == "failed"]
    for line in failed:
        print(f"FAILED: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
