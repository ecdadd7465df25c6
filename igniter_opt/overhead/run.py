"""Measuring what serving adds: servers are started as a deployment's are, loaded one after the other, and stopped."""

import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from igniter_opt.base.errors import InputError, MeasurementInterruptedError
from igniter_opt.base.stop import StopRequest
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.plan import Plan
from igniter_opt.data.profile import Profile
from igniter_opt.data.serving import ServedModel, Serving
from igniter_opt.deploy import launch
from igniter_opt.deploy.apply import Options as ApplyOptions
from igniter_opt.deploy.backends.base import Backend
from igniter_opt.deploy.endpoints import Endpoints, endpoints
from igniter_opt.deploy.inventory import Device
from igniter_opt.deploy.records import HostRecord
from igniter_opt.deploy.state import Store
from igniter_opt.deploy.targets import largest_batches, make_targets
from igniter_opt.deploy.triton.how_run import HowRun, how_run
from igniter_opt.deploy.triton.model_repository import ModelSource, read_models
from igniter_opt.measure.options import MeasureOptions
from igniter_opt.measure.results import LoadStatistics, Measurement
from igniter_opt.measure.run import measure
from igniter_opt.overhead.added import served_model, sizes_known
from igniter_opt.overhead.plans import BATCH, expected_ms, plans_for
from igniter_opt.rehearse.emulation import write_emulated_models

# Of the plan's rate: at one large batches form, at the other small ones.
SCALES = (1.0, 0.4)
DEFAULT_SECONDS, _WARM_UP_S = 6.0, 1.0

ValueT = TypeVar("ValueT")
Report = Callable[[str, int, int], object]
# Measures one workload of a plan that runs, as `measure.run.measure` does.
Load = Callable[[Endpoints, MeasureOptions, Plan], Measurement]


@dataclass(frozen=True)
class ServingSite:
    """Where servers are started: by what, on which cards, and where their state is kept meanwhile.

    ``models`` has a folder for every model, as for a deployment; None, and ``cpu``, for emulated models on the
    processor, which take the predicted times: that tries the whole way and says nothing about any card.
    """

    backend: Backend
    root: Path
    models: Path | None = None
    cpu: bool = False
    devices: Sequence[Device] = ()
    hosts: tuple[HostRecord, ...] = (HostRecord(name="local"),)
    apply: ApplyOptions = field(default_factory=ApplyOptions)


def measure_serving(
    profile: Profile,
    site: ServingSite,
    models: Sequence[str] | None = None,
    *,
    seconds: float = DEFAULT_SECONDS,
    batch: int = BATCH,
    shared_memory: bool = False,
    report: Report = lambda *_: None,
    stop: StopRequest | None = None,
    load: Load | None = None,
) -> Profile:
    """Return the profile with what serving adds to its models; what it knew of others stays.

    Parameters
    ----------
    models
        Names; all of the profile by default.
    seconds
        Of load per model, half of it at a low rate.
    batch
        The largest that servers form.
    shared_memory
        Whether inputs lie in shared memory of this machine: as the real load will.
    load
        Measures a workload; for tests.

    Raises
    ------
    InputError
        A model is unknown or has no folder, or nothing can be started here.
    DeploymentError
        Servers did not get ready, or say nothing about their batches.
    MeasurementInterruptedError
        Asked to stop; all servers were stopped.
    """
    if not 0.5 <= seconds <= 3600:
        raise InputError(f"seconds: must be 0.5 to 3600 per model; found {seconds:g}")
    names = list(profile.models if models is None else models)
    plans = plans_for(profile, names, batch)
    stop = stop or site.apply.stop
    options = MeasureOptions(
        arrivals=Arrivals("poisson"),
        duration_s=seconds / len(SCALES),
        warm_up_s=_WARM_UP_S,
        shared_memory=shared_memory,
        stamped=site.cpu,
    )
    measured = load or (lambda where, how, plan: measure(where, how, plan=plan, stop=stop))
    found: dict[str, ServedModel] = {}
    ways: list[HowRun] = []
    stolen: list[float] = []
    server = ""
    for plan in plans:
        with _deployed(plan, site, stop) as (where, sources, runtime):
            server = str(runtime.get("server", runtime.get("image", "")))
            ways += [how_run(source) for source in sources.values()]
            for workload in plan.instance.workloads:
                loads: list[LoadStatistics] = []
                for number, scale in enumerate(SCALES):
                    if stop.is_set():
                        raise MeasurementInterruptedError("interrupted; all servers were stopped")
                    report(f"{workload.name} under load", len(found) * len(SCALES) + number, len(names) * len(SCALES))
                    how = replace(options, only=(workload.name,), scale=scale, seed=number)
                    result = measured(where, how, plan)
                    if result.partial is not None:
                        raise MeasurementInterruptedError(f"{result.partial}; all servers were stopped")
                    loads += result.workloads
                    stolen += [] if result.stolen_s is None else [result.stolen_s]
                found[workload.name] = _served(profile, plan, loads)
    return with_serving(
        profile,
        Serving(
            backend=site.backend.name,
            server=server or None,
            machine=f"{platform.node()}, {platform.machine()}",
            format=None if site.cpu else _same([way.format for way in ways]),
            precision=None if site.cpu else _same([way.precision for way in ways]),
            date=datetime.now(UTC).date().isoformat(),
            note="emulated models on the processor: of no card" if site.cpu else None,
            stolen_s=round(sum(stolen), 3) if stolen else None,
            models=found,
        ),
    )


def with_serving(profile: Profile, new: Serving) -> Profile:
    """Return the profile with what serving adds; of other models what was known by the same backend stays."""
    old = profile.serving
    if old is not None and (old.backend, old.format, old.precision) == (new.backend, new.format, new.precision):
        new = new.model_copy(update={"models": {**old.models, **new.models}})
    return profile.model_copy(update={"serving": new})


def _served(profile: Profile, plan: Plan, loads: Sequence[LoadStatistics]) -> ServedModel:
    (own,) = [entry for entry in plan.gpus[0].placements if entry.workload == loads[0].workload]
    expected = expected_ms(profile, own.model, own.batch, own.share_percent)
    return served_model(loads, expected, sizes_known(profile, own.model, own.share_percent))


@contextmanager
def _deployed(
    plan: Plan, site: ServingSite, stop: StopRequest
) -> Iterator[tuple[Endpoints, Mapping[str, ModelSource], Mapping[str, object]]]:
    """Run a plan's servers for as long as the context lasts."""
    with tempfile.TemporaryDirectory(prefix="igniter-opt-") as scratch:
        models = site.models
        if models is None:
            models = Path(scratch)
            write_emulated_models(plan, models)
        sources = read_models(models, largest_batches(plan))
        runtime = site.backend.prepare(cpu=site.cpu)
        targets = make_targets(plan, sources, cpu=site.cpu, runtime=runtime | {"cpu": site.cpu})
        request = launch.Request(
            plan=Path("plan.json"),
            models=models,
            cpu=site.cpu,
            devices=site.devices,
            hosts=site.hosts,
            overrides={} if site.cpu else {gpu.name: site.devices[0].uuid for gpu in plan.gpus},
            options=replace(site.apply, stop=stop),
        )
        store = Store(site.root, plan.instance.name)
        with launch.temporary(request, store, site.backend, plan, targets) as state:
            yield endpoints(state), sources, runtime


def _same(values: Sequence[ValueT | None]) -> ValueT | None:
    """What all say; None unless they say one thing."""
    return values[0] if len(set(values)) == 1 else None
