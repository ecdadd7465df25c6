"""The plan: which GPUs, and for every workload its GPU, share and batch. Plan files are JSON."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from igniter_opt.base.display import Shown
from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath, as_path, json_lines, parse_json, read_text
from igniter_opt.base.frames import frame
from igniter_opt.base.kinds import PLAN, write_output
from igniter_opt.base.schema import (
    Integer,
    Name,
    NonNegative,
    Number,
    Positive,
    Record,
    check_to_write,
    describe,
    in_short,
    integers_only,
    invalid,
    parse_record,
)
from igniter_opt.data.instance import Instance
from igniter_opt.data.migration import Migration
from igniter_opt.data.named_files import CONTEXT_KEY, NamedFiles
from igniter_opt.data.neighbours import ActualNeighbours

if TYPE_CHECKING:
    import pandas as pd

PLAN_SCHEMA: Final = "igniter-opt/plan@1"
# Longer than the loosest SLO.
QueueDelayUs = Annotated[int, Field(ge=0, le=10**13), BeforeValidator(integers_only)]
Status = Literal["optimal", "feasible", "heuristic", "violates", "infeasible"]


class Placement(Record):
    """One replica of a workload on one GPU (share in percent, rate and throughput in req/s, latency in ms).

    `batch` is both the largest and the preferred batch of the server's dynamic batcher; `queue_delay_us` is its
    queue delay in microseconds, which the plan's SLO rule assumes (`rule.Rule.queue_delay_us`). Plans of older
    versions have none. `predicted_latency_ms` is the inference latency of a full batch, without margin and without
    waiting, under every rule: the percentile that rule `p99` limits is what `verify` computes.

    On a card that MIG cuts, `slice` is the kind of slice, `slot` the memory slot at which it begins, `processes` how
    many equal servers run in it, `share_percent` its part of the SMs in sevenths, and rate and throughput are of all
    these servers together.
    """

    workload: Name
    replica: Integer
    model: Name
    batch: Integer
    share_percent: Number
    rate_rps: Number
    predicted_latency_ms: Number
    predicted_throughput_rps: Number
    queue_delay_us: QueueDelayUs | None = None
    slice: str | None = None
    slot: Integer | None = None
    processes: Integer | None = None

    @model_validator(mode="after")
    def _slice_as_a_whole(self) -> "Placement":
        if len({value is None for value in (self.slice, self.slot, self.processes)}) != 1:
            raise invalid("slice, slot and processes go together: give all three, or none")
        return self


class PlanGpu(Record):
    """One GPU of the plan and its placements."""

    name: Name
    type: Name
    placements: tuple[Placement, ...] = Field(min_length=1)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from {"name": self.name, "type": self.type}.items()
        yield "placements", in_short(placement.workload for placement in self.placements)

    @property
    def total_share_percent(self) -> float:
        """Sum of the placements' shares in percent."""
        return sum(placement.share_percent for placement in self.placements)


class SolverInfo(Record):
    """How the plan was made and what is proven about it (costs in the instance's currency per hour).

    `margin` inflates the predicted GPU latencies; with `confidence` it is the largest of the calibrated margins of the
    GPU types' profiles.
    """

    method: str
    status: Status
    cost_per_hour: NonNegative
    lower_bound_per_hour: NonNegative | None = None
    gap: NonNegative | None = None
    total_share_percent: NonNegative
    total_share_lower_bound_percent: NonNegative | None = None
    runtime_s: NonNegative
    margin: NonNegative = 0.0
    confidence: Annotated[Positive, Field(lt=1)] | None = None
    seed: Integer = 0
    version: str


class Plan(Record, Shown):
    """A self-contained plan: the instance with its profiles, the solver's claims and the placements.

    `neighbours` is there in plans that were judged beside neighbours as they are; in all others they count as busy all
    the time. A plan that takes the place of another (`replan`) has the way there, too.
    """

    schema_: Literal["igniter-opt/plan@1"] = Field(default=PLAN_SCHEMA, alias="schema")
    instance: Instance
    solver: SolverInfo
    neighbours: ActualNeighbours | None = None
    gpus: tuple[PlanGpu, ...]
    migration: Migration | None = None

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        solver = self.solver
        yield from {"instance": self.instance.name, "method": solver.method, "status": solver.status}.items()
        yield from {"gpus": len(self.gpus), "cost_per_hour": solver.cost_per_hour}.items()
        if solver.lower_bound_per_hour is not None:
            yield "lower_bound_per_hour", solver.lower_bound_per_hour

    @property
    def total_share_percent(self) -> float:
        """Sum of all shares in percent."""
        return sum(gpu.total_share_percent for gpu in self.gpus)

    def to_frame(self) -> "pd.DataFrame":
        """Return the placements as a table; `verify` judges them."""
        return frame(
            {"gpu": gpu.name, "type": gpu.type, **dict(placement)} for gpu in self.gpus for placement in gpu.placements
        )


def plan_json(plan: Plan) -> str:
    """Render a plan as JSON text, a workload or placement a line; equal plans give equal text."""
    data = plan.model_dump(mode="json", by_alias=True, exclude_none=True)
    data["solver"] = plan.solver.model_dump(mode="json")
    return json_lines(data) + "\n"


def write_plan(plan: Plan, path: StrPath, *, allow_violations: bool = False) -> None:
    """Write a plan file atomically.

    Parameters
    ----------
    allow_violations
        Write a plan of status ``violates``, too; `verify` and `compare` show what it misses, and `deploy` refuses it.

    Raises
    ------
    InputError
        The plan misses SLOs or rates by its own status, what is at the path is neither a plan nor empty, or nothing
        can be written there.
    """
    check_to_write(plan, Plan)
    if plan.solver.status == "violates" and not allow_violations:
        raise InputError(
            f"the plan of method {plan.solver.method} misses SLOs or rates, as `verify` shows; nothing was written."
            " Take a method whose plans hold, or give allow_violations=True to write it all the same"
        )
    write_output(path, plan_json(plan).encode(), PLAN)


def as_plan(plan: Plan | StrPath) -> Plan:
    """Return a plan as it is, or read the one at this path."""
    return plan if isinstance(plan, Plan) else read_plan(plan)


def read_plan(path: StrPath) -> Plan:
    """Read a plan file; raise InputError when it is no plan of a schema version this package knows."""
    path = as_path(path, "a plan, or the path of one")
    try:
        data = parse_json(read_text(path), str(path))
    except InputError as error:
        if str(path).endswith((".yaml", ".yml")) and "not JSON" in str(error):
            raise InputError(f"{path}: not a plan (plans are JSON, written by `igniter-opt solve -o`)") from None
        raise
    return plan_from_data(data, str(path))


def plan_from_data(data: Any, source: str, files: NamedFiles | None = None) -> Plan:
    """Validate a plan's parsed JSON.

    Parameters
    ----------
    files
        What the names of traces stand for whose times the plan does not carry; paths by default.
    """
    if isinstance(data, dict):
        if "schema" not in data:
            raise InputError(f"{source}: not a plan (the key 'schema' is missing); `igniter-opt solve -o` writes plans")
        if data["schema"] != PLAN_SCHEMA:
            raise InputError(
                f"{source}: schema: unknown plan schema {describe(data['schema'])}; this version reads {PLAN_SCHEMA!r}"
            )
    return parse_record(Plan, data, source, {CONTEXT_KEY: files})
