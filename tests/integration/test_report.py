"""The report's page in headless Chromium: opened from disk, in light and dark, at phone width, without scripts."""

from pathlib import Path
from typing import Any

import pytest

from igniter_opt import read_profile, solve
from igniter_opt.generate import generate_instance
from igniter_opt.report.page import render_page
from tests.report.pages import findings_of, write_case

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_case(folder, "igniter-table3", "auto")
    path = folder / "report.html"
    path.write_text(
        render_page(findings_of(folder, what_if_time_s=30.0, history=folder / "history.json")), encoding="utf-8"
    )
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 GPUs with 2,000 placements."""
    folder = tmp_path_factory.mktemp("large")
    plan = solve(generate_instance("large", 2000, 1, [read_profile("v100")], [3.06]), "igniter").plan
    assert len(plan.gpus) >= 500
    path = folder / "report.html"
    path.write_text(render_page(findings_of(folder, plan)), encoding="utf-8")
    return path


def opened(browser: Any, path: Path, **options: Any) -> tuple[Any, list[str]]:
    """Open a page from disk; the list fills with everything that it complains about or asks the network for."""
    context = browser.new_context(**{"viewport": DESK, **options})
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("request", lambda request: problems.append(request.url) if request.url != path.as_uri() else None)
    page.goto(path.as_uri())
    return page, problems


def painted(page: Any) -> float:
    """First contentful paint, in ms after the navigation began; waits for it."""
    return float(
        page.evaluate(
            """() => new Promise((done) => new PerformanceObserver((list) => {
                for (const entry of list.getEntries())
                    if (entry.name === "first-contentful-paint") done(entry.startTime);
            }).observe({type: "paint", buffered: true}))"""
        )
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_it_renders_without_complaint(browser: Any, small: Path, scheme: str, viewport: dict[str, int]) -> None:
    page, problems = opened(browser, small, color_scheme=scheme, viewport=viewport)
    assert page.title() == "igniter-table3: GPU plan"
    assert page.evaluate("document.compatMode") == "CSS1Compat"
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    # Every chart is there and takes room; every segment lies within its bar.
    assert page.locator(".gpus .bar").count() == 6
    for chart in (".gpus .bar", "#proof .plot", "#latency .plot", "#latency .meter", "#savings .cost"):
        for box in [entry.bounding_box() for entry in page.locator(chart).all()]:
            assert box is not None
            assert box["width"] > 50
            assert box["height"] > 8
    shares = page.evaluate(
        """[...document.querySelectorAll('.bar')].map((bar) => [...bar.querySelectorAll('.s')].reduce(
            (sum, part) => sum + part.firstElementChild.nextElementSibling.getBoundingClientRect().width, 0)
            / bar.getBoundingClientRect().width)"""
    )
    free = [float(text) for text in page.locator(".gpu .left").all_inner_texts()]
    assert shares == pytest.approx([1 - entry / 100 for entry in free], abs=0.01)
    assert problems == []
    page.context.close()


def luminance(colour: tuple[float, ...]) -> float:
    parts = [c / 255 / 12.92 if c / 255 <= 0.03928 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(browser: Any, small: Path, scheme: str) -> None:
    page, _ = opened(browser, small, color_scheme=scheme)
    pairs = page.evaluate(
        """() => {
            const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
            const found = new Set();
            for (const element of document.querySelectorAll("body *")) {
                const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
                if (!own || !element.getClientRects().length || element.closest("script, style, title")) continue;
                const style = getComputedStyle(element);
                const inside = element.closest(".s");
                const colour = element instanceof SVGElement ? style.fill : style.color;
                let behind = inside ? getComputedStyle(inside.querySelector("rect")).fill : null;
                for (let at = element; !behind && at; at = at.parentElement) {
                    const back = getComputedStyle(at).backgroundColor;
                    if ((numbers(back)[3] ?? 1) > 0) behind = back;
                }
                found.add(JSON.stringify([numbers(colour).slice(0, 3), numbers(behind).slice(0, 3), element.tagName]));
            }
            return [...found].map(JSON.parse);
        }"""
    )
    assert len(pairs) > 10
    for colour, behind, tag in pairs:
        light, dark = sorted([luminance(tuple(colour)), luminance(tuple(behind))], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (tag, colour, behind)
    page.context.close()


def test_without_scripts_tables_and_charts_are_there(browser: Any, small: Path) -> None:
    page, problems = opened(browser, small, java_script_enabled=False)
    assert page.locator("table:visible").count() >= 6
    assert page.locator(".gpus .bar:visible").count() == 6
    assert "V100-6" in page.locator("#gpus table").inner_text()
    assert page.locator(".scripted:visible").count() == 0
    assert page.locator("#tip:visible").count() == 0
    assert problems == []
    page.context.close()


def test_details_come_by_pointer_and_by_keys(browser: Any, small: Path) -> None:
    page, problems = opened(browser, small)
    tip = page.locator("#tip")
    assert tip.is_hidden()
    page.locator(".bar .s").nth(3).hover()
    assert tip.inner_text().startswith("W11: ssd, batch 1, share 15 %, latency 19.89 of 20.00 ms, 50 req/s")
    page.mouse.move(1, 1)
    page.locator(".gpus").focus()
    page.keyboard.press("ArrowRight")
    first = tip.inner_text()
    page.keyboard.press("ArrowRight")
    assert first.startswith("W1: alexnet")
    assert tip.inner_text() != first
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    assert problems == []
    page.context.close()


def test_tables_are_sorted_by_their_headings(browser: Any, small: Path) -> None:
    page, _ = opened(browser, small)
    column = "#latency tbody tr td:nth-child(7)"
    button = page.get_by_role("button", name="Used %")
    for direction, reverse in (("ascending", False), ("descending", True)):
        button.click()
        values = [float(text) for text in page.locator(column).all_inner_texts()]
        assert values == sorted(values, reverse=reverse)
        assert page.locator(f"#latency th[aria-sort={direction}]").count() == 1
    page.context.close()


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_500_gpus_and_2000_placements_stay_usable(browser: Any, large: Path, viewport: dict[str, int]) -> None:
    assert large.stat().st_size < 5_000_000
    page, problems = opened(browser, large, viewport=viewport)
    assert painted(page) < 2_000
    assert page.locator(".gpus .bar").count() >= 500
    assert page.locator(".s").count() == 2000
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    page.locator(".bar .s").nth(700).hover()
    assert page.locator("#tip").is_visible()
    assert problems == []
    page.context.close()
