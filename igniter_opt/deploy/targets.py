"""What should run: one server for every placement of a plan, and a digest of all that makes it what it is."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.plan import Placement, Plan
from igniter_opt.deploy.inventory import Device
from igniter_opt.deploy.matching import Key
from igniter_opt.deploy.records import PlannedPlace
from igniter_opt.deploy.triton.model_config import config_text, serving_config
from igniter_opt.deploy.triton.model_repository import ModelSource
from igniter_opt.slo.batcher import queue_delay_us


@dataclass(frozen=True)
class Target:
    """A server that should run (rate in req/s, memory in MiB, where the plan knows it).

    Attributes
    ----------
    config
        Text of its ``config.pbtxt``.
    spec
        Digest of everything that it serves and how, apart from its GPU.
    planned
        What the plan says of it where this is something else.
    slice, slot, processes
        On a card that MIG cuts, as in `plan.Placement`.
    """

    workload: str
    replica: int
    model: str
    gpu: str
    batch: int
    share_percent: float
    rate_rps: float
    queue_delay_us: int
    memory_mib: float | None
    source: ModelSource
    config: str
    spec: str
    planned: PlannedPlace | None = None
    slice: str | None = None
    slot: int | None = None
    processes: int | None = None

    @property
    def placement(self) -> str:
        """Name of the placement as in messages."""
        return f"{self.gpu}/{self.workload}#{self.replica}"

    @property
    def key(self) -> Key:
        """What makes a running server this one."""
        return self.workload, self.spec

    @property
    def config_digest(self) -> str:
        """Digest of the configuration."""
        return text_digest(self.config)


def text_digest(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def largest_batches(plan: Plan) -> dict[str, int]:
    """Return every model of a plan with its largest batch there."""
    batches: dict[str, int] = {}
    for gpu in plan.gpus:
        for placement in gpu.placements:
            batches[placement.model] = max(batches.get(placement.model, 0), placement.batch)
    return batches


def make_targets(
    plan: Plan, models: Mapping[str, ModelSource], *, cpu: bool, runtime: Mapping[str, object]
) -> list[Target]:
    """Return the servers of a plan, GPU by GPU.

    Parameters
    ----------
    models
        By name, read with at least the plan's batches.
    runtime
        What else makes a server what it is: the backend's name, its image or program, its limits.
    """
    types = {gpu.name: gpu for gpu in plan.instance.gpu_types}
    result = []
    for gpu in plan.gpus:
        for placement in gpu.placements:
            source = models[placement.model]
            delay = queue_delay_us(plan, placement)
            config = config_text(serving_config(source.config, placement.model, placement.batch, delay, cpu=cpu))
            memory_mib = placement_memory_mib(types[gpu.type], placement)
            spec = spec_digest(placement, source, config, memory_mib, cpu=cpu, runtime=runtime)
            result.append(
                Target(
                    workload=placement.workload,
                    replica=placement.replica,
                    model=placement.model,
                    gpu=gpu.name,
                    batch=placement.batch,
                    share_percent=placement.share_percent,
                    rate_rps=placement.rate_rps,
                    queue_delay_us=delay,
                    memory_mib=memory_mib,
                    source=source,
                    config=config,
                    spec=spec,
                    slice=placement.slice,
                    slot=placement.slot,
                    processes=placement.processes,
                )
            )
    return result


def placement_memory_mib(gpu_type: GpuType, placement: Placement) -> float | None:
    """Return the GPU memory that a placement needs, in MiB; None where the profile does not know."""
    if gpu_type.is_cut:
        return None
    memory = gpu_type.mps_profile.models[placement.model].memory
    return None if memory is None else memory.fixed_mib + memory.per_item_mib * placement.batch


def spec_digest(
    placement: Placement,
    source: ModelSource,
    config: str,
    memory_mib: float | None,
    *,
    cpu: bool,
    runtime: Mapping[str, object],
) -> str:
    """Return the digest of all that makes a server what it is; the processor enforces no share, so it has none."""
    spec = {
        "model": placement.model,
        "files": source.digest,
        "config": config,
        "share_percent": None if cpu else placement.share_percent,
        "memory_mib": None if cpu else memory_mib,
        "runtime": dict(runtime),
    }
    return text_digest(json.dumps(spec, sort_keys=True))


def wanted_by_gpu(targets: list[Target]) -> dict[str, Counter[Key]]:
    """Return what is to run on every GPU of the plan, as `matching.match` takes it."""
    wanted: dict[str, Counter[Key]] = {}
    for target in targets:
        wanted.setdefault(target.gpu, Counter())[target.key] += 1
    return wanted


@dataclass(frozen=True)
class Placed:
    """A target and the GPU it runs on."""

    target: Target
    device: Device
