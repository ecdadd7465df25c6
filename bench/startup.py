"""Processor time of short commands: what a run costs before, and beside, its work.

Every command runs in a process of its own, in an empty folder; its time is user and system time of the process, which
other work on the machine changes less than the time on the clock. With another checkout, runs of both alternate.
Caches of the package (compiled code, fitted coefficients) are folders made for this; *cold* runs find them empty, and
*warm* runs find what the runs before left. Bytecode is there in both.

Run: python -m bench.startup [--against DIR] [--runs 7] [--cold-runs 1]
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.provenance import PACKAGES, ROOT, commit, header, write

PLAN = "plan.json"
MODULE = ("-m", "igniter_opt")
# What is run, and whether caches matter to it.
COMMANDS: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("import igniter_opt", ("-c", "import igniter_opt"), False),
    ("--help", (*MODULE, "--help"), False),
    ("--version", (*MODULE, "--version"), False),
    ("--bogus", (*MODULE, "--bogus"), False),
    ("solve igniter-table3 --bogus", (*MODULE, "solve", "igniter-table3", "--bogus"), False),
    ("verify nowhere.json", (*MODULE, "verify", "nowhere.json"), False),
    (f"verify {PLAN}", (*MODULE, "verify", PLAN), True),
    ("solve igniter-table3 --method igniter", (*MODULE, "solve", "igniter-table3", "--method", "igniter"), True),
    ("solve igniter-table3", (*MODULE, "solve", "igniter-table3"), True),
    ("predict h200 resnet50:1:50", (*MODULE, "predict", "h200", "resnet50:1:50"), True),
    ("solve cards-table3 --method igniter", (*MODULE, "solve", "cards-table3", "--method", "igniter"), True),
)


class Checkout:
    """A checkout whose package is run, with caches of its own."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self.root, self.scratch = root, scratch
        self.caches = 0
        self.fresh()
        plan = self._run((*MODULE, "solve", "igniter-table3", "--method", "igniter", "-o", PLAN))
        place = self._run(("-c", "import igniter_opt; print(igniter_opt.__file__)"))
        if plan.returncode or Path(place.stdout.strip()).parents[1].resolve() != root.resolve():
            raise SystemExit(f"{root}: is no checkout whose package runs here: {plan.stderr}{place.stderr}")

    def fresh(self) -> None:
        """Begin with empty caches."""
        self.caches += 1

    def seconds(self, words: tuple[str, ...]) -> float:
        """Processor time of one run."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._run(words)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    def _run(self, words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        cache = self.scratch / f"caches-{self.caches}"
        cache.mkdir(exist_ok=True)
        own = {"PYTHONPATH": str(self.root), "PYTHONPYCACHEPREFIX": str(self.scratch / "bytecode")}
        environment = {**os.environ, **own, "NUMBA_CACHE_DIR": str(cache)}
        # Some machines set this; every run would compile all modules' sources.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [sys.executable, *words]
        return subprocess.run(
            command, cwd=self.scratch, env=environment, capture_output=True, text=True, check=False, encoding="utf-8"
        )


def medians(checkouts: list[Checkout], words: tuple[str, ...], runs: int, *, cold: bool) -> list[float]:
    """Median processor time of a command in every checkout; runs alternate."""
    found: list[list[float]] = [[] for _ in checkouts]
    for _ in range(runs):
        for checkout, times in zip(checkouts, found, strict=True):
            if cold:
                checkout.fresh()
            times.append(checkout.seconds(words))
    return [statistics.median(times) for times in found]


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout, to compare with")
    parser.add_argument("--runs", type=int, default=7, help="warm runs of every command")
    parser.add_argument("--cold-runs", type=int, default=1, help="runs with empty caches")
    options = parser.parse_args()
    roots = [ROOT, *([] if options.against is None else [options.against])]
    names = ["", *([] if options.against is None else [" of the other"])]
    with tempfile.TemporaryDirectory() as folder:
        checkouts = []
        for number, root in enumerate(roots):
            scratch = Path(folder) / str(number)
            scratch.mkdir()
            checkouts.append(Checkout(root, scratch))
        titles = [f"{kind}{name} s" for kind in ("warm", "cold")[: 2 if options.cold_runs else 1] for name in names]
        lines = [f"| command | {' | '.join(titles)} |", "| --- |" + " --- |" * len(titles)]
        for title, words, cached in COMMANDS:
            cold = medians(checkouts, words, options.cold_runs, cold=True) if cached and options.cold_runs else []
            medians(checkouts, words, 1, cold=False)
            warm = medians(checkouts, words, options.runs, cold=False)
            shown = [f"{value:.2f}" for value in (*warm, *cold)]
            shown += ["-"] * (len(titles) - len(shown))
            lines.append(f"| `{title}` | {' | '.join(shown)} |")
            print(lines[-1], file=sys.stderr)
    other = "" if options.against is None else f" The other checkout is of commit {commit(options.against)}."
    write(
        "startup",
        header("Processor time of short commands", (*PACKAGES, "numba", "typer", "pydantic"))
        + f"\nUser and system seconds of a process, medians of {options.runs} warm and {options.cold_runs} cold runs;"
        f" cold: compiled code and fitted coefficients are made anew.{other}\n\n" + "\n".join(lines) + "\n",
    )


if __name__ == "__main__":
    main()
