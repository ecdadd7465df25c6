"""A stand-in for NVML's Python module."""

from types import SimpleNamespace
from typing import Any


class FakeNvml:
    """Cards given as (uuid, name, MiB), with optional compute mode, MIG, its instances and process ids."""

    NVML_COMPUTEMODE_DEFAULT, NVML_COMPUTEMODE_PROHIBITED, NVML_COMPUTEMODE_EXCLUSIVE_PROCESS = 0, 2, 3
    NVML_DEVICE_MIG_ENABLE = 1

    class NVMLError(Exception):
        """As raised by NVML."""

    def __init__(self, *cards: dict[str, Any], error: str | None = None) -> None:
        self.cards = cards
        self.error = error
        self.open = False

    def nvmlInit(self) -> None:
        if self.error:
            raise self.NVMLError(self.error)
        self.open = True

    def nvmlShutdown(self) -> None:
        self.open = False

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        return self.cards[index]

    def nvmlDeviceGetUUID(self, card: dict[str, Any]) -> str | bytes:
        return card["uuid"]

    def nvmlDeviceGetName(self, card: dict[str, Any]) -> str | bytes:
        return card["name"]

    def nvmlDeviceGetMemoryInfo(self, card: dict[str, Any]) -> Any:
        return SimpleNamespace(total=card["mib"] * 2**20)

    def nvmlDeviceGetComputeMode(self, card: dict[str, Any]) -> int:
        return card.get("mode", 0)

    def nvmlDeviceGetMigMode(self, card: dict[str, Any]) -> tuple[int, int]:
        if "mig" not in card:
            raise self.NVMLError("Not Supported")
        return card["mig"], card["mig"]

    def nvmlDeviceGetMaxMigDeviceCount(self, card: dict[str, Any]) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: dict[str, Any], index: int) -> dict[str, Any]:
        instances: list[dict[str, Any]] = card.get("instances", [])
        if index >= len(instances):
            raise self.NVMLError("Not Found")
        return instances[index]

    def nvmlDeviceGetComputeRunningProcesses(self, card: dict[str, Any]) -> list[Any]:
        return [SimpleNamespace(pid=pid) for pid in card.get("pids", ())]
