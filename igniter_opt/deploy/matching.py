"""Which physical GPU serves as which GPU of the plan."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import nearest
from igniter_opt.data.instance import GpuType
from igniter_opt.data.plan import PlanGpu
from igniter_opt.deploy.inventory import EXCLUSIVE_PROCESS, PROHIBITED, Device

Key = tuple[str, str]  # workload and digest of what is served

# Weights of the assignment's aims, from the first to the last.
_KEEP, _SAME_NAME, _FREE = 10**6, 10**3, 1


def is_type(device: Device, gpu_type: GpuType) -> bool:
    """Whether a card is one that the type's profile was measured on.

    True if all words of the profile's card, or of the type's name, are among the words of the card's name
    ("V100" and "NVIDIA V100-SXM2-16GB" are both "Tesla V100-SXM2-16GB").
    """
    found = _words(device.name)
    return any(wanted and wanted <= found for wanted in (_words(gpu_type.profile.hardware.gpu), _words(gpu_type.name)))


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
            allowed[row, column] = any_type or is_type(device, types[gpu.type])
            kept = sum((wanted[gpu.name] & running.get(place, Counter())).values())
            idle = not set(device.processes) - own_processes
            value[row, column] = _KEEP * kept + _SAME_NAME * (names.get(place) == gpu.name) + _FREE * idle
    # A forbidden pair costs more than all allowed ones can gain.
    value[~allowed] = -(_KEEP * 10**3) * (len(free) + 1)
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(value, maximize=True)
    result = {free[row].name: usable[column] for row, column in zip(rows, columns, strict=True) if allowed[row, column]}
    lacking = [gpu for gpu in free if gpu.name not in result]
    if lacking:
        raise InputError(_lacking_message(lacking, gpus, types, devices, own_processes))
    return {gpu.name: fixed.get(gpu.name) or result[gpu.name] for gpu in gpus}


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
        return "MIG is enabled on it; shares need the whole card (disable it with `nvidia-smi -mig 0`)"
    if device.compute_mode == PROHIBITED:
        return "its compute mode is prohibited (allow computing with `nvidia-smi -c 0`)"
    strangers = sorted(set(device.processes) - own_processes)
    if device.compute_mode == EXCLUSIVE_PROCESS and strangers:
        return f"process {strangers[0]} holds it in exclusive mode"
    return None


def _lacking_message(
    lacking: Sequence[PlanGpu],
    gpus: Sequence[PlanGpu],
    types: Mapping[str, GpuType],
    devices: Sequence[Device],
    own_processes: frozenset[int],
) -> str:
    needed = ", ".join(f"{count} x {name}" for name, count in Counter(gpu.type for gpu in gpus).items())
    missing = ", ".join(f"{count} x {name}" for name, count in Counter(gpu.type for gpu in lacking).items())
    lines = [f"the plan needs {needed}; {missing} cannot be had"]
    if not devices:
        lines.append("no GPU was found")
    for device in devices:
        problem = _problem(device, own_processes)
        fits = [name for name in dict.fromkeys(gpu.type for gpu in gpus) if is_type(device, types[name])]
        verdict = problem or (f"can be {', '.join(fits)}" if fits else "is of none of the plan's types")
        lines.append(f"  {device.host} {device.uuid} {device.name}: {verdict}")
    lines.append("`--gpu PLAN-GPU=UUID` takes a card as it is, whatever its type")
    return "\n".join(lines)
