"""Making a profile, and a set of co-location measurements, from the first reading to the file."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import NAME_RULE, describe, is_name
from igniter_opt.base.stop import StopRequest
from igniter_opt.data.measurement_files import Measurements, with_measurements
from igniter_opt.data.plan import Plan
from igniter_opt.data.profile import Profile
from igniter_opt.profiler.build import build_profile
from igniter_opt.profiler.colocate import (
    DRAWN_BATCHES,
    OLD_BATCHES,
    PARTS,
    alone_session,
    build_measurements,
    colocate_session,
    crowds,
    groups_session,
    planned_groups,
    planned_jobs,
    random_groups,
)
from igniter_opt.profiler.models.catalogue import BUILT_IN, PRECISIONS, Precision, find_model, made
from igniter_opt.profiler.models.files import conversions_kept
from igniter_opt.profiler.record import Log, read_log
from igniter_opt.profiler.runners.runner import Runner
from igniter_opt.profiler.session import (
    BATCHES,
    SHARES,
    Session,
    granted_least,
    granted_shares,
    granted_step,
    profile_session,
)

# A larger batch than any server forms is a typing error.
_MOST = 4096

Report = Callable[[str, int, int], object]


@conversions_kept()
def make_profile(
    runner: Runner,
    name: str,
    models: Sequence[str],
    *,
    precision: Precision = "fp32",
    batches: Sequence[int] = BATCHES,
    shares: Sequence[float] = SHARES,
    further: int = 0,
    together: int = 0,
    log: Path | None = None,
    report: Report = lambda *_: None,
    stop: StopRequest | None = None,
) -> Profile:
    """Measure a card and models.

    Parameters
    ----------
    models
        As `catalogue.find_model` takes them.
    batches, shares
        The grid (shares in percent; the nearest that the card grants are taken).
    further
        How many placements of every model are measured alone beyond the grid, where that tells most.
    together
        How many crowded groups for every model are measured side by side, as far as the card has room for them.
    log
        Keeps every measurement as it is made; what it holds already is not measured again.

    Raises
    ------
    session.StoppedError
        Asked to stop; the log holds what was measured.
    InputError, DeploymentError
        Nothing to measure, or the card cannot be measured.
    """
    _check_name(name)
    _check_models(models)
    _check_grid(batches, shares)
    if not 0 <= further <= _MOST or not 0 <= together <= _MOST:
        raise InputError(f"further placements, groups: must be 0 to {_MOST}; found {further}, {together}")
    kept = Log(log, {"kind": "profile", "precision": precision, "batches": list(batches), "shares": list(shares)})
    kept.entries["precision"] = precision
    date_log(kept)
    stop = stop or StopRequest()
    with stop.on_interrupt(), runner:
        session = Session(runner, kept, report, stop)
        profile_session(session, models, batches, shares, further, lambda: crowds(kept, models, together))
        groups = crowds(kept, models, together)
        colocate_session(session, groups, crowded=len(groups), alone_too=False)
    return _whole_profile(kept, name, models, batches, shares, precision)


def _whole_profile(
    kept: Log,
    name: str,
    models: Sequence[str],
    batches: Sequence[int],
    shares: Sequence[float],
    precision: Precision,
) -> Profile:
    """Put a profile together, with what a log holds beyond its grid."""
    found = build_profile(kept, name, models, batches, shares)
    if not any(key.startswith(("alone ", "group ")) for key in kept.entries):
        return found
    return with_measurements(found, build_measurements(kept, found, precision))


def profile_of_log(path: Path, name: str) -> Profile:
    """Make a profile of a complete log again, without its card.

    Raises
    ------
    InputError
        There is no such log, it is of something else, or measurements are missing.
    """
    _check_name(name)
    head, *rest = read_log(path)
    if head["kind"] != "profile":
        raise InputError(f"{path}: not a log that `profile measure --resume` wrote")
    kept = Log(None, {})
    kept.entries = {entry["key"]: entry["value"] for entry in rest} | {"precision": head["precision"]}
    # The keys are "solo MODEL BATCH SMS", and a model's path may hold spaces.
    solo = (key.removeprefix("solo ").rsplit(" ", 2)[0] for key in kept.entries if key.startswith("solo "))
    models = list(dict.fromkeys(solo))
    if not models:
        raise InputError(f"{path}: holds no measurement of a model; go on with `profile measure --resume`")
    try:
        _check_grid(head["batches"], head["shares"])
        return _whole_profile(kept, name, models, head["batches"], head["shares"], head["precision"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


@conversions_kept()
def make_measurements(
    runner: Runner,
    profile: Profile,
    models: Sequence[str] | None = None,
    *,
    precision: Precision | None = None,
    pairs: int = 150,
    larger: int = 40,
    crowded: int = 0,
    alone: bool = True,
    alone_batches: Sequence[int] = (),
    alone_shares: Sequence[float] = (),
    batches: Sequence[int] = DRAWN_BATCHES,
    shares: Sequence[float] = PARTS,
    plans: Sequence[Plan] = (),
    seed: int = 0,
    log: Path | None = None,
    report: Report = lambda *_: None,
    stop: StopRequest | None = None,
) -> Measurements:
    """Measure random co-locations of models that a profile knows, and their placements alone unless `alone` is off.

    Parameters
    ----------
    models
        See `colocation_models`; all of the profile by default.
    precision
        That which the runner measures in; see `colocation_precision`.
    pairs, larger, crowded
        How many groups of two, of three and four, and of five to eight with small shares.
    alone_batches, alone_shares
        Every model is measured alone at these, too (shares in percent; the nearest that the card grants are taken).
    batches, shares
        Those that groups of two to four are drawn from.
    plans
        Their GPUs of the profile's card are groups, too, measured after all others.

    Raises
    ------
    session.StoppedError
        Asked to stop; the log holds what was measured.
    InputError, DeploymentError
        A model is not in the profile, the card or the precision is another one, or it cannot be measured.
    """
    precision = colocation_precision(profile, precision)
    if seed < 0:
        raise InputError(f"seed: must be at least 0; found {seed}")
    if bool(alone_batches) != bool(alone_shares):
        raise InputError("placements alone: give batches and shares, or neither")
    if (
        min(alone_batches, default=1) < 1
        or not 0 < min(alone_shares, default=1.0) <= max(alone_shares, default=1.0) <= 100
    ):
        raise InputError("placements alone: batches must be at least 1, shares above 0 and at most 100 %")
    if min(batches, default=0) < 1 or max(batches, default=0) > _MOST:
        raise InputError(f"batches: give at least one, each from 1 to {_MOST}")
    if not shares or not 0 < min(shares) <= max(shares) < 100:
        raise InputError("shares: give at least one, each above 0 and below 100 %")
    planned = planned_groups(plans, profile)
    if plans and not planned:
        raise InputError(f"no plan has a GPU of type {profile.hardware.gpu}, which profile {profile.name} is of")
    if min(pairs, larger, crowded) < 0 or not (pairs + larger + crowded or alone_batches or planned):
        raise InputError(
            "pairs, larger, crowded, batches alone: nothing to measure; give at least one group or batch, and no"
            " negative number"
        )
    models = colocation_models(profile, models)
    _check_models(models)
    for text in models:
        profile.model(find_model(text).name)
    head: dict[str, Any] = {"kind": "co-locations", "precision": precision, "models": list(models)}
    # Logs of older versions have no crowded groups.
    head |= {"pairs": pairs, "larger": larger} | ({"crowded": crowded} if crowded else {})
    # Those of older versions say neither batches nor shares where these were not to be chosen, and no plans.
    head |= {} if tuple(batches) == OLD_BATCHES else {"batches": list(batches)}
    head |= {} if tuple(shares) == PARTS else {"shares": list(shares)}
    head |= {"planned": len(planned)} if planned else {}
    kept = Log(log, {**head, "seed": seed})
    stop = stop or StopRequest()
    with stop.on_interrupt(), runner:
        date_log(kept)
        session = Session(runner, kept, report, stop)
        card = check_same_card(session, profile)
        count, step, least = int(card["sm_count"]), granted_step(card), granted_least(card)
        numbers = {"pairs": pairs, "larger": larger, "crowded": crowded}
        groups = random_groups(models, count, step, least, **numbers, seed=seed, batches=batches, shares=shares)
        colocate_session(session, groups, crowded=crowded, alone_too=alone)
        texts = {text.partition("=")[0]: text for text in models}
        jobs = [planned_jobs(group, texts, card) for group in planned]
        keys = [(f"group {number}", group) for number, group in enumerate(jobs, len(groups))]
        groups_session(session, keys, "planned", alone_too=alone)
        alone_session(session, models, alone_batches, granted_shares(alone_shares, count, step, least))
    return build_measurements(kept, profile, precision)


def colocation_models(profile: Profile, asked: Sequence[str] | None = None) -> list[str]:
    """Say of a profile's models where they come from, as `catalogue.find_model` takes it.

    Parameters
    ----------
    asked
        Names, found where the profile says that they come from, or texts that say it themselves; all by default.

    Raises
    ------
    InputError
        The profile does not say it of a model that is not built in, or the model is not there any more.
    """
    wanted = list(profile.models) if asked is None else list(asked)
    sources = {name: model.source for name, model in profile.models.items()}
    lacking = [text for text in wanted if text in sources and sources[text] is None and text not in BUILT_IN]
    if lacking:
        words = ",".join(f"{text}=..." if text in lacking else text for text in wanted)
        raise InputError(
            f"profile {profile.name} does not say where {', '.join(lacking)} came from; add --models {words}"
            " (package.module:function, FILE.pt or FILE.onnx, with the @SHAPE that was measured)"
        )
    found = [f"{text}={sources[text]}" if sources.get(text) else text for text in wanted]
    for text, whole in zip(wanted, found, strict=True):
        if whole != text:
            try:
                find_model(whole)
            except InputError as error:
                words = ",".join(f"{text}=..." if entry == text else entry for entry in wanted)
                raise InputError(
                    f"{error}; profile {profile.name} has it from there, --models {words} takes it from elsewhere"
                ) from None
    return found


def colocation_precision(profile: Profile, asked: Precision | None = None) -> Precision:
    """Return the precision that co-locations of a profile's models are measured in: the profile's own.

    Only where the profile does not say any, the one asked for is taken, and fp32 by default.

    Raises
    ------
    InputError
        Another one is asked for, or the profile's cannot be measured: readings would not judge the profile.
    """
    said = profile.provenance.precision
    if said is None:
        return asked or "fp32"
    own = next((known for known in PRECISIONS if known == said.lower()), None)
    if own is None:
        raise InputError(
            f"profile {profile.name} is of precision {said!r}, which cannot be measured"
            f" (known: {', '.join(PRECISIONS)})"
        )
    if asked not in (None, own):
        raise InputError(
            f"--precision: profile {profile.name} is of {own}, and readings in {asked} would not judge it; leave the"
            f" option out, or profile the models in {asked} first"
        )
    return own


def check_same_card(session: Session, profile: Profile) -> Any:
    """Return what the card is; raise InputError unless it is the profile's."""
    card = session.card()
    if card["name"] != profile.hardware.gpu:
        raise InputError(f"this card is a {card['name']}, profile {profile.name} is of a {profile.hardware.gpu}")
    return card


def _check_name(name: str) -> None:
    if not is_name(name):
        raise InputError(f"the profile's name {NAME_RULE}; found {describe(name)}")


def _check_models(models: Sequence[str]) -> None:
    found = [find_model(text) for text in models]
    if not found or len({spec.name for spec in found}) < len(found):
        raise InputError("models: give at least one, each once")
    for spec in found:
        if spec.from_file:
            made(spec)  # or a file that cannot be run is found out in the middle of a session


def _check_grid(batches: Sequence[int], shares: Sequence[float]) -> None:
    if len(set(batches)) < 3 or list(batches) != sorted(set(batches)) or not 1 <= min(batches) <= max(batches) <= _MOST:
        raise InputError(
            f"batches: give at least three, ascending, from 1 to {_MOST}; found {', '.join(map(str, batches))}"
        )
    ascending = all(earlier < later for earlier, later in pairwise(shares))
    if len(shares) < 2 or not ascending or not shares[0] > 0 or shares[-1] != 100:
        raise InputError(f"shares: give at least two, ascending, the last 100; found {', '.join(map(str, shares))}")


def date_log(kept: Log) -> None:
    """Note when measurements began, in UTC."""
    if "date" not in kept:
        kept.put("date", datetime.now(UTC).strftime("%Y-%m-%d"))
