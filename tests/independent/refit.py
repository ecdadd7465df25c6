"""The fit to measurements side by side, stated once more from `refined`'s description; slow, for a test of its own.

The statement of the problem is independent: features, residuals and what the measurements imply of active times alone
are written anew, in other terms. Its constants (weights, pulls, where the search begins) are the package's, for they
define the answer. The solver is MINPACK's Levenberg-Marquardt (the package: a trust-region reflective method), so that
both may stop a little apart: a difference of predictions is expected, of a size that the test states.
"""

import math
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.sparse import csr_array, eye_array

from tests.independent.cards import (
    Card,
    Model,
    Profile,
    Surface,
    by_counters,
    card_of,
    counted,
    grid_of,
    solo_points,
    surface,
    uncapped,
    utilisation,
)

POWER, CONSTANT, KERNEL, PER_PERCENT = 100.0, 20.0, 0.02, 0.01
PASSES = 3
# Rows of weights: power per throughput, constant, per share; caused (constant, per throughput) of both kinds; suffered
# (per active time, kernel, active time on the whole card) of both kinds.
ROWS = 13


class Problem:
    """One least-squares problem: readings of a profile at given surfaces."""

    def __init__(self, data: Profile, card: Card, begin: dict[str, Model], surfaces: dict[str, Surface]) -> None:
        self.data, self.card, self.begin, self.surfaces = data, card, begin, surfaces
        self.names = list(data["models"])
        self.counted = counted(data)
        self.used = {n: utilisation(data["models"][n], surfaces[n]) for n in self.names} if self.counted else {}
        self.grids = {n: grid_of(data["models"][n], card.top_mhz) for n in self.names}
        self.most = {
            name: max(1000.0 * b / self._grid_active(name, ms, mhz) for b, _, ms, _, mhz in points)
            for name, points in self.grids.items()
        }
        block = data["colocated_measurements"]
        self.readings = list(
            zip(*(block[key] for key in ("model", "batch", "share_percent", "latency_ms", "group")), strict=True)
        )
        self.beside = [self.features(name, b, r) for name, b, r, _, _ in self.readings]
        groups = [group for *_, group in self.readings]
        same = csr_array(np.equal.outer(np.array(groups), np.array(groups)).astype(float))
        self.others = csr_array(same - eye_array(len(groups)))
        size = same.sum(axis=1)
        self.latency = np.array([ms for *_, ms, _ in self.readings])
        self.transfer, self.waits = np.zeros(len(groups)), np.zeros(len(groups))
        for k, (name, b, *_) in enumerate(self.readings):
            model, n = begin[name], int(size[k])
            self.transfer[k] = b * (model.input_bytes + model.output_bytes) / card.bytes_per_ms
            added = card.delay_slope * n + card.delay_constant if n > 1 else 0.0
            self.waits[k] = model.delay + model.kernels * added
        self._alone()
        self.start = [self.starts(0), self.starts(1)]
        self.matrix = self._stack(self.beside)

    def _grid_active(self, name: str, ms: float, mhz: float) -> float:
        return ms * min(1.0, mhz / self.card.top_mhz) - self.data["models"][name]["scheduling_delay_ms"]

    def features(self, name: str, b: float, r: float, active: float | None = None) -> dict[str, Any]:
        k = self.surfaces[name].at(b, r)
        whole = self.surfaces[name].at(b, 100.0)
        demand = self.used[name](b) * whole / k if self.counted else 0.0
        k = k if active is None else active
        return {
            "model": self.names.index(name), "share": r, "active": k, "whole": whole, "demand": demand,
            "relative": 1000.0 * b / k / self.most[name], "kernels": self.begin[name].kernels,
        }  # fmt: skip

    @staticmethod
    def _stack(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        return {key: np.array([row[key] for row in rows]) for key in rows[0]}

    def _alone(self) -> None:
        top, idle = self.card.top_mhz, self.card.idle_w
        rows, power, clock = [], [], []
        for name in self.names:
            for b, r, ms, watt, mhz in self.grids[name]:
                rows.append(self.features(name, b, r, self._grid_active(name, ms, mhz)))
                power.append(watt - idle)
                clock.append(mhz)
        self.grid, self.grid_power = self._stack(rows), np.array(power)
        self.free = np.array(clock) > top - 1
        self.grid_clock = np.minimum(1.0, np.array(clock) / top)
        rows, paired, slower = [], [], []
        for name in self.names:
            probe = self.data["models"][name]["interference_probe"]
            if probe.get("batch") is None or probe.get("share_percent") is None:
                continue
            rows.append(self.features(name, probe["batch"], probe["share_percent"]))
            paired.append(min(1.0, probe["frequency_paired_mhz"] / top))
            slow = probe["active_time_paired_ms"] * paired[-1] / probe["active_time_alone_ms"] - 1.0
            slower.append(max(0.0, slow))
        self.probes, self.probe_clock, self.slower = self._stack(rows), np.array(paired), np.array(slower)
        run = self.data["hardware"]["coexecution"]
        self.run_clock = np.minimum(1.0, np.array(run["frequency_mhz"]) / top)
        self.run_power = np.array(uncapped(run["power_w"], run["frequency_mhz"], top, idle))

    def starts(self, turn: int) -> np.ndarray:
        count = len(self.names)
        table = np.full((ROWS, count), -1.5)
        table[:3] = -1.0
        for k in range(count):
            lean = 0.5 * math.cos(2.4 * k + 1.3 * turn)
            table[3:5, k] += lean
            table[5:10, k] -= lean
            table[10:, k] += lean
            if self.counted:
                suffers = self.begin[self.names[k]].suffers
                table[7, k] = math.log(max(suffers[0] / PER_PERCENT, 0.01))
                table[8, k] = -1.5
                table[9, k] = math.log(max(suffers[2] / PER_PERCENT, 0.01))
        return np.concatenate([table.ravel(), [0.0, 0.0]])

    def weights(self, theta: np.ndarray) -> np.ndarray:
        table = np.exp(np.minimum(theta[:-2], 30.0)).reshape(ROWS, -1)
        if self.counted:
            table[3:7] = table[10:] = 0.0
            table[7:10] *= PER_PERCENT
        table[0] *= POWER
        table[1] *= CONSTANT
        table[8] *= KERNEL
        table[11] *= KERNEL
        return np.asarray(table)

    def power(self, w: np.ndarray, at: dict[str, np.ndarray]) -> np.ndarray:
        own = w[:, at["model"]]
        return np.asarray(own[0] * at["relative"] + own[1] + own[2] * at["share"])

    def caused(self, w: np.ndarray, at: dict[str, np.ndarray]) -> list[np.ndarray]:
        own = w[:, at["model"]]
        return [own[3] + own[4] * at["relative"] + at["demand"], own[5] + own[6] * at["relative"]]

    def suffered(self, w: np.ndarray, at: dict[str, np.ndarray]) -> list[np.ndarray]:
        own = w[:, at["model"]]
        return [own[k] * at["active"] + own[k + 1] * at["kernels"] + own[k + 2] * at["whole"] for k in (7, 10)]

    def clock(self, theta: np.ndarray, power: np.ndarray) -> np.ndarray:
        slope = self.card.clock_slope / self.card.top_mhz * math.exp(min(theta[-2], 3.0))
        over = self.card.idle_w + power - (self.card.cap_w + theta[-1])
        return np.clip(1.0 + slope * over, 0.1, 1.0)

    def gpu_clock(self, theta: np.ndarray, w: np.ndarray) -> np.ndarray:
        drawn = self.power(w, self.matrix)
        return self.clock(theta, drawn + self.others @ drawn)

    def residuals(self, theta: np.ndarray) -> np.ndarray:
        w, at = self.weights(theta), self.matrix
        active = at["active"].copy()
        for own, per_unit in zip(self.caused(w, at), self.suffered(w, at), strict=True):
            active += per_unit * (self.others @ own)
        latency = self.transfer + (self.waits + active) / self.gpu_clock(theta, w)
        grid, pair = self.power(w, self.grid), 2.0 * self.power(w, self.probes)
        probes = zip(self.caused(w, self.probes), self.suffered(w, self.probes), strict=True)
        slowed = sum(own * per_unit for own, per_unit in probes) / self.probes["active"]
        return np.concatenate([
            100.0 * (latency - self.latency) / self.latency,
            0.1 * (grid - self.grid_power)[self.free],
            300.0 * (self.clock(theta, grid) / self.grid_clock - 1.0),
            300.0 * (self.clock(theta, pair) / self.probe_clock - 1.0),
            300.0 * (self.clock(theta, self.run_power - self.card.idle_w) / self.run_clock - 1.0),
            300.0 * (slowed - self.slower),
            0.1 * (theta - self.start[0])[:-2],
            np.array([3.0, 0.1]) * theta[-2:],
        ])  # fmt: skip

    def solve(self, theta: np.ndarray | None) -> np.ndarray:
        starts = self.start if theta is None else [theta]
        found = [least_squares(self.residuals, at, method="lm", ftol=1e-8, xtol=1e-8) for at in starts]
        return np.asarray(min(found, key=lambda one: float(one.cost)).x)

    def implied(self, theta: np.ndarray) -> dict[str, list[tuple[float, float, float, float]]]:
        """Active times alone behind the readings: batch, share, ms, relative noise; equal places are one."""
        w, at = self.weights(theta), self.matrix
        gpu = (self.latency - self.transfer) * self.gpu_clock(theta, w) - self.waits
        constant, slower = np.zeros(len(gpu)), np.ones(len(gpu))
        own = w[:, at["model"]]
        for k, caused in zip((7, 10), self.caused(w, at), strict=True):
            beside = self.others @ caused
            slower += beside * own[k]
            constant += beside * (own[k + 1] * at["kernels"] + own[k + 2] * at["whole"])
        found: dict[str, dict[tuple[float, float], list[tuple[float, float]]]] = {name: {} for name in self.names}
        for k, (name, b, r, _, _) in enumerate(self.readings):
            if gpu[k] <= 0:
                continue
            active = max((gpu[k] - constant[k]) / slower[k], min(at["active"][k], gpu[k]) / 2.0)
            noise = 0.01 + 0.1 * max(0.0, gpu[k] / active - 1.0)
            found[name].setdefault((b, r), []).append((math.log(active), noise**-2))
        merged: dict[str, list[tuple[float, float, float, float]]] = {}
        for name, places in found.items():
            merged[name] = []
            for (b, r), seen in places.items():
                certain = math.fsum(c for _, c in seen)
                mean = math.fsum(x * c for x, c in seen) / certain
                merged[name].append((b, r, math.exp(mean), certain**-0.5))
        return merged

    def models(self, theta: np.ndarray) -> tuple[Card, dict[str, Model]]:
        """The outcome: a card with the fitted clock, and its models."""
        w = self.weights(theta)
        slope = self.card.clock_slope * math.exp(min(theta[-2], 3.0))
        card = Card(**{**self.card.__dict__, "clock_slope": slope, "cap_w": self.card.cap_w + float(theta[-1])})
        found = {}
        for k, name in enumerate(self.names):
            own = w[:, k].tolist()
            changed = {
                "active": self.surfaces[name].at,
                "power": (own[0] / self.most[name], own[1], own[2]),
                "cache": (own[4] / self.most[name], own[3]),
                "traffic": (own[6] / self.most[name], own[5]),
                "suffers": tuple(own[7:10]),
                "suffers_traffic": tuple(own[10:13]),
                "utilisation": self.used.get(name),
            }
            found[name] = Model(**{**self.begin[name].__dict__, **changed})
        card.models = found
        return card, found


def refit(data: Profile) -> Card:
    """Fit the refined coefficients of a profile with measurements side by side."""
    card = card_of({**data, "coefficients": "igniter"})
    faithful = card.models
    surfaces = {name: surface(solo_points(data, name, card, faithful[name])) for name in faithful}
    begin = by_counters(data, card, faithful, surfaces)
    found, theta = card, None
    for _ in range(PASSES):
        problem = Problem(data, card, begin, surfaces)
        theta = problem.solve(theta)
        found, models = problem.models(theta)
        more = problem.implied(theta)
        surfaces = {name: surface(solo_points(data, name, found, models[name]) + more[name]) for name in models}
    for name, model in found.models.items():
        model.active = surfaces[name].at
    return found
