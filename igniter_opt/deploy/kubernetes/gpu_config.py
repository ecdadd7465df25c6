"""A strict check of what NVIDIA's DRA driver reads from a claim: schemas of Kubernetes do not see inside it.

The fields are those of ``resource.nvidia.com/v1beta1``, kinds GpuConfig and MigDeviceConfig. The driver decodes them
strictly and refuses unknown ones, but only when a pod starts.
"""

import re
from collections.abc import Mapping
from typing import Any

DRIVER = "gpu.nvidia.com"
API_VERSION = "resource.nvidia.com/v1beta1"
_LEAST_BYTES = 2**20
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_QUANTITY = re.compile(r"([0-9]+)(|k|M|G|T|Ki|Mi|Gi|Ti)")
_DEVICE = re.compile(r"[0-9]+|GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MPS_FIELDS = (
    "defaultActiveThreadPercentage",
    "defaultPinnedDeviceMemoryLimit",
    "defaultPerDevicePinnedMemoryLimit",
    "multiUser",
)
_INTERVALS = ("Default", "Short", "Medium", "Long")


def gpu_config_problems(parameters: Any) -> list[str]:
    """Return what is wrong with a GpuConfig or MigDeviceConfig, each with where; nothing where it is right."""
    if not isinstance(parameters, Mapping):
        return ["parameters: must be an object"]
    found = _unknown(parameters, ("apiVersion", "kind", "sharing"), "parameters")
    if parameters.get("apiVersion") != API_VERSION:
        found.append(f"parameters.apiVersion: must be {API_VERSION!r}")
    kind = parameters.get("kind")
    if kind not in ("GpuConfig", "MigDeviceConfig"):
        found.append("parameters.kind: must be GpuConfig or MigDeviceConfig")
    if "sharing" in parameters:
        found += _sharing(parameters["sharing"])
        if kind == "MigDeviceConfig" and "timeSlicingConfig" in (parameters["sharing"] or ()):
            found.append("parameters.sharing.timeSlicingConfig: slices of MIG have none")
    return found


def _sharing(sharing: Any) -> list[str]:
    where = "parameters.sharing"
    if not isinstance(sharing, Mapping):
        return [f"{where}: must be an object"]
    found = _unknown(sharing, ("strategy", "timeSlicingConfig", "mpsConfig"), where)
    strategy = sharing.get("strategy")
    if strategy not in ("TimeSlicing", "MPS"):
        found.append(f"{where}.strategy: must be TimeSlicing or MPS")
    if "timeSlicingConfig" in sharing:
        if strategy != "TimeSlicing":
            found.append(f"{where}.timeSlicingConfig: goes with strategy TimeSlicing")
        slicing = sharing["timeSlicingConfig"]
        if not isinstance(slicing, Mapping) or set(slicing) - {"interval"}:
            found.append(f"{where}.timeSlicingConfig: must be an object with interval at most")
        elif slicing.get("interval", "Default") not in _INTERVALS:
            found.append(f"{where}.timeSlicingConfig.interval: must be one of {', '.join(_INTERVALS)}")
    if "mpsConfig" in sharing:
        if strategy != "MPS":
            found.append(f"{where}.mpsConfig: goes with strategy MPS")
        found += _mps(sharing["mpsConfig"], f"{where}.mpsConfig")
    return found


def _mps(config: Any, where: str) -> list[str]:
    if not isinstance(config, Mapping):
        return [f"{where}: must be an object"]
    found = _unknown(config, _MPS_FIELDS, where)
    percent = config.get("defaultActiveThreadPercentage", 100)
    if isinstance(percent, bool) or not isinstance(percent, int) or not 0 <= percent <= 100:
        found.append(f"{where}.defaultActiveThreadPercentage: must be a whole number from 0 to 100")
    if "defaultPinnedDeviceMemoryLimit" in config and not _limit(config["defaultPinnedDeviceMemoryLimit"]):
        found.append(f"{where}.defaultPinnedDeviceMemoryLimit: must be a quantity of at least 1Mi")
    limits = config.get("defaultPerDevicePinnedMemoryLimit", {})
    if not isinstance(limits, Mapping):
        found.append(f"{where}.defaultPerDevicePinnedMemoryLimit: must be an object")
    else:
        for device, limit in limits.items():
            if not isinstance(device, str) or not _DEVICE.fullmatch(device):
                found.append(f"{where}.defaultPerDevicePinnedMemoryLimit: {device!r} must be an index or a UUID")
            if not _limit(limit):
                found.append(f"{where}.defaultPerDevicePinnedMemoryLimit[{device!r}]: must be at least 1Mi")
    if not isinstance(config.get("multiUser", False), bool):
        found.append(f"{where}.multiUser: must be true or false")
    return found


def _unknown(given: Mapping[str, Any], known: tuple[str, ...], where: str) -> list[str]:
    return [f"{where}: unknown field {name!r}" for name in given if name not in known]


def _limit(value: Any) -> bool:
    """Whether a value is a quantity of at least 1 MiB."""
    parsed = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    return parsed is not None and int(parsed[1]) * _UNITS[parsed[2]] >= _LEAST_BYTES
