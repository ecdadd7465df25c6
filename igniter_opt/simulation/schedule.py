"""Which request arrives when, and at which replica: what a simulation serves and what a load generator sends."""

from dataclasses import dataclass

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.nanoseconds import NS_PER_S
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.split import Split
from igniter_opt.simulation.splitting import split

# What a stream's random numbers are for; the noise of placement k has NOISE + k.
ARRIVALS, SPLIT, NOISE = 0, 1, 2


class Randomness:
    """Independent random numbers for every run, workload and purpose; equal seeds give equal numbers."""

    def __init__(self, seed: int, run: int, workload: int) -> None:
        self._seed, self._key = seed, (run, workload)

    def stream(self, purpose: int) -> np.random.Generator:
        """Return the generator of one purpose, from its start."""
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(*self._key, purpose)))


@dataclass(frozen=True)
class Schedule:
    """One workload's requests.

    Attributes
    ----------
    times_ns
        Arrival times in whole nanoseconds, ascending, shape (requests,).
    replica
        Index of the replica that serves each, shape (requests,).
    ahead
        So many requests at the start are served but not counted.
    """

    times_ns: FloatArray
    replica: IntArray
    ahead: int


def scheduled(times_ns: FloatArray, ahead: int, how: Split, rates: FloatArray, random: Randomness) -> Schedule:
    """Split arrivals over replicas of these rates (req/s, shape (replicas,))."""
    return Schedule(times_ns, split(how, rates, len(times_ns), random.stream(SPLIT)), ahead)


def arrivals_for(process: Arrivals, rate_rps: float, seconds: float, random: Randomness) -> FloatArray:
    """Draw a stream's arrival times from 0 up to, not including, `seconds`; in ns, shape (requests,)."""
    expected = rate_rps * seconds
    requests = int(expected + 8.0 * np.sqrt(expected)) + 16
    while True:
        # From the start again, so that how many were guessed to suffice changes nothing about constant streams.
        times = process.times_ns(rate_rps, requests, random.stream(ARRIVALS))
        if times[-1] >= seconds * NS_PER_S:
            return times[: int(np.searchsorted(times, seconds * NS_PER_S))]
        requests *= 2
