"""Plans, pages and what a reader without a browser sees of them."""

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

from igniter_opt import read_instance, solve
from igniter_opt.data.plan import Plan, write_plan
from igniter_opt.report.findings import Findings, gather
from igniter_opt.result import Result, write_history

VOID = {"meta", "link", "br"}
# What makes a browser fetch something.
FETCHING = {"src", "href", "srcset", "data", "action", "poster", "xlink:href"}


class Page(HTMLParser):
    """Tables, text and attributes of a page; fails on tags that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: list[list[list[str]]] = []
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.ids += [values["id"]] if values.get("id") else []
        for name, value in attrs:
            if name in FETCHING and value and value.startswith("#"):
                self.links.append(value)
            elif name in FETCHING and value:
                self.fetched.append(value)
            assert not name.startswith("on"), f"{tag} has the handler {name}"
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"script", "style"} & set(self._open):
            return
        self.text += data
        if self._open and {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data

    def table(self, first_heading: str, nth: int = 0) -> list[dict[str, str]]:
        """Rows of the nth table whose first heading is this, by heading."""
        found = [table for table in self.tables if table[0][0].strip() == first_heading][nth]
        heads = [head.strip() for head in found[0]]
        return [dict(zip(heads, (re.sub(r"\s+", " ", cell).strip() for cell in row), strict=True)) for row in found[1:]]


@cache
def result_of(name: str, method: str = "auto") -> Result:
    return solve(read_instance(name), method)


def write_case(folder: Path, name: str = "igniter-three", method: str = "igniter") -> Path:
    """Write a plan and its history; return the plan's path."""
    result = result_of(name, method)
    write_plan(result.plan, folder / "plan.json")
    write_history(result, folder / "history.json")
    return folder / "plan.json"


def findings_of(folder: Path, plan: Plan | None = None, *, what_if_time_s: float = 0.0, **options: object) -> Findings:
    """Gather the findings on a plan, by default of `write_case`."""
    path = folder / "plan.json"
    if plan is not None:
        write_plan(plan, path)
    elif not path.exists():
        write_case(folder)
    return gather(path, what_if_time_s=what_if_time_s, command="igniter-opt report plan.json", **options)  # type: ignore[arg-type]
