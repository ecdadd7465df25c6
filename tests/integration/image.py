"""A container image with the real Triton server, made from local files only: no registry is asked.

It is laid out like the official image: ``/opt/tritonserver`` with the server on PATH.
"""

import io
import re
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from igniter_opt.deploy.triton.install import Installation

LEFT_OUT = {"test", "tests", "idlelib", "ensurepip", "python_backend_stubs", "config-3.11-x86_64-linux-gnu"}
CHANGES = ["ENV PATH=/opt/tritonserver/bin:/bin"]


def write_image(tar: Path, server: Installation) -> None:
    """Write the image's root file system."""
    triton = server.server.resolve().parent.parent
    root = triton.parent.parent
    assert server.python is not None
    packages = next(server.python.parent.glob("lib/python3.*/site-packages"))
    standard = Path("/usr/lib") / packages.parent.name
    with tarfile.open(tar, "w") as archive:
        for folder, target in (
            (triton, "opt/pytriton/tritonserver"),
            (root / "nvidia_pytriton.libs", "opt/nvidia_pytriton.libs"),
            (packages / "numpy", "usr/lib/python3/dist-packages/numpy"),
            (packages / "numpy.libs", "usr/lib/python3/dist-packages/numpy.libs"),
            (standard, str(standard).lstrip("/")),
        ):
            archive.add(folder, target, filter=_needed)
        bash = Path("/bin/bash")  # the Python backend starts its processes by it
        binaries = [bash, server.server, *triton.glob("backends/python/*"), *standard.glob("lib-dynload/*.so")]
        for name, path in sorted(libraries(binaries, own=root)):
            archive.add(path.resolve(), name.lstrip("/"))
        archive.add(bash.resolve(), "bin/bash")
        archive.add("/bin/busybox", "bin/busybox")
        for name in ("sh", "sleep", "test"):
            link(archive, f"bin/{name}", "busybox")
        link(archive, "opt/tritonserver", "pytriton/tritonserver")
        for folder in ("tmp", "dev", "proc", "sys", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            archive.addfile(entry)
        content = b"root:x:0:0:root:/:/bin/sh\n"
        entry = tarfile.TarInfo("etc/passwd")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))


def _needed(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if LEFT_OUT.intersection(Path(entry.name).parts) else entry


def link(archive: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    archive.addfile(entry)


def libraries(binaries: Iterable[Path], own: Path) -> Iterator[tuple[str, Path]]:
    """System libraries that programs and libraries need, by the path under which they are looked up."""
    found: dict[str, Path] = {}
    for binary in binaries:
        done = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False)
        for path in re.findall(r"(/\S+) \(0x", done.stdout):
            if not Path(path).resolve().is_relative_to(own.resolve()):
                found[path] = Path(path)
    yield from found.items()
