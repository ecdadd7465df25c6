"""What to measure for a profile, in which order, how long, and when again."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from igniter_opt.base.errors import InputError
from igniter_opt.base.stop import StopRequest
from igniter_opt.profiler.record import Log
from igniter_opt.profiler.runners.runner import LEAST_ASKED_PERCENT, Job, Moment, Runner

# The grid of the paper's profiles within a finer one.
BATCHES = (1, 2, 4, 8, 16, 32)
SHARES = (10.0, 20.0, 35.0, 50.0, 70.0, 100.0)
COUNTED_BATCHES = (1, 32)
# Beyond the grid: so many placements of every model alone, where they tell most, and so many groups for every model.
FURTHER, TOGETHER = 16, 3
# Libraries change kernels between the grid's batches.
BETWEEN_BATCHES = (3, 6, 7, 10, 12, 24)
# Plans share a card: no larger part of it is looked at beyond the grid, nor larger batches are thought of.
_LARGEST_PART, _LARGEST_BATCH = 0.5, 16
_NOISE = 0.01
PROBE_BATCH, PROBE_SHARE = 16, 50.0
COEXECUTION_MODEL, COEXECUTION_SHARE, MOST_COEXECUTED = "vgg19", 20.0, 5
# A point is measured for so long, or for so many batches, but no longer than that, unless it had so few batches that
# their deviation says nothing.
LEAST_S, LEAST_COUNT, MOST_S, FEWEST = 0.25, 12, 2.0, 3
# A point that varies more than this is measured again, so often at most, and the steadiest reading kept.
MOST_VARIATION, REPEATS = 0.01, 2


class StoppedError(Exception):
    """A session was asked to end; what was measured is in its log."""


@dataclass(frozen=True)
class Session:
    """Takes measurements and keeps them.

    Attributes
    ----------
    report
        Called with a line about every step, its number, and the number of all.
    """

    runner: Runner
    log: Log
    report: Callable[[str, int, int], object]
    stop: StopRequest

    def check_stop(self) -> None:
        """Raise StoppedError if a stop was asked for."""
        if self.stop.is_set():
            raise StoppedError

    def card(self) -> Any:
        """What the card is, as the log has it; the runner is always asked, and its card must be the log's.

        Raises
        ------
        InputError
            The log is of another card, or the card cannot be measured.
        """
        found = self.runner.card()._asdict()
        if "card" not in self.log:
            self.log.put("card", found)
        known = self.log["card"]
        if (known["name"], known["sm_count"]) != (found["name"], found["sm_count"]):
            raise InputError(
                f"{self.log.path}: holds measurements of a {known['name']} ({known['sm_count']} SMs), this card is a"
                f" {found['name']} ({found['sm_count']} SMs); go on with that card, or give another file"
            )
        return known

    def facts(
        self,
        models: Sequence[str],
        others: Sequence[str],
        batches: Sequence[int],
        expected: Callable[[], Sequence[Sequence[Job]]] = lambda: (),
    ) -> None:
        """What models are, and the counters of the first of them; the card must be idle.

        Groups that are expected to be measured afterwards may be got ready meanwhile; they are asked for in between.
        """
        missing = [model for model in (*models, *others) if f"facts {model}" not in self.log]
        if missing:
            self.check_stop()
            self.report("kernels, bytes, memory", 0, 2)
            for model, facts in self.runner.facts(missing, batches).items():
                self.log.put(f"facts {model}", facts._asdict())
        missing = [model for model in models if f"counters {model}" not in self.log]
        if missing:
            self.check_stop()
            self.runner.expect(expected())
            self.report("L2 and DRAM utilisation (ncu)", 1, 2)
            counted = _counted(batches)
            try:
                found = self.runner.counters(missing, counted)
            except InputError:
                # Ctrl-C reaches ncu as well, which then has nothing to say.
                self.check_stop()
                raise
            for model in missing:
                self.log.put(
                    f"counters {model}",
                    [
                        {"batch": batch, "l2_percent": found[model, batch].l2, "dram_percent": found[model, batch].dram}
                        for batch in counted
                    ],
                )

    def groups(self, keys: Sequence[tuple[str, Sequence[Job]]], what: str) -> None:
        """Measure groups of jobs, each under its key, unless the log has them: on as many SMs, with a deviation."""
        missing = [(key, group) for key, group in keys if not self._known(key, group)]
        if not missing:
            return
        self.runner.prepare([group for _, group in missing])
        for number, (key, group) in enumerate(missing):
            self.check_stop()
            self.report(f"{what}: {key}", number, len(missing))
            self.log.put(key, self._steadiest(group))

    def _known(self, key: str, group: Sequence[Job]) -> bool:
        if key not in self.log:
            return False
        entry = self.log[key]
        steady = all(math.isfinite(relative_error(reading)) for reading in entry["readings"])
        return steady and entry["jobs"] == [job._asdict() for job in group]

    def _steadiest(self, group: Sequence[Job]) -> dict[str, Any]:
        """Measure a group, again where it varies much, and keep the steadiest reading."""
        best: Moment | None = None
        tries = 0
        seconds = LEAST_S
        while tries <= REPEATS:
            found = self.runner.measure(group, seconds)
            fewest = min(reading.batches for reading in found.readings)
            if fewest == 0 and seconds >= MOST_S:
                raise InputError(f"no batch was finished within {MOST_S:g} s: {group}; give smaller batches")
            slowest = max(reading.wall_ms for reading in found.readings)
            needed = min(MOST_S, LEAST_COUNT * slowest / 1000.0) if fewest else MOST_S
            if 0 < fewest < FEWEST:
                needed = max(needed, (FEWEST + 1) * slowest / 1000.0)
            if needed > seconds * (1.5 if fewest >= FEWEST else 1.0) and fewest < LEAST_COUNT:
                seconds = needed
                continue
            tries += 1
            if best is None or _variation(found) < _variation(best):
                best = found
            if _variation(best) <= MOST_VARIATION:
                break
        assert best is not None  # noqa: S101
        if not math.isfinite(_variation(best)):
            raise InputError(f"no more than one batch was finished within {seconds:g} s: {group}; give smaller batches")
        return {
            "jobs": [job._asdict() for job in group],
            "readings": [reading._asdict() for reading in best.readings],
            "power_w": best.power_w,
            "frequency_mhz": best.frequency_mhz,
            "tries": tries,
        }


def _counted(batches: Sequence[int]) -> list[int]:
    """Return the batches whose counters are read: the usual ones where the grid has them, else its ends."""
    usual = [batch for batch in COUNTED_BATCHES if batch in batches]
    return usual if len(usual) == len(COUNTED_BATCHES) else [batches[0], batches[-1]]


def _variation(moment: Moment) -> float:
    """Standard error of the mean, relatively, of the least steady job."""
    return max(relative_error(reading._asdict()) for reading in moment.readings)


def relative_error(reading: Mapping[str, Any]) -> float:
    """Standard error of a reading's mean latency, relatively; infinite of a single batch, which has no deviation."""
    if reading["batches"] < 2:
        return math.inf
    return float(reading["wall_std_ms"] / reading["wall_ms"] / math.sqrt(reading["batches"]))


def sms_for(share_percent: float, sm_count: int, step: int, least: int, processes: int = 1) -> int:
    """Return the number of SMs nearest to a share that can be granted: a multiple of the step, none below the least.

    Of two that are as near the lower one, so that two halves fit on a card; and none of which so many processes do not
    fit.
    """
    nearest = math.ceil(share_percent / 100.0 * sm_count / step - 0.5)
    return max(least, step * max(1, min(nearest, sm_count // (step * processes))))


def granted_shares(shares: Sequence[float], sm_count: int, step: int, least: int) -> list[int]:
    """Return the numbers of SMs that stand for shares, ascending, each once."""
    return sorted({sms_for(share, sm_count, step, least) for share in shares})


def granted_step(card: Any) -> int:
    """Return the number of SMs in which shares are granted: the greatest common divisor of what was seen."""
    return math.gcd(int(card["sm_count"]), *(int(value) for value in card["sms_granted"].values()))


def granted_least(card: Any) -> int:
    """Return the fewest SMs that were granted, which every smaller share is raised to; one step if none was tried."""
    asked = {float(share): int(value) for share, value in card["sms_granted"].items()}
    fewest = asked.get(LEAST_ASKED_PERCENT)
    return granted_step(card) if fewest is None else fewest


def _further_sizes(card: Any, granted: Sequence[int]) -> list[int]:
    """Return the numbers of SMs at which a model may be measured beyond its grid, which is on those `granted`."""
    step, least = granted_step(card), granted_least(card)
    most = max(least, int(_LARGEST_PART * int(card["sm_count"])))
    between = [step * max(1, round(math.sqrt(low * high) / step)) for low, high in pairwise(granted)]
    return sorted({size for size in (least, *granted, *between) if least <= size <= most})


def further_jobs(session: Session, model: str, batches: Sequence[int], granted: Sequence[int], count: int) -> list[Job]:
    """Choose placements of a model alone beyond its grid, which has been measured.

    They lie on the grid's numbers of SMs, on the fewest that the card grants and on those between the grid's, up to
    half of the card; at the grid's batches and `BETWEEN_BATCHES`.

    Parameters
    ----------
    batches, granted
        The grid, in SMs.
    count
        How many to choose.
    """
    from igniter_opt.fitting.design import most_telling

    card = session.log["card"]
    step, least, sms = granted_step(card), granted_least(card), int(card["sm_count"])
    most = max(least, int(_LARGEST_PART * sms))
    sizes = _further_sizes(card, granted)
    known = {(batch, size) for batch in batches for size in granted}
    asked = sorted({*batches, *(batch for batch in BETWEEN_BATCHES if min(batches) < batch < max(batches))})
    jobs = [Job(model, batch, size) for size in sizes for batch in asked if (batch, size) not in known]
    if not jobs or count < 1:
        return []
    grid = [(batch, size, session.log[f"solo {model} {batch} {size}"]) for batch, size in sorted(known)]
    likely = range(min(batches), min(_LARGEST_BATCH, max(batches)) + 1)
    chosen = most_telling(
        np.array([batch for batch, *_ in grid], dtype=float),
        np.array([100.0 * size / sms for _, size, _ in grid]),
        np.array([entry["readings"][0]["wall_ms"] for *_, entry in grid]),
        _NOISE,
        [(job.batch, 100.0 * job.sms / sms) for job in jobs],
        [(batch, 100.0 * size / sms) for batch in likely for size in range(least, most + 1, step)],
        count,
    )
    return [jobs[k] for k in sorted(chosen)]


def profile_session(
    session: Session,
    models: Sequence[str],
    batches: Sequence[int],
    shares: Sequence[float],
    further: int = 0,
    after: Callable[[], Sequence[Sequence[Job]]] = lambda: (),
) -> None:
    """Take all measurements of a profile, model by model, each written as it is made.

    Parameters
    ----------
    further
        How many placements of every model are measured alone beyond the grid (`further_jobs`).
    after
        Groups that will be measured after all this, by what is known of models then.

    Raises
    ------
    StoppedError
        Asked to stop.
    InputError, DeploymentError
        The card cannot be measured.
    """
    card = session.card()
    step, least, count = granted_step(card), granted_least(card), int(card["sm_count"])
    granted = granted_shares(shares, count, step, least)
    if len(granted) < 2:
        raise InputError(
            f"shares: all are the same {granted[0]} SMs on this card, which grants its {count} in steps of {step}; give"
            " shares further apart"
        )
    half = sms_for(PROBE_SHARE, count, step, least, 2)
    few = sms_for(COEXECUTION_SHARE, count, step, least, MOST_COEXECUTED)
    together = [(f"coexecution {n}", [Job(COEXECUTION_MODEL, 1, few)] * n) for n in range(1, MOST_COEXECUTED + 1)]

    def expected() -> list[Sequence[Job]]:
        sizes = {*granted, *(_further_sizes(card, granted) if further else ())}
        alone = [[Job(models[0], batches[0], size)] for size in sorted(sizes)]
        return [*alone, [Job(models[0], batches[0], half)] * 2, together[-1][1], *after()]

    session.facts(models, [COEXECUTION_MODEL] if COEXECUTION_MODEL not in models else [], batches, expected)
    for model in models:
        keys = [(f"solo {model} {batch} {sms}", [Job(model, batch, sms)]) for sms in granted for batch in batches]
        probe = min(PROBE_BATCH, max(batches))
        keys += [(f"probe {model} {n}", [Job(model, probe, half)] * n) for n in (1, 2)]
        session.groups(keys, model)
        beyond = further_jobs(session, model, batches, granted, further)
        session.groups([(f"alone {model} {job.batch} {job.sms}", [job]) for job in beyond], f"{model} between")
        session.runner.forget()
    # Last: on a card and a host that have just been idle, the first readings hold delays that later ones do not.
    session.groups(together, "co-execution")
