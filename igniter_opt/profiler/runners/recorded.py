"""Replays the measurements of a log instead of taking them, so that a profile can be made again without its card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from igniter_opt.base.errors import InputError
from igniter_opt.profiler.record import read_log
from igniter_opt.profiler.runners.counters import KernelUtilisation
from igniter_opt.profiler.runners.runner import Card, Facts, Job, Moment, Reading


class RecordedRunner:
    """Answers from a log that a session on a real card has written (`record.Log`).

    Parameters
    ----------
    path
        The log.

    Attributes
    ----------
    head
        What the log says it is about: kind, precision, batches and shares of a profile.
    measured
        Groups of jobs that were asked for, in order.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        self.path = path
        self.head, *rest = read_log(path)
        self._values: dict[str, Any] = {entry["key"]: entry["value"] for entry in rest}
        self._moments: dict[tuple[Job, ...], list[Any]] = {}
        for value in self._values.values():
            if isinstance(value, dict) and "readings" in value:
                self._moments.setdefault(_jobs(value["jobs"]), []).append(value)
        self.measured: list[tuple[Job, ...]] = []

    def __enter__(self) -> "RecordedRunner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing was started."""

    def _value(self, key: str) -> Any:
        if key not in self._values:
            raise InputError(f"{self.path}: holds no measurement {key!r}; it was stopped early, or is of other models")
        return self._values[key]

    def card(self) -> Card:
        """Return the recorded card."""
        value = dict(self._value("card"))
        value["sms_granted"] = {float(share): sms for share, sms in value["sms_granted"].items()}
        return Card(**value)

    def facts(self, models: Sequence[str], batches: Sequence[int]) -> dict[str, Facts]:
        """Return the recorded facts."""
        return {model: Facts(**self._value(f"facts {model}")) for model in models}

    def counters(self, models: Sequence[str], batches: Sequence[int]) -> dict[tuple[str, int], KernelUtilisation]:
        """Return the recorded counters."""
        found = {
            (model, entry["batch"]): KernelUtilisation(entry["l2_percent"], entry["dram_percent"])
            for model in models
            for entry in self._value(f"counters {model}")
        }
        lacking = [(model, batch) for model in models for batch in batches if (model, batch) not in found]
        if lacking:
            model, batch = lacking[0]
            raise InputError(f"{self.path}: holds no counters of {model} at batch {batch}")
        return found

    def expect(self, jobs: Sequence[Sequence[Job]]) -> None:
        """Nothing to do."""

    def prepare(self, jobs: Sequence[Sequence[Job]]) -> None:
        """Raise InputError unless all groups were recorded."""
        for group in jobs:
            if tuple(group) not in self._moments:
                wanted = ", ".join(f"{job.model} batch {job.batch} on {job.sms} SMs" for job in group)
                raise InputError(f"{self.path}: holds no measurement of {wanted}")

    def measure(self, jobs: Sequence[Job], seconds: float) -> Moment:
        """Return the recorded reading of these jobs, however long it took; the next one whenever asked again."""
        self.prepare([jobs])
        found = self._moments[tuple(jobs)]
        value = found[self.measured.count(tuple(jobs)) % len(found)]
        self.measured.append(tuple(jobs))
        readings = tuple(Reading(**reading) for reading in value["readings"])
        return Moment(readings, value["power_w"], value["frequency_mhz"])

    def forget(self) -> None:
        """Nothing is held."""


def _jobs(entries: Sequence[Mapping[str, Any]]) -> tuple[Job, ...]:
    return tuple(Job(**entry) for entry in entries)
