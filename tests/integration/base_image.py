"""What the image is built from in tests, made of what is installed here: no registry and no index is asked."""

import io
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.integration.image import libraries, link

_LEFT_OUT = {
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "site-packages",
    "__pycache__",
    "config-3.11-x86_64-linux-gnu",
}
# What packages of the C library's older versions name.
_C_LIBRARY = ("librt.so.1", "libdl.so.2", "libpthread.so.0", "libutil.so.1", "libresolv.so.2", "libm.so.6", "libc.so.6")
_TOOLS = ("sh", "cat", "chmod", "chown", "echo", "env", "find", "id", "ls", "mkdir", "rm", "sleep")


def write_base(tar: Path) -> None:
    """Write a root file system with this Python as ``/usr/local/bin/python3``, a shell and the C++ library."""
    prefix, version = Path(sys.base_prefix), f"python{sys.version_info[0]}.{sys.version_info[1]}"
    program = (prefix / "bin" / version).resolve()
    standard = prefix / "lib" / version
    found = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    cpp = Path(re.findall(r"libstdc\+\+\.so\.6 .*=> (\S+)", found)[0])
    with tarfile.open(tar, "w") as archive:
        archive.add(program, f"usr/local/bin/{version}")
        link(archive, "usr/local/bin/python3", version)
        archive.add(standard, f"usr/local/lib/{version}", filter=_needed)
        binaries = [program, cpp, *standard.glob("lib-dynload/*.so")]
        shared = {name.lstrip("/"): path for name, path in libraries(binaries, own=tar.parent)}
        for name in ("libstdc++.so.6", *_C_LIBRARY):
            path = Path(re.findall(rf"{re.escape(name)} \(.*=> (\S+)", found)[0])
            shared[str(path).lstrip("/")] = path
        for name, path in sorted(shared.items()):
            archive.add(path.resolve(), name)
        archive.add("/bin/busybox", "bin/busybox")
        for name in _TOOLS:
            link(archive, f"bin/{name}", "busybox")
        for folder in ("tmp", "dev", "proc", "sys", "etc", "home"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            archive.addfile(entry)
        for name, text in (("passwd", "root:x:0:0:root:/:/bin/sh\n"), ("group", "root:x:0:\n")):
            entry = tarfile.TarInfo(f"etc/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))


def _needed(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    inside = Path(entry.name).parts[4:]  # below usr/local/lib/python3.x
    return None if _LEFT_OUT.intersection(inside) or entry.name.endswith(".a") else entry


def write_wheels(folder: Path, extras: tuple[str, ...]) -> None:
    """Pack the installed packages that this one needs into wheels again, and fetch what builds it."""
    for found in _needed_distributions("igniter-opt", extras):
        tags = re.findall(r"^Tag: (.*)$", found.read_text("WHEEL") or "", flags=re.MULTILINE)
        name = re.sub(r"[-_.]+", "_", found.metadata["Name"])
        tag = "-".join(
            ".".join(dict.fromkeys(parts)) for parts in zip(*(entry.split("-") for entry in tags), strict=True)
        )
        with zipfile.ZipFile(folder / f"{name}-{found.version}-{tag}.whl", "w") as wheel:
            for entry in found.files or ():
                path = Path(str(found.locate_file(entry)))
                if ".." not in entry.parts and entry.suffix != ".pyc" and path.is_file():
                    wheel.write(path, str(entry))
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "setuptools>=77"]
    subprocess.run(fetch, check=True, capture_output=True)


def _needed_distributions(name: str, extras: tuple[str, ...]) -> Iterator[Distribution]:
    """Yield what a package needs with these extras, directly or not, each once; not itself."""
    seen: set[tuple[str, str]] = set()
    given: set[str] = set()
    ahead = [(name, extra) for extra in ("", *extras)]
    while ahead:
        at = ahead.pop()
        if at in seen:
            continue
        seen.add(at)
        try:
            found = distribution(at[0])
        except PackageNotFoundError:  # needed by other systems or versions of Python
            continue
        key = found.metadata["Name"].lower()
        if key not in given and at[0] != name:
            given.add(key)
            yield found
        for text in found.requires or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": at[1]}):
                ahead += [(wanted.name, extra) for extra in ("", *wanted.extras)]
