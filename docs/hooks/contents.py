"""The table of contents stands in `conf.py`, so that the first page has nothing in it but what it says."""

from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Take `contents` from the configuration: pages by the heading of their part."""
    app.add_config_value("contents", {}, "env", dict)
    app.connect("source-read", _append)
    return {"parallel_read_safe": True}


def _append(app: Sphinx, name: str, content: list[str]) -> None:
    if name == app.config.root_doc:
        content[0] += "\n" + "\n".join(
            line for part, pages in app.config.contents.items() for line in _tree(part, pages)
        )


def _tree(part: str, pages: Any) -> Iterator[str]:
    yield "```{toctree}\n:hidden:"
    if part:
        yield f":caption: {part}"
    yield from ("", *pages, "```\n")
