"""A Triton server for machines that have none: fetched once from PyPI into the user's cache.

The wheel ``nvidia-pytriton`` carries the server with its Python backend. It is unpacked beside, never into,
this package's environment, together with an environment of its own for the models' code.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from igniter_opt.base.errors import InputError
from igniter_opt.base.optional import load

WHEEL: Final = "nvidia-pytriton==0.7.0"
WHEEL_SHA256: Final = "21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df"
SERVER_VERSION: Final = "2.51.0"
# With numpy 2 this server's Python backend answers with empty tensors.
NUMPY: Final = "numpy<2"
PYTHONS: Final = ("3.8", "3.9", "3.10", "3.11", "3.12")
_SERVER = Path("server/pytriton/tritonserver/bin/tritonserver")
_STUB = "triton_python_backend_stub"
_BINARY = ["--only-binary=:all:"]


@dataclass(frozen=True)
class Installation:
    """A Triton server's program, and the environment for its Python backend if it has one of its own."""

    server: Path
    python: Path | None = None
    libraries: Path | None = None
    existing: bool = False

    @property
    def backends(self) -> Path | None:
        """Folder of its backends, where it lies beside the program as in Triton's own layout."""
        folder = self.server.resolve().parent.parent / "backends"
        return folder if folder.is_dir() else None

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Return the variables that it needs."""
        result = {}
        if self.python is not None:
            result["PATH"] = os.pathsep.join([str(self.python), inherited.get("PATH", os.defpath)])
        if self.libraries is not None:
            paths = [str(self.libraries), *filter(None, [inherited.get("LD_LIBRARY_PATH")])]
            result["LD_LIBRARY_PATH"] = os.pathsep.join(paths)
        return result


def default_folder() -> Path:
    """Return where the server is installed by default."""
    return Path(load("platformdirs").user_cache_dir("igniter-opt")) / f"triton-{SERVER_VERSION}"


def find_installation(folder: Path | None = None) -> Installation | None:
    """Return the installed server; None if there is none."""
    folder = folder or default_folder()
    try:
        manifest = json.loads((folder / "installation.json").read_text(encoding="utf-8"))
        libraries = manifest["libraries"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    server = folder / _SERVER
    if not server.is_file():
        return None
    # Models run in an environment of the server's own, unless it was installed for one that was there.
    python = manifest.get("interpreter")
    own = folder / "python/bin" if not isinstance(python, str) else Path(python).parent
    return Installation(server, own, None if libraries is None else Path(libraries), existing=isinstance(python, str))


def install(
    folder: Path | None = None, python: Path | None = None, *, source: Path | None = None, existing: bool = False
) -> Installation:
    """Fetch and unpack the server, unless it is there.

    Parameters
    ----------
    folder
        Where to; by default the user's cache.
    python
        Interpreter that runs the models' Python code; by default the current one.
    source
        The wheel, fetched before, or a folder that one was unpacked into: nothing is fetched then of the server.
    existing
        Whether models have the interpreter's own packages; else they get an environment with NumPy, which is fetched.

    Raises
    ------
    InputError
        If this machine cannot run it, or it cannot be fetched. Nothing is left behind then.
    """
    folder = (folder or default_folder()).absolute()
    present = find_installation(folder)
    if present is not None:
        return present
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise InputError("the server that can be fetched runs on Linux on x86-64 only; try --backend docker")
    if folder.exists():
        raise InputError(f"{folder}: exists and holds no server; choose another --dir, or remove it")
    interpreter = Path(sys.executable) if python is None else python
    version, libraries = _interpreter(interpreter)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise InputError(f"{folder}: cannot be created ({error.strerror}); choose another --dir") from None
    try:
        _unpack(partial, version, source)
        manifest = {"wheel": WHEEL, "python": version, "libraries": libraries}
        if existing:
            manifest["interpreter"] = str(interpreter.absolute())
        else:
            _make_environment(partial, interpreter, version)
        (partial / "installation.json").write_text(json.dumps(manifest), encoding="utf-8")
        partial.chmod(0o755)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    installed = find_installation(folder)
    if installed is None:
        raise InputError(f"{WHEEL} holds no server at {_SERVER}")
    return installed


def add_packages(installation: Installation, packages: Sequence[str]) -> None:
    """Install packages that models need into the environment that runs their Python code.

    Parameters
    ----------
    packages
        As pip takes them: requirements, folders or wheels, no options.

    Raises
    ------
    InputError
        The server is not one that `install` fetched, or pip refuses a package; its reason is quoted.
    """
    if installation.python is None:
        raise InputError(f"{installation.server}: was not fetched by `igniter-opt triton install`")
    if installation.existing:
        raise InputError(
            f"{installation.server}: runs models with the packages of {installation.python}, which are not ours to"
            " change; install there what they need"
        )
    for package in packages:
        if not package.strip() or package.lstrip().startswith("-"):
            raise InputError(f"{package!r} is no package; such as torch, torch==2.9.0 or ./folder")
    python = str(installation.python / "python")
    command = [sys.executable, "-m", "pip", "--quiet", "--python", python, "install", *packages, NUMPY]
    _run(command, f"{', '.join(packages)}: cannot be installed for the server's Python")


def _unpack(partial: Path, version: str, source: Path | None) -> None:
    """Put the server in its place, with the part of its Python backend that is for the interpreter's version."""
    if source is None or source.is_file():
        _unpack_wheel(partial, source)
    else:
        _copy_unpacked(partial, source)
    triton = (partial / _SERVER).parent.parent
    stub = triton / "python_backend_stubs" / version / _STUB
    target = triton / "backends/python" / _STUB
    try:
        shutil.copy2(stub, target)
        for program in (partial / _SERVER, target):
            program.chmod(program.stat().st_mode | 0o755)
    except OSError as error:
        raise InputError(f"the server has no Python backend for Python {version} ({error.strerror}: {stub})") from None


def _copy_unpacked(partial: Path, source: Path) -> None:
    inner = _SERVER.relative_to("server")
    if not (source / inner).is_file():
        raise InputError(f"--from {source}: holds no {inner}; name the wheel of {WHEEL}, or a folder of what is in it")
    try:
        shutil.copytree(source, partial / "server")
    except (OSError, shutil.Error) as error:
        raise InputError(f"--from {source}: cannot be copied ({error})") from None


def _unpack_wheel(partial: Path, source: Path | None) -> None:
    if source is not None:
        with source.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != WHEEL_SHA256:
            raise InputError(f"--from {source}: is not the wheel of {WHEEL} (its SHA-256 is {found})")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    target = ["--target", str(partial / "server")]
    if source is not None:
        _run([*pip, "install", "--no-deps", "--no-index", *target, str(source)], f"{source} cannot be unpacked")
        return
    requirements = partial / "requirements.txt"
    requirements.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    _run(
        [*pip, "install", "--no-deps", *_BINARY, "--require-hashes", *target, "-r", str(requirements)],
        f"{WHEEL} cannot be fetched",
    )


def _make_environment(partial: Path, interpreter: Path, version: str) -> None:
    """Make the environment of the models' Python code."""
    pip = [sys.executable, "-m", "pip", "--quiet"]
    _run([str(interpreter), "-m", "venv", "--without-pip", str(partial / "python")], "no environment can be made")
    _run(
        [*pip, "--python", str(partial / "python/bin/python"), "install", *_BINARY, NUMPY],
        f"{NUMPY} cannot be fetched for Python {version}",
    )


_PROBE = """\
import ctypes, json, pathlib, sys, sysconfig
version = "%d.%d" % sys.version_info[:2]
name = "libpython%s.so.1.0" % version
folder = None
try:
    ctypes.CDLL(name)
except OSError:
    places = [sysconfig.get_config_var("LIBDIR"), sys.base_prefix + "/lib"]
    folder = next((str(p) for p in places if pathlib.Path(str(p), name).exists()), "missing")
print(json.dumps([version, folder]))
"""


def _interpreter(python: Path) -> tuple[str, str | None]:
    """Return an interpreter's version, and where its shared library is if that is no usual place."""
    output = _run([str(python), "-I", "-c", _PROBE], f"{python}: does not run as a Python interpreter")
    try:
        version, libraries = json.loads(output)
    except ValueError:
        raise InputError(f"{python}: does not run as a Python interpreter") from None
    if version not in PYTHONS:
        raise InputError(
            f"{python} is Python {version}; the server runs models with Python {PYTHONS[0]} to {PYTHONS[-1]}:"
            " name one with --python"
        )
    if libraries == "missing":
        raise InputError(
            f"libpython{version}.so.1.0 is missing (Debian and Ubuntu: apt-get install libpython{version})"
        )
    return str(version), None if libraries is None else str(libraries)


def _run(command: list[str], failure: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)  # noqa: S603
    except OSError as error:
        raise InputError(f"{failure} ({error.strerror})") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if re.search("error", line, re.IGNORECASE)][:3]
        raise InputError("\n".join([failure, *(said or done.stderr.splitlines()[-3:])]))
    return done.stdout
