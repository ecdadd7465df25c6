"""The commands about profiles: ``profile measure``, ``colocate``."""

from pathlib import Path
from typing import Annotated

import typer

from igniter_opt.base.command import EXIT_INTERRUPTED
from igniter_opt.base.errors import InputError
from igniter_opt.base.files import write_bytes_atomically
from igniter_opt.base.kinds import COLOCATIONS, PROFILE
from igniter_opt.base.schema import name_from
from igniter_opt.cli import completion, console
from igniter_opt.cli.choices import PrecisionOption, precision_of
from igniter_opt.cli.commands.profile_calibrate import calibrate_command
from igniter_opt.cli.commands.profile_check import check_command
from igniter_opt.cli.commands.profile_import_mig import import_mig_command
from igniter_opt.cli.commands.profile_refine import refine_command
from igniter_opt.cli.commands.profile_serve import serve_command
from igniter_opt.cli.commands.profile_show import list_command, show_command
from igniter_opt.cli.options import ProfileArgument, Seed
from igniter_opt.cli.outputs import check_outputs
from igniter_opt.data.measurement_files import measurements_json
from igniter_opt.data.plan import read_plan
from igniter_opt.data.profile import profile_json, read_profile
from igniter_opt.deploy.inventory import read_devices
from igniter_opt.fitting.enough import fits_contention
from igniter_opt.profiler.colocate import DRAWN_BATCHES, PARTS
from igniter_opt.profiler.make import (
    colocation_models,
    colocation_precision,
    make_measurements,
    make_profile,
    profile_of_log,
)
from igniter_opt.profiler.models.catalogue import BUILT_IN
from igniter_opt.profiler.runners.cuda import CudaRunner
from igniter_opt.profiler.session import BATCHES, FURTHER, SHARES, TOGETHER, StoppedError

_BUILT_IN, _BATCHES = ",".join(BUILT_IN), ",".join(map(str, BATCHES))
_SHARES = ",".join(f"{share:g}" for share in SHARES)
_DRAWN_BATCHES, _DRAWN_SHARES = ",".join(map(str, DRAWN_BATCHES)), ",".join(f"{share:g}" for share in PARTS)
_PAIRS, _LARGER = 150, 40

profile_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
profile_app.command("list")(list_command)
profile_app.command("show")(show_command)
profile_app.command("check")(check_command)
profile_app.command("calibrate")(calibrate_command)
profile_app.command("import-mig")(import_mig_command)
profile_app.command("serve")(serve_command)
profile_app.command("refine")(refine_command)

Models = Annotated[
    str,
    typer.Option(
        metavar="A,B,...",
        help=f"Built in: {', '.join(BUILT_IN)}; others as NAME=package.module:function or NAME=FILE (.pt, .onnx).",
        autocompletion=completion.model_lists,
    ),
]
Gpu = Annotated[str | None, typer.Option(metavar="UUID", help="The card. Default: the only one.")]
LogFile = Annotated[
    Path | None,
    typer.Option(
        "--resume", metavar="LOG", help="Keep every reading here as it is made, and go on from what it holds."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the group to the program."""
    app.add_typer(profile_app, name="profile")


@profile_app.callback()
def profile_main() -> None:
    """List and show profiles, measure a card and models, judge and calibrate.

    Example: igniter-opt profile list
    """


@profile_app.command("measure")
def measure_command(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PROFILE", help="Write the profile (JSON).")],
    models: Models = _BUILT_IN,
    name: Annotated[str | None, typer.Option(help="The profile's name. Default: the file's.")] = None,
    batches: Annotated[str, typer.Option(metavar="A,B,...")] = _BATCHES,
    shares: Annotated[str, typer.Option(metavar="A,B,...", help="In percent.")] = _SHARES,
    further: Annotated[
        int, typer.Option(metavar="N", help="Placements of every model alone beyond the grid, where they tell most.")
    ] = FURTHER,
    together: Annotated[
        int, typer.Option(metavar="N", help="Groups of five to eight side by side, for every model.")
    ] = TOGETHER,
    precision: PrecisionOption = "fp32",
    gpu: Gpu = None,
    resume: LogFile = None,
) -> None:
    """Measure an idle NVIDIA GPU with MPS, and models on it, into a profile, in 40 to 80 s per model.

    Example: igniter-opt profile measure --models resnet50,vit_b_16 -o mine.json --resume mine.jsonl
    """
    check_outputs(output, PROFILE, None, [], log=resume)
    runner = CudaRunner(_device(gpu), precision_of(precision))
    try:
        profile = make_profile(
            runner,
            name_from(output.stem) if name is None else name,
            models.split(","),
            precision=precision_of(precision),
            batches=[_whole(text) for text in batches.split(",")],
            shares=[_number(text) for text in shares.split(",")],
            further=further,
            together=together,
            log=resume,
            report=console.StepPrinter(),
        )
    except StoppedError:
        _stopped(resume)
    write_bytes_atomically(output, profile_json(profile).encode())
    if together and not fits_contention(profile):
        console.message("note: the card has too little room for groups side by side; neighbours are judged by probes")
    console.message(f"{output}: {len(profile.models)} models on {profile.hardware.gpu}; judge it with `profile check`")


@profile_app.command("build")
def build_command(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="What `profile measure --resume LOG` wrote, complete.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PROFILE", help="Write the profile (JSON).")],
    name: Annotated[str | None, typer.Option(help="The profile's name. Default: the file's.")] = None,
) -> None:
    """Make a profile of readings taken before, again and without the card.

    Example: igniter-opt profile build mine.jsonl -o mine.json
    """
    check_outputs(output, PROFILE, None, [log], "the log")
    profile = profile_of_log(log, name_from(output.stem) if name is None else name)
    write_bytes_atomically(output, profile_json(profile).encode())
    console.message(f"{output}: {len(profile.models)} models on {profile.hardware.gpu}; judge it with `profile check`")


@profile_app.command("colocate")
def colocate_command(
    profile: ProfileArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Write the measurements (JSON).")],
    models: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Default: all of the profile, from where it says. NAME=... as for `measure` takes one from elsewhere.",
        ),
    ] = None,
    pairs: Annotated[int | None, typer.Option(metavar="N", help="Groups of two. Default 150; 0 with --plan.")] = None,
    larger: Annotated[
        int | None, typer.Option(metavar="N", help="Groups of three and four. Default 40; 0 with --plan.")
    ] = None,
    crowded: Annotated[int, typer.Option(metavar="N", help="Groups of five to eight, with small shares.")] = 0,
    batches: Annotated[
        str, typer.Option(metavar="A,B,...", help="That groups of two to four are drawn from.")
    ] = _DRAWN_BATCHES,
    shares: Annotated[
        str, typer.Option(metavar="A,B,...", help="The same, in percent; no two placements have the same entry.")
    ] = _DRAWN_SHARES,
    plan: Annotated[
        list[Path] | None,
        typer.Option(
            "--plan",
            metavar="PLAN",
            help="Measure the GPUs of this plan, too; repeatable. See also `profile refine`.",
        ),
    ] = None,
    alone: Annotated[bool, typer.Option(help="Measure every placement alone, too.")] = True,
    alone_batches: Annotated[
        str, typer.Option(metavar="A,B,...", help="Measure every model alone at these batches and --alone-shares, too.")
    ] = "",
    alone_shares: Annotated[str, typer.Option(metavar="A,B,...", help="In percent.")] = "",
    seed: Seed = 0,
    precision: Annotated[
        str | None,
        typer.Option(help="Default: the profile's, and no other is taken; fp32 where it says none."),
    ] = None,
    gpu: Gpu = None,
    resume: LogFile = None,
) -> None:
    """Measure co-locations of profiled models, random ones or those of plans: what predictions are judged by.

    Example: igniter-opt profile colocate mine.json -o mine-colocated.json --resume colocated.jsonl
    """
    card = read_profile(profile)
    check_outputs(output, COLOCATIONS, None, [profile, *(plan or ())], "an input", log=resume)
    kind = colocation_precision(card, None if precision is None else precision_of(precision))
    wanted = colocation_models(card, None if models is None else models.split(","))
    if own := [text for text in wanted if "=" in text]:
        console.message(f"models that are not built in: {', '.join(own)}")
    try:
        found = make_measurements(
            CudaRunner(_device(gpu), kind),
            card,
            wanted,
            precision=kind,
            pairs=pairs if pairs is not None else 0 if plan else _PAIRS,
            larger=larger if larger is not None else 0 if plan else _LARGER,
            crowded=crowded,
            alone=alone,
            alone_batches=[_whole(text, "--alone-batches") for text in alone_batches.split(",") if text],
            alone_shares=[_number(text, "--alone-shares") for text in alone_shares.split(",") if text],
            batches=[_whole(text) for text in batches.split(",")],
            shares=[_number(text) for text in shares.split(",")],
            plans=[read_plan(path) for path in plan or ()],
            seed=seed,
            log=resume,
            report=console.StepPrinter(),
        )
    except StoppedError:
        _stopped(resume)
    write_bytes_atomically(output, measurements_json(found).encode())
    console.message(f"{output}: {sum(map(len, found.groups()))} readings")


def _stopped(resume: Path | None) -> None:
    console.message("interrupted" + (f"; {resume} holds what was measured, go on with --resume" if resume else ""))
    raise typer.Exit(EXIT_INTERRUPTED)


def _device(uuid: str | None) -> str:
    devices = read_devices(otherwise="run this on the machine that has the card")
    found = [device for device in devices if uuid in (None, device.uuid)]
    if len(found) != 1:
        names = ", ".join(f"{device.uuid} ({device.name})" for device in devices) or "none"
        raise InputError(f"--gpu: name one of the cards of this machine: {names}")
    return found[0].uuid


def _whole(text: str, option: str = "--batches") -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{option}: {text!r} is no whole number") from None


def _number(text: str, option: str = "--shares") -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{option}: {text!r} is no number") from None
