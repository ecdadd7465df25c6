"""The check of the built site finds what is wrong, and nothing else."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.blocks import ROOT


@pytest.fixture(scope="module")
def links() -> ModuleType:
    specification = importlib.util.spec_from_file_location("docs_links", ROOT / "docs" / "hooks" / "links.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["docs_links"] = module
    specification.loader.exec_module(module)
    return module


def test_a_site(links: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a")
    (tmp_path / "b.html").write_text('<h1 id="there">B</h1>')
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there">1</a> <a href="#here" id="here">2</a> <a href="data.csv">3</a>'
        '<a href="https://example.org/x">4</a> <img src="data:image/png;base64,AA==">'
        '<a href="c.html">5</a> <a href="b.html#gone">6</a> <a href="https:///x">7</a> <a href="ftp://x.org">8</a>'
        '<img src="gone.png"> <script src="https://example.org/a.js"></script>'
    )
    (tmp_path / "a.css").write_text("@font-face {src: url(https://example.org/font.woff)}")
    assert list(links.site_problems(tmp_path)) == [
        "a.html: loads from elsewhere: https://example.org/a.js",
        "a.html: c.html: no such file",
        "a.html: b.html#gone: no such anchor",
        "a.html: https:///x: not an address",
        "a.html: ftp://x.org: scheme 'ftp'",
        "a.html: gone.png: no such file",
        "a.css: loads from elsewhere: https:",
    ]


def test_the_front_page(links: ModuleType, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "a.html").write_text('<h2 id="there">A</h2>')
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("## There")
    (tmp_path / "README.md").write_text(
        "# Some title\n[1](#some-title) [2](docs/a.md#there) [3](docs/a.md) [4](https://example.org)\n"
        "```\n[not a link](nowhere)\n```\n"
        "[5](#other) [6](docs/b.md) [7](docs/a.md#gone) [8](http://)"
    )
    assert list(links.front_page_problems(tmp_path, site)) == [
        "README.md: #other: no such heading",
        "README.md: docs/b.md: no such file",
        "README.md: docs/a.md#gone: no such anchor",
        "README.md: http://: not an address",
    ]
