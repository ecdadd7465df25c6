"""Which physical GPU serves as which GPU of the plan."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import nearest
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.plan import Placement, Plan, PlanGpu
from igniter_opt.deploy.differences import ServedPlacement
from igniter_opt.deploy.inventory import EXCLUSIVE_PROCESS, PROHIBITED, Device
from igniter_opt.slo.batcher import queue_delay_us

Key = tuple[str, str]  # workload and digest of what is served

# Weights of the assignment's aims, from the first to the last.
_KEEP, _SAME_NAME, _FREE = 10**6, 10**3, 1
# Of names that count before all else.
_NAMED = 10**8


def is_type(device: Device, gpu_type: GpuType) -> bool:
    """Whether a card is one that the type's profile was measured on.

    True if all words of the profile's card, or of the type's name, are among the words of the card's name
    ("V100" and "NVIDIA V100-SXM2-16GB" are both "Tesla V100-SXM2-16GB").
    """
    found = _words(device.name)
    return any(wanted and wanted <= found for wanted in (_words(gpu_type.card), _words(gpu_type.name)))


def can_be(device: Device, gpu: PlanGpu, gpu_type: GpuType) -> bool:
    """Whether a device can be a GPU of the plan, or one of its slices (`targets.served_gpus`)."""
    return device.slice == gpu.placements[0].slice and is_type(device, gpu_type)


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", name.lower())) - {"nvidia", "tesla", "geforce", "quadro"}


def match(
    gpus: Sequence[PlanGpu],
    types: Mapping[str, GpuType],
    devices: Sequence[Device],
    *,
    overrides: Mapping[str, str],
    wanted: Mapping[str, Counter[Key]],
    running: Mapping[tuple[str, str], Counter[Key]],
    names: Mapping[tuple[str, str], str],
    own_processes: frozenset[int] = frozenset(),
    any_type: bool = False,
    named: bool = False,
) -> dict[str, Device]:
    """Assign a physical GPU to every GPU of a plan, such that as few servers as possible have to change.

    Parameters
    ----------
    overrides
        Physical GPU's UUID by plan GPU, as the user wants it; these may be of any type.
    wanted
        What is to run, by plan GPU.
    running, names
        What runs, and which plan GPU it runs as, by (host, uuid).
    own_processes
        Processes of this deployment, which may compute on a GPU.
    any_type
        Whether any device will do (on the processor).
    named
        Whether the plan's GPUs are those of the same name that run, before all else: its author matched them.

    Raises
    ------
    InputError
        If GPUs are too few, of the wrong type, split by MIG, or closed to us.
    """
    by_uuid = {device.uuid: device for device in devices}
    _check_overrides(gpus, by_uuid, overrides)
    fixed = {name: by_uuid[uuid] for name, uuid in overrides.items()}
    for name, device in fixed.items():
        problem = _problem(device, own_processes)
        if problem:
            raise InputError(f"--gpu {name}={device.uuid}: {problem}")
    free = [gpu for gpu in gpus if gpu.name not in fixed]
    taken = {device.uuid for device in fixed.values()}
    usable = [device for device in devices if device.uuid not in taken and not _problem(device, own_processes)]

    value = np.zeros((len(free), len(usable)))
    allowed = np.zeros(value.shape, dtype=bool)
    for row, gpu in enumerate(free):
        for column, device in enumerate(usable):
            place = (device.host, device.uuid)
            allowed[row, column] = any_type or can_be(device, gpu, types[gpu.type])
            kept = sum((wanted[gpu.name] & running.get(place, Counter())).values())
            idle = not set(device.processes) - own_processes
            same = names.get(place) == gpu.name
            value[row, column] = _KEEP * kept + (_NAMED if named else _SAME_NAME) * same + _FREE * idle
            # A card that goes by another name is that one's, above all if the plan has it.
            if named and not same:
                value[row, column] -= _NAMED * (names.get(place) in wanted) + _SAME_NAME * (place in names)
    result = {free[row].name: usable[column] for row, column in _best_pairs(value, allowed)}
    lacking = [gpu for gpu in free if gpu.name not in result]
    if lacking:
        raise InputError(_lacking_message(lacking, gpus, types, devices, own_processes))
    return {gpu.name: fixed.get(gpu.name) or result[gpu.name] for gpu in gpus}


def match_plans(old: Plan, new: Plan) -> dict[str, str]:
    """Return which GPU of the old plan every GPU of the new one is, by name, such that most placements stay.

    It is what `match` makes of the old plan's cards; GPUs of the new plan beyond these are left out.
    """
    value = np.zeros((len(new.gpus), len(old.gpus)))
    holds: dict[object, list[tuple[int, int]]] = {}
    for column, found in enumerate(_settings(old)):
        for settings, count in found.items():
            holds.setdefault(settings, []).append((column, count))
    for row, found in enumerate(_settings(new)):
        for settings, wanted in found.items():
            for column, count in holds.get(settings, []):
                value[row, column] += _KEEP * min(count, wanted)
    names = {entry.name: column for column, entry in enumerate(old.gpus)}
    for row, entry in enumerate(new.gpus):
        if entry.name in names:
            value[row, names[entry.name]] += _SAME_NAME
    types = [np.array([entry.type for entry in plan.gpus], dtype=object) for plan in (new, old)]
    pairs = _best_pairs(value, (types[0][:, None] == types[1][None, :]).astype(bool))
    return {new.gpus[row].name: old.gpus[column].name for row, column in pairs}


def _settings(plan: Plan) -> list[Counter[object]]:
    return [Counter(entry.settings for entry in entries) for entries in served_by_gpu(plan)]


def served_by_gpu(plan: Plan) -> list[list[ServedPlacement]]:
    """Return what a plan serves on each of its GPUs.

    Raises
    ------
    InputError
        A placement is of a workload that the plan's instance does not have.
    """
    known = {workload.name for workload in plan.instance.workloads}
    return [[_served(plan, gpu, entry, known) for entry in gpu.placements] for gpu in plan.gpus]


def _served(plan: Plan, gpu: PlanGpu, entry: Placement, known: Collection[str]) -> ServedPlacement:
    if entry.workload not in known:
        raise InputError(
            f"plan for {plan.instance.name}: the placement {gpu.name}/{entry.workload}#{entry.replica} is of no"
            f" workload of the instance{nearest(entry.workload, known)}"
        )
    return ServedPlacement(
        workload=entry.workload,
        replica=entry.replica,
        model=entry.model,
        gpu=gpu.name,
        place=gpu.name,
        batch=entry.batch,
        share_percent=entry.share_percent,
        rate_rps=entry.rate_rps,
        queue_delay_us=queue_delay_us(plan, entry),
    )


def _best_pairs(value: npt.NDArray[np.float64], allowed: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return rows with their columns: as many pairs as are allowed, and the most valuable ones."""
    from scipy.optimize import linear_sum_assignment

    # A forbidden pair costs more than all allowed ones can gain.
    rows, columns = linear_sum_assignment(np.where(allowed, value, -(_KEEP * 10**3) * (len(value) + 1)), maximize=True)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if allowed[row, column]]


def _check_overrides(gpus: Sequence[PlanGpu], by_uuid: Mapping[str, Device], overrides: Mapping[str, str]) -> None:
    names = [gpu.name for gpu in gpus]
    for name, uuid in overrides.items():
        if name not in names:
            raise InputError(f"--gpu {name}={uuid}: the plan has no GPU {name!r}{nearest(name, names)}")
        if uuid not in by_uuid:
            found = ", ".join(by_uuid) or "none"
            raise InputError(f"--gpu {name}={uuid}: there is no GPU {uuid!r}; found: {found}")
    for uuid, count in Counter(overrides.values()).items():
        if count > 1:
            raise InputError(f"--gpu: {uuid} is given for {count} GPUs of the plan")


def _problem(device: Device, own_processes: frozenset[int]) -> str | None:
    if device.mig:
        return "MIG is enabled on it; only its slices can be used (disable it with `nvidia-smi -mig 0`)"
    if device.compute_mode == PROHIBITED:
        return "its compute mode is prohibited (allow computing with `nvidia-smi -c 0`)"
    strangers = sorted(set(device.processes) - own_processes)
    if device.compute_mode == EXCLUSIVE_PROCESS and strangers:
        return f"process {strangers[0]} holds it in exclusive mode"
    return None


def _kind(gpu: PlanGpu) -> str:
    kind = gpu.placements[0].slice
    return gpu.type if kind is None else f"{gpu.type} {kind}"


def _lacking_message(
    lacking: Sequence[PlanGpu],
    gpus: Sequence[PlanGpu],
    types: Mapping[str, GpuType],
    devices: Sequence[Device],
    own_processes: frozenset[int],
) -> str:
    needed = ", ".join(f"{count} x {name}" for name, count in Counter(map(_kind, gpus)).items())
    missing = ", ".join(f"{count} x {name}" for name, count in Counter(map(_kind, lacking)).items())
    lines = [f"the plan needs {needed}; {missing} cannot be had"]
    if not devices:
        lines.append("no GPU was found")
    for device in devices:
        problem = _problem(device, own_processes)
        fits = list(dict.fromkeys(_kind(gpu) for gpu in gpus if can_be(device, gpu, types[gpu.type])))
        verdict = problem or (f"can be {', '.join(fits)}" if fits else "is of none of the plan's types")
        lines.append(f"  {device.host} {device.uuid} {device.name}: {verdict}")
    lines.append("`--gpu PLAN-GPU=UUID` takes a card as it is, whatever its type")
    if any(gpu.placements[0].slice for gpu in lacking):
        lines.append("`igniter-opt deploy PLAN --mig-layout nvidia-smi` prints the commands that make the slices")
    return "\n".join(lines)
