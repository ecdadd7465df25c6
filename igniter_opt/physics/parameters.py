"""The numbers of the performance model: what is fitted for a card and for each model on it."""

from dataclasses import dataclass, field

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import nearest
from igniter_opt.physics.curves import ActiveSurface, Utilisation


@dataclass(frozen=True)
class HardwareCoefficients:
    """Coefficients of the card (units: MHz, W, ms, percent).

    Attributes
    ----------
    frequency_slope
        ``a`` in MHz/W: the clock falls to ``F + a (P - Pmax)`` above the power cap; 0 when no cap was seen.
    least_level
        The least share that the card grants, in share units; smaller ones would be raised to it.
    delay_slope, delay_intercept
        ``α`` and ``β`` in ms per kernel: added scheduling delay ``α n + β`` for n ≥ 2 processes.
    """

    max_frequency_mhz: float
    max_power_w: float
    idle_power_w: float
    frequency_slope: float
    delay_slope: float
    delay_intercept: float
    pcie_bytes_per_ms: float
    share_unit_percent: float
    least_level: int
    memory_mib: float | None

    @property
    def share_levels(self) -> int:
        """Number of share units that fit in 100 percent."""
        return int(np.floor(100.0 / self.share_unit_percent + 1e-9))

    def shares(self) -> FloatArray:
        """All shares in percent, ascending: ``u, 2u, ..., 100``; shape (levels,)."""
        return np.round(np.arange(1, self.share_levels + 1) * self.share_unit_percent, 9)

    def granted_shares(self) -> FloatArray:
        """The shares that the card grants: those from the least on."""
        return self.shares()[self.least_level - 1 :]


@dataclass(frozen=True)
class RefinedTerms:
    """What the refined coefficients of a model have beyond the faithful ones (see `refined`).

    Attributes
    ----------
    surface
        The active time k(b, r), in place of ``k1..k5``.
    utilisation
        What `utilisation` says is caused of the first kind of contention, beside ``ac h + bc``.
    power_per_share
        W per percent of share.
    traffic_slope, traffic_intercept
        Contention of the second kind caused: per req/s, and constant.
    cache_kernel_ms, cache_whole, traffic_sensitivity, traffic_kernel_ms, traffic_whole
        Delay suffered per unit of contention, beyond ``γ k``: per kernel (ms), and as a fraction of the active time
        on the whole card; for both kinds of contention.
    """

    surface: ActiveSurface
    utilisation: Utilisation | None = None
    power_per_share: float = 0.0
    traffic_slope: float = 0.0
    traffic_intercept: float = 0.0
    cache_kernel_ms: float = 0.0
    cache_whole: float = 0.0
    traffic_sensitivity: float = 0.0
    traffic_kernel_ms: float = 0.0
    traffic_whole: float = 0.0


@dataclass(frozen=True)
class ModelCoefficients:
    """Coefficients of one model on one card (``k1..k5``, ``ap, bp``, ``ac, bc``, ``γ`` of the paper).

    With `refined`, power, cache and γ are refitted too, and `active` is not used. `way_ms`, the way to a server and
    back, is in a request's latency and keeps nobody waiting.
    """

    kernels: float
    input_bytes: float
    output_bytes: float
    scheduling_delay_ms: float
    active: tuple[float, float, float, float, float]
    power_slope: float
    power_intercept: float
    cache_slope: float
    cache_intercept: float
    cache_sensitivity: float
    max_batch: int
    memory_fixed_mib: float = 0.0
    memory_per_item_mib: float = 0.0
    refined: RefinedTerms | None = None
    way_ms: float = 0.0

    def most_batch(self, memory_mib: float | None) -> int:
        """Largest profiled batch that fits alone in this much memory; 0 if none does."""
        if memory_mib is None or self.memory_fixed_mib + self.memory_per_item_mib * self.max_batch <= memory_mib:
            return self.max_batch
        if self.memory_per_item_mib == 0.0:
            return 0
        return max(0, int((memory_mib - self.memory_fixed_mib) / self.memory_per_item_mib))

    def row(self) -> list[float]:
        """Coefficients in the order of `Coefficients.table`."""
        return [
            *self.active,
            self.power_slope,
            self.power_intercept,
            self.cache_slope,
            self.cache_intercept,
            self.cache_sensitivity,
            self.scheduling_delay_ms,
            self.kernels,
            self.input_bytes,
            self.output_bytes,
            self.way_ms,
        ]


# A row for absent placements in padded arrays: adds no power, no cache use; active time 1 ms.
_ABSENT_ROW = [0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]


@dataclass(frozen=True)
class Coefficients:
    """All coefficients of one profile.

    Attributes
    ----------
    table
        Shape (15, models + 1): one column per model in the order of `models`, then the absent placement
        (so that index -1 pads arrays).
    """

    profile_name: str
    hardware: HardwareCoefficients
    models: dict[str, ModelCoefficients]
    table: FloatArray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rows = [model.row() for model in self.models.values()]
        object.__setattr__(self, "table", np.ascontiguousarray(np.array([*rows, _ABSENT_ROW]).T))

    @property
    def is_refined(self) -> bool:
        """Whether these are refined coefficients."""
        return any(model.refined is not None for model in self.models.values())

    def index(self, model: str) -> int:
        """Column of a model in `table`; raise InputError naming the known models."""
        names = list(self.models)
        if not isinstance(model, str) or model not in self.models:
            raise InputError(
                f"profile {self.profile_name}: unknown model {model!r}{nearest(model, names)}"
                f" (its models: {', '.join(names)})"
            )
        return names.index(model)
