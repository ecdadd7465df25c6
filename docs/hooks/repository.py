"""Pages may link to files of the repository (``../bench/results/...``); the site carries those files along.

Markdown and sources become pages below `docs/repository`, which git ignores; a folder becomes a list of its files, and
other files are offered for download. So links work where the Markdown is read in the repository as well as on the site,
and the build fails where their target is missing.
"""

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
DOCS = "docs"
FOLDER = "repository"
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml"}
# Searching finds the documentation only, and no table of contents has these pages.
_HEAD = "---\norphan: true\nnosearch: true\n---\n\n"
_LINK = re.compile(r"(\]\()([^)\s#]+)([^)\s]*\))")


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the copies before pages are looked for, and turn links to them."""
    app.connect("builder-inited", lambda app: write_copies(Path(app.srcdir) / FOLDER))
    app.connect("source-read", _turn)
    return {"parallel_read_safe": True}


def write_copies(folder: Path) -> None:
    """Make the folder hold every page for a file that pages link to, and those that these link to."""
    waiting = [(f"{DOCS}/{path.name}", path.read_text(encoding="utf-8")) for path in (ROOT / DOCS).glob("*.md")]
    wanted: dict[Path, str] = {}
    while waiting:
        source, text = waiting.pop()
        for path in _outside(source, text):
            for target in (path, *_members(path)):
                copy = folder.parent / _copy(target)
                if copy in wanted or not _is_page(target):
                    continue
                wanted[copy] = _page(target)
                if target.endswith(".md"):
                    waiting.append((target, (ROOT / target).read_text(encoding="utf-8")))
    for stale in set(folder.rglob("*.md")) - set(wanted):
        stale.unlink()
    for copy, text in wanted.items():
        # What has not changed is not built again.
        if not copy.is_file() or copy.read_text(encoding="utf-8") != text:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text, encoding="utf-8")


def _turn(_: Sphinx, name: str, content: list[str]) -> None:
    """Point a page's links to the repository's files at their copies."""
    here = f"{name}.md"
    source = _source(here)

    def moved(found: re.Match[str]) -> str:
        path = _resolved(source, found[2])
        if path is None:
            return found[0]
        if path.startswith(f"{DOCS}/"):
            target = path.removeprefix(f"{DOCS}/")
        else:
            target = _copy(path) if _is_page(path) else os.path.relpath(ROOT / path, ROOT / DOCS)
        return f"{found[1]}{posixpath.relpath(target, posixpath.dirname(here))}{found[3]}"

    content[0] = _LINK.sub(moved, content[0])


def _source(page: str) -> str:
    """Path in the repository of what a page is made of; folders' and sources' pages have no links of their own."""
    return page.removeprefix(f"{FOLDER}/") if page.startswith(f"{FOLDER}/") else f"{DOCS}/{page}"


def _resolved(source: str, link: str) -> str | None:
    """Path in the repository that a link in a file means; None for links elsewhere."""
    if re.match(r"[a-z]+:|/|<", link):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    return None if path.startswith("..") or not (ROOT / path).exists() else path


def _outside(source: str, text: str) -> Iterator[str]:
    for _, link, _ in _LINK.findall(text):
        path = _resolved(source, link)
        if path is not None and not path.startswith(f"{DOCS}/"):
            yield path


def _members(path: str) -> list[str]:
    folder = ROOT / path
    if not folder.is_dir():
        return []
    return sorted(
        f"{path}/{entry.name}"
        for entry in folder.iterdir()
        if entry.is_file() and not entry.name.startswith((".", "_"))
    )


def _is_page(path: str) -> bool:
    return (ROOT / path).is_dir() or Path(path).suffix in {".md", *LANGUAGES}


def _copy(path: str) -> str:
    """Where the page for a file or folder of the repository is among the site's sources."""
    return f"{FOLDER}/{path}/index.md" if (ROOT / path).is_dir() else f"{FOLDER}/{path.removesuffix('.md')}.md"


def _page(path: str) -> str:
    source = ROOT / path
    if source.is_dir():
        return "\n".join([f"{_HEAD}# {path}", "", *(_item(member) for member in _members(path)), ""])
    text = source.read_text(encoding="utf-8")
    if source.suffix in LANGUAGES:
        text = f"# {path}\n\n````{LANGUAGES[source.suffix]}\n{text}````\n"
    return _HEAD + text


def _item(member: str) -> str:
    """A line of a folder's list, whose links are relative to the page."""
    folder = posixpath.dirname(f"{FOLDER}/{member}")
    target = _copy(member) if _is_page(member) else f"../{member}"
    return f"- [{Path(member).name}]({posixpath.relpath(target, folder)})"
