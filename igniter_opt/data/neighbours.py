"""Neighbours of a placement: busy all the time, or as they are; and what a plan says that was judged by the latter."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from igniter_opt.base.schema import Integer, Name, NonNegative, Positive, Record

Neighbours = Literal["full", "actual"]
NEIGHBOURS: tuple[Neighbours, ...] = get_args(Neighbours)
_Probability = Annotated[Positive, Field(lt=1)]


class ActualNeighbours(Record):
    """How a plan was judged in which neighbours are taken as they are (costs in the instance's currency per hour).

    Whether the plan holds is for `verify` to say, which takes a sample of its own and believes nothing of this.

    Attributes
    ----------
    simulated
        The GPUs that hold by simulation only; all others hold beside neighbours that are busy all the time, too.
    confidence
        With which it was said of all of them together that no more requests are late than may be.
    safety
        The part of the allowed late requests that was left over.
    requests, runs, seed
        Of the sample: requests of each GPU's slowest placement in a run, runs, and the solver's seed. 0 requests where
        nothing had to be simulated.
    busy_cost_per_hour, busy_lower_bound_per_hour
        Cost and bound of the plan that was made for neighbours that are busy all the time.
    """

    kind: Literal["actual"] = "actual"
    simulated: tuple[Name, ...] = ()
    confidence: _Probability
    safety: Annotated[NonNegative, Field(lt=1)]
    requests: Annotated[Integer, Field(ge=0)]
    runs: Annotated[Integer, Field(ge=0)]
    seed: Annotated[Integer, Field(ge=0)]
    busy_cost_per_hour: NonNegative
    busy_lower_bound_per_hour: NonNegative | None = None
