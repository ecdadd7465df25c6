"""The metrics of a plan: their names, labels and meaning, and how they are filled from a plan and a server.

Names and units are as Prometheus has them: seconds, parts of 1, sums that end in ``_total``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from igniter_opt.base.nanoseconds import NS_PER_S
from igniter_opt.base.optional import load
from igniter_opt.data.plan import Plan
from igniter_opt.measure.server import batch_times, since_start
from igniter_opt.simulation.servers import Server
from igniter_opt.slo.batcher import queue_delay_us
from igniter_opt.verify import Verification

if TYPE_CHECKING:
    from prometheus_client.core import Metric

PREFIX = "igniter_opt"
_MS_PER_S, _US_PER_S = 1000.0, 1e6
_PLACEMENT = ("deployment", "placement", "workload", "model", "gpu", "gpu_type")

Labels = tuple[str, ...]


class MetricRow(NamedTuple):
    """What a metric is: its name without prefix, whether it is a sum, its labels, and its description."""

    name: str
    counter: bool
    labels: Labels
    words: str


def _gauges(labels: Labels, **words: str) -> dict[str, MetricRow]:
    return {name: MetricRow(name, False, labels, text) for name, text in words.items()}


def _counters(labels: Labels, **words: str) -> dict[str, MetricRow]:
    return {name: MetricRow(name, True, labels, text) for name, text in words.items()}


METRICS: Mapping[str, MetricRow] = {
    **_gauges(
        ("deployment", "instance_name", "method", "status", "slo_rule", "currency", "version"),
        plan_info="Always 1; the labels say which plan it is.",
    ),
    **_gauges(
        ("deployment",),
        plan_cost_per_hour="Cost of the plan, in its currency.",
        plan_lower_bound_per_hour="What is proven that no plan costs less than; missing where nothing is.",
        plan_gap_ratio="Cost less the lower bound, over the cost.",
        plan_holds="Whether the plan holds by the predictor (`verify`).",
        plan_deployed="Whether the deployment runs this very plan.",
    ),
    **_gauges(("deployment", "gpu_type"), plan_gpus="GPUs of a type in the plan."),
    **_gauges(
        ("deployment", "workload", "model"),
        workload_slo_seconds="Latency objective.",
        workload_requests_per_second="The rate that users are said to send.",
        workload_planned_requests_per_second="The rate that is planned for, headroom included.",
    ),
    **_gauges(
        _PLACEMENT,
        placement_predicted_latency_seconds="What the SLO rule limits, as predicted; +Inf where a queue has no end.",
        placement_latency_limit_seconds="What it may be.",
        placement_predicted_requests_per_second="Largest throughput, as predicted.",
        placement_planned_requests_per_second="Its part of the planned rate.",
        placement_share_ratio="Its share of the GPU by the plan (1 is all of it).",
        placement_batch_size="Largest and preferred batch of its server.",
        placement_queue_delay_seconds="How long its server's batcher may wait.",
        server_up="Whether its server gave its statistics.",
        server_share_ratio="The share that its server runs with; a guard may have changed it.",
    ),
    **_counters(
        _PLACEMENT,
        server_requests="Requests answered since its server started.",
        server_failures="Requests failed since then.",
        server_queue_seconds="Time that its requests waited in the queue.",
        server_request_seconds="Time that its requests were in the server.",
        server_batches="Batches executed.",
        server_batch_seconds="Time that they took.",
        server_predicted_batch_seconds="Time that batches of the same sizes take as predicted beside full neighbours.",
    ),
}


@dataclass
class Families:
    """Metrics that are being filled."""

    found: dict[str, "Metric"] = field(default_factory=dict)

    def add(self, name: str, labels: Labels, value: float | None) -> None:
        """Add a value; none, and NaN, is no value."""
        if value is None or math.isnan(value):
            return
        row = METRICS[name]
        if name not in self.found:
            core = load("prometheus_client.core")
            kind = core.CounterMetricFamily if row.counter else core.GaugeMetricFamily
            self.found[name] = kind(f"{PREFIX}_{row.name}", row.words, labels=row.labels)
        self.found[name].add_metric(list(labels), value)  # type: ignore[attr-defined]


def plan_metrics(families: Families, plan: Plan, judged: Verification, name: str) -> None:
    """Add what is planned, and what is predicted of it."""
    solver, instance = plan.solver, plan.instance
    info = (name, instance.name, solver.method, solver.status, instance.slo_rule, instance.currency, solver.version)
    families.add("plan_info", info, 1.0)
    families.add("plan_cost_per_hour", (name,), solver.cost_per_hour)
    families.add("plan_lower_bound_per_hour", (name,), solver.lower_bound_per_hour)
    families.add("plan_gap_ratio", (name,), solver.gap)
    for gpu_type in instance.gpu_types:
        families.add("plan_gpus", (name, gpu_type.name), sum(gpu.type == gpu_type.name for gpu in plan.gpus))
    for workload, planned in zip(instance.workloads, instance.planned_workloads, strict=True):
        whose = (name, workload.name, workload.model)
        families.add("workload_slo_seconds", whose, workload.slo_ms / _MS_PER_S)
        families.add("workload_requests_per_second", whose, workload.rate_rps)
        families.add("workload_planned_requests_per_second", whose, planned.rate_rps)
    families.add("plan_holds", (name,), float(judged.ok))
    delays = {
        (gpu.name, entry.workload, entry.replica): queue_delay_us(plan, entry)
        for gpu in plan.gpus
        for entry in gpu.placements
        if entry.queue_delay_us is not None or judged.ok
    }
    for check in judged.placements:
        placement = f"{check.gpu}/{check.workload}#{check.replica}"
        labels = (name, placement, check.workload, check.model, check.gpu, check.type)
        families.add("placement_predicted_latency_seconds", labels, check.latency_ms / _MS_PER_S)
        families.add("placement_latency_limit_seconds", labels, check.limit_ms / _MS_PER_S)
        families.add("placement_predicted_requests_per_second", labels, check.throughput_rps)
        families.add("placement_planned_requests_per_second", labels, check.rate_rps)
        families.add("placement_share_ratio", labels, check.share_percent / 100.0)
        families.add("placement_batch_size", labels, check.batch)
        delay = delays.get((check.gpu, check.workload, check.replica))
        families.add("placement_queue_delay_seconds", labels, None if delay is None else delay / _US_PER_S)


def server_metrics(families: Families, labels: Labels, statistics: Any, planned: Server | None) -> None:
    """Add what a server's statistics say; where its times are predicted, also what its batches should have taken."""
    whole = since_start(statistics)
    families.add("server_up", labels, float(whole is not None))
    if whole is None:
        return
    sums = statistics["inference_stats"]
    families.add("server_requests", labels, whole.requests)
    families.add("server_failures", labels, _number(sums, "fail", "count"))
    families.add("server_queue_seconds", labels, _seconds(sums, "queue"))
    families.add("server_request_seconds", labels, _seconds(sums, "success"))
    families.add("server_batches", labels, whole.executions)
    taken = sum(count * whole.batch_ms[size] for size, count in whole.batches.items())
    families.add("server_batch_seconds", labels, taken / _MS_PER_S)
    if planned is not None:
        predicted = batch_times(whole, planned).predicted
        families.add("server_predicted_batch_seconds", labels, predicted / _MS_PER_S)


def _number(sums: Any, key: str, part: str) -> float | None:
    try:
        return float(sums[key][part])
    except (KeyError, TypeError, ValueError):
        return None


def _seconds(sums: Any, key: str) -> float | None:
    found = _number(sums, key, "ns")
    return None if found is None else found / NS_PER_S
