"""The command ``triton``: fetch a server for the process backend."""

from pathlib import Path
from typing import Annotated

import typer

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import exists
from igniter_opt.cli import console
from igniter_opt.deploy.triton.install import add_packages, default_folder, find_installation, install

triton_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.add_typer(triton_app, name="triton")


@triton_app.callback()
def triton_main() -> None:
    """Fetch a Triton server for the process backend.

    Example: igniter-opt triton install
    """


@triton_app.command("install")
def install_command(
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Where to. Default: the user's cache, where deploy finds it."),
    ] = None,
    python: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Interpreter for the models' Python code. Default: this one.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="WHEEL|DIR", help="The wheel, or a folder of what is in it, in place of fetching it."
        ),
    ] = None,
    existing: Annotated[
        bool,
        typer.Option("--existing", help="Run models with that interpreter's own packages: no environment is made."),
    ] = False,
    packages: Annotated[
        list[str] | None,
        typer.Option(
            "--package",
            metavar="PACKAGE",
            help="What models in Python need, as pip takes it (torch); repeatable, also where the server is there.",
        ),
    ] = None,
) -> None:
    """Fetch a Triton server with its Python backend from PyPI, once (55 MB), beside this environment.

    Models in Python run in an environment of their own, with NumPy; --package adds to it. With --from and --existing
    nothing is fetched at all.

    Example: igniter-opt triton install
    """
    target = folder or default_folder()
    present = find_installation(target)
    if source is not None and not exists(source):
        raise InputError(f"--from {source}: no such file or folder")
    if present is not None and (source is not None or (existing and not present.existing)):
        raise InputError(f"{target}: holds a server already; give another --dir, or remove it")
    installed = present or install(target, python, source=source, existing=existing)
    console.message("already installed" if present else "installed")
    if packages:
        add_packages(installed, packages)
        console.message(f"for its models in Python: {', '.join(packages)}")
    print(installed.server)
