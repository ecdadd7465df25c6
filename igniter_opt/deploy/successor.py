"""A server like a running one, with another share or on another GPU of its deployment."""

from collections.abc import Mapping

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import exists, read_text
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.plan import Placement, Plan
from igniter_opt.deploy.health import REPOSITORY
from igniter_opt.deploy.inventory import Device
from igniter_opt.deploy.records import PlannedPlace, ReplicaRecord
from igniter_opt.deploy.state import Deployment, Store
from igniter_opt.deploy.targets import Placed, Target, placement_memory_mib, spec_digest
from igniter_opt.deploy.triton.model_config import CONFIG_FILE
from igniter_opt.deploy.triton.model_repository import ModelSource, read_model
from igniter_opt.deploy.triton.samples import CHECK_FILE, read_sample


def place_in_plan(record: ReplicaRecord) -> PlannedPlace:
    """Return where the plan has the placement of a running server."""
    if record.planned is not None:
        return record.planned
    return PlannedPlace(
        gpu=record.gpu,
        host=record.host,
        device=record.device,
        device_name=record.device_name,
        share_percent=record.share_percent,
        spec=record.spec,
    )


def device_of(state: Deployment, gpu: str) -> Device | None:
    """Return the card that serves as a GPU of the plan; None if nothing of the deployment is planned for it."""
    places = [place_in_plan(record) for record in state.replicas if record.phase != "starting"]
    return next((Device(place.host, place.device, place.device_name) for place in places if place.gpu == gpu), None)


def successor(
    store: Store,
    state: Deployment,
    record: ReplicaRecord,
    plan: Plan,
    *,
    gpu: str,
    share_percent: float,
    runtime: Mapping[str, object],
) -> Placed:
    """Return the server that takes over from a running one: the same model, files and batcher.

    Parameters
    ----------
    gpu, share_percent
        Where it runs, as the plan calls it, and its share. What the plan itself says gives the plan's own server again.
    runtime
        What else makes a server what it is, as `Backend.prepare` says.

    Raises
    ------
    InputError
        The running server's files are gone, or the one to start would not be the same (another program, image or limit
        than it was deployed with).
    """
    place, source = place_in_plan(record), _source(store, record)
    config = read_text(source.folder / CONFIG_FILE)
    types = {entry.name: entry for entry in plan.instance.gpu_types}
    type_of = {entry.name: types[entry.type] for entry in plan.gpus}
    planned = _placement(plan, record)

    def spec(gpu_type: GpuType, share: float) -> tuple[str, float | None]:
        placement = planned.model_copy(update={"share_percent": share})
        memory = placement_memory_mib(gpu_type, placement)
        return spec_digest(placement, source, config, memory, cpu=state.cpu, runtime=runtime), memory

    if spec(type_of[place.gpu], place.share_percent)[0] != place.spec:
        raise InputError(
            f"{record.placement}: a server started now would not be the one that was deployed (its files, or the"
            " program, image or limits to start it with, are others); give the options that it was deployed with"
        )
    as_planned = (gpu, share_percent) == (place.gpu, place.share_percent)
    device = device_of(state, gpu)
    if device is None:
        raise InputError(f"{record.placement}: nothing of the deployment runs on {gpu}")
    digest, memory_mib = spec(type_of[gpu], share_percent)
    target = Target(
        workload=record.workload,
        replica=record.replica,
        model=record.model,
        gpu=gpu,
        batch=record.batch,
        share_percent=share_percent,
        rate_rps=record.rate_rps,
        queue_delay_us=record.queue_delay_us,
        memory_mib=memory_mib,
        source=source,
        config=config,
        spec=digest,
        planned=None if as_planned else place,
    )
    return Placed(target, device)


def _placement(plan: Plan, record: ReplicaRecord) -> Placement:
    return next(
        placement
        for gpu in plan.gpus
        for placement in gpu.placements
        if (placement.workload, placement.replica) == (record.workload, record.replica)
    )


def _source(store: Store, record: ReplicaRecord) -> ModelSource:
    """Read the model back from the running server's own repository."""
    folder = store.server_folder(record.token)
    if not exists(folder / REPOSITORY / record.model):
        raise InputError(f"{folder}: the files of {record.placement} are gone; run `igniter-opt deploy` again")
    source = read_model(folder / REPOSITORY, record.model, record.batch)
    sample = folder / CHECK_FILE
    return ModelSource(
        source.name,
        source.folder,
        source.config,
        source.files,
        source.digest,
        read_sample(sample) if sample.exists() else None,
    )
