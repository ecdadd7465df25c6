"""The command ``profile serve``."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from igniter_opt.base.errors import InputError
from igniter_opt.base.kinds import PROFILE
from igniter_opt.base.schema import one_of
from igniter_opt.base.stop import StopRequest
from igniter_opt.cli import console
from igniter_opt.cli.choices import BackendOption
from igniter_opt.cli.options import (
    BasePort,
    DockerHost,
    Image,
    Json,
    ProfileArgument,
    ReadyTimeout,
    StateFolder,
    TritonServer,
    check_numbers,
)
from igniter_opt.cli.outputs import check_outputs
from igniter_opt.cli.tables.layout import new_table, print_table
from igniter_opt.data.profile import Profile, read_profile, write_profile
from igniter_opt.deploy.apply import DEFAULT_BASE_PORT, DEFAULT_READY_TIMEOUT_S
from igniter_opt.deploy.apply import Options as ApplyOptions
from igniter_opt.deploy.backends.base import ServerOptions
from igniter_opt.deploy.backends.registry import BACKENDS, DEFAULT
from igniter_opt.deploy.inventory import Device
from igniter_opt.deploy.state import default_root
from igniter_opt.overhead.plans import BATCH
from igniter_opt.overhead.run import DEFAULT_SECONDS, ServingSite, measure_serving
from igniter_opt.profiler.make import colocation_models, colocation_precision
from igniter_opt.profiler.models.catalogue import find_model
from igniter_opt.profiler.models.export import export_torch

# Between programs of one machine a request is on the way for a millisecond or two.
_LONG_MS = 10.0


def serve_command(
    profile: ProfileArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PROFILE", help="Write the profile (JSON).")],
    models: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder with a Triton model folder for every model. Default: torch, exported for it."
        ),
    ] = None,
    only: Annotated[str | None, typer.Option(metavar="A,B,...", help="Only these models. Default: all.")] = None,
    backend: BackendOption = DEFAULT.name,
    gpu: Annotated[str | None, typer.Option(metavar="UUID", help="The card. Default: the only one.")] = None,
    tritonserver: TritonServer = None,
    image: Image = None,
    docker_host: DockerHost = None,
    seconds: Annotated[float, typer.Option(metavar="S", help="Seconds of load per model.")] = DEFAULT_SECONDS,
    batch: Annotated[int, typer.Option(metavar="N", help="The largest batch that servers form.")] = BATCH,
    shared_memory: Annotated[
        bool, typer.Option("--shared-memory", help="Inputs in shared memory, as `measure --shared-memory` sends them.")
    ] = False,
    emulated: Annotated[
        bool,
        typer.Option(
            "--emulated", help="Try it without a card: models that take the predicted times, on the processor."
        ),
    ] = False,
    base_port: BasePort = DEFAULT_BASE_PORT,
    ready_timeout: ReadyTimeout = DEFAULT_READY_TIMEOUT_S,
    state: StateFolder = None,
    json: Json = False,
) -> None:
    """Measure what real servers add to every batch, to every request and on the way, into the profile.

    Servers are started on the card, a few models at a time, loaded one after the other, and stopped: about 12 s a
    model. Plans made with the profile then allow for it.

    Example: igniter-opt profile serve h200 -o served.json --backend process
    """
    card = read_profile(profile)
    check_outputs(output, PROFILE, None, [profile], "the profile")
    check_numbers(base_port, ready_timeout)
    kind = BACKENDS[one_of(backend, BACKENDS, "--backend: unknown backend", "backends")]
    options = ServerOptions(docker_host=docker_host, tritonserver=tritonserver, image=image)
    for given in kind.foreign(options):
        raise InputError(f"--{given.replace('_', '-')} does not go with --backend {kind.name}")
    if emulated and models is not None:
        raise InputError("--emulated makes its own models; leave out --models")
    names = list(card.models) if only is None else only.split(",")
    for name in names:
        card.model(name)
    hosts, devices = kind.find(options, emulated)
    for need in kind.missing(options):
        raise InputError(f"--backend {kind.name} needs --{need}, {kind.needs[need]}")
    stop = StopRequest()
    with ExitStack() as stack:
        if models is None and not emulated:
            models = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="igniter-opt-")))
            _export(card, names, models, batch)
        site = ServingSite(
            backend=kind.backend(hosts, options),
            root=state or default_root(),
            models=models,
            cpu=emulated,
            devices=[] if emulated else [device_of(devices, gpu)],
            hosts=hosts,
            apply=ApplyOptions(base_port=base_port, ready_timeout_s=ready_timeout, report=console.message, stop=stop),
        )
        report = console.StepPrinter()
        found = measure_serving(
            card, site, names, seconds=seconds, batch=batch, shared_memory=shared_memory, report=report, stop=stop
        )
    write_profile(found, output)
    if json:
        console.print_json(None if found.serving is None else found.serving.model_dump(mode="json"))
    else:
        print_serving(found)
    _warn_of_disturbance(found)
    console.message(f"{output}: plans for it allow for what serving adds")


def _warn_of_disturbance(card: Profile) -> None:
    """Say which ways are longer than any that a quiet machine has."""
    long = [name for name, added in (card.serving.models if card.serving else {}).items() if added.way_ms > _LONG_MS]
    if long:
        console.message(
            f"warning: requests of {', '.join(long)} were on the way for more than {_LONG_MS:g} ms: something else kept"
            " this machine busy; measure them again (--only)"
        )


def _export(card: Profile, names: list[str], folder: Path, batch: int) -> None:
    precision = colocation_precision(card)
    for text in colocation_models(card, names):
        export_torch(text, find_model(text), folder, batch, precision)


def device_of(devices: list[Device], uuid: str | None) -> Device:
    """Return the card that is named, or the only one; raise InputError naming those that there are."""
    found = [device for device in devices if uuid in (None, device.uuid)]
    if len(found) != 1:
        names = ", ".join(f"{device.uuid} ({device.name})" for device in devices) or "none"
        raise InputError(f"--gpu: name one of the cards of this machine: {names}")
    return found[0]


def print_serving(card: Profile) -> None:
    """Print what serving adds, by model."""
    if card.serving is None:
        return
    table = new_table()
    table.add_column("model")
    for title in ("ms a batch", "ms a request", "ms on the way", "off by ms", "batches"):
        table.add_column(title, justify="right")
    for name, added in card.serving.models.items():
        numbers = (added.batch_ms, added.request_ms, added.way_ms, added.residual_ms)
        table.add_row(name, *(f"{value:.3f}" for value in numbers), f"{added.batches:,}")
    print_table(console.stdout(), table)
