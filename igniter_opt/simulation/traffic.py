"""What users send: the part that simulations, measurements and rehearsals are told alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.nanoseconds import whole_ns
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.traces import read_traces
from igniter_opt.simulation.splitting import Split


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Requests as they come.

    Attributes
    ----------
    arrivals
        How they arrive.
    traces
        For arrivals ``trace``: pairs of a workload's name (None where the file names the workloads) and a file.
    scale
        Multiplies all rates.
    split
        How replicas share a workload's requests; None for the usual way (`way_to_split`).
    seed
        What random numbers begin with.
    """

    arrivals: Arrivals = Arrivals()  # noqa: RUF009
    traces: Sequence[tuple[str | None, str | Path]] = ()
    scale: float = 1.0
    split: Split | None = None
    seed: int = 0

    @property
    def way_to_split(self) -> Split:
        """How replicas share requests.

        Random, as a rule on percentiles assumes; but in turn for constant arrivals, which would not be constant
        otherwise.
        """
        return self.split or ("round-robin" if self.arrivals.kind == "constant" else "random")

    def recorded(self, workloads: Sequence[str]) -> dict[str, FloatArray] | None:
        """Read the arrival times of a trace, by workload; in whole nanoseconds at this scale. None for other arrivals.

        Raises
        ------
        InputError
            A file is no trace of these workloads.
        """
        if self.arrivals.kind != "trace":
            return None
        found = read_traces(self.traces, workloads)
        return found if self.scale == 1.0 else {name: whole_ns(times / self.scale) for name, times in found.items()}
