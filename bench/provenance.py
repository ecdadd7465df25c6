"""What every benchmark table says about its origin: date, command, machine kind, versions, commit."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
PACKAGES = ("igniter-opt", "numpy", "scipy", "pyomo", "highspy")


def today() -> str:
    """Return the date in UTC, as in 2026-01-31."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def machine() -> str:
    """Describe the machine's kind: processor, cores, memory."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB"


def commit(root: Path = ROOT) -> str:
    """Return the commit that is checked out, marked if the tree differs from it."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    here = [git, "-C", str(root)]
    found = subprocess.run([*here, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run(
        [*here, "status", "--porcelain", "--", "igniter_opt", "formulations", "instances/*.yaml", "instances/profiles"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() + (" with changes" if changed.stdout.strip() else "") or "unknown"


def versions(names: Iterable[str]) -> str:
    """Name Python's version and those of some packages."""
    found = [f"Python {platform.python_version()}"]
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def _module() -> str:
    """Return what `python -m` was given, or the program's name where it was started in another way."""
    started = sys.modules["__main__"].__spec__
    return Path(sys.argv[0]).stem if started is None else started.name.removesuffix(".__main__")


def header(title: str, packages: Iterable[str] = PACKAGES) -> str:
    """Return the head of a result table in Markdown."""
    command = " ".join([f"python -m {_module()}", *sys.argv[1:]])
    return (
        f"# {title}\n\n"
        f"- date: {today()}\n"
        f"- command: `{command}`\n"
        f"- machine: {machine()}\n"
        f"- versions: {versions(packages)}\n"
        f"- commit: {commit()}\n"
    )


def earlier(path: Path, rows: int) -> str:
    """Return the line that says where the rows came from that a run goes on after, given their Markdown file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [line for line in lines if line.startswith(("- commit: ", "- earlier: "))]
    commits = "; ".join(line.split(": ", 1)[1] for line in found)
    return f"- earlier: {commits} (the first {rows} rows of the CSV)\n"


def write(name: str, text: str) -> None:
    """Write a dated result file and print it."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}-{today()}.md").write_text(text)
    print(text)
