"""How busy this machine is while it measures, and whether it is one of several on a host that want to run."""

from typing import NamedTuple

from igniter_opt.base.optional import load


class MachineLoad(NamedTuple):
    """Percent of all processors in use, and processor time (s) that the host gave to others; None if not known."""

    cpu_percent: float
    stolen_s: float | None


class Machine:
    """The machine from now on."""

    def __init__(self) -> None:
        self._psutil = load("psutil")
        self._psutil.cpu_percent()
        self._stolen_s = self._stolen()

    def load(self) -> MachineLoad:
        """Return the load since this was made."""
        before, after = self._stolen_s, self._stolen()
        stolen = None if before is None or after is None else max(0.0, after - before)
        return MachineLoad(float(self._psutil.cpu_percent()), stolen)

    def _stolen(self) -> float | None:
        found = getattr(self._psutil.cpu_times(), "steal", None)  # Linux only
        return None if found is None else float(found)
