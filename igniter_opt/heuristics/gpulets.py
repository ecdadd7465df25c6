"""gpu-lets+: two workloads per GPU at most, shares of six sizes (as described by Xu et al. 2023, Section 5).

A GPU is used whole or split once into two complementary slices: 20/80, 40/60 or 50/50 percent, rounded to
share units. Workloads come by descending rate. The size asked for is the smaller of two read off the
throughput-share curve at batch 1, known at the six sizes only: the *most efficient* one (largest curvature,
by finite differences, both axes scaled to 1 because curvature depends on their units), and the least that
carries the rate. Where no batch meets the latency target at that size, the next size that has one is asked
for. The workload takes the smallest open slice that suffices, else a new GPU. Its batch there is the largest
whose latency alone times an interference factor meets the target (`slo.rule.Rule.first_fit`). This repeats
until the rate is carried, so a workload may get several replicas; with `max_replicas` it gets the least number
of equal replicas that whole GPUs carry. The neighbour already on the GPU is not checked again, so its
target may be violated. Under rule p99 the target is the percentile of waiting and latency at the rate carried,
with the service times of all batch sizes times the factor, and the batch is the smallest that carries the rate (a
larger one would only burden the neighbour), else the one that carries most.

The authors' interference factor is a linear regression on the L2 and DRAM utilisation of both workloads. The
profiles hold no DRAM utilisation, so it is fitted on the cache use of both workloads and a constant, by least
squares to the predictor's slow-down of pairs of models over a grid of batches and complementary sizes.

On Table 3 (V100) this yields 8 GPUs, as in Figure 18 of the paper. Shares in percent:

=========  ===  ===  ===  ===  ===  ===  =====  =====  ===  =====  ===  =====
.           W1   W2   W3   W4   W5   W6     W7     W8   W9    W10  W11    W12
=========  ===  ===  ===  ===  ===  ===  =====  =====  ===  =====  ===  =====
Figure 18   50   40   50   60   60   60    100     80   40     60   20    100
here        50   50   50   50   50   60  60+40  50+40   50  50+40   60  60+40
=========  ===  ===  ===  ===  ===  ===  =====  =====  ===  =====  ===  =====

The paper does not say how it measures curvature. Here the most efficient size of all four models is 50, where
W4 and W5 suggest 60 for ResNet-50; which slices are left for the other workloads follows from that.
"""

import math
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InfeasibleError
from igniter_opt.heuristics.demand import require_few_parts
from igniter_opt.physics.interference import placement_terms, predict_many
from igniter_opt.physics.parameters import Coefficients
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import Draft, DraftGpu
from igniter_opt.slo.rule import Fit, Servers

_SMALLER_SLICES_PERCENT = (20.0, 40.0, 50.0)
_FIT_BATCHES = (1, 2, 4, 8, 16, 32)
_GUARD = 1e-9
# Keeps divisions finite where the power drawn leaves no clock and so no throughput.
_LEAST_RATE = 1e-12


class _Model(NamedTuple):
    """A model at every batch (rows) and size (columns); times in ms, memory in MiB per batch."""

    latency_ms: FloatArray
    load_ms: FloatArray
    cache: FloatArray
    memory_mib: FloatArray
    curve_rps: FloatArray  # throughput at batch 1
    efficient: int  # column of the most efficient size


class _Slice(NamedTuple):
    """The unused slice of a split GPU, and what its neighbour there takes."""

    gpu: int
    cache: float
    memory_mib: float


_EMPTY = [_Slice(-1, 0.0, 0.0)]  # a slice of a new GPU, without a neighbour


class _Ask(NamedTuple):
    """A replica to place: the rate left to carry, and the least it must carry (req/s)."""

    workload: int
    replica: int
    rate_rps: float
    least_rps: float


def place(problem: Problem) -> list[DraftGpu]:
    """Place all workloads by gpu-lets+ on the one GPU type that gives the cheapest plan.

    Raises
    ------
    InfeasibleError
        gpu-lets+ finds no plan on any type alone.
    """
    return cheapest_on_one_type(problem, lambda gpu_type: _Placer(problem, gpu_type).place())


def cheapest_on_one_type(problem: Problem, place_on: Callable[[int], list[DraftGpu]]) -> list[DraftGpu]:
    """Use each GPU type alone for the whole instance; return the cheapest plan within the type's count.

    Baselines made for one type of GPU get a choice of types this way.

    Raises
    ------
    InfeasibleError
        No type alone gives a plan; says why for each.
    """
    best: list[DraftGpu] | None = None
    best_cost = np.inf
    reasons = []
    for gpu_type, gpu in enumerate(problem.gpu_types):
        unknown = [k for k in range(len(problem.workloads)) if not problem.knows(k, gpu_type)]
        try:
            if unknown:
                demand = problem.workloads[unknown[0]]
                raise InfeasibleError(f"its profile lacks {demand.model}, workload {demand.name}'s model")
            plan = place_on(gpu_type)
            if gpu.count is not None and len(plan) > gpu.count:
                raise InfeasibleError(f"the plan needs {len(plan)} GPUs, and there are {gpu.count}")
        except InfeasibleError as error:
            reasons.append(f"on {gpu.name} alone: {error}")
            continue
        if len(plan) * gpu.price_per_hour < best_cost:
            best, best_cost = plan, len(plan) * gpu.price_per_hour
    if best is None:
        raise InfeasibleError("; ".join(reasons))
    return best


class _Placer:
    """gpu-lets+ on one GPU type."""

    def __init__(self, problem: Problem, gpu_type: int) -> None:
        self.problem = problem
        self.gpu_type = gpu_type
        self.coefficients = problem.coefficients[gpu_type]
        self.memory_limit = problem.gpu_types[gpu_type].memory_limit_mib or np.inf
        self.levels = slice_levels(self.coefficients)
        self.shares = self.coefficients.hardware.shares()[np.array(self.levels) - 1]
        names = dict.fromkeys(workload.model for workload in problem.workloads)
        self.models = {name: self._model(name) for name in names}
        self.factor = interference_factor(self.coefficients, self.levels)
        self.open: list[list[_Slice]] = [[] for _ in self.levels]
        self.plan: list[DraftGpu] = []

    def _model(self, name: str) -> _Model:
        model = self.coefficients.models[name]
        terms = self.problem.grid(name, self.gpu_type)
        columns = np.array(self.levels) - 1
        batches, shares = np.meshgrid(np.arange(1, model.max_batch + 1), self.shares, indexing="ij")
        index = np.full((batches.size, 1), self.coefficients.index(name))
        alone = predict_many(
            self.coefficients, index, batches.reshape(-1, 1), shares.reshape(-1, 1), self.problem.margin
        )
        curve = alone.throughput_rps[: len(columns), 0]
        return _Model(
            latency_ms=alone.latency_ms.reshape(batches.shape),
            load_ms=terms.load_ms[:, columns],
            cache=terms.cache[:, columns],
            memory_mib=model.memory_fixed_mib + model.memory_per_item_mib * batches[:, 0],
            curve_rps=curve,
            efficient=int(curvature(self.shares / 100.0, curve / max(float(curve.max()), _LEAST_RATE)).argmax()),
        )

    def place(self) -> list[DraftGpu]:
        rates = np.array([workload.rate_rps for workload in self.problem.workloads])
        for workload in np.argsort(-rates, kind="stable").tolist():
            self._place_workload(workload)
        return self.plan

    def _place_workload(self, workload: int) -> None:
        demand = self.problem.workloads[workload]
        whole = len(self.levels) - 1
        most = self._fit(_Ask(workload, 1, demand.rate_rps, 0.0), whole, _EMPTY)
        if most is None:
            raise InfeasibleError(f"workload {demand.name} fits a whole GPU within its SLO at no batch")
        remaining, replica = demand.rate_rps, 1
        if demand.max_replicas is not None:
            count = math.ceil(demand.rate_rps / most.rate_rps * (1 - _GUARD))
            if count > demand.max_replicas:
                raise InfeasibleError(
                    f"workload {demand.name} ({demand.rate_rps:g} req/s) needs more replicas than its"
                    f" max_replicas of {demand.max_replicas}: a whole GPU carries {most.rate_rps:.4g} req/s"
                    " within its SLO"
                )
            rate = demand.rate_rps / count
            for replica in range(1, count + 1):
                self._place_replica(_Ask(workload, replica, rate, rate))
            return
        others = sum(len(gpu.placements) for gpu in self.plan)
        require_few_parts(demand, demand.rate_rps / most.rate_rps, others)
        while remaining > 0.0:
            require_few_parts(demand, replica, others)
            remaining -= self._place_replica(_Ask(workload, replica, remaining, 0.0))
            replica += 1

    def _place_replica(self, ask: _Ask) -> float:
        """Place one replica at the smaller of the two sizes; return the rate it carries."""
        demand = self.problem.workloads[ask.workload]
        model = self.models[demand.model]
        carrying = np.flatnonzero(model.curve_rps >= ask.rate_rps)
        size = min(model.efficient, int(carrying[0]) if carrying.size else len(self.levels) - 1)
        carried = self._put(ask, size)
        if carried is None:
            raise InfeasibleError(f"workload {demand.name}: no slice carries {ask.rate_rps:.4g} req/s of it")
        return carried

    def _put(self, ask: _Ask, size: int) -> float | None:
        """Give a replica the best-fitting open slice, or a slice of a new GPU; return the rate it carries."""
        alone = self._fit(ask, size, _EMPTY)
        while alone is None:
            size += 1
            if size == len(self.levels):
                return None
            alone = self._fit(ask, size, _EMPTY)
        for column in range(size, len(self.levels)):
            fit = self._fit(ask, column, self.open[column])
            if fit is not None:
                taken = self.open[column].pop(fit.position)
                self.plan[taken.gpu].placements.append(self._draft(ask, column, fit))
                return fit.rate_rps
        rest = self.levels[-1] - self.levels[size]
        if rest in self.levels:  # a smaller one is granted to nobody
            model = self.models[self.problem.workloads[ask.workload].model]
            row = alone.batch - 1
            neighbour = _Slice(len(self.plan), float(model.cache[row, size]), float(model.memory_mib[row]))
            self.open[self.levels.index(rest)].append(neighbour)
        self.plan.append(DraftGpu(self.gpu_type, [self._draft(ask, size, alone)]))
        return alone.rate_rps

    def _draft(self, ask: _Ask, column: int, fit: Fit) -> Draft:
        return Draft(ask.workload, ask.replica, fit.batch, self.levels[column], fit.rate_rps)

    def _fit(self, ask: _Ask, column: int, slices: list[_Slice]) -> Fit | None:
        """Find the first slice of a size that carries enough within the target, and the batch that does."""
        if not slices:
            return None
        demand = self.problem.workloads[ask.workload]
        model = self.models[demand.model]
        gpu, cache, memory = np.array(slices).T
        factor = np.where(gpu < 0, 1.0, self.factor(model.cache[:, column, None], cache))
        latency = model.latency_ms[:, column, None] * factor
        servers = Servers(
            latency_ms=latency,
            busy_ms=latency - model.load_ms[:, column, None],
            fits=model.memory_mib[:, None] + memory <= self.memory_limit,
        )
        return self.problem.rule.first_fit(servers, demand, ask.rate_rps, ask.least_rps)


def slice_levels(coefficients: Coefficients) -> list[int]:
    """Return the sizes of slices in share units, ascending, and complements that are not below the least share."""
    levels, least = coefficients.hardware.share_levels, coefficients.hardware.least_level
    unit = coefficients.hardware.share_unit_percent
    smaller = {min(max(least, round(percent / unit)), levels) for percent in _SMALLER_SLICES_PERCENT}
    complements = {levels - level for level in smaller}
    return sorted({*smaller, *(level for level in complements if level >= least), levels})


def curvature(x: FloatArray, y: FloatArray) -> FloatArray:
    """Curvature of a sampled curve by finite differences."""
    if x.size < 2:
        return np.zeros(x.size)
    slope = np.gradient(y, x)
    return np.asarray(np.abs(np.gradient(slope, x)) / (1.0 + slope**2) ** 1.5)


def interference_factor(
    coefficients: Coefficients, levels: list[int]
) -> Callable[[FloatArray, FloatArray], FloatArray]:
    """Fit the factor by which latency grows beside a neighbour, from the cache use of both (percent)."""
    pairs = []
    for first, second in product(range(len(coefficients.models)), repeat=2):
        models = list(coefficients.models.values())
        batches = [[b for b in _FIT_BATCHES if b <= models[k].max_batch] for k in (first, second)]
        for level in levels[:-1]:
            pairs += [(first, second, b, c, level, levels[-1] - level) for b, c in product(*batches)]
    if not pairs:
        return lambda own, other: np.ones(np.broadcast_shapes(own.shape, other.shape))
    table = np.array(pairs)
    model, batch = table[:, :2], table[:, 2:4]
    share = coefficients.hardware.shares()[table[:, 4:] - 1]
    beside = predict_many(coefficients, model, batch, share).latency_ms[:, 0]
    alone = predict_many(coefficients, model[:, :1], batch[:, :1], share[:, :1]).latency_ms[:, 0]
    cache = placement_terms(coefficients, model, batch, share).cache
    usable = np.isfinite(beside)
    features = np.column_stack([cache, np.ones(len(cache))])[usable]
    (own_weight, other_weight, constant), *_ = np.linalg.lstsq(features, beside[usable] / alone[usable], rcond=None)
    return lambda own, other: np.maximum(1.0, own_weight * own + other_weight * other + constant)
