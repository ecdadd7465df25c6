"""What takes measurements: `cuda` on a real GPU, `synthetic` and `recorded` without one."""

from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Protocol

from igniter_opt.profiler.runners.counters import KernelUtilisation

# A share so small that it shows the fewest SMs that a process gets.
LEAST_ASKED_PERCENT = 0.5


class Job(NamedTuple):
    """Something to run: a model at a batch, on so many SMs."""

    model: str
    batch: int
    sms: int


class Reading(NamedTuple):
    """One job's times in ms, over `batches` batches that it ran one after the other.

    Attributes
    ----------
    wall_ms, wall_std_ms, wall_median_ms
        From handing a batch to the GPU to having its answer, copies left out.
    gpu_ms
        The part between the GPU's own events.
    copy_ms
        Copying input and output.
    """

    batches: int
    wall_ms: float
    wall_std_ms: float
    wall_median_ms: float
    gpu_ms: float
    copy_ms: float


class Moment(NamedTuple):
    """What jobs side by side did, and the card meanwhile (W, MHz; means)."""

    readings: tuple[Reading, ...]
    power_w: float
    frequency_mhz: float


class Facts(NamedTuple):
    """What a model is: kernels of one pass, bytes of one item, memory in MiB."""

    kernels: int
    input_bytes: int
    output_bytes: int
    fixed_mib: float
    per_item_mib: float


class Card(NamedTuple):
    """What a card is (MHz, W, MiB, bytes per ms); `sms_granted` says what shares in percent yield."""

    name: str
    driver: str
    framework: str
    sm_count: int
    sms_granted: dict[float, int]
    max_frequency_mhz: float
    max_power_w: float
    idle_power_w: float
    memory_mib: float
    copy_bytes_per_ms: float


class Runner(Protocol):
    """Takes measurements; a context, since processes may be kept in it."""

    def __enter__(self) -> "Runner":
        """Get ready."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything that was started."""

    def card(self) -> Card:
        """Say what the card is; asked before anything is measured."""

    def facts(self, models: Sequence[str], batches: Sequence[int]) -> dict[str, Facts]:
        """Say what models are."""

    def counters(self, models: Sequence[str], batches: Sequence[int]) -> dict[tuple[str, int], KernelUtilisation]:
        """Read utilisation counters of models alone on the whole card."""

    def expect(self, jobs: Sequence[Sequence[Job]]) -> None:
        """Begin to get ready for groups of jobs, as far as that leaves the card alone; others may come as well."""

    def prepare(self, jobs: Sequence[Sequence[Job]]) -> None:
        """Get ready for groups of jobs."""

    def measure(self, jobs: Sequence[Job], seconds: float) -> Moment:
        """Run jobs side by side for so many seconds; a reading of no batches means that this was too short."""

    def forget(self) -> None:
        """Free what models take."""
