"""The judge: recompute a plan from its instance and profile alone, and say what holds and what does not.

Nothing a solver computed is used. Tolerance: 1e-9 relative on every limit.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath
from igniter_opt.base.frames import frame
from igniter_opt.base.schema import in_short, nearest, summary
from igniter_opt.base.text import counted
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import Instance, Workload
from igniter_opt.data.plan import Placement, Plan, PlanGpu, as_plan
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.fitting.judging import Judging
from igniter_opt.physics.interference import predict_many
from igniter_opt.physics.parameters import Coefficients
from igniter_opt.physics.sharing import MpsShares
from igniter_opt.slo.rule import TOLERANCE, Replicas
from igniter_opt.slo.rules import rule_of
from igniter_opt.slo.slice_judge import SliceJudge

if TYPE_CHECKING:
    import pandas as pd

# A plan file holds its predictions as decimal text of full precision; more than this is an edit.
PREDICTION_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Violation:
    """One thing that is wrong with a plan: its kind, where, and what in words."""

    kind: str
    where: str
    message: str


@dataclass(frozen=True)
class PlacementCheck:
    """One placement judged (latencies in ms, rates in req/s).

    `latency_ms` and `throughput_rps` are the plain predictions; `slack_ms` and `ok` include the plan's
    margin. `latency_ms` is what the SLO rule limits: under rule p99 the percentile of waiting plus inference latency,
    infinite where the queue grows without end, and `limit_ms` the SLO. Placements that cannot be predicted have NaN
    there.
    """

    gpu: str
    type: str
    workload: str
    replica: int
    model: str
    batch: int
    share_percent: float
    latency_ms: float
    limit_ms: float
    slack_ms: float
    throughput_rps: float
    rate_rps: float
    ok: bool


@dataclass(frozen=True)
class Verification:
    """The judgement of a plan.

    Attributes
    ----------
    violations
        Everything that is wrong; empty when the plan holds.
    placements
        Every placement with its predicted latency, limit, slack, throughput and rate.
    basis
        Under rule p99, for arrivals that are not Poisson: what percentiles are computed from, and so how sure they are.
        Where neighbours are taken as they are: what was simulated, and with which confidence it holds.
    """

    violations: list[Violation]
    placements: list[PlacementCheck]
    basis: str | None = None

    def __repr__(self) -> str:
        over = in_short(self.workloads_over_slo) or None
        return summary(
            "Verification",
            ok=self.ok,
            violations=len(self.violations),
            placements=len(self.placements),
            workloads_over_slo=over,
        )

    @property
    def ok(self) -> bool:
        """Whether the plan holds."""
        return not self.violations

    @property
    def workloads_over_slo(self) -> list[str]:
        """Names of workloads with a placement over its latency limit or short of its rate."""
        return list(dict.fromkeys(check.workload for check in self.placements if not check.ok))

    def to_frame(self) -> "pd.DataFrame":
        """Return the placements as a table."""
        return frame(asdict(check) for check in self.placements)

    def to_dict(self) -> dict[str, Any]:
        """Return the judgement as plain data (the form of ``verify --json``; unpredictable numbers are null)."""
        placements = [
            {key: None if isinstance(v, float) and not np.isfinite(v) else v for key, v in asdict(check).items()}
            for check in self.placements
        ]
        return {
            "ok": self.ok,
            "violations": [asdict(entry) for entry in self.violations],
            "placements": placements,
            **({} if self.basis is None else {"basis": self.basis}),
        }


def verify(plan: Plan | StrPath, margins: Mapping[tuple[str, int], float] | None = None) -> Verification:
    """Judge a plan, or the one in a file, by the predictor; whatever is wrong with it is in what is returned.

    Checks that every workload's rate is carried by replicas within its limit; batches, shares and memory
    are possible; every placement meets its latency limit and rate beside its neighbours (under rule p99 by the
    analysis of its queue, with the service times that the neighbours leave it); GPU types and
    counts exist; and cost, bound, gap, shares and predictions in the file are what they should be. Where the plan says
    that neighbours are taken as they are, what does not hold beside ever busy ones is simulated.

    Parameters
    ----------
    margins
        Margins of single placements, by workload and replica, in place of the plan's: what is known of them from
        observation, say.

    Raises
    ------
    InputError
        There is no plan at the path.
    """
    plan = as_plan(plan)
    first = verify_busy(plan, margins)
    if plan.neighbours is None:
        return first
    # Simulation stands above this room, and is slow to import.
    second = import_module("igniter_opt.simulation.second_judge")
    return cast(Verification, second.judged_beside(plan, first, margins or {}))


def verify_busy(plan: Plan, margins: Mapping[tuple[str, int], float] | None = None) -> Verification:
    """Judge a plan beside neighbours that run full batches all the time, whatever it says of them; else as `verify`."""
    checker = _Checker(plan, margins or {})
    return Verification(list(checker.violations()), checker.placements, checker.basis())


class _Judged(NamedTuple):
    """Predictions for one GPU; `judged_latency` is what the SLO rule limits."""

    gpu: PlanGpu
    latency: FloatArray
    judged_latency: FloatArray
    judged_latency_with_margin: FloatArray
    throughput: FloatArray
    throughput_with_margin: FloatArray


class _Checker:
    def __init__(self, plan: Plan, margins: Mapping[tuple[str, int], float]) -> None:
        self.plan = plan
        self.margins = margins
        self.instance: Instance = plan.instance
        self.margin = plan.solver.margin
        self.rule = rule_of(self.instance)
        self.types = {gpu.name: gpu for gpu in self.instance.gpu_types}
        self.coefficients: dict[str, Coefficients] = {}
        self.judging: dict[str, Judging] = {}
        self.unfitted: dict[str, str] = {}
        self.slices: dict[str, SliceJudge] = {}
        # Placements on slices that have less left than their latencies were read to.
        self.close: list[str] = []
        for name, gpu in self.types.items():
            if gpu.is_cut:
                self.slices[name] = SliceJudge(gpu, self.rule)
                continue
            try:
                self.coefficients[name] = fit_coefficients(gpu.mps_profile)
                self.judging[name] = Judging.of(gpu.mps_profile, self.margin, plan.solver.confidence)
            except InputError as error:
                self.unfitted[name] = str(error)
        self.workloads = {workload.name: workload for workload in self.instance.planned_workloads}
        self.numbers = {name: number for number, name in enumerate(self.workloads)}
        self.placements: list[PlacementCheck] = []

    def violations(self) -> Iterator[Violation]:
        predictable = []
        for gpu in self.plan.gpus:
            malformed = list(self._malformed(gpu))
            yield from malformed
            if malformed:
                self._append_unpredictable(gpu)
            else:
                predictable.append(gpu)
        yield from self._gpus()
        yield from self._coverage()
        for judged in self._predictions(predictable):
            yield from self._requirements(judged)
        yield from self._claims()

    def basis(self) -> str | None:
        """How sure the judgement is, where it takes more than the predictor."""
        known = [self.rule.basis()]
        if self.close:
            known.append(
                f"readings of slices are rounded, and less than that is left to the limit at {in_short(self.close)}"
            )
        return "; ".join(entry for entry in known if entry) or None

    def _malformed(self, gpu: PlanGpu) -> Iterator[Violation]:
        """What makes a GPU's placements impossible to predict."""
        if gpu.type not in self.types:
            yield Violation("gpu-type", gpu.name, f"unknown GPU type {gpu.type!r}{nearest(gpu.type, self.types)}")
            return
        if gpu.type in self.unfitted:
            yield Violation("profile", gpu.name, f"the profile of {gpu.type} is unusable: {self.unfitted[gpu.type]}")
            return
        known = self.types[gpu.type].profile.models
        foreign = False
        for placement in gpu.placements:
            where = _where(gpu, placement)
            workload = self.workloads.get(placement.workload)
            if workload is None:
                hint = nearest(placement.workload, self.workloads)
                yield Violation("workload", where, f"the instance has no workload {placement.workload!r}{hint}")
                foreign = True
                continue
            if placement.model != workload.model:
                yield Violation("model", where, f"model is {placement.model!r}, the workload's is {workload.model!r}")
                foreign = True
                continue
            if workload.model not in known:
                yield Violation("model", where, f"the profile of {gpu.type} has no model {workload.model!r}")
                foreign = True
                continue
            if gpu.type in self.coefficients:
                yield from self._malformed_numbers(where, placement, self.coefficients[gpu.type])
        if gpu.type in self.slices and not foreign:
            for kind, number, message in self.slices[gpu.type].misfits(gpu):
                yield Violation(kind, gpu.name if number is None else _where(gpu, gpu.placements[number]), message)

    def _malformed_numbers(self, where: str, placement: Placement, coefficients: Coefficients) -> Iterator[Violation]:
        largest = coefficients.models[placement.model].max_batch
        if not 1 <= placement.batch <= largest:
            yield Violation("batch", where, f"batch {placement.batch} is not in 1..{largest} (the profiled range)")
        for message in MpsShares(coefficients.hardware).wrong_share(placement.share_percent):
            yield Violation("share", where, message)
        if placement.slice is not None:
            yield Violation("slice", where, "it has a slice, but its GPU type is shared by MPS")
        if placement.rate_rps <= 0:
            yield Violation("rate", where, f"rate {placement.rate_rps:g} req/s is not positive")

    def _append_unpredictable(self, gpu: PlanGpu) -> None:
        for p in gpu.placements:
            nan = float("nan")
            self.placements.append(
                PlacementCheck(
                    gpu.name, gpu.type, p.workload, p.replica, p.model, p.batch, p.share_percent,
                    nan, nan, nan, nan, p.rate_rps, False,
                )
            )  # fmt: skip

    def _gpus(self) -> Iterator[Violation]:
        names: set[str] = set()
        used: dict[str, int] = defaultdict(int)
        for gpu in self.plan.gpus:
            if gpu.name in names:
                yield Violation("gpu-name", gpu.name, "two GPUs have this name")
            names.add(gpu.name)
            used[gpu.type] += 1
            total = gpu.total_share_percent
            if total > 100 * (1 + TOLERANCE):
                yield Violation("share", gpu.name, f"the shares add up to {total:g} %, more than 100 %")
            if gpu.type in self.coefficients:
                yield from self._memory(gpu, self.types[gpu.type])
        for name, gpu_type in self.types.items():
            if gpu_type.count is not None and used[name] > gpu_type.count:
                yield Violation(
                    "count", name, f"the plan uses {counted(used[name], 'GPU')}, only {gpu_type.count} exist"
                )

    def _memory(self, gpu: PlanGpu, gpu_type: GpuType) -> Iterator[Violation]:
        limit = gpu_type.memory_limit_mib
        models = self.coefficients[gpu.type].models
        needed = sum(
            models[p.model].memory_fixed_mib + models[p.model].memory_per_item_mib * p.batch
            for p in gpu.placements
            if p.model in models
        )
        if limit is not None and needed > limit * (1 + TOLERANCE):
            yield Violation("memory", gpu.name, f"needs {needed:g} MiB, the GPU has {limit:g} MiB")

    def _coverage(self) -> Iterator[Violation]:
        replicas: dict[str, list[Placement]] = defaultdict(list)
        for gpu in self.plan.gpus:
            for placement in gpu.placements:
                replicas[placement.workload].append(placement)
        for name, workload in self.workloads.items():
            found = replicas[name]
            if not found:
                yield Violation("coverage", name, "the workload is not placed")
                continue
            rate = sum(placement.rate_rps for placement in found)
            if abs(rate - workload.rate_rps) > TOLERANCE * workload.rate_rps * max(1, len(found)):
                what = "rate with its headroom" if self.instance.headroom_of(workload) else "rate"
                message = f"its replicas carry {rate:g} req/s, the workload's {what} is {workload.rate_rps:g} req/s"
                yield Violation("coverage", name, message)
            if sorted(placement.replica for placement in found) != list(range(1, len(found) + 1)):
                yield Violation("replica", name, f"its replicas are not numbered 1..{len(found)}")
            rates = [placement.rate_rps for placement in found]
            sliced = sum(placement.slice is not None for placement in found)
            if sliced not in (0, len(found)):
                yield Violation("replica", name, "only some of its replicas are slices; all are, or none is")
            elif not sliced and workload.max_replicas is not None and max(rates) - min(rates) > TOLERANCE * max(rates):
                message = f"its replicas carry {min(rates):g} to {max(rates):g} req/s; with max_replicas all are equal"
                yield Violation("replica", name, message)
            if workload.max_replicas is not None and len(found) > workload.max_replicas:
                message = f"it has {len(found)} replicas, at most {workload.max_replicas} are allowed"
                yield Violation("replica", name, message)

    def _predictions(self, gpus: list[PlanGpu]) -> Iterator[_Judged]:
        """Predict all GPUs of a type at once, in padded arrays."""
        judged: dict[int, _Judged] = {}
        for name, coefficients in self.coefficients.items():
            chosen = [position for position, gpu in enumerate(gpus) if gpu.type == name]
            if not chosen:
                continue
            shape = (len(chosen), max(len(gpus[position].placements) for position in chosen))
            model, whose = np.full(shape, -1), np.zeros(shape, dtype=np.int64)
            batch, share, rate, margin = np.ones(shape), np.ones(shape), np.ones(shape), np.zeros(shape)
            for row, position in enumerate(chosen):
                for column, placement in enumerate(gpus[position].placements):
                    model[row, column] = coefficients.index(placement.model)
                    whose[row, column] = self.numbers[placement.workload]
                    batch[row, column] = placement.batch
                    share[row, column] = placement.share_percent
                    rate[row, column] = placement.rate_rps
                    margin[row, column] = self.judging[name].left(placement.model, self._margin(name, placement))
            plain = predict_many(coefficients, model, batch, share)
            replicas = Replicas(model, batch, share, rate, whose)
            latency = latency_with_margin = self.rule.latencies_ms(coefficients, replicas, plain.latency_ms)
            inflated = plain
            judging = self.judging[name].coefficients
            if margin.any() or judging is not coefficients:
                inflated = predict_many(judging, model, batch, share, margin)
                latency_with_margin = self.rule.latencies_ms(judging, replicas, inflated.latency_ms, margin)
            rows = plain.latency_ms, latency, latency_with_margin, plain.throughput_rps, inflated.throughput_rps
            for row, position in enumerate(chosen):
                judged[position] = _Judged(gpus[position], *(part[row] for part in rows))
        for position, gpu in enumerate(gpus):
            if gpu.type in self.slices:
                margins = [self._margin(gpu.type, placement) for placement in gpu.placements]
                judged[position] = _Judged(gpu, *self.slices[gpu.type].predicted(gpu, self.workloads, margins))
            yield judged[position]

    def _margin(self, gpu_type: str, placement: Placement) -> float:
        judging = self.judging.get(gpu_type)
        planned = self.margin if judging is None else judging.planned(placement.model)
        return self.margins.get((placement.workload, placement.replica), planned)

    def _requirements(self, judged: _Judged) -> Iterator[Violation]:
        gpu = judged.gpu
        for k, placement in enumerate(gpu.placements):
            workload = self.workloads[placement.workload]
            limit = float(self.rule.latency_limit_ms(workload.slo_ms, placement.rate_rps, placement.batch))
            latency, throughput = (
                float(judged.judged_latency_with_margin[k]),
                float(judged.throughput_with_margin[k]),
            )
            late = bool(self.rule.is_late(latency, limit))
            short = bool(self.rule.is_short(throughput, placement.rate_rps))
            where = _where(gpu, placement)
            inflated = self._margin(gpu.type, placement)
            margin = f" with margin {inflated:g}" if inflated else ""
            if late:
                what = self.rule.latency_name
                found = f"{latency:.4f} ms" if np.isfinite(latency) else "without bound"
                yield Violation("latency", where, f"{what} {found}{margin} is over its limit {limit:.4f} ms")
            if short:
                message = f"throughput {throughput:.2f} req/s{margin} is below its rate {placement.rate_rps:g} req/s"
                if throughput >= placement.rate_rps:
                    most = self.rule.most_utilisation
                    message = f"utilisation {placement.rate_rps / throughput:.6f}{margin} is over {most:g}"
                yield Violation("throughput", where, message)
            yield from self._predicted_claims(where, placement, judged, k)
            yield from self._queue_delay(where, placement, workload)
            self.placements.append(
                PlacementCheck(
                    gpu=gpu.name,
                    type=gpu.type,
                    workload=placement.workload,
                    replica=placement.replica,
                    model=placement.model,
                    batch=placement.batch,
                    share_percent=placement.share_percent,
                    latency_ms=float(judged.judged_latency[k]),
                    limit_ms=limit,
                    slack_ms=limit - latency,
                    throughput_rps=float(judged.throughput[k]),
                    rate_rps=placement.rate_rps,
                    ok=not late and not short,
                )
            )
            if gpu.type in self.slices and self.slices[gpu.type].within_resolution(latency, limit):
                self.close.append(where)

    def _predicted_claims(self, where: str, placement: Placement, judged: _Judged, k: int) -> Iterator[Violation]:
        for what, claimed, found in (
            ("predicted_latency_ms", placement.predicted_latency_ms, float(judged.latency[k])),
            ("predicted_throughput_rps", placement.predicted_throughput_rps, float(judged.throughput[k])),
        ):
            if not abs(claimed - found) <= PREDICTION_TOLERANCE * abs(found):
                yield Violation("prediction", where, f"{what} is {claimed:.6g} in the file, the model says {found:.6g}")

    def _queue_delay(self, where: str, placement: Placement, workload: Workload) -> Iterator[Violation]:
        found = placement.queue_delay_us
        needed = self.rule.queue_delay_us(workload.slo_ms, placement.rate_rps, placement.batch)
        if found is not None and found != needed:
            message = f"queue_delay_us is {found} in the file, rule {self.rule.name} assumes {needed}"
            yield Violation("queue-delay", where, message)

    def _claims(self) -> Iterator[Violation]:
        solver = self.plan.solver
        known = [self.types[gpu.type] for gpu in self.plan.gpus if gpu.type in self.types]
        cost = float(sum((Decimal(str(gpu.price_per_hour)) for gpu in known), Decimal(0)))
        if abs(solver.cost_per_hour - cost) > TOLERANCE * max(cost, 1.0):
            message = f"cost_per_hour is {solver.cost_per_hour:g}, the GPUs cost {cost:g}"
            yield Violation("cost", "solver", message)
        if abs(solver.total_share_percent - self.plan.total_share_percent) > 1e-6:
            message = f"total_share_percent is {solver.total_share_percent:g}, the shares add up to"
            yield Violation("share", "solver", f"{message} {self.plan.total_share_percent:g}")
        share_bound = solver.total_share_lower_bound_percent
        if (
            share_bound is not None
            and share_bound > max(solver.total_share_percent, self.plan.total_share_percent) + 1e-6
        ):
            message = f"total_share_lower_bound_percent {share_bound:g} is above total_share_percent"
            yield Violation("bound", "solver", f"{message} {solver.total_share_percent:g}")
        yield from self._confidence()
        bound = solver.lower_bound_per_hour
        if bound is not None and bound > cost * (1 + TOLERANCE):
            yield Violation("bound", "solver", f"lower_bound_per_hour {bound:g} is above the plan's cost {cost:g}")
        gap = None if bound is None or cost == 0 else (cost - bound) / cost
        if (gap is None) != (solver.gap is None) or (gap is not None and abs(gap - (solver.gap or 0.0)) > 1e-6):
            yield Violation("gap", "solver", f"gap is {solver.gap}, cost and bound give {gap}")
        yield from self._status(cost)

    def _status(self, cost: float) -> Iterator[Violation]:
        """Whether the status says what bound and cost do."""
        status, bound = self.plan.solver.status, self.plan.solver.lower_bound_per_hour
        wrong = None
        if status == "infeasible":
            wrong = "there is a plan"
        elif status == "optimal" and (bound is None or bound < cost * (1 - TOLERANCE)):
            wrong = "the lower bound is not the plan's cost"
        elif status == "feasible" and bound is None:
            wrong = "there is no lower bound: it is 'heuristic'"
        elif status in ("feasible", "heuristic") and bound == cost:
            wrong = "the lower bound is the plan's cost: it is 'optimal'"
        elif status == "heuristic" and bound is not None:
            wrong = "there is a lower bound: it is 'feasible'"
        if wrong is not None:
            yield Violation("status", "solver", f"status is {status!r}, but {wrong}")

    def _confidence(self) -> Iterator[Violation]:
        """Whether the margin is what the profiles are calibrated to have at the confidence."""
        confidence = self.plan.solver.confidence
        if confidence is None:
            return
        try:
            needed = max(gpu.profile.margin_at(confidence) for gpu in self.instance.gpu_types)
        except InputError as error:
            yield Violation("confidence", "solver", str(error))
            return
        if self.margin < needed * (1 - TOLERANCE):
            message = f"margin is {self.margin:g}, confidence {confidence:g} needs {needed:g}"
            yield Violation("confidence", "solver", message)


def _where(gpu: PlanGpu, placement: Placement) -> str:
    return f"{gpu.name}/{placement.workload}#{placement.replica}"
