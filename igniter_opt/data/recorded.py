"""A recorded stream as an instance and a plan carry it.

A plan must be judged wherever it is read, so it carries the times themselves where they are few: as gaps in whole
nanoseconds, packed. Of more than `MOST_CARRIED` requests it carries the path of the file and a digest of the times, and
the file is read again when they are needed: a plan of a hundred megabytes would serve nobody.
"""

import base64
import binascii
import hashlib
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import describe
from igniter_opt.data.named_files import NamedFiles

# Files without traces are read without NumPy.
if TYPE_CHECKING:
    from igniter_opt.base.arrays import FloatArray

# In one plan; some half a megabyte of text.
MOST_CARRIED = 100_000
# More than a plan may hold.
_MOST_BYTES = 64 * 2**20
# Key of the one stream of a file that names no workloads: it stands for every workload.
ANY = ""


@dataclass(frozen=True)
class RecordedStream:
    """How many requests there are, how many come per second on average, and a digest of their times."""

    requests: int
    rate_rps: float
    digest: str
    # A FloatArray; pydantic, which looks at all types of a field, would have to know that one.
    times_ns: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Recorded:
    """The streams of a trace file, by workload; `ANY` where it names none.

    Attributes
    ----------
    source
        The file.
    """

    source: str = field(compare=False)
    streams: tuple[tuple[str, RecordedStream], ...]

    def stream(self, workload: str) -> RecordedStream:
        """Return a workload's stream.

        Raises
        ------
        InputError
            There is none.
        """
        known = dict(self.streams)
        found = known.get(ANY) or known.get(workload)
        if found is None:
            raise InputError(f"{self.source}: the trace has no requests of workload {workload}")
        return found

    def times_ns(self, workload: str) -> "FloatArray":
        """Return a workload's arrival times in whole nanoseconds since the first one.

        Raises
        ------
        InputError
            They are in a file that is gone, or has changed.
        """
        stream = self.stream(workload)
        if stream.times_ns is not None:
            known: FloatArray = stream.times_ns
            return known
        names = [name for name, _ in self.streams]
        again = record_trace(Path(self.source), [] if names == [ANY] else names)
        if again != self:
            raise InputError(
                f"{self.source}: the trace is not the one that the plan was made for; its times have changed"
            )
        # The times are kept: reading takes a while.
        object.__setattr__(self, "streams", again.streams)
        return self.times_ns(workload)

    def times_at_ns(self, workload: str, rate_rps: float) -> "FloatArray":
        """Return a workload's arrival times, stretched so that their rate is this one."""
        from igniter_opt.base.nanoseconds import whole_ns

        own, times = self.stream(workload).rate_rps, self.times_ns(workload)
        return times if own == rate_rps else whole_ns(times * (own / rate_rps))

    def to_data(self) -> dict[str, Any]:
        """Return it as plain data for a file."""
        few = sum(stream.requests for _, stream in self.streams) <= MOST_CARRIED
        streams = {
            name: {
                "requests": stream.requests,
                "rate_rps": stream.rate_rps,
                "digest": stream.digest,
                **({"gaps_ns": _packed(self.times_ns(name))} if few else {}),
            }
            for name, stream in self.streams
        }
        return {"source": self.source, "streams": streams}


def recorded_from(data: object, files: NamedFiles) -> Recorded:
    """Return what `Recorded.to_data` has written.

    Parameters
    ----------
    files
        What the name of the file stands for that times are read from where they are not carried along.

    Raises
    ------
    InputError
        It is not that, or its times are in a file where none may be named.
    """
    if not isinstance(data, dict) or not isinstance(data.get("streams"), dict) or not data["streams"]:
        raise InputError("recorded: must hold the streams of a trace, as plans do; give a file instead")
    if not isinstance(data.get("source"), str) or set(data) != {"source", "streams"}:
        raise InputError("recorded: must have the keys source and streams; give a file instead")
    entries = {name: _checked_entry(name, entry) for name, entry in data["streams"].items()}
    requests = sum(entry["requests"] for entry in entries.values())
    # Times that are carried along but are too many to be written again would be read from the file later.
    if requests > MOST_CARRIED or any(entry.get("gaps_ns") is None for entry in entries.values()):
        files.path(data["source"], "a trace", f"give the times themselves, of {MOST_CARRIED:,} requests at most")
    files.admit(requests)
    return Recorded(data["source"], tuple((name, _stream_from(name, entry)) for name, entry in entries.items()))


def _where(name: str) -> str:
    return f"recorded: stream {name!r}" if name else "recorded"


def _checked_entry(name: str, entry: object) -> dict[str, Any]:
    """Return what stands for a stream, whose numbers are such."""
    where = _where(name)
    if not isinstance(entry, dict) or not {"requests", "rate_rps", "digest"} <= set(entry):
        raise InputError(f"{where}: must have requests, rate_rps and digest; found {describe(entry)}")
    requests, rate = entry["requests"], entry["rate_rps"]
    if not isinstance(requests, int) or not isinstance(rate, int | float) or not isinstance(entry["digest"], str):
        raise InputError(f"{where}: requests, rate_rps or digest is not what it should be")
    if not (requests >= 2 and 0 < rate < math.inf):
        raise InputError(f"{where}: requests and rate_rps must be positive")
    return entry


def _stream_from(name: str, entry: dict[str, Any]) -> RecordedStream:
    if entry.get("gaps_ns") is None:
        return RecordedStream(entry["requests"], float(entry["rate_rps"]), entry["digest"])
    where = _where(name)
    found = _stream(where, _unpacked(where, entry["gaps_ns"], entry["requests"]))
    if found.digest != entry["digest"] or found.requests != entry["requests"]:
        raise InputError(f"{where}: gaps_ns does not have the digest that stands beside it; the file was changed")
    return found


def record_trace(path: Path, workloads: Sequence[str]) -> Recorded:
    """Read a trace for workloads: one stream for each where the file names them, else one that stands for all.

    Raises
    ------
    InputError
        The file is no trace of these workloads, or a stream has too few requests to have a rate.
    """
    from igniter_opt.data.traces import names_workloads, read_traces

    if names_workloads(path):
        times: Mapping[str, FloatArray] = read_traces([(None, path)], workloads)
    else:
        times = {ANY: read_traces([(ANY, path)], [ANY])[ANY]}
    return Recorded(str(path), tuple((name, _stream(str(path), own - own[0], name)) for name, own in times.items()))


def _stream(where: str, times_ns: "FloatArray", name: str = ANY) -> RecordedStream:
    import numpy as np

    from igniter_opt.base.nanoseconds import NS_PER_S

    whose = f" of workload {name}" if name else ""
    if len(times_ns) < 2:
        raise InputError(f"{where}: the trace has one request{whose} only; it takes two at least to have a rate")
    span = float(times_ns[-1]) / NS_PER_S
    if span <= 0.0:
        raise InputError(f"{where}: all requests{whose} come at one time, so that the trace has no rate")
    digest = hashlib.sha256(np.diff(times_ns).astype("<i8").tobytes()).hexdigest()[:32]
    return RecordedStream(len(times_ns), float(f"{(len(times_ns) - 1) / span:.12g}"), digest, times_ns)


def _packed(times_ns: "FloatArray") -> str:
    import numpy as np

    return base64.b64encode(zlib.compress(np.diff(times_ns).astype("<i8").tobytes(), 9)).decode()


def _unpacked(where: str, text: object, requests: int) -> "FloatArray":
    import numpy as np

    try:
        opened = zlib.decompressobj()
        raw = opened.decompress(base64.b64decode(str(text), validate=True), min(_MOST_BYTES, 8 * requests))
        if opened.unconsumed_tail or not opened.eof:
            raise ValueError("too long")
        gaps = np.frombuffer(raw, dtype="<i8").astype(float)
    except (binascii.Error, zlib.error, ValueError):
        raise InputError(f"{where}: gaps_ns is damaged") from None
    if len(gaps) and not (gaps.min() >= 0 and gaps.sum() < 2.0**62):
        raise InputError(f"{where}: gaps_ns has times that are no times")
    return np.concatenate([[0.0], np.cumsum(gaps)])
