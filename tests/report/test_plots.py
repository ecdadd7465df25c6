"""Pictures: colours that can be told apart and read, and nothing that lies on something else."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from igniter_opt import Comparison, InputError, Plan, Result, read_instance, solve, verify
from igniter_opt.compare import ComparisonRow
from igniter_opt.report.comparison_plots import comparison_figure
from igniter_opt.report.page import render_page
from igniter_opt.report.palette import BEST, FILLS, INK, LINES, MUTED, UNUSED, USUAL, VIOLATION, paints
from igniter_opt.report.plots import plan_figure
from igniter_opt.result import Progress
from tests.report.pages import findings_of, result_of

# Of linear RGB: how it looks to people without one kind of cones (Machado, Oliveira, Fernandes 2009, severity 1).
SIGHT = {
    "all": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(colour: object) -> np.ndarray:
    parts = np.array(to_rgb(colour))
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(one: object, other: object = "white") -> float:
    """WCAG 2."""
    low, high = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def seen(colour: str, sight: str) -> np.ndarray:
    """CIE L*a*b* of a colour as it is seen."""
    light = np.clip(np.array(SIGHT[sight]) @ linear(colour), 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.array(to_xyz) @ light / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# ---- colours ----------------------------------------------------------------------------------------


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("black") == pytest.approx(21.0)
    assert contrast("#777777") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("colour", [*LINES, BEST, USUAL, VIOLATION, INK, MUTED])
def test_lines_and_bars_stand_out_from_white(colour: str) -> None:
    assert contrast(colour) >= 3.0


@pytest.mark.parametrize("fill", FILLS)
def test_what_is_written_on_fills_can_be_read(fill: str) -> None:
    assert contrast(INK, fill) >= 4.5


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize(("colours", "least"), [(LINES, 20.0), (FILLS, 15.0)])
def test_colours_can_be_told_apart_by_everybody(sight: str, colours: tuple[str, ...], least: float) -> None:
    for one, other in itertools.combinations(colours, 2):
        assert np.linalg.norm(seen(one, sight) - seen(other, sight)) >= least, (one, other)


def test_the_best_plan_and_its_bound_have_the_strongest_colours() -> None:
    assert min(contrast(BEST), contrast(INK)) > contrast(USUAL) > contrast(UNUSED)


# ---- comparisons ------------------------------------------------------------------------------------

METHODS = ("igniter", "ffd", "ffd++", "gpulets", "gslice", "bestfit", "patterns")


def row(instance: str, method: str, cost: float | None, over: int = 0, workloads: int = 24) -> ComparisonRow:
    exact = method in {"patterns", "assignment"}
    return ComparisonRow(
        instance=instance,
        workloads=workloads,
        method=method,
        solved_by=None if cost is None else method,
        status="no plan" if cost is None else "violates" if over else "optimal" if exact else "heuristic",
        gpus=None if cost is None else round(cost / 3.06),
        cost_per_hour=cost,
        saving_percent=None,
        lower_bound_per_hour=18.36 if exact else None,
        gap=0.0 if exact else None,
        total_share_percent=None,
        total_share_lower_bound_percent=None,
        workloads_over_slo=None if cost is None else over,
        simulated_violation_ratio=None,
        simulated_worst_p99_over_slo=None,
        simulated_arrivals=None,
        within=None,
        runtime_s=0.1,
        message=None,
    )


def comparison(
    instances: int, methods: tuple[str, ...] = METHODS, *, history: bool = True, ties: bool = False
) -> Comparison:
    """Costs around the bound and far from it (or all on it), some of plans that violate SLOs, some missing."""
    found = Comparison()
    costs = {} if ties else {"igniter": 21.42, "ffd": 15.3, "gpulets": 36.72, "gslice": 18.36}
    for k in range(instances):
        name = f"instance-{k}"
        for method in methods:
            cost = (
                None
                if (k, method) == (1, "gslice")
                else costs.get(method, 18.36) * (1000.0 if k == 2 and not ties else 1.0)
            )
            over = {"ffd": 21, "gpulets": 4, "gslice": 11}.get(method, 0) * (1000 if k == 2 else 1)
            found.rows.append(row(name, method, cost, over if cost else 0, 24_000 if k == 2 else 24))
    if history:
        result = result_of("igniter-three")
        steps = [
            Progress(0.1, "cost", result.cost, 0.9 * result.cost, 0.1),
            Progress(0.4, "cost", result.cost, 3.06, 0),
        ]
        past = Result(result.plan, result.verification, steps)
        found.results = {(f"instance-{k}", "patterns"): past for k in range(instances)}
    return found


CASES = [(n, m, h) for n in (1, 2, 3, 7) for m in (METHODS, METHODS[:2], METHODS[-1:]) for h in (True, False)]


def drawn(figure: Figure) -> Figure:
    figure.draw_without_rendering()
    return figure


def bars(axis: Axes) -> list[Rectangle]:
    return [patch for patch in axis.patches if isinstance(patch, Rectangle)]


def overlaps(one: Bbox, other: Bbox) -> bool:
    """Whether two boxes share more than a rim of a pixel."""
    both = Bbox.intersection(one, other)
    return both is not None and both.width > 1.0 and both.height > 1.0


def cost_axes(figure: Figure) -> list[Axes]:
    return [axis for axis in figure.findobj(Axes) if axis.get_visible() and axis.containers]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("scale", [0.8, 1.0, 1.5])
@pytest.mark.parametrize(("instances", "methods", "history"), CASES)
def test_legends_and_titles_lie_beside_everything(
    instances: int, methods: tuple[str, ...], history: bool, scale: float, ties: bool
) -> None:
    figure = comparison_figure(comparison(instances, methods, history=history, ties=ties))
    figure.set_size_inches(figure.get_size_inches() * scale)
    drawn(figure)
    legends = [legend.get_window_extent() for legend in figure.findobj(mpl.legend.Legend)]
    assert len(legends) == 1 + (history and instances > 1)
    title = figure._suptitle.get_window_extent()
    for axis in figure.findobj(Axes):
        boxes = [bar.get_window_extent() for bar in bars(axis)] + [axis.get_window_extent()]
        for box in boxes if axis.get_visible() else []:
            assert not any(overlaps(box, legend) for legend in legends)
            assert not overlaps(box, title)
    assert not any(overlaps(one, other) for one, other in itertools.combinations([*legends, title], 2))
    for box in [*legends, title]:
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1 or scale < 1.0


@pytest.mark.parametrize(("instances", "methods", "history"), CASES)
def test_costs_stand_beside_their_bars_and_the_bound(instances: int, methods: tuple[str, ...], history: bool) -> None:
    figure = drawn(comparison_figure(comparison(instances, methods, history=history)))
    panels = cost_axes(figure)
    assert len(panels) == instances
    for axis in panels:
        texts = [text.get_window_extent() for text in axis.texts]
        assert len(texts) == len(methods)
        lines = [line.get_window_extent() for line in axis.lines]
        assert len(lines) == ("patterns" in methods)
        for text in texts:
            assert not any(overlaps(text, bar.get_window_extent()) for bar in bars(axis))
            assert not any(line.x0 - 1 < text.x1 and text.x0 < line.x1 + 1 for line in lines)
            assert text.x1 <= axis.get_window_extent().x1 + 1.0
        assert not any(overlaps(one, other) for one, other in itertools.combinations(texts, 2))


def test_one_strong_colour_for_the_best_plan_and_hatches_for_plans_that_violate_slos() -> None:
    figure = drawn(comparison_figure(comparison(1)))
    (axis,) = cost_axes(figure)
    for method, bar in zip(METHODS, bars(axis), strict=True):
        violates = method in {"ffd", "gpulets", "gslice"}
        assert bool(bar.get_hatch()) == violates
        colour = bar.get_edgecolor() if violates else bar.get_facecolor()
        assert same_color(colour, BEST if method == "patterns" else USUAL)
        assert contrast(colour) >= 3.0
    (bound,) = axis.lines
    assert set(bound.get_xdata()) == {18.36}
    assert contrast(bound.get_color()) >= 3.0
    assert [label.get_text() for label in axis.get_yticklabels()] == list(METHODS)
    # Bars stand on 0 and have their numbers beside them.
    assert axis.get_xlim()[0] == 0.0
    assert not list(axis.get_xticks())
    assert figure._suptitle.get_text() == "instance-0: 18.36 USD per hour by patterns, proven optimal"


def strong(axis: Axes) -> list[str]:
    names = [label.get_text() for label in axis.get_yticklabels()]
    return [name for name, bar in zip(names, bars(axis), strict=True) if same_color(bar.get_facecolor(), BEST)]


def test_the_best_plan_is_the_cheapest_that_keeps_all_slos_whoever_found_it() -> None:
    found = Comparison()
    found.rows = [row("x", "igniter", 12.24), row("x", "ffd", 3.06, over=2), row("x", "bestfit", 9.18)]
    found.rows.append(row("x", "patterns", 9.24))
    figure = comparison_figure(found)
    assert strong(cost_axes(figure)[0]) == ["bestfit"]
    assert figure._suptitle.get_text() == "x: 9.18 per hour by bestfit"
    found.rows = found.rows[1:2]
    figure = comparison_figure(found)
    assert strong(cost_axes(figure)[0]) == []
    assert figure._suptitle.get_text() == "x: no method's plan keeps all SLOs"


def test_a_gap_stands_in_the_title() -> None:
    found = Comparison()
    found.rows = [replace(row("x", "patterns", 21.42), status="feasible", gap=0.142857)]
    assert comparison_figure(found)._suptitle.get_text() == "x: 21.42 per hour by patterns, gap 14.29 %"


def test_methods_without_a_plan_have_no_bar_but_say_so() -> None:
    axis = cost_axes(drawn(comparison_figure(comparison(2))))[1]
    assert len(bars(axis)) == len(METHODS) - 1
    assert axis.texts[METHODS.index("gslice")].get_text() == "no plan"
    nothing = Comparison()
    nothing.rows = [row("x", "ffd", None)]
    with pytest.raises(InputError, match="no method found a plan"):
        comparison_figure(nothing)


@pytest.mark.parametrize("instances", [1, 3])
def test_curves_over_time_stand_out_and_a_tie_does_not_look_like_a_gap(instances: int) -> None:
    figure = drawn(comparison_figure(comparison(instances)))
    (axis,) = [axis for axis in figure.findobj(Axes) if axis.get_xlabel() == "seconds"]
    assert len(axis.lines) == 4 * instances
    assert all(contrast(line.get_color()) >= 3.0 for line in axis.lines)
    low, high = axis.get_ylim()
    assert low <= 0.9 * high
    assert axis.get_xlim()[0] == 0.0


# ---- plans ------------------------------------------------------------------------------------------


def parts(axis: Axes) -> list[Rectangle]:
    """Placements: the bars that are not what is unused."""
    return [bar for bar in bars(axis) if not same_color(bar.get_facecolor(), UNUSED)]


def with_shares(plan: Plan, shares: tuple[float, ...]) -> Plan:
    gpu = plan.gpus[0]
    placements = zip(gpu.placements * len(shares), shares, strict=False)
    changed = tuple(entry.model_copy(update={"share_percent": share}) for entry, share in placements)
    return plan.model_copy(update={"gpus": (gpu.model_copy(update={"placements": changed}),)})


def labels(axis: Axes) -> list[Text]:
    return [text for text in axis.texts if text.get_text()]


@pytest.mark.parametrize("name", ["igniter-table3", "igniter-motivation", "uniform-24-1"])
def test_every_part_of_the_shipped_plans_is_named_within_itself(name: str) -> None:
    result = solve(read_instance(name), "igniter")
    axis = drawn(plan_figure(result.plan, result.verification)).axes[0]
    found = parts(axis)
    assert len(labels(axis)) == len(found) == sum(len(gpu.placements) for gpu in result.plan.gpus)
    for part, text in zip(found, axis.texts, strict=True):
        box, room = text.get_window_extent(), part.get_window_extent()
        assert room.x0 <= box.x0
        assert box.x1 <= room.x1
        assert contrast(text.get_color(), part.get_facecolor()) >= 4.5


def test_narrow_parts_are_named_upright_or_not_at_all() -> None:
    plan = with_shares(result_of("igniter-motivation", "igniter").plan, (2.5, 0.5, 5.0, 60.0))
    axis = drawn(plan_figure(plan, verify(plan))).axes[0]
    names, batches = zip(*((entry.workload, entry.batch) for entry in plan.gpus[0].placements), strict=True)
    assert len(set(names)) == 3
    said = [names[0], "", f"{names[2]} b{batches[2]}", f"{names[3]} b{batches[3]}"]
    assert [text.get_text() for text in axis.texts] == said
    long = plan.gpus[0].placements[0].model_copy(update={"workload": "detect", "share_percent": 2.5})
    plan = plan.model_copy(update={"gpus": (plan.gpus[0].model_copy(update={"placements": (long,)}),)})
    axis = drawn(plan_figure(plan, verify(plan))).axes[0]
    (text,), (part,) = axis.texts, parts(axis)
    assert (text.get_text(), text.get_rotation()) == ("detect", 90.0)
    assert text.get_window_extent().height <= part.get_window_extent().height


def test_markers_of_latencies_stand_out_from_white() -> None:
    result = result_of("igniter-table3", "igniter")
    axis = plan_figure(result.plan, result.verification).axes[1]
    markers = [line for line in axis.lines if line.get_marker() != "None"]
    assert len(markers) == 12
    assert all(contrast(line.get_markeredgecolor()) >= 3.0 for line in markers)


def test_a_model_has_one_colour_in_the_picture_and_on_the_page(tmp_path: Path) -> None:
    plan = result_of("igniter-table3", "igniter").plan
    page = render_page(findings_of(tmp_path, plan))
    fills = dict(re.findall(r"\.f(\d)\{fill:(#\w{6})\}", page))
    on_page = {
        model: fills[number]
        for number, model in re.findall(r'<li>.*?class="f(\d)".*?</svg>([\w-]+)</li>', page, re.DOTALL)
    }
    (legend,) = plan_figure(plan, verify(plan)).legends
    handles = {
        text.get_text(): to_hex(patch.get_facecolor())
        for patch, text in zip(legend.get_patches(), legend.get_texts(), strict=True)
    }
    assert handles == on_page
    assert set(handles) == {"alexnet", "resnet50", "ssd", "vgg19"}
    assert handles == {model: FILLS[paint.fill] for model, paint in paints(sorted(handles)).items()}
