"""Random co-locations of profiled models, measured side by side: what a profile's predictions are judged by."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from igniter_opt.base.errors import InputError
from igniter_opt.data.measurement_files import Measurements, measurements_from_data
from igniter_opt.data.plan import Plan
from igniter_opt.data.profile import Profile
from igniter_opt.profiler.models.catalogue import Precision
from igniter_opt.profiler.record import Log
from igniter_opt.profiler.runners.runner import Job
from igniter_opt.profiler.session import Session, granted_least, granted_step, sms_for

# Workers exist for so many parts of a card (percent of its SMs); groups take some of them.
PARTS = (10.0, 10.0, 15.0, 20.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0, 75.0)
# Those around 8, too, where libraries change kernels; older versions drew from a few only.
OLD_BATCHES = (3, 6, 12, 24)
DRAWN_BATCHES = (1, 2, 3, 4, 6, 7, 8, 10, 12, 16, 24)
_LARGEST_GROUP = 4
# Crowded groups have workers of their own.
CROWDED_PARTS = (6.0, 6.0, 7.5, 7.5, 9.0, 9.0, 10.5, 12.0, 13.5, 15.0, 18.0, 20.0)
CROWDED_BATCHES = (1, 3, 6, 12)
_CROWDED_SIZES = (5, 8)
# Groups that leave much of the card idle say little about company.
_LEAST_USED, _MOST_TRIES = 0.6, 10_000
# Processes at a time, of the 48 that MPS takes.
_MOST_WORKERS = 24
# Of the card's memory so much may be taken by models side by side.
_MEMORY_PART = 0.9


def random_groups(
    models: Sequence[str],
    sm_count: int,
    step: int,
    least: int,
    *,
    pairs: int,
    larger: int,
    seed: int,
    crowded: int = 0,
    batches: Sequence[int] = OLD_BATCHES,
    shares: Sequence[float] = PARTS,
) -> list[list[Job]]:
    """Draw groups of two, then of three and four, then of five to eight, with shares that fit on the card together.

    Every model takes part about as often as the others.

    Parameters
    ----------
    sm_count, step, least
        SMs of the card, the steps in which it grants them, and the fewest that it grants.
    pairs, larger, crowded
        How many groups of two; of three and four; of five to eight, whose shares are small.
    batches, shares
        Those of pairs and larger groups; shares in percent, of which no two placements of a group have the same one.

    Raises
    ------
    InputError
        The card grants its SMs in too large steps for so many processes.
    """
    random = np.random.default_rng(seed)
    parts = [max(least, int(part / 100.0 * sm_count / step) * step) for part in shares]
    small = [sms_for(part, sm_count, step, least) for part in CROWDED_PARTS]
    sizes = [(2, 2)] * pairs + [(3, _LARGEST_GROUP)] * larger + [_CROWDED_SIZES] * crowded
    needed = max((most for _, most in sizes), default=0)
    if needed * max(step, least) > sm_count:
        raise InputError(
            f"this card grants its {sm_count} SMs in steps of {step}, {least} at least, so that no {needed} processes"
            " fit side by side"
        )
    found: list[list[Job]] = []
    deck: list[str] = []
    for number, (fewest, most) in enumerate(sizes):
        of, some = (parts, batches) if number < pairs + larger else (small, CROWDED_BATCHES)
        size = fewest if fewest == most else int(random.integers(fewest, most + 1))
        if size > len(of):
            raise InputError(f"shares: groups of {size} need as many, each once or more; found {len(of)}")
        tries = 0
        while True:
            chosen = random.choice(len(of), size, replace=False)
            sms = [of[k] for k in chosen]
            if sm_count * _LEAST_USED <= sum(sms) <= sm_count:
                break
            tries += 1
            if tries > _MOST_TRIES:
                raise InputError(
                    f"shares: no {size} of these fill {100 * _LEAST_USED:g} to 100 % of the card together; give others"
                )
        group = []
        for own in sms:
            if not deck:
                deck = list(random.permutation(list(models)))
            group.append(Job(str(deck.pop()), int(random.choice(some)), own))
        found.append(group)
    return found


def crowds(log: Log, models: Sequence[str], each: int) -> list[list[Job]]:
    """Draw crowded groups for a profile, always the same ones, so many for each of its models.

    None where the card has no room for so many processes, and as few as its memory holds at once: a process keeps every
    model that it runs.
    """
    card = log["card"]
    count, step, least = int(card["sm_count"]), granted_step(card), granted_least(card)
    try:
        groups = random_groups(models, count, step, least, pairs=0, larger=0, crowded=each * len(models), seed=0)
    except InputError:
        return []
    kept: dict[tuple[int, int, str], float] = {}
    for number, group in enumerate(groups):
        same: Counter[int] = Counter()
        for job in group:
            facts = log[f"facts {job.model}"]
            process = (job.sms, same[job.sms], job.model)
            same[job.sms] += 1
            kept[process] = max(kept.get(process, 0.0), facts["fixed_mib"] + job.batch * facts["per_item_mib"])
        if sum(kept.values()) > _MEMORY_PART * card["memory_mib"]:
            return groups[:number]
    return groups


def colocate_session(
    session: Session, groups: Sequence[Sequence[Job]], *, crowded: int = 0, alone_too: bool = True
) -> None:
    """Measure all groups, and every placement of them alone if asked to, each written as it is made.

    The last `crowded` groups come after all else, because they have workers of their own.
    """
    keys = [(f"group {number}", list(group)) for number, group in enumerate(groups)]
    known: set[Job] = set()
    usual = len(keys) - crowded
    for part in (keys[:usual], keys[usual:]):
        alone = [job for job in dict.fromkeys(job for _, group in part for job in group) if job not in known]
        known.update(alone)
        keys_alone = [(f"alone {job.model} {job.batch} {job.sms}", [job]) for job in alone if alone_too]
        session.groups([*part, *keys_alone], "co-location")
        session.runner.forget()


def planned_groups(plans: Sequence[Plan], profile: Profile) -> list[tuple[tuple[str, int, float], ...]]:
    """Return the distinct GPUs of a profile's card in plans: model, batch and share of their placements, sorted."""
    found: dict[tuple[tuple[str, int, float], ...], None] = {}
    for plan in plans:
        cards = {gpu.name: gpu.card for gpu in plan.instance.gpu_types}
        for gpu in plan.gpus:
            if cards.get(gpu.type) == profile.hardware.gpu and gpu.placements:
                for entry in gpu.placements:
                    profile.model(entry.model)
                group = sorted((entry.model, entry.batch, entry.share_percent) for entry in gpu.placements)
                found[tuple(group)] = None
    return list(found)


def planned_jobs(group: Sequence[tuple[str, int, float]], texts: Mapping[str, str], card: Any) -> tuple[Job, ...]:
    """Return what a GPU of a plan runs; `texts` say where models are from, `card` what the card grants."""
    count, step, least = int(card["sm_count"]), granted_step(card), granted_least(card)
    return tuple(Job(texts[model], batch, sms_for(share, count, step, least)) for model, batch, share in group)


def groups_session(
    session: Session, groups: Sequence[tuple[str, Sequence[Job]]], what: str, *, alone_too: bool = True
) -> None:
    """Measure given groups, each under its key, and every placement of them alone; groups of one only so.

    Groups that need many processes come after one another, in parts that a card's MPS has room for.
    """
    known: set[Job] = set()
    for part in _parts(groups):
        alone = [job for job in dict.fromkeys(job for _, group in part for job in group) if job not in known]
        known.update(alone)
        keys_alone = [(f"alone {job.model} {job.batch} {job.sms}", [job]) for job in alone if alone_too]
        session.groups([*(entry for entry in part if len(entry[1]) > 1), *keys_alone], what)
        session.runner.forget()


def _parts(groups: Sequence[tuple[str, Sequence[Job]]]) -> list[list[tuple[str, Sequence[Job]]]]:
    """Divide groups so that none of the parts needs more than `_MOST_WORKERS` processes, one for a job at a time."""
    parts: list[list[tuple[str, Sequence[Job]]]] = []
    needed: Counter[int] = Counter()
    # Those alike in size come together, so that processes serve several groups.
    for entry in sorted(groups, key=lambda entry: sorted(job.sms for job in entry[1])):
        whole = needed | Counter(job.sms for job in entry[1])
        if not parts or whole.total() > _MOST_WORKERS:
            parts.append([])
            whole = Counter(job.sms for job in entry[1])
        parts[-1].append(entry)
        needed = whole
    return parts


def alone_session(session: Session, models: Sequence[str], batches: Sequence[int], sizes: Sequence[int]) -> None:
    """Measure models alone at all batches and numbers of SMs, model by model."""
    for model in models:
        keys = [(f"alone {model} {batch} {sms}", [Job(model, batch, sms)]) for sms in sizes for batch in batches]
        session.groups(keys, f"{model} alone")
        session.runner.forget()


def build_measurements(log: Log, profile: Profile, precision: Precision) -> Measurements:
    """Put a file of measurements together from a complete log: solo rows first, then the groups.

    Latencies are inference latencies as predictions are: with the time that copies take by the profile.
    """
    card = log["card"]
    count = int(card["sm_count"])
    kinds: dict[str, dict[str, list[Any]]] = {}
    bandwidth = profile.hardware.pcie_bandwidth_bytes_per_ms
    for key, value in log.entries.items():
        if not key.startswith(("alone ", "group ")):
            continue
        kind = "solo" if key.startswith("alone ") else "colocated"
        columns = kinds.setdefault(kind, {})
        for job, reading in zip(value["jobs"], value["readings"], strict=True):
            name = job["model"].partition("=")[0]
            model = profile.models[name]
            copies = job["batch"] * (model.input_bytes + model.output_bytes) / bandwidth
            row = {
                "model": name,
                "batch": job["batch"],
                "share_percent": round(100.0 * job["sms"] / count, 9),
                "latency_ms": round(reading["wall_ms"] + copies, 6),
                "std_ms": round(reading["wall_std_ms"], 6),
            }
            if kind == "colocated":
                row["group"] = int(key.removeprefix("group ")) + 1
            for column, entry in row.items():
                columns.setdefault(column, []).append(entry)
    data = {
        "schema": "igniter-opt/measurements@1",
        "profile": profile.name,
        "gpu": card["name"],
        "source": f"Measured by igniter-opt on one {card['name']}.",
        "provenance": {
            "driver": card["driver"],
            "framework": card["framework"],
            "precision": precision,
            "date": log.entries.get("date"),
            "note": "CUDA graphs under MPS, all placements of a group running all the time; mean latency of a batch",
        },
        **kinds,
    }
    return measurements_from_data(data, "measurements")
