"""A stand-in for NVML's Python module, with what measuring asks of it."""

import time
from types import SimpleNamespace
from typing import Any


class FakeNvml:
    """A card that draws 300 W at 1980 MHz; a third of both until `late_s` after `began`."""

    NVML_CLOCK_SM = 1

    class NVMLError(Exception):
        """As raised by NVML."""

    def __init__(self) -> None:
        self.busy: list[int] = []
        self.began = time.monotonic()
        self.late_s = 0.0

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
        early = time.monotonic() < self.began + self.late_s
        if early and name in ("nvmlDeviceGetPowerUsage", "nvmlDeviceGetClockInfo"):
            return lambda *_: values[name] // 3
        return lambda *_: values[name]
