"""Readings of slices as arrays; nothing is fitted to them."""

import numpy as np

from igniter_opt.data.slice_profile import SliceProfile, SliceReadings
from igniter_opt.physics.mig_cards import Slice
from igniter_opt.physics.slices import SliceTable


def slice_tables(profile: SliceProfile) -> dict[str, dict[str, SliceTable]]:
    """Return the tables of a profile by model, and by kind of slice in the order of the card's."""
    kinds = profile.mig_card.slices
    return {
        name: {kind.name: _table(kind, model.slices[kind.name]) for kind in kinds if kind.name in model.slices}
        for name, model in profile.models.items()
    }


def _table(kind: Slice, readings: SliceReadings) -> SliceTable:
    batch = np.array(readings.batch, dtype=np.int64)
    unknown = np.full(len(batch), np.nan)
    return SliceTable(
        kind=kind,
        batch=batch,
        processes=np.array(readings.processes, dtype=np.int64),
        latency_ms=np.array(readings.latency_ms, dtype=np.float64),
        busy_ms=batch * 1000.0 / np.array(readings.throughput_rps_per_process, dtype=np.float64),
        memory_mib=unknown if readings.memory_mib is None else np.array(readings.memory_mib, dtype=np.float64),
    )
