"""Check the built site, and the README: every link and anchor leads somewhere, and no page loads from elsewhere."""

import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[2]
FRONT_PAGES = ("README.md",)
# Attributes that make a browser load something; others are only followed when clicked.
_LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#+ +(.*)$", flags=re.MULTILINE)
_BLOCK = re.compile(r"^( *)```.*?^\1```", flags=re.MULTILINE | re.DOTALL)


class _Page(HTMLParser):
    """Anchors of a page, what it links to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        address = values.get(_LOADED.get(tag, ""))
        if address is not None and values.get("rel") != "canonical":
            self.loads.append(address)
        elif tag == "a" and "href" in values:
            self.links.append(values["href"])


@cache
def _page(path: Path) -> _Page:
    return _Page(path.read_text(encoding="utf-8"))


def setup(app: Any) -> dict[str, bool]:
    """Have every built site checked."""
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True}


def _check(app: Any, failure: Exception | None) -> None:
    """Fail the build where anything is wrong."""
    from sphinx.errors import ExtensionError

    if failure is not None or app.builder.format != "html":
        return
    site = Path(app.outdir)
    problems = [*site_problems(site), *front_page_problems(ROOT, site)]
    if problems:
        raise ExtensionError("links:\n" + "\n".join(problems))


def site_problems(site: Path) -> Iterator[str]:
    """What is wrong with the links of a built site."""
    for path in sorted(site.rglob("*.html")):
        page, name = _page(path), path.relative_to(site)
        for address in page.loads:
            if urlsplit(address).scheme not in ("", "data") or address.startswith("//"):
                yield f"{name}: loads from elsewhere: {address}"
        for address in (*page.links, *page.loads):
            problem = _problem(address, path, site)
            if problem is not None:
                yield f"{name}: {address}: {problem}"
    for path in sorted(site.rglob("*.css")):
        for address in re.findall(r"url\(['\"]?(https?:|//)", path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)}: loads from elsewhere: {address}"


def _problem(address: str, path: Path, site: Path) -> str | None:
    """What is wrong with a page's link; links to elsewhere only need to be well formed."""
    parts = urlsplit(address)
    if parts.scheme or address.startswith("//"):
        return _malformed(address)
    target = path if not parts.path else path.parent / unquote(parts.path)
    if parts.path.startswith("/"):
        # The page for unknown addresses is the only one whose links begin at the top.
        target = site / unquote(parts.path).lstrip("/")
    target = target.resolve()
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        return "no such file"
    if parts.fragment and target.suffix == ".html" and not _has(target, unquote(parts.fragment)):
        return "no such anchor"
    return None


def _malformed(address: str) -> str | None:
    parts = urlsplit(address)
    if parts.scheme in ("http", "https") and not re.fullmatch(r"[A-Za-z0-9.-]+(:\d+)?", parts.netloc):
        return "not an address"
    return None if parts.scheme in ("http", "https", "mailto", "data") else f"scheme {parts.scheme!r}"


def _has(target: Path, anchor: str) -> bool:
    return anchor in _page(target).anchors


def front_page_problems(root: Path, site: Path) -> Iterator[str]:
    """What is wrong with the links of the pages beside `docs`; anchors in `docs` are looked up in the built site."""
    for name in FRONT_PAGES:
        text = _BLOCK.sub("", (root / name).read_text(encoding="utf-8"))
        anchors = {_slug(heading) for heading in _HEADING.findall(text)}
        for address in (first or second for first, second in _LINK.findall(text)):
            parts = urlsplit(address)
            if parts.scheme:
                problem = _malformed(address)
            elif not parts.path:
                problem = None if parts.fragment in anchors else "no such heading"
            elif not (root / parts.path).exists():
                problem = "no such file"
            elif parts.fragment and parts.path.startswith("docs/"):
                page = site / parts.path.removeprefix("docs/").replace(".md", ".html")
                problem = None if _has(page, parts.fragment) else "no such anchor"
            else:
                problem = None
            if problem is not None:
                yield f"{name}: {address}: {problem}"


def _slug(heading: str) -> str:
    """Anchor of a heading, as repositories' viewers make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
