"""Pages may link to files of the repository (``../bench/results/...``); the site carries those files along.

Markdown and sources become pages, other files are copied, a folder becomes a list of its files. So links work where
the Markdown is read in the repository as well as on the site, and the build fails where their target is missing.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
DOCS = "docs"
FOLDER = "repository"
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml"}
# Searching finds the documentation only.
_HEAD = "---\nsearch:\n  exclude: true\n---\n\n"
_LINK = re.compile(r"(\]\()([^)\s#]+)([^)\s]*\))")


def on_files(files: Files, config: Any) -> Files:
    """Add every file of the repository that pages link to, and those that these link to."""
    waiting = [
        (f"{DOCS}/{file.src_uri}", (ROOT / DOCS / file.src_uri).read_text(encoding="utf-8"))
        for file in files.documentation_pages()
    ]
    known: set[str] = set()
    while waiting:
        source, text = waiting.pop()
        for path in _outside(source, text):
            for target in (path, *_members(path)):
                if target in known:
                    continue
                known.add(target)
                files.append(_file(target, config))
                if target.endswith(".md"):
                    waiting.append((target, (ROOT / target).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Point links to the repository's files at their copies."""
    here = page.file.src_uri
    source = here.removeprefix(f"{FOLDER}/") if here.startswith(f"{FOLDER}/") else f"{DOCS}/{here}"

    def moved(found: re.Match[str]) -> str:
        path = _resolved(source, found[2])
        if path is None:
            return found[0]
        inside = path.removeprefix(f"{DOCS}/") if path.startswith(f"{DOCS}/") else _copy(path)
        return f"{found[1]}{posixpath.relpath(inside, posixpath.dirname(here))}{found[3]}"

    return _LINK.sub(moved, markdown)


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


def _copy(path: str) -> str:
    """Where a file of the repository is among the site's sources."""
    if (ROOT / path).is_dir():
        return f"{FOLDER}/{path}/index.md"
    suffix = Path(path).suffix
    if suffix == ".md" or suffix in LANGUAGES:
        return f"{FOLDER}/{path.removesuffix('.md')}.md"
    return f"{FOLDER}/{path}"


def _file(path: str, config: Any) -> File:
    source = ROOT / path
    if source.is_dir():
        lines = [f"- [{Path(member).name}]({Path(member).name})" for member in _members(path)]
        return File.generated(config, _copy(path), content="\n".join([f"{_HEAD}# {path}", "", *lines, ""]))
    if not _copy(path).endswith(".md"):
        return File.generated(config, _copy(path), abs_src_path=str(source))
    text = source.read_text(encoding="utf-8")
    if source.suffix in LANGUAGES:
        text = f"# {path}\n\n````{LANGUAGES[source.suffix]}\n{text}````\n"
    return File.generated(config, _copy(path), content=_HEAD + text)
