"""The ordered way from the plan that runs to a new one, as a plan file keeps it: of `replan`, and for `deploy`."""

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from pydantic import Field

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import Count, Integer, Name, NonNegative, Number, Record, checked_number, matching

# Of a disruption; keeps sums of them exact enough to compare.
LARGEST_WEIGHT = 1000.0

# Which rates hold: those of the running plan, or those of the new one; ``lesser``: of each workload the lesser one;
# ``own``: of each server what its own plan gives it, so that demand changes when the servers do.
RateSet = Literal["running", "next", "lesser", "own"]
Delay = Annotated[Integer, Field(ge=0)]
PlanDigest = Annotated[str, matching(r"^sha256:[0-9a-f]{64}$", "must be 'sha256:' and 64 hexadecimal digits")]


@dataclass(frozen=True)
class DisruptionWeights:
    """What changes to what runs count against each other, when a plan is made anew.

    Attributes
    ----------
    move
        A server that goes to another GPU.
    restart
        A server that stays on its GPU, with another batch or queue delay.
    resize
        One that stays with another share only: its server starts anew, too, but takes no other memory.
    """

    move: float = 1.0
    restart: float = 0.2
    resize: float = 0.1

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = checked_number(f"the weight of a {entry.name}", getattr(self, entry.name))
            if not 0 <= value <= LARGEST_WEIGHT:
                raise InputError(f"the weight of a {entry.name} must be 0 to {LARGEST_WEIGHT:g}; found {value!r}")


class MigratedServer(Record):
    """A server that a step starts or stops: its placement, and what it serves with (share in percent, delay in us)."""

    gpu: Name
    workload: Name
    replica: Integer
    model: Name
    batch: Count
    share_percent: Number
    queue_delay_us: Delay

    @property
    def key(self) -> tuple[str, str, str, int, float, int]:
        """What tells it from other servers; replicas that are alike are one another's stand-ins."""
        return self.gpu, self.workload, self.model, self.batch, self.share_percent, self.queue_delay_us

    @property
    def placement(self) -> str:
        """Name of the placement as in messages."""
        return f"{self.gpu}/{self.workload}#{self.replica}"


class MigrationStep(Record):
    """Servers to start; when all of them are ready and serve, servers to stop.

    Attributes
    ----------
    holds
        The rates at which the predictor says that all its states hold: started beside what runs, and after the stops
        (for workloads in `short`, it does not say so).
    gap
        Workloads that nothing serves from its end on, until a later step.
    short
        Where there are no such rates for all: workloads that have too few servers, or GPUs that are beyond limits, even
        if every server only carries what its own plan gives it.
    """

    start: tuple[MigratedServer, ...] = ()
    stop: tuple[MigratedServer, ...] = ()
    holds: tuple[RateSet, ...] = ()
    gap: tuple[Name, ...] = ()
    short: tuple[Name, ...] = ()


class Disruption(Record):
    """What a change of plans does to servers.

    Attributes
    ----------
    moves
        Servers that go to another GPU.
    restarts, resizes
        Servers that stay on theirs with another batch, model or queue delay, or with another share only.
    starts, stops
        Servers more, and fewer, than a workload had.
    weighted
        The weighted sum of moves, restarts and resizes.
    bound
        What is proven that no plan of this cost has less than; None where nothing is.
    """

    moves: Delay
    restarts: Delay
    resizes: Delay
    starts: Delay
    stops: Delay
    kept: Delay
    weighted: NonNegative
    bound: NonNegative | None = None


class SpareGpu(Record):
    """A GPU that is used on the way only."""

    name: Name
    type: Name


class Migration(Record):
    """The steps from one plan to another.

    Attributes
    ----------
    running
        Digest of the plan that runs before the first step.
    rates
        The rates at which the order was made to hold; ``both`` are the running plan's and the new one's alike.
    """

    running: PlanDigest
    rates: Literal["both", "running", "next", "lesser", "own"]
    disruption: Disruption
    steps: tuple[MigrationStep, ...] = ()
    spare: tuple[SpareGpu, ...] = ()
