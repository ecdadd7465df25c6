"""The folder of a schedule: totals as JSON, a table of steps, and the plans that follow each other."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath, as_path
from igniter_opt.base.kinds import SCHEDULE, TIMELINE, check_output, write_output
from igniter_opt.data.plan import Plan, write_plan
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import drafts_from_plan, make_plan
from igniter_opt.problem.start_plans import at_rates
from igniter_opt.scheduling.outcome import Scheduled
from igniter_opt.verify import verify

TOTALS_FILE, STEPS_FILE, PLANS_FOLDER = "schedule.json", "steps.csv", "plans"


@dataclass(frozen=True)
class Stretch:
    """Steps in which no server changes: the first one, how many, and their plan's file."""

    first: int
    steps: int
    file: str


def stretches(found: Scheduled) -> list[Stretch]:
    """Return the stretches of a schedule, in order."""
    firsts = [0]
    for step in range(1, found.steps):
        if _placed(found.plans[step]) != _placed(found.plans[step - 1]):
            firsts.append(step)
    ends = [*firsts[1:], found.steps]
    return [
        Stretch(first, end - first, f"{PLANS_FOLDER}/{first + 1:05d}.json")
        for first, end in zip(firsts, ends, strict=True)
    ]


def _placed(plan: Plan) -> list[tuple[object, ...]]:
    return sorted(
        (gpu.name, entry.workload, entry.replica, entry.batch, entry.share_percent, entry.queue_delay_us)
        for gpu in plan.gpus
        for entry in gpu.placements
    )


def plan_of(found: Scheduled, stretch: Stretch) -> Plan:
    """Return a stretch's plan: for the highest rates in it if it holds at these together, else for its first step's."""
    plans = found.plans[stretch.first : stretch.first + stretch.steps]
    first = plans[0]
    if stretch.steps == 1:
        return first
    highest = np.max([[workload.rate_rps for workload in plan.instance.workloads] for plan in plans], axis=0)
    workloads = [
        workload.model_copy(update={"rate_rps": rate})
        for workload, rate in zip(first.instance.workloads, highest.tolist(), strict=True)
    ]
    instance = first.instance.model_copy(update={"workloads": tuple(workloads)})
    problem = Problem(instance, first.solver.margin, first.solver.confidence)
    made = make_plan(
        problem, at_rates(problem, drafts_from_plan(problem, first)), method="schedule", status="heuristic"
    )
    named = zip(made.gpus, first.gpus, strict=True)
    made = made.model_copy(update={"gpus": tuple(gpu.model_copy(update={"name": old.name}) for gpu, old in named)})
    return made if verify(made).ok else first


def check_folder(folder: StrPath) -> Path:
    """Return the folder of a schedule, which is new, empty, or one that was written before.

    Raises
    ------
    InputError
        It is something else, or nothing can be written there.
    """
    path = as_path(folder)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is no folder; a schedule is written into one")
    if path.is_dir() and any(path.iterdir()) and not (path / TOTALS_FILE).is_file():
        raise InputError(f"{path}: is a folder with other files; choose a new one for the schedule")
    if path.is_dir():
        check_output(path / TOTALS_FILE, SCHEDULE)
        check_output(path / STEPS_FILE, TIMELINE)
    return path


def write_schedule(found: Scheduled, folder: StrPath) -> Path:
    """Write a schedule: `TOTALS_FILE`, `STEPS_FILE`, and in `PLANS_FOLDER` a plan per stretch without changes.

    Every file is replaced whole or not at all; of an earlier schedule there, plans that this one does not have are
    removed. The file of totals comes last.

    Raises
    ------
    InputError
        As `check_folder` does.
    """
    path = check_folder(folder)
    (path / PLANS_FOLDER).mkdir(parents=True, exist_ok=True)
    entries = stretches(found)
    for entry in entries:
        write_plan(plan_of(found, entry), path / entry.file)
    file_of = dict(_files(entries))
    rows = [{**row, "plan": file_of[step]} for step, row in enumerate(found.rows())]
    head = ",".join(rows[0])
    lines = [",".join(_cell(value) for value in row.values()) for row in rows]
    write_output(path / STEPS_FILE, ("\n".join([head, *lines]) + "\n").encode(), TIMELINE)
    _remove_others(path, {entry.file for entry in entries})
    plans = [{"first": entry.first, "steps": entry.steps, "file": entry.file} for entry in entries]
    text = json.dumps({**found.to_dict(), "plans": plans}, indent=1) + "\n"
    write_output(path / TOTALS_FILE, text.encode(), SCHEDULE)
    return path


def _files(entries: list[Stretch]) -> Iterator[tuple[int, str]]:
    for entry in entries:
        for step in range(entry.first, entry.first + entry.steps):
            yield step, entry.file


def _cell(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _remove_others(path: Path, kept: set[str]) -> None:
    """Remove the plans that the schedule before had, as its own file of totals names them, and this one has not."""
    try:
        before = json.loads((path / TOTALS_FILE).read_text(encoding="utf-8"))
        names = [str(entry["file"]) for entry in before["plans"]]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in names:
        folder, _, file = name.partition("/")
        if folder == PLANS_FOLDER and file.removesuffix(".json").isdigit() and name not in kept:
            (path / PLANS_FOLDER / file).unlink(missing_ok=True)
