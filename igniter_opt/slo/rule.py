"""What an SLO rule is: all that solvers, the judge, servers and reports ask of one.

A rule says when a placement keeps its workload's SLO, and what follows from that: the largest admissible GPU latency of
every configuration, how long a batcher waits, what a workload gets at best. Nobody else asks for a rule's name but to
show it. To add one, write a file in this folder and its row in `rules`. A rule on the inference latency under arrivals
at a constant rate is five short members of a `constant_rate.ConstantRate`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from igniter_opt.base.arrays import BoolArray, FloatArray, IntArray
from igniter_opt.base.errors import UnsuitableError
from igniter_opt.data.instance import Instance, Workload
from igniter_opt.physics.interference import GpuPredictions, PlacementTerms, predict_many
from igniter_opt.physics.parameters import Coefficients, HardwareCoefficients, ModelCoefficients
from igniter_opt.physics.slices import SliceTable

# Relative tolerance of every requirement, the same for solvers and the judge.
TOLERANCE = 1e-9
# Relative guard of roundings to whole numbers.
GUARD = 1e-9


@dataclass(frozen=True)
class ModelAlone:
    """A model on an otherwise empty GPU.

    Attributes
    ----------
    terms
        At every batch and share level; arrays of shape (batches, levels).
    memory_limit_mib
        Of the GPU, where known.
    margin
        Inflates every predicted GPU latency by ``1 + margin``.
    """

    model: ModelCoefficients
    hardware: HardwareCoefficients
    terms: PlacementTerms
    memory_limit_mib: float | None
    margin: float

    @property
    def batches(self) -> IntArray:
        """All batches, shape (batches,)."""
        return np.arange(1, self.model.max_batch + 1, dtype=np.int64)

    @property
    def most_batch(self) -> int:
        """Largest batch that fits the GPU's memory; 0 if none does."""
        return self.model.most_batch(self.memory_limit_mib)

    @property
    def fits(self) -> npt.NDArray[np.bool_]:
        """Which batches fit the GPU's memory, shape (batches,)."""
        needed = self.model.memory_fixed_mib + self.model.memory_per_item_mib * self.batches
        return np.asarray(needed <= (np.inf if self.memory_limit_mib is None else self.memory_limit_mib))

    @cached_property
    def on_whole_gpu(self) -> GpuPredictions:
        """Every full batch on a whole GPU; arrays of shape (batches, 1) or (batches,)."""
        coefficients = Coefficients("", self.hardware, {"": self.model})
        batch = self.batches[:, None]
        return predict_many(coefficients, np.zeros_like(batch), batch, self.hardware.shares()[-1], self.margin)


class Replicas(NamedTuple):
    """Replicas side by side on many GPUs; arrays of shape (GPUs, slots), with model -1 where there is none.

    `workload` is the position in the instance.
    """

    model: IntArray
    batch: IntArray | FloatArray
    share_percent: FloatArray
    rate_rps: FloatArray
    workload: IntArray


class Servers(NamedTuple):
    """Servers that one model could have, with arrays of shape (batches, servers).

    Attributes
    ----------
    latency_ms, busy_ms
        Inference latency of every batch, and how long it keeps the server busy.
    fits
        Whether the batch, and so every smaller one, fits the memory left.
    """

    latency_ms: FloatArray
    busy_ms: FloatArray
    fits: npt.NDArray[np.bool_]


class Fit(NamedTuple):
    """One of several servers (its position), with which batch, and the rate that it carries."""

    position: int
    batch: int
    rate_rps: float


class BestAlone(NamedTuple):
    """What a replica gets at best alone on a GPU.

    Attributes
    ----------
    latency_ms
        Least latency (`Rule.latency_name`) at its rate; infinite if it has none.
    rate_rps
        Largest rate that its SLO admits; 0 if none.
    slo_ms
        Least SLO that admits its rate; infinite if none does.
    """

    latency_ms: float
    rate_rps: float
    slo_ms: float


class Rule(ABC):
    """An SLO rule; where it has parameters, with an instance's (`of`).

    Attributes
    ----------
    name
        What files and ``--slo-rule`` call it.
    has_percentile
        Whether the latency that it limits is a percentile of waiting plus inference latency, which an instance may
        choose; otherwise it is the inference latency.
    needs_monotone
        Whether it can only treat GPUs on which a neighbour never helps (`interference.is_monotone`).
    exact_limits
        Whether a placement holds only if it keeps to its configuration's limit (`limits_ms`). Otherwise some hold
        beyond it, and bounds of methods that work with limits say nothing about plans with such.
    dear_limits
        Whether limits take so long to compute that they are computed once, with progress shown.
    lower_rates
        Whether a placement that holds also holds at a lower rate of its workload: ``always``; ``expected``, but not
        proven; or ``not always``.
    """

    name: str
    has_percentile: bool = False
    needs_monotone: bool = False
    exact_limits: bool = True
    dear_limits: bool = False
    lower_rates: Literal["always", "expected", "not always"] = "not always"

    def of(self, instance: Instance) -> "Rule":
        """Return the rule with an instance's parameters."""
        return self

    @property
    @abstractmethod
    def words(self) -> str:
        """What it keeps, in a sentence without capital and full stop."""

    @property
    def latency_name(self) -> str:
        """Name of the latency that it limits, which `latencies_ms` gives."""
        return "latency"

    # ---- what it asks -------------------------------------------------------------------------------

    @abstractmethod
    def latency_limit_ms(self, slo_ms: npt.ArrayLike, rate_rps: npt.ArrayLike, batch: npt.ArrayLike) -> FloatArray:
        """Return the largest admissible latency in ms, of the kind that `latencies_ms` gives."""

    @abstractmethod
    def latencies_ms(
        self, coefficients: Coefficients, replicas: Replicas, inference_ms: FloatArray, margin: npt.ArrayLike = 0.0
    ) -> FloatArray:
        """Return the latencies that the rule limits, beside actual neighbours; infinite where there is none.

        Parameters
        ----------
        replicas
            Shape (GPUs, slots), like the result, where entries without a replica mean nothing.
        inference_ms
            Predicted inference latencies of full batches, with the margin.
        margin
            Inflates GPU latencies by ``1 + margin``; one for all, or of that shape.
        """

    @property
    def most_utilisation(self) -> float:
        """Largest admissible rate over throughput."""
        return 1.0

    def is_late(self, latency_ms: npt.ArrayLike, limit_ms: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return where a latency that `latencies_ms` gives is over its limit, or no number."""
        limit = np.asarray(limit_ms, dtype=float)
        return np.asarray(~(np.asarray(latency_ms, dtype=float) <= limit + TOLERANCE * np.abs(limit)))

    def is_short(self, throughput_rps: npt.ArrayLike, rate_rps: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return where a throughput does not suffice for a rate."""
        carried = np.asarray(throughput_rps, dtype=float) * self.most_utilisation
        return np.asarray(~(carried >= np.asarray(rate_rps, dtype=float) * (1 - TOLERANCE)))

    @abstractmethod
    def queue_delay_us(self, slo_ms: float, rate_rps: float, batch: int) -> int:
        """Return how long the oldest request may wait for a batch to fill, in microseconds.

        This is the batcher's setting under which the rule's promise holds, beside the placement's batch as both the
        largest and the preferred one.
        """

    @abstractmethod
    def at_load(self, slo_ms: float, rate_rps: float, batch: int, delay_s: float) -> tuple[int, float]:
        """Return the largest batch that forms at a rate, and how long the inference latency of it may be in ms.

        The rate may be lower than the one planned, and so the batch smaller. A batcher waits for `delay_s` (in seconds)
        at most.
        """

    # ---- what follows for solvers -------------------------------------------------------------------

    @abstractmethod
    def limits_ms(self, alone: ModelAlone, workload: Workload, rate_rps: float) -> FloatArray:
        """Return the largest admissible GPU latencies D of a replica of this rate, in ms.

        Returns
        -------
        FloatArray
            Shape (batches, levels), not to be written to; not positive where nothing is admissible.
        """

    def keep_limits(self) -> None:  # noqa: B027 (a rule whose limits are cheap keeps none)
        """Let later runs have the limits that were made, where these are dear (`dear_limits`)."""

    @abstractmethod
    def largest_rates(self, alone: ModelAlone, workload: Workload) -> FloatArray:
        """Return the largest rates (req/s) that hold alone on a whole GPU, by batch; shape (batches,).

        0 where none does, or where memory does not suffice.
        """

    @abstractmethod
    def best_alone(self, alone: ModelAlone, workload: Workload, rate_rps: float) -> BestAlone:
        """Return what a replica of this rate gets at best."""

    @abstractmethod
    def dedicated(
        self, alone: ModelAlone, workload: Workload, sustained: Callable[[FloatArray], FloatArray]
    ) -> tuple[int, float]:
        """Return the batch of a whole GPU of its own and the rate (req/s) that it sustains, 0 if none.

        Parameters
        ----------
        sustained
            Which part of the largest rate counts as sustained.
        """

    @abstractmethod
    def first_fit(self, servers: Servers, workload: Workload, rate_rps: float, least_rps: float) -> Fit | None:
        """Return the first server that carries `least_rps`, at the batch that the rule gives it; None if none does.

        It is asked for `rate_rps`, and carries no more.
        """

    # ---- on slices under MIG ------------------------------------------------------------------------

    def slice_rates(self, table: SliceTable, workload: Workload, margin: float) -> tuple[FloatArray, FloatArray]:
        """Return for every reading the least and the largest rate (req/s) of all its processes together that holds.

        What is between them holds, too. The least is infinite where nothing does.

        Raises
        ------
        UnsuitableError
            The rule does not know slices, or not under these arrivals.
        """
        raise UnsuitableError(f"rule {self.name} does not say what it asks of slices under MIG; take another rule")

    def slice_reach_rps(self, table: SliceTable, fits: BoolArray, workload: Workload, margin: float) -> float:
        """Return up to which rate a slice is sure to carry every rate, by one of the readings that fit its memory.

        Infinite where a reading that holds at some rate holds at every lower one, so that nothing is to be looked for.
        """
        return math.inf

    def slice_latency_ms(
        self, table: SliceTable, row: int, workload: Workload, rate_rps: float, margin: float = 0.0
    ) -> float:
        """Return the latency that the rule limits, of a reading's processes at this rate of them all together.

        Raises
        ------
        UnsuitableError
            As `slice_rates`.
        """
        raise UnsuitableError(f"rule {self.name} does not say what it asks of slices under MIG; take another rule")

    def without_latency(self) -> str | None:
        """Say why a replica has no finite latency alone on a GPU, where the rule knows."""
        return None

    def other_remedies(self, alone: ModelAlone, workload: Workload, rate_rps: float) -> list[str]:
        """Return what else than rate, SLO and replicas would make a replica hold alone, where the rule knows."""
        return []

    def basis(self) -> str | None:
        """Say how sure a judgement is, where it takes more than the predictor."""
        return None
