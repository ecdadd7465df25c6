"""What users send: the part that simulations, measurements and rehearsals are told alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.base.nanoseconds import whole_ns
from igniter_opt.data.arrivals import Arrivals, either
from igniter_opt.data.instance import Instance
from igniter_opt.data.split import Split
from igniter_opt.data.traces import read_traces

# What settings name as the kind where workloads have different arrivals, and the key of each one's words.
_MIXED = "mixed"
_BY_WORKLOAD = "arrivals_by_workload"


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Requests as they come.

    Attributes
    ----------
    arrivals
        How the requests of all workloads arrive; None for as the plan has it, which may differ between workloads.
    traces
        For arrivals ``trace``: pairs of a workload's name (None where the file names the workloads) and a file.
        These times are taken as they are. Arrivals that have a file of their own are scaled to a workload's rate.
    scale
        Multiplies all rates.
    split
        How replicas share a workload's requests; None for the usual way (`way_to_split`).
    seed
        What random numbers begin with.
    """

    arrivals: Arrivals | None = None
    traces: Sequence[tuple[str | None, str | Path]] = ()
    scale: float = 1.0
    split: Split | None = None
    seed: int = 0

    @property
    def way_to_split(self) -> Split:
        """How replicas share requests.

        Random, as a rule on percentiles assumes; but in turn for constant arrivals, which would not be constant
        otherwise. No plan has those.
        """
        constant = self.arrivals is not None and self.arrivals.kind == "constant"
        return self.split or ("round-robin" if constant else "random")

    def arrivals_of(self, workloads: Sequence[str], plan: Instance | None) -> dict[str, Arrivals]:
        """Return how the requests of each workload arrive.

        Parameters
        ----------
        plan
            The instance of the plan that is loaded; without it nothing is planned, and arrivals are Poisson.
        """
        if self.arrivals is not None:
            return dict.fromkeys(workloads, self.arrivals)
        known = {} if plan is None else {entry.name: plan.arrivals_of(entry) for entry in plan.workloads}
        return {name: known.get(name, Arrivals()) for name in workloads}

    def check_traces(self) -> None:
        """Raise InputError where trace files and arrivals do not go together."""
        kind = "as planned" if self.arrivals is None else self.arrivals.kind
        if kind != "trace" and self.traces:
            raise InputError(f"a trace belongs to arrivals trace; the arrivals are {kind}")
        if self.arrivals is not None and kind == "trace":
            own = self.arrivals.file is not None or self.arrivals.recorded is not None
            if own == bool(self.traces):
                raise InputError(f"arrivals trace: give a trace file{', one only' if own else ''}")

    def recorded(self, rates_rps: Mapping[str, float], plan: Instance | None) -> dict[str, FloatArray]:
        """Return the arrival times of the workloads that have a trace; in whole nanoseconds at this scale.

        Parameters
        ----------
        rates_rps
            The workloads, and their rates in the plan.
        plan
            As in `arrivals_of`.

        Raises
        ------
        InputError
            A file is no trace of these workloads, or has changed since the plan was made.
        """
        if self.traces:
            found = read_traces(self.traces, list(rates_rps))
            return found if self.scale == 1.0 else {name: whole_ns(times / self.scale) for name, times in found.items()}
        arrivals = {name: own for name, own in self.arrivals_of(list(rates_rps), plan).items() if own.kind == "trace"}
        # A file that several workloads share is read once.
        read = {own: own.planned(list(arrivals)) for own in dict.fromkeys(arrivals.values())}
        streams = {name: read[own].recorded for name, own in arrivals.items()}
        return {
            name: stream.times_at_ns(name, self.scale * rates_rps[name])
            for name, stream in streams.items()
            if stream is not None
        }

    def settings(self, workloads: Sequence[str], plan: Instance | None) -> dict[str, Any]:
        """Return the arrivals' kind and parameters for files; where workloads differ, each one's in words."""
        found = self.arrivals_of(workloads, plan)
        if len({own.words for own in found.values()}) > 1:
            return {"arrivals": _MIXED, _BY_WORKLOAD: {name: own.words for name, own in found.items()}}
        own = next(iter(found.values()))
        return {"arrivals": own.kind, **own.settings, **({"trace": own.file} if own.file else {})}


def planned_words(plan: Instance) -> str:
    """Name the arrivals of a plan's instance."""
    return either(plan.arrivals_of(workload).words for workload in plan.workloads)


def arrivals_words(settings: Mapping[str, Any]) -> str:
    """Name the arrivals that `Traffic.settings` says."""
    each = settings.get(_BY_WORKLOAD)
    if isinstance(each, Mapping):
        return either(map(str, each.values()))
    if settings.get("trace"):
        return f"arrivals as recorded in {settings['trace']}"
    return f"{settings.get('arrivals')} arrivals"
