"""A card that behaves exactly as a profile's coefficients say, with noise: what fits and sessions are tried on."""

import math
from collections.abc import Sequence
from types import TracebackType

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.data.profile import Profile
from igniter_opt.deploy.backends.mps import thread_percentage
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.interference import added_delay, clock_ratio, placement_terms, predict_many
from igniter_opt.physics.parameters import Coefficients
from igniter_opt.profiler.runners.counters import KernelUtilisation
from igniter_opt.profiler.runners.runner import LEAST_ASKED_PERCENT, Card, Facts, Job, Moment, Reading

_MOST_BATCHES = 10_000


class SyntheticRunner:
    """Makes readings up from the predictor.

    Parameters
    ----------
    profile
        Its coefficients are the truth, its hardware block the card.
    noise
        Coefficient of variation of one batch's time.
    seed
        Of the noise.
    """

    def __init__(self, profile: Profile, noise: float = 0.0, seed: int = 0) -> None:
        self.profile = profile.bare()
        self.coefficients: Coefficients = fit_coefficients(self.profile)
        self.noise = noise
        self.random = np.random.default_rng(seed)
        self.measured: list[tuple[Job, ...]] = []

    def __enter__(self) -> "SyntheticRunner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing was started."""

    def card(self) -> Card:
        """Return the profile's card."""
        hardware = self.profile.hardware
        unit = hardware.share_unit_percent
        granted = {share: self._granted(share) for share in (LEAST_ASKED_PERCENT, unit, 2 * unit, 3 * unit, 50.0)}
        return Card(
            name=hardware.gpu,
            driver="none",
            framework="made up from coefficients",
            sm_count=hardware.sm_count,
            sms_granted=granted,
            max_frequency_mhz=hardware.max_frequency_mhz,
            max_power_w=hardware.max_power_w,
            idle_power_w=hardware.idle_power_w,
            memory_mib=hardware.memory_mib or 2.0**15,
            copy_bytes_per_ms=hardware.pcie_bandwidth_bytes_per_ms,
        )

    def _granted(self, share_percent: float) -> int:
        """SMs that a process at a share gets: rounded down to whole steps, but no fewer than the card grants."""
        hardware = self.profile.hardware
        step, least = (
            max(1, round(share * hardware.sm_count / 100.0))
            for share in (hardware.share_unit_percent, hardware.least_share_percent or hardware.share_unit_percent)
        )
        return max(least, math.floor(share_percent / 100.0 * hardware.sm_count / step + 1e-9) * step)

    def facts(self, models: Sequence[str], batches: Sequence[int]) -> dict[str, Facts]:
        """Return the profile's facts."""
        found = {}
        for name in models:
            model, own = self.profile.model(_name(name)), self.coefficients.models[_name(name)]
            found[name] = Facts(
                model.kernels,
                int(model.input_bytes),
                int(model.output_bytes),
                own.memory_fixed_mib,
                own.memory_per_item_mib,
            )
        return found

    def counters(self, models: Sequence[str], batches: Sequence[int]) -> dict[tuple[str, int], KernelUtilisation]:
        """Return the cache use that coefficients say; the memory's is half of it."""
        found: dict[tuple[str, int], KernelUtilisation] = {}
        for name in models:
            cache = placement_terms(self.coefficients, self.coefficients.index(_name(name)), batches, 100.0).cache
            found |= {
                (name, batch): KernelUtilisation(float(value), float(value) / 2)
                for batch, value in zip(batches, cache, strict=True)
            }
        return found

    def expect(self, jobs: Sequence[Sequence[Job]]) -> None:
        """Nothing to do."""

    def prepare(self, jobs: Sequence[Sequence[Job]]) -> None:
        """Raise InputError where a process would not get the SMs asked for, or the card has fewer for a group."""
        count = self.profile.hardware.sm_count
        for group in jobs:
            if sum(job.sms for job in group) > count:
                raise InputError(f"{sum(job.sms for job in group)} SMs are asked for, the card has {count}")
            for job in group:
                granted = self._granted(float(thread_percentage(100.0 * job.sms / count)))
                if granted != job.sms:
                    raise InputError(f"{granted} SMs are granted where {job.sms} were asked for")

    def measure(self, jobs: Sequence[Job], seconds: float) -> Moment:
        """Predict the jobs side by side; means and deviations are those of the batches that fit in the time."""
        self.measured.append(tuple(jobs))
        hardware = self.coefficients.hardware
        index = np.array([self.coefficients.index(_name(job.model)) for job in jobs])
        batch = np.array([job.batch for job in jobs])
        share = np.array([100.0 * job.sms / self.profile.hardware.sm_count for job in jobs])
        found = predict_many(self.coefficients, index[None], batch[None], share[None])
        terms = placement_terms(self.coefficients, index, batch, share)
        power = float(found.power_w[0])
        ratio = clock_ratio(hardware, power)
        outside: FloatArray = (terms.delay_ms + terms.kernels * added_delay(hardware, len(jobs))) / ratio
        readings = []
        for k in range(len(jobs)):
            readings.append(
                self._reading(
                    float(found.gpu_latency_ms[0, k]),
                    float(outside[k]),
                    float(terms.load_ms[k] + terms.feedback_ms[k]),
                    seconds,
                )
            )
        return Moment(
            tuple(readings), min(power, hardware.max_power_w), float(ratio) * self.profile.hardware.max_frequency_mhz
        )

    def _reading(self, wall: float, outside: float, copy: float, seconds: float) -> Reading:
        count = min(_MOST_BATCHES, math.ceil(1000.0 * seconds / (wall + copy)))
        times = wall * (1.0 + self.noise * self.random.standard_normal(count))
        mean = float(times.mean())
        return Reading(count, mean, float(times.std()), float(np.median(times)), mean - outside, copy)

    def forget(self) -> None:
        """Nothing is held."""


def _name(model: str) -> str:
    """A model's name in the profile, of a text that `catalogue.find_model` takes."""
    return model.partition("=")[0]
