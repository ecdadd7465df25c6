"""The MIG instances that a plan needs, as commands or as a configuration; nothing is applied here."""

import shlex
from collections import Counter

import yaml

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import one_of
from igniter_opt.data.plan import Placement, Plan, PlanGpu
from igniter_opt.data.slice_profile import UNTOUCHED
from igniter_opt.physics.sharing import Cut, MigSlices

FORMS = ("nvidia-smi", "mig-parted")
_HEAD = (
    "The slices that plan {plan} needs. igniter-opt prints this and applies nothing; {untouched}.",
    "Cards are numbered here from 0 as in the plan; give those that nvidia-smi -L lists on each host.",
)


def mig_layout(plan: Plan, form: str) -> str:
    """Render the slices of a plan's cards.

    Parameters
    ----------
    form
        ``nvidia-smi``: commands that switch MIG on and create the instances at their slots; ``mig-parted``: a
        configuration of NVIDIA's MIG partition editor, which chooses slots itself.

    Raises
    ------
    InputError
        No such form, the plan has no cards under MIG, or its slices do not fit them.
    """
    one_of(form, FORMS, "--mig-layout: unknown form", "forms")
    cards = [gpu for gpu in plan.gpus if gpu.placements[0].slice is not None]
    if not cards:
        raise InputError("the plan has no cards under MIG, so that there is nothing to cut")
    _require_fitting(plan, cards)
    head = [f"# {line.format(plan=plan.instance.name, untouched=UNTOUCHED)}" for line in _HEAD]
    body = _commands(cards) if form == "nvidia-smi" else _configuration(plan, cards)
    return "\n".join([*head, *body]) + "\n"


def _require_fitting(plan: Plan, cards: list[PlanGpu]) -> None:
    types = {gpu.name: gpu.slice_profile.mig_card for gpu in plan.instance.cut_types}
    for gpu in cards:
        if gpu.type not in types:
            raise InputError(f"{gpu.name} has slices, and its GPU type {gpu.type} is none that MIG cuts")
        cuts = [Cut(str(placement.slice), int(placement.slot or 0)) for placement in gpu.placements]
        for misfit in MigSlices(types[gpu.type]).misfits(cuts):
            raise InputError(f"the plan's slices do not fit {gpu.name}: {misfit.message}; `verify` says all")


def _commands(cards: list[PlanGpu]) -> list[str]:
    lines = []
    for number, gpu in enumerate(cards):
        # A slice at a slot: `-cgi KIND:SLOT`; `-C` makes the compute instance that takes all of it.
        wanted = ",".join(f"{placement.slice}:{placement.slot}" for placement in _by_slot(gpu))
        lines += [
            f"# {gpu.name}",
            shlex.join(["nvidia-smi", "-i", str(number), "-mig", "1"]),
            shlex.join(["nvidia-smi", "mig", "-i", str(number), "-cgi", wanted, "-C"]),
        ]
    return lines


def _configuration(plan: Plan, cards: list[PlanGpu]) -> list[str]:
    devices = [
        {
            "devices": [number],
            "mig-enabled": True,
            "mig-devices": dict(sorted(Counter(str(placement.slice) for placement in gpu.placements).items())),
        }
        for number, gpu in enumerate(cards)
    ]
    content = {"version": "v1", "mig-configs": {plan.instance.name: devices}}
    return yaml.safe_dump(content, sort_keys=False).rstrip().splitlines()


def _by_slot(gpu: PlanGpu) -> list[Placement]:
    return sorted(gpu.placements, key=lambda placement: placement.slot or 0)
