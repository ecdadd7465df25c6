"""The documentation's build fails on whatever leads nowhere. It needs `pip install '.[docs]'`."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import ROOT
from tests.integration.conftest import missing

README = "# Title\n[page](docs/page.md#part)\n"
PAGE = "# Page\n\n## Part\n\n[source](../source.py), [folder](../folder), [data](../folder/data.csv), $a^2$\n\n"
PYTHON = "<!-- python: igniter_opt.InputError -->\n\n<!-- fields: igniter_opt.data.instance.Workload -->\n"


@pytest.fixture(autouse=True)
def _sphinx() -> None:
    if importlib.util.find_spec("sphinx") is None or importlib.util.find_spec("furo") is None:
        missing("no Sphinx (pip install '.[docs]')")


def build(folder: Path, page: str = "", readme: str = "", contents: str = '"page"', **files: str) -> tuple[int, str]:
    """Build a small site by this project's configuration; return exit code and messages."""
    docs = folder / "docs"
    (docs / "static").mkdir(parents=True)
    shutil.copytree(ROOT / "docs" / "hooks", docs / "hooks", ignore=shutil.ignore_patterns("__pycache__"))
    configuration = (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")
    (docs / "conf.py").write_text(f'{configuration}\ncontents = {{"": [{contents}]}}\n')
    (docs / "static" / "site.css").write_text("")
    (docs / "index.md").write_text("# Start\n[page](page.md)\n")
    (docs / "page.md").write_text(PAGE + PYTHON + page)
    for name, text in files.items():
        (docs / f"{name}.md").write_text(text)
    (folder / "README.md").write_text(README + readme)
    (folder / "source.py").write_text("x = 1\n")
    (folder / "folder").mkdir()
    (folder / "folder" / "data.csv").write_text("a\n1\n")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "docs", "site"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_sound_site_is_built_with_all_that_its_pages_link_to(tmp_path: Path) -> None:
    assert build(tmp_path) == (0, "")
    page = (tmp_path / "site" / "page.html").read_text(encoding="utf-8")
    assert "<math" in page
    assert 'id="igniter_opt.InputError"' in page
    assert "rate_rps" in page
    assert "<span" in (tmp_path / "site" / "repository" / "source.py.html").read_text(encoding="utf-8")
    assert list((tmp_path / "site" / "_downloads").rglob("data.csv"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"page": "[x](gone.md)\n"}, "gone.md"),
        ({"page": "[x](index.md#gone)\n"}, "gone"),
        ({"page": "[x](../gone.py)\n"}, "gone.py"),
        ({"page": "![x](gone.png)\n"}, "gone.png"),
        ({"page": '<img src="https://example.org/a.png">\n'}, "loads from elsewhere"),
        ({"page": "<!-- python: igniter_opt.Gone -->\n"}, "Gone"),
        ({"page": "<!-- fields: igniter_opt.data.instance.Gone -->\n"}, "Gone"),
        ({"contents": '"page", "gone"'}, "gone"),
        ({"other": "# In no table of contents\n"}, "other.md"),
        ({"readme": "[x](docs/gone.md)\n"}, "README.md: docs/gone.md: no such file"),
        ({"readme": "[x](docs/page.md#gone)\n"}, "README.md: docs/page.md#gone: no such anchor"),
    ],
)
def test_whatever_leads_nowhere_fails_the_build(tmp_path: Path, change: dict[str, str], message: str) -> None:
    code, said = build(tmp_path, **change)
    assert code != 0
    assert message in said


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's own site: the one that was just built, as IGNITER_OPT_TEST_SITE names it, or one built here."""
    given = os.environ.get("IGNITER_OPT_TEST_SITE")
    if given:
        return Path(given)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "docs", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_on_a_phone_no_page_is_wider_than_the_screen(site: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    wide = []
    for path in sorted(site.glob("*.html")):
        page.goto(path.as_uri())
        if page.evaluate("document.documentElement.scrollWidth") > 390:
            wide.append(path.name)
    assert wide == []
    # Long formulas and tables scroll by themselves.
    page.goto((site / "model.html").as_uri())
    scrolling = "[...document.querySelectorAll('.formula')].filter(one => one.scrollWidth > one.clientWidth).length"
    assert page.evaluate(scrolling) > 0
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_first_page_has_a_picture_in_the_readers_colours(site: Path, browser: Any, scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto((site / "index.html").as_uri())
    shown = "[...document.querySelectorAll('article img')].filter(one => one.offsetWidth > 0).map(one => one.src)"
    (picture,) = page.evaluate(shown)
    assert picture.endswith("report-dark.png" if scheme == "dark" else "report.png")
    page.close()
