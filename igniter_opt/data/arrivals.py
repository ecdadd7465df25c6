"""When requests arrive: constant, Poisson, gamma and Markov-modulated streams, and splitting one over replicas."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

from pydantic import PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import checked_number, describe, invalid, nearest
from igniter_opt.data.named_files import FilesIn, NamedFiles, files_of
from igniter_opt.data.recorded import Recorded, record_trace, recorded_from

# Files are read by many who draw nothing, so NumPy is imported where times are drawn.
if TYPE_CHECKING:
    import numpy as np

    from igniter_opt.base.arrays import FloatArray

ArrivalKind = Literal["constant", "poisson", "gamma", "mmpp", "trace"]
ARRIVAL_KINDS: tuple[ArrivalKind, ...] = get_args(ArrivalKind)
# What a rule on percentiles can plan for; constant arrivals are what the other rules assume.
PLANNED_KINDS: tuple[ArrivalKind, ...] = ("poisson", "gamma", "mmpp", "trace")

DEFAULT_BURSTINESS = 4.0
DEFAULT_BURST_RATIO = 4.0
DEFAULT_BURST_SECONDS = 1.0
# Beyond these a stream is hardly a stream, and its times leave the range of floating point.
BURSTINESS_RANGE = (1e-4, 1e4)
_LARGEST_BURST_RATIO = 1e6
_BURST_SECONDS_RANGE = (1e-9, 1e9)
# With more changes of rate than this per request, they average out and the stream is Poisson.
_MOST_CHANGES_PER_REQUEST = 100.0
# Of different arrivals so many are named.
_MOST_NAMED = 4


@dataclass(frozen=True)
class Arrivals:
    """How requests arrive; the rate is the workload's.

    Attributes
    ----------
    kind
        ``constant``: one every 1 / rate. ``poisson``: independent exponential gaps. ``gamma``: independent
        gamma-distributed gaps. ``mmpp``: Poisson whose rate alternates between a high and a low value, each for
        an exponentially distributed time (two-state Markov-modulated Poisson process). ``trace``: given times.
    burstiness
        For ``gamma``: squared coefficient of variation of the gaps (1 is Poisson, 0 constant; default 4).
    burst_ratio, burst_seconds
        For ``mmpp``: high rate over low rate (default 4), and the mean time in each state in seconds (default 1).
        The rates are ``2 R ratio / (1 + ratio)`` and ``2 R / (1 + ratio)`` for a mean rate of R.
    file
        For ``trace`` in an instance: a file of arrival times (`data.traces`).
    recorded
        For ``trace`` in an instance: what is in the file.

    Raises
    ------
    InputError
        Unknown kind, a value out of range, or one that does not belong to the kind.
    """

    kind: ArrivalKind = "poisson"
    burstiness: float | None = None
    burst_ratio: float | None = None
    burst_seconds: float | None = None
    file: str | None = None
    recorded: Recorded | None = None

    def __post_init__(self) -> None:
        if self.kind not in ARRIVAL_KINDS:
            hint = nearest(self.kind, ARRIVAL_KINDS)
            raise InputError(f"arrivals: unknown kind {self.kind!r}{hint} (kinds: {', '.join(ARRIVAL_KINDS)})")
        for name, kind, low, high in (
            ("burstiness", "gamma", *BURSTINESS_RANGE),
            ("burst_ratio", "mmpp", 1.0, _LARGEST_BURST_RATIO),
            ("burst_seconds", "mmpp", *_BURST_SECONDS_RANGE),
        ):
            value = getattr(self, name)
            if value is None:
                continue
            if self.kind != kind:
                raise InputError(f"{name} belongs to {kind} arrivals; the arrivals are {self.kind}")
            if not low <= checked_number(name, value) <= high:
                raise InputError(f"{name} must be between {low:g} and {high:g}; found {value:g}")
        if self.file is not None and self.kind != "trace":
            raise InputError(f"a trace file belongs to trace arrivals; the arrivals are {self.kind}")

    @property
    def words(self) -> str:
        """What they are, in a few words."""
        given = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in self.settings.items())
        if self.kind == "trace":
            return "arrivals as recorded" + (f" in {self.file}" if self.file else "")
        return ("Poisson" if self.kind == "poisson" else self.kind) + f" arrivals{f' ({given})' if given else ''}"

    def planned(self, workloads: Sequence[str], files: NamedFiles | None = None) -> "Arrivals":
        """Return them as an instance has them: with the times of a trace file.

        Parameters
        ----------
        workloads
            Whose requests these are.
        files
            What the file's name stands for; a path from the current folder by default.

        Raises
        ------
        InputError
            They cannot be planned for, or the file is no trace of these workloads.
        """
        if self.kind not in PLANNED_KINDS:
            raise InputError(
                f"{self.kind} arrivals cannot be planned for by a percentile (kinds: {', '.join(PLANNED_KINDS)});"
                " rules half and deadline assume constant ones"
            )
        if self.kind != "trace" or self.recorded is not None:
            return self
        if self.file is None:
            raise InputError("trace arrivals need a file of times, such as file: requests.csv")
        path = (files or FilesIn()).path(self.file, "a trace", "give other arrivals, or a plan that holds the times")
        return replace(self, recorded=record_trace(path, workloads))

    @property
    def settings(self) -> dict[str, float]:
        """The kind's parameters by name, defaults filled in."""
        if self.kind == "gamma":
            return {"burstiness": self.burstiness or DEFAULT_BURSTINESS}
        if self.kind == "mmpp":
            return {
                "burst_ratio": self.burst_ratio or DEFAULT_BURST_RATIO,
                "burst_seconds": self.burst_seconds or DEFAULT_BURST_SECONDS,
            }
        return {}

    def times_ns(self, rate_rps: float, requests: int, rng: "np.random.Generator") -> "FloatArray":
        """Draw the arrival times of one stream, whole nanoseconds in ascending order, shape (requests,).

        Not for traces. Every stream begins in its steady state, except that constant and gamma arrivals begin
        with a request at 0.
        """
        import numpy as np

        from igniter_opt.base.nanoseconds import NS_PER_S, whole_ns

        period = NS_PER_S / rate_rps
        if self.kind == "constant":
            return whole_ns(np.arange(requests, dtype=float) * period)
        if self.kind == "poisson":
            return whole_ns(np.cumsum(rng.standard_exponential(requests)) * period)
        if self.kind == "gamma":
            burstiness = self.settings["burstiness"]
            gaps = rng.standard_gamma(1.0 / burstiness, requests)
            gaps[0] = 0.0
            return whole_ns(np.cumsum(gaps) * (burstiness * period))
        return self._modulated(rate_rps, requests, rng)

    def _modulated(self, rate_rps: float, requests: int, rng: "np.random.Generator") -> "FloatArray":
        """Stretch a Poisson stream of rate 1 in the time of the integrated rate, which is piecewise linear."""
        import numpy as np

        from igniter_opt.base.nanoseconds import NS_PER_S, whole_ns

        ratio, seconds = self.settings["burst_ratio"], self.settings["burst_seconds"]
        if seconds * rate_rps * _MOST_CHANGES_PER_REQUEST < 1.0:
            raise InputError(
                f"burst_seconds {seconds:g} is much shorter than a request's gap of {1.0 / rate_rps:g} s, so that the"
                " rates average out; use poisson arrivals, or longer bursts"
            )
        rates = np.array([ratio, 1.0]) * (2.0 * rate_rps / (1.0 + ratio))
        demand = np.cumsum(rng.standard_exponential(requests))
        state = int(rng.integers(2))
        times, carried = [np.zeros(1)], [np.zeros(1)]
        while carried[-1][-1] < demand[-1]:
            left = float(demand[-1] - carried[-1][-1])
            changes = 2 * math.ceil(0.6 * left / (seconds * rate_rps) + 8)
            sojourns = rng.exponential(seconds, changes)
            in_states = rates[(state + np.arange(changes)) % 2]
            times.append(times[-1][-1] + np.cumsum(sojourns))
            carried.append(carried[-1][-1] + np.cumsum(sojourns * in_states))
        return whole_ns(np.interp(demand, np.concatenate(carried), np.concatenate(times)) * NS_PER_S)


def arrivals_from(data: object, workloads: Sequence[str], files: NamedFiles) -> Arrivals:
    """Return the arrivals that a mapping in a file describes, times of traces included.

    Raises
    ------
    InputError
        An unknown key, a value out of range, or a trace that cannot be used.
    """
    if isinstance(data, Arrivals):
        return data.planned(workloads, files)
    if not isinstance(data, dict):
        raise InputError(f"must be a mapping such as {{kind: gamma, burstiness: 4}}; found {describe(data)}")
    for key in data:
        if key not in _KEYS:
            raise InputError(f"unknown key {describe(key)}{nearest(key, _KEYS)} (known keys: {', '.join(_KEYS)})")
    if "kind" not in data:
        raise InputError("the key 'kind' is missing")
    given = {key: value for key, value in data.items() if value is not None and key != "recorded"}
    if "recorded" in data:
        given["recorded"] = recorded_from(data["recorded"], files)
    if not isinstance(given.get("file", ""), str):
        raise InputError(f"file must be text; found {describe(given['file'])}")
    return Arrivals(**cast(Any, given)).planned(workloads, files)


_KEYS = ("kind", "burstiness", "burst_ratio", "burst_seconds", "file", "recorded")


def _validated(value: object, info: ValidationInfo) -> object:
    if value is None:
        return None
    try:
        # Programs may name a kind, as in `solve`.
        named = as_arrivals(cast(Any, value)) if isinstance(value, str) else value
        return arrivals_from(named, (), files_of(info.context))
    except InputError as error:
        raise invalid(str(error)) from None


def _serialized(arrivals: Arrivals | None) -> dict[str, Any] | None:
    if arrivals is None:
        return None
    names = ("kind", "burstiness", "burst_ratio", "burst_seconds", "file")
    data = {name: value for name in names if (value := getattr(arrivals, name)) is not None}
    return data if arrivals.recorded is None else {**data, "recorded": arrivals.recorded.to_data()}


# As a field of records.
ArrivalsField = Annotated[
    Arrivals | None,
    PlainValidator(_validated),
    PlainSerializer(_serialized),
    WithJsonSchema(
        {
            "type": "object",
            "required": ["kind"],
            "additionalProperties": False,
            "properties": {
                "kind": {"enum": list(PLANNED_KINDS)},
                "burstiness": {"type": "number"},
                "burst_ratio": {"type": "number"},
                "burst_seconds": {"type": "number"},
                "file": {"type": "string"},
                "recorded": {"type": "object"},
            },
        }
    ),
]


def either(words: Iterable[str]) -> str:
    """Join what workloads' arrivals are in words, each but once, and of many the first ones."""
    different = list(dict.fromkeys(words))
    more = [f"{len(different) - _MOST_NAMED} others"] if len(different) > _MOST_NAMED else []
    return " or ".join([*different[:_MOST_NAMED], *more])


def as_arrivals(arrivals: ArrivalKind | Arrivals) -> Arrivals:
    """Return arrivals as they are, or those of a kind with its defaults; raise InputError where they are neither."""
    return arrivals if isinstance(arrivals, Arrivals) else Arrivals(arrivals)


def with_arrivals(data: dict[str, Any], source: str, files: NamedFiles) -> dict[str, Any]:
    """Read the traces that an instance file names, and give workloads without a rate that of their trace."""
    entries = data.get("workloads")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return data
    names = [entry["name"] for entry in entries if isinstance(entry.get("name"), str)]

    def read(holder: dict[str, Any], where: str, whose: list[str]) -> Arrivals | None:
        if holder.get("arrivals") is None:
            return None
        try:
            return arrivals_from(holder["arrivals"], whose, files)
        except InputError as error:
            raise InputError(f"{source}: {where}arrivals: {error}") from None

    common = read(data, "", [e["name"] for e in entries if e.get("name") in names and e.get("arrivals") is None])
    found = []
    for position, entry in enumerate(entries):
        own = read(entry, f"workloads[{position}].", [entry["name"]] if entry.get("name") in names else [])
        recorded = (own or common or Arrivals()).recorded
        made = entry if own is None else {**entry, "arrivals": own}
        if recorded is not None and entry.get("rate_rps") is None and isinstance(entry.get("name"), str):
            try:
                made = {**made, "rate_rps": recorded.stream(entry["name"]).rate_rps}
            except InputError as error:
                raise InputError(f"{source}: workloads[{position}]: {error}") from None
        found.append(made)
    # Poisson arrivals are what a file without the key means.
    return {**data, "workloads": found, **({"arrivals": None if common == Arrivals() else common} if common else {})}
