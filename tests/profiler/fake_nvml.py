"""A stand-in for NVML's Python module, with what measuring asks of it."""

from types import SimpleNamespace
from typing import Any


class FakeNvml:
    """A card that draws 300 W at 1980 MHz."""

    NVML_CLOCK_SM = 1

    class NVMLError(Exception):
        """As raised by NVML."""

    def __init__(self) -> None:
        self.busy: list[int] = []

    def nvmlDeviceGetFieldValues(self, _: Any, __: Any) -> Any:
        raise self.NVMLError("not supported")

    def nvmlDeviceGetComputeRunningProcesses(self, _: Any) -> list[int]:
        return self.busy

    def nvmlDeviceGetMemoryInfo(self, _: Any) -> Any:
        return SimpleNamespace(total=80 * 2**30)

    def __getattr__(self, name: str) -> Any:
        values = {
            "nvmlInit": None,
            "nvmlDeviceGetHandleByUUID": "handle",
            "nvmlDeviceGetPowerUsage": 300_000,
            "nvmlDeviceGetClockInfo": 1980,
            "nvmlDeviceGetMaxClockInfo": 1980,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetName": "NVIDIA H100",
            "nvmlSystemGetDriverVersion": "580",
        }
        return lambda *_: values[name]
