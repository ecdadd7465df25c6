"""How a solve went: cost and proven bound over time. History files are JSON.

Plans are the same whenever they are made again; times are not, so they have a file of their own.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath, parse_json, read_text
from igniter_opt.base.schema import Name, NonNegative, Record, parse_record
from igniter_opt.data.plan import Plan, SolverInfo

HISTORY_SCHEMA: Final = "igniter-opt/history@1"


class HistoryPoint(Record):
    """The best plan's cost and the proven bound from a moment on (seconds; currency per hour; None: none yet)."""

    elapsed_s: NonNegative
    cost_per_hour: NonNegative | None = None
    lower_bound_per_hour: NonNegative | None = None


class History(Record):
    """How a solve went.

    Attributes
    ----------
    instance
        The instance's name.
    solver
        As in the plan, which is how a history is known to be of a plan.
    points
        A point at the first report, at every change of cost or bound, and at the end.
    """

    schema_: Literal["igniter-opt/history@1"] = Field(default=HISTORY_SCHEMA, alias="schema")
    instance: Name
    solver: SolverInfo
    points: Annotated[tuple[HistoryPoint, ...], Field(min_length=1)]


def read_history(path: StrPath, plan: Plan) -> History:
    """Read the history of the solve that made a plan.

    Raises
    ------
    InputError
        The file is no history, or that of another solve.
    """
    data = parse_json(read_text(path), str(path))
    if not isinstance(data, dict) or data.get("schema") != HISTORY_SCHEMA:
        raise InputError(f"{path}: not a history (`igniter-opt solve --history FILE` writes one beside a plan)")
    history = parse_record(History, data, str(path))
    if history.instance != plan.instance.name or history.solver != plan.solver:
        raise InputError(
            f"{path}: is the history of another solve (of {history.instance}, {history.solver.cost_per_hour:g} per"
            f" hour, {history.solver.runtime_s:g} s); give the one written together with this plan"
        )
    return history
