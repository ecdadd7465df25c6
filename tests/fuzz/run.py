"""Runs cases one after the other in this process, within limits of time and memory, and says what went wrong.

A case is known by its number and the seed, and is the same on every machine.
"""

import argparse
import gc
import json
import os
import re
import resource
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.targets import Outcome, Target, targets

# What a case may take.
SECONDS, BYTES = 20, 500 * 10**6
_LONGEST_MESSAGE = 4000


class TooLong(BaseException):
    """A case took too long."""


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def limit_memory() -> None:
    """Let this process have so much more memory than it has now, and no more."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def problem_of(outcome: Outcome, warned: list[str]) -> str | None:
    """Say what is wrong with how a case ended, if anything."""
    if outcome.exception is not None:
        return "".join(traceback.format_exception(outcome.exception))[-3000:]
    if outcome.code not in (0, 1, 2):
        return f"exit code {outcome.code}"
    if "Traceback" in outcome.out + outcome.err or "Warning" in outcome.err:
        return f"a traceback or warning: {outcome.err[-2000:]}"
    # Keys of files end in "error", too.
    if outcome.code == 2 and len(re.findall(r"(?<!\w)error: ", outcome.err.lower())) != 1:
        return f"not one message: {outcome.err[-2000:]!r}"
    if outcome.code == 2 and len(outcome.err) > _LONGEST_MESSAGE:
        return f"a message of {len(outcome.err)} characters: {outcome.err[:500]!r}"
    if outcome.code == 1 and not (outcome.out + outcome.err).strip():
        return "says no, and not why"
    if any(not (sign.isprintable() or sign in "\n\t") for sign in outcome.err):
        return f"control characters in a message: {outcome.err[:500]!r}"
    return f"warned: {warned}" if warned else None


def one_case(target: Target, run: int, random: Random, folder: Path) -> tuple[str, Outcome, str | None]:
    """Make a changed file and read it; return how it was changed, how that ended, and what is wrong."""
    folder.mkdir()
    before = Path.cwd()
    how = "?"
    try:
        path, how = target.write(random, folder)
        os.chdir(folder)
        with warnings.catch_warnings(record=True) as caught, _limited(SECONDS):
            warnings.simplefilter("default")
            outcome = target.runs[run](path)
        shown = [str(entry.message) for entry in caught if not issubclass(entry.category, DeprecationWarning)]
        return how, outcome, problem_of(outcome, shown)
    except TooLong:
        return how, Outcome(-1), f"took more than {SECONDS} s"
    except MemoryError as error:
        return (
            how,
            Outcome(-1),
            f"took more than {BYTES / 1e6:.0f} MB: {''.join(traceback.format_exception(error))[-2000:]}",
        )
    finally:
        os.chdir(before)
        for entry in folder.rglob("*"):  # whoever has it now
            if entry.is_dir() and not entry.is_symlink():
                entry.chmod(stat.S_IRWXU)
        shutil.rmtree(folder)


def cases(known: dict[str, Target], seed: int, work: Path, numbers: Iterator[int]) -> Iterator[dict[str, Any]]:
    """Run the cases of these numbers; yield of each what it was and how it ended."""
    names = list(known)
    for number in numbers:
        name = names[number % len(names)]
        target = known[name]
        random = Random(f"{seed} {number}")
        run = random.randrange(len(target.runs))
        began = time.monotonic()
        how, outcome, problem = one_case(target, run, random, work / "case")
        yield {
            "case": number,
            "file": name,
            "how": how,
            "run": run,
            "code": outcome.code,
            "seconds": round(time.monotonic() - began, 2),
            "problem": problem,
        }


def main() -> int:
    """Run cases as told by the arguments; print one JSON object for every case, and return the number of problems."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=600.0, help="for how long cases are begun (default: 600)")
    parser.add_argument("--case", type=int, help="only the case of this number")
    parser.add_argument("--all", action="store_true", help="print all cases, not only those that went wrong")
    given = parser.parse_args()
    count = problems = 0
    with tempfile.TemporaryDirectory(prefix="igniter-opt-fuzz-") as folder:
        work = Path(folder).resolve()
        known = targets(work)
        for name, target in known.items():  # valid files are read without a fault; and all is imported before the limit
            for run in range(len(target.runs)):
                _check_valid(name, target, run, work / "case")
        limit_memory()
        until = time.monotonic() + given.seconds

        def numbers() -> Iterator[int]:
            number = given.case or 0
            while time.monotonic() < until and (given.case is None or number == given.case):
                yield number
                number += 1

        for case in cases(known, given.seed, work, numbers()):
            count += 1
            problems += case["problem"] is not None
            if given.all or case["problem"] is not None:
                print(json.dumps(case), flush=True)
    print(json.dumps({"seed": given.seed, "cases": count, "problems": problems}), flush=True)
    return min(problems, 1)


def _check_valid(name: str, target: Target, run: int, folder: Path) -> None:
    inner = folder / "root" / "inner"
    (inner / target.name).parent.mkdir(parents=True)
    for other, text in (target.beside or {}).items():
        (inner / other).parent.mkdir(parents=True, exist_ok=True)
        (inner / other).write_text(text)
    (inner / target.name).write_text(target.text)
    outcome = target.runs[run](inner / target.name)
    shutil.rmtree(folder)
    # A deployment whose servers are gone is honestly not ready.
    if problem_of(outcome, []) or outcome.code not in ((0, 1) if name == "state" else (0,)):
        print(f"a valid file ({name}, {run}) ends with {outcome}", file=sys.stderr)
        sys.exit(3)
