"""A picture for light and one for dark, as repositories' viewers take them, becomes two images of the theme."""

import re

from sphinx.application import Sphinx

_PICTURE = re.compile(
    r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="([^"]*)">\s*'
    r'<img src="([^"]*)" alt="([^"]*)">\s*</picture>'
)


def setup(app: Sphinx) -> dict[str, bool]:
    """Replace pictures as pages are read."""
    app.connect("source-read", _replace)
    return {"parallel_read_safe": True}


def _replace(app: Sphinx, name: str, content: list[str]) -> None:
    content[0] = _PICTURE.sub(_images, content[0])


def _images(found: re.Match[str]) -> str:
    dark, light, words = found.groups()
    return f"![{words}]({light}){{.only-light}}\n![{words}]({dark}){{.only-dark}}"
