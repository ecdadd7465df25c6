"""Recorded traffic as arrivals: an hour of requests, and streams made of recorded demand and burstiness.

The files are not part of the project; their folder is an argument. `azure-2023-conversation-s.csv` has the arrival
times (s) of one hour of Azure's 2023 inference trace, conversation (Patel et al., ISCA 2024; CC-BY-4.0).
`demand-two-weeks.csv` (requests/s of every client every 10 minutes) and `burstiness.csv` (variation of the gaps of the
same clients) are from Alibaba's ServeGen (arXiv 2505.09999; Apache-2.0).
"""

import csv
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.base.nanoseconds import NS_PER_S, whole_ns
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.instance import Instance
from igniter_opt.data.recorded import ANY, Recorded, RecordedStream

HOUR, DEMAND, BURSTINESS = "azure-2023-conversation-s.csv", "demand-two-weeks.csv", "burstiness.csv"
HALF_HOUR_S = 1800.0
# Of a client's two weeks the busiest six hours, in steps of 10 minutes.
STEPS = 36
# A stream has so many requests in all steps together.
REQUESTS = 100_000
# Squared variation of the gaps; clients beyond it are left out, and the notes of the table say so.
MOST_BURSTINESS = 10.0


@dataclass(frozen=True)
class Client:
    """A recorded client.

    Attributes
    ----------
    name
        As in the files.
    demand
        Its rate in every step of its busiest hours over its mean rate there, shape (steps,).
    burstiness
        Squared coefficient of variation of its gaps: the square of the median over all steps.
    headroom
        95th percentile of `demand` less 1, and at least 0: what `instances from-trace` would plan for.
    """

    name: str
    demand: FloatArray
    burstiness: float
    headroom: float


def hour(folder: Path, half: int) -> Arrivals:
    """Return half (0 or 1) of the recorded hour, as arrivals of any rate."""
    path = _known(folder / HOUR)
    times = np.loadtxt(path, ndmin=1)
    own = times[(times >= half * HALF_HOUR_S) & (times < (half + 1) * HALF_HOUR_S)]
    return _as_arrivals(f"{HOUR}, half {half + 1}", [(ANY, whole_ns((own - own[0]) * NS_PER_S))])


def clients(folder: Path) -> list[Client]:
    """Return the recorded clients in the order of the file, without the burstiest."""
    with _known(folder / BURSTINESS).open(newline="", encoding="utf-8") as file:
        variation = {row["stream"]: float(row["gap_cv_median"]) for row in csv.DictReader(file)}
    with _known(folder / DEMAND).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = []
    for name, cv in variation.items():
        rates = np.array([float(row[name]) for row in rows])
        if cv**2 > MOST_BURSTINESS:
            continue
        sums = np.convolve(rates, np.ones(STEPS), "valid")
        busiest = rates[int(sums.argmax()) :][:STEPS]
        demand = busiest / busiest.mean()
        ranked = np.sort(demand)[math.ceil(0.95 * STEPS) - 1]
        headroom = max(0.0, math.ceil((float(ranked) - 1.0) * 1000.0) / 1000.0)
        found.append(Client(name, demand, float(f"{cv**2:.3g}"), headroom))
    return found


def drawn(known: Sequence[Client], workloads: Sequence[str], seed: int) -> Arrivals:
    """Draw a stream for every workload: those of the clients in turn.

    Gaps are gamma-distributed with the client's burstiness in the time of its integrated demand, so that the rate
    follows the demand. Steps last as long as makes `REQUESTS` in all; the rate is stretched to a workload's.
    """
    streams = []
    for number, workload in enumerate(workloads):
        client = known[number % len(known)]
        rng = np.random.default_rng([seed, number])
        gaps = rng.standard_gamma(1.0 / client.burstiness, REQUESTS) * client.burstiness
        # In mean gaps; the last request is the end of the last step.
        even = np.cumsum(gaps)
        even *= REQUESTS / even[-1]
        edges = np.concatenate([[0.0], np.cumsum(client.demand)]) * (REQUESTS / STEPS)
        times = np.interp(even, edges, np.arange(STEPS + 1) * (REQUESTS / STEPS))
        streams.append((workload, whole_ns((times - times[0]) * NS_PER_S)))
    return _as_arrivals(f"{DEMAND}, draw {seed}", streams)


def as_observed(instance: Instance, known: Sequence[Client]) -> Instance:
    """Return an instance as `instances from-trace` would make it of such streams: burstiness and headroom of each."""
    workloads = tuple(
        workload.model_copy(
            update={"arrivals": Arrivals("gamma", burstiness=client.burstiness), "headroom": client.headroom}
        )
        for workload, client in zip(instance.workloads, _in_turn(known, len(instance.workloads)), strict=True)
    )
    return instance.model_copy(update={"workloads": workloads})


def _in_turn(known: Sequence[Client], number: int) -> list[Client]:
    return [known[k % len(known)] for k in range(number)]


def _known(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path}: no such file; --traffic is the folder with {HOUR}, {DEMAND} and {BURSTINESS}")
    return path


def _as_arrivals(source: str, times: Sequence[tuple[str, FloatArray]]) -> Arrivals:
    return Arrivals("trace", recorded=Recorded(source, tuple((name, _stream(own)) for name, own in times)))


def _stream(times_ns: FloatArray) -> RecordedStream:
    digest = hashlib.sha256(np.diff(times_ns).astype("<i8").tobytes()).hexdigest()[:32]
    rate = (len(times_ns) - 1) * NS_PER_S / float(times_ns[-1])
    return RecordedStream(len(times_ns), float(f"{rate:.12g}"), digest, times_ns)
