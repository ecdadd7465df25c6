"""What should run: one server for every placement of a plan, and a digest of all that makes it what it is."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from igniter_opt.deploy.inventory import Device
from igniter_opt.deploy.matching import Key
from igniter_opt.deploy.model_config import config_text, serving_config
from igniter_opt.deploy.model_repository import ModelSource
from igniter_opt.plan import Plan
from igniter_opt.serving import queue_delay_us


@dataclass(frozen=True)
class Target:
    """A server that should run (rate in req/s, memory in MiB, where the plan knows it).

    Attributes
    ----------
    config
        Text of its ``config.pbtxt``.
    spec
        Digest of everything that it serves and how, apart from its GPU.
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
            memory = types[gpu.type].profile.models[placement.model].memory
            memory_mib = None if memory is None else memory.fixed_mib + memory.per_item_mib * placement.batch
            spec = {
                "model": placement.model,
                "files": source.digest,
                "config": config,
                "share_percent": None if cpu else placement.share_percent,
                "memory_mib": None if cpu else memory_mib,
                "runtime": dict(runtime),
            }
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
                    spec=text_digest(json.dumps(spec, sort_keys=True)),
                )
            )
    return result


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
