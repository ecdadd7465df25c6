"""Code blocks of the documentation's pages."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(r"^(<!-- varies -->\n)?^( *)```([a-z]*)\n(.*?)^\2```$", flags=re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^## (.*)$", flags=re.MULTILINE)


class Block(NamedTuple):
    """A block with its language; `varies` says that a shown output is an example."""

    language: str
    text: str
    varies: bool


def blocks(text: str) -> list[Block]:
    """All blocks of a text, in order."""
    return [Block(found[3], found[4], bool(found[1])) for found in _BLOCK.finditer(text)]


def sections(path: Path) -> dict[str, list[Block]]:
    """The blocks of a page by the heading that they are below; only sections that have any."""
    # A heading is a line outside of blocks.
    text = path.read_text(encoding="utf-8")
    parts: dict[str, list[Block]] = {}
    bare = _BLOCK.sub(lambda found: found[0].replace("\n#", "\n\0"), text)
    for part in re.split(r"^(?=## )", bare, flags=re.MULTILINE):
        heading = _HEADING.match(part)
        found = blocks(part.replace("\0", "#"))
        if found:
            parts[heading[1] if heading else ""] = found
    return parts


def run(script: str, folder: Path, timeout: float = 300.0) -> subprocess.CompletedProcess[str]:
    """Run a block as typed into bash, with this interpreter's scripts on PATH; output and messages together."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_STATE_HOME": str(folder / "state"),
    }
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


def run_section(found: list[Block], folder: Path) -> str:
    """Run a section's blocks in order; the lines it shows as output must be printed by the block before, in order."""
    printed = everything = ""
    for block in found:
        if block.language in {"bash", "python"}:
            script = block.text if block.language == "bash" else f"python - <<'END'\n{block.text}END\n"
            done = run(script, folder)
            assert done.returncode == 0, done.stdout
            printed = done.stdout
            everything += printed
        elif block.language == "text" and not block.varies:
            lines = iter([line.rstrip() for line in printed.splitlines()])
            for shown in block.text.splitlines():
                assert shown in lines, f"not printed, or not in this order: {shown}\n{printed}"
    return everything
