"""Everything the report says, as data: gathered from files, the predictor, the baselines and the what-if study."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from igniter_opt.base.errors import InputError, UnsuitableError
from igniter_opt.base.files import StrPath, as_path
from igniter_opt.compare import compare
from igniter_opt.data.history import History, read_history
from igniter_opt.data.plan import Plan, as_plan
from igniter_opt.deploy.approval import plan_digest
from igniter_opt.methods import (
    DEDICATED_METHOD,
    METHODS,
    REFERENCE_METHOD,
    compared_heuristics,
    is_exact,
    slice_methods,
)
from igniter_opt.report.cards import CardConsidered, cards_considered
from igniter_opt.report.measured import MeasuredFile, SourceFile, read_measurements, source_file, source_of_plan
from igniter_opt.sensitivity import Sensitivity, sensitivity
from igniter_opt.verify import Verification, verify

# A month, as cloud price lists count it.
HOURS_PER_MONTH = 730


@dataclass(frozen=True)
class Baseline:
    """A heuristic's plan for the same instance, and what this plan saves against it.

    Attributes
    ----------
    usable
        Whether there is a plan, and the predictor finds that it holds.
    saving_per_hour, saving_percent
        Against a usable plan; negative where it is cheaper.
    """

    method: str
    description: str
    gpus: int | None
    cost_per_hour: float | None
    workloads_over_slo: int | None
    usable: bool
    saving_per_hour: float | None
    saving_percent: float | None
    message: str | None


@dataclass(frozen=True)
class Findings:
    """What the report says.

    Attributes
    ----------
    made_at, version, command
        When, by which version of this package and by which command.
    cards
        The GPU types to choose from; empty where there is one only.
    plan_file, history_file
        Where plan and history come from.
    sensitivity
        What would change the cost; None where that was not asked for, or the plan does not hold.
    unsuitable
        Why that could not be found out, if it could not.
    """

    made_at: datetime
    version: str
    command: str
    plan_file: SourceFile
    plan: Plan
    verification: Verification
    baselines: tuple[Baseline, ...]
    cards: tuple[CardConsidered, ...]
    history_file: SourceFile | None
    history: History | None
    measurements: tuple[MeasuredFile, ...]
    sensitivity: Sensitivity | None
    unsuitable: str | None = None

    @property
    def headline_baseline(self) -> Baseline | None:
        """Return iGniter's greedy where its plan holds, else the cheapest heuristic plan that does."""
        usable = [entry for entry in self.baselines if entry.usable]
        first = [entry for entry in usable if entry.method == REFERENCE_METHOD]
        return next(iter(first or sorted(usable, key=lambda entry: entry.cost_per_hour or 0.0)), None)

    @property
    def dedicated_baseline(self) -> Baseline | None:
        """Return the plan of one whole GPU per replica, where there is one: what sharing GPUs saves at all."""
        return next((entry for entry in self.baselines if entry.method == DEDICATED_METHOD and entry.usable), None)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the plan's own content as plain data (the form of ``report --json``)."""
        study = self.sensitivity
        return {
            "made_at": self.made_at.isoformat(timespec="seconds"),
            "version": self.version,
            "command": self.command,
            "plan": {
                **asdict(self.plan_file),
                "digest": plan_digest(self.plan),
                "instance": self.plan.instance.name,
                "gpus": len(self.plan.gpus),
                "cost_per_month": self.plan.solver.cost_per_hour * HOURS_PER_MONTH,
                "solver": self.plan.solver.model_dump(mode="json"),
            },
            "verification": self.verification.to_dict(),
            "baselines": [asdict(entry) for entry in self.baselines],
            "cards": [asdict(entry) for entry in self.cards],
            "history": None if self.history_file is None else asdict(self.history_file),
            "measurements": [
                {
                    **{key: value for key, value in asdict(entry).items() if key not in ("reasons", "conditions")},
                    "verdict": None if entry.verdict is None else entry.verdict.model_dump(mode="json"),
                }
                for entry in self.measurements
            ],
            "unsuitable": self.unsuitable,
            "sensitivity": None if study is None else _study_dict(study),
        }


def _study_dict(study: Sensitivity) -> dict[str, Any]:
    def rows(changes: Sequence[Any]) -> list[dict[str, Any]]:
        return [{**asdict(entry), "saving_per_hour": study.saving_per_hour(entry)} for entry in changes]

    return {
        "cost_per_hour": study.cost_per_hour,
        "lower_bound_per_hour": study.lower_bound_per_hour,
        "linear_bound_per_hour": None if study.prices is None else study.prices.bound,
        "elapsed_s": study.elapsed_s,
        "complete": study.complete,
        "everything": rows(study.everything),
        "workloads": [
            {
                "workload": entry.workload,
                "same": entry.same,
                "price_per_hour": entry.price_per_hour,
                "changes": rows(entry.changes),
            }
            for entry in study.workloads
        ],
    }


def gather(
    plan: Plan | StrPath,
    *,
    measurements: Sequence[Path] = (),
    history: Path | None = None,
    what_if_time_s: float,
    command: str,
    on_progress: Callable[[int, int], object] | None = None,
) -> Findings:
    """Read the files and compute what they do not say.

    Parameters
    ----------
    plan
        A plan, or the path of one, which the page names.
    what_if_time_s
        Seconds for `sensitivity.sensitivity`; 0 leaves it out.
    command
        What the page names as its origin.
    on_progress
        Called with the number of workloads whose changes were examined, and of all.

    Raises
    ------
    InputError
        A file is not what it should be, or measurements have no workload of the plan.
    """
    origin = source_of_plan(plan) if isinstance(plan, Plan) else source_file(as_path(plan))
    plan = as_plan(plan)
    past = None if history is None else read_history(history, plan)
    measured = [read_measurements(path) for path in measurements]
    known = {workload.name for workload in plan.instance.workloads}
    for entry in measured:
        if not known & {row.workload for row in entry.workloads}:
            raise InputError(
                f"{entry.source.name}: none of its workloads is in the plan; it is of another plan than {origin.name}"
            )
    slos = {workload.name: workload.slo_ms for workload in plan.instance.workloads}
    verification = verify(plan)
    study, unsuitable = None, None
    if verification.ok and what_if_time_s:
        try:
            study = sensitivity(plan, time_s=what_if_time_s, seed=plan.solver.seed, on_progress=on_progress)
        except UnsuitableError as error:
            unsuitable = str(error)
    return Findings(
        made_at=datetime.now(UTC),
        version=version("igniter-opt"),
        command=command,
        plan_file=origin,
        plan=plan,
        verification=verification,
        baselines=_baselines(plan),
        cards=cards_considered(plan),
        history_file=None if history is None else source_file(history),
        history=past,
        measurements=tuple(entry.judged_by(slos) for entry in measured),
        sensitivity=study,
        unsuitable=unsuitable,
    )


def _baselines(plan: Plan) -> tuple[Baseline, ...]:
    solver = plan.solver
    methods = compared_heuristics()
    if plan.instance.cut_types:
        methods = [name for name in slice_methods() if not is_exact(name)]
    margin = solver.margin if solver.confidence is None else None
    rows = compare(
        [plan.instance], methods, margin=margin, confidence=solver.confidence, seed=solver.seed, requests=0
    ).rows
    found = []
    for row in rows:
        usable = row.cost_per_hour is not None and row.workloads_over_slo == 0 and row.status != "violates"
        saving = row.cost_per_hour - solver.cost_per_hour if usable and row.cost_per_hour is not None else None
        found.append(
            Baseline(
                method=row.method,
                description=METHODS[row.method].words,
                gpus=row.gpus,
                cost_per_hour=row.cost_per_hour,
                workloads_over_slo=row.workloads_over_slo,
                usable=usable,
                saving_per_hour=None if saving is None else round(saving, 6) + 0.0,
                saving_percent=None
                if saving is None or not row.cost_per_hour
                else round(100.0 * saving / row.cost_per_hour, 6) + 0.0,
                message=row.message,
            )
        )
    return tuple(found)
