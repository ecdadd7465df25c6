"""Curves of one model alone: active time over batch and share, and utilisation over batch."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from igniter_opt.base.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class ActiveSurface:
    """Active time (ms) at ascending batches (rows) and ascending shares in percent (columns).

    Below the smallest batch the active time is that of the smallest; above the largest it grows in proportion. Below
    the smallest share it grows in proportion to 1/r; above the largest it stays.
    """

    batches: tuple[float, ...]
    shares: tuple[float, ...]
    active_ms: tuple[tuple[float, ...], ...]

    @cached_property
    def _arrays(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Batches, reciprocal shares (both ascending) and the table in that order."""
        table = np.array(self.active_ms)
        return np.array(self.batches), 1.0 / np.array(self.shares)[::-1], table[:, ::-1].copy()

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.batches, self.shares, self.active_ms))

    def at(self, batch: npt.ArrayLike, share: npt.ArrayLike) -> FloatArray:
        """Active time in ms at batches and shares (percent) of any broadcastable shapes."""
        batches, reciprocals, table = self._arrays
        b, x = np.broadcast_arrays(np.asarray(batch, dtype=float), 1.0 / np.asarray(share, dtype=float))
        beyond = np.maximum(b / batches[-1], 1.0) * np.maximum(x / reciprocals[-1], 1.0)
        row, up = _locate(batches, b)
        column, right = _locate(reciprocals, x)
        low = table[row, column] * (1.0 - right) + table[row, column + 1] * right
        high = table[row + 1, column] * (1.0 - right) + table[row + 1, column + 1] * right
        return np.asarray((low * (1.0 - up) + high * up) * beyond)


def _locate(knots: FloatArray, values: FloatArray) -> tuple[IntArray, FloatArray]:
    """Index of the knot at or below each value (at most the last but one), and how far it is to the next, in 0..1."""
    at = np.clip(np.searchsorted(knots, values, side="right") - 1, 0, len(knots) - 2)
    return at, np.clip((values - knots[at]) / (knots[at + 1] - knots[at]), 0.0, 1.0)


@dataclass(frozen=True)
class Utilisation:
    """Utilisation in percent on the whole card at ascending batches; linear in log b between, constant beyond."""

    batches: tuple[float, ...]
    percent: tuple[float, ...]

    def at(self, batch: npt.ArrayLike) -> FloatArray:
        """Utilisation in percent at batches of any shape."""
        return np.asarray(np.interp(np.log(np.asarray(batch, dtype=float)), np.log(self.batches), self.percent))
