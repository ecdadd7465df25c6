"""What notebooks show of plans, results and comparisons: their pictures and tables, every name escaped.

Matplotlib and pandas are imported where they are used: not all values need them.
"""

import base64
import io
from html import escape
from typing import TYPE_CHECKING

from igniter_opt.base.display import html_of
from igniter_opt.base.frames import frame
from igniter_opt.compare import Comparison
from igniter_opt.data.plan import Plan
from igniter_opt.explanation import CONDITIONS, Explanation, explanation_rows
from igniter_opt.report.tables import NUMBERS, WORDS, comparison_cells, explanation_of, limits_line
from igniter_opt.result import Result
from igniter_opt.sweeps.results import Sweep
from igniter_opt.verify import Verification, verify

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A larger plan's picture would be many screens long; its first line says enough.
_MOST_GPUS = 100
_MOST_VIOLATIONS = 5
_DPI = 150


@html_of.register
def _plan(plan: Plan) -> str:
    return _picture(plan, verify(plan))


@html_of.register
def _result(result: Result) -> str:
    return _picture(result.plan, result.verification)


def _picture(plan: Plan, verification: Verification) -> str:
    found = "".join(
        f"<li>{escape(entry.where)}: {escape(entry.message)}</li>"
        for entry in verification.violations[:_MOST_VIOLATIONS]
    )
    number = len(verification.violations)
    verdict = f"<p>The plan does not hold: {number:,} violation{'s' if number != 1 else ''}</p><ul>{found}</ul>"
    head = f"<p><code>{escape(repr(plan))}</code></p>" + (verdict if number else "")
    if not 0 < len(plan.gpus) <= _MOST_GPUS:
        return head
    from igniter_opt.report.plots import plan_figure

    return head + _image(plan_figure(plan, verification), repr(plan))


def _image(figure: "Figure", words: str) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI)
    return (
        f'<img alt="{escape(words)}" style="width:{figure.get_figwidth():g}in;max-width:100%"'
        f' src="data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}">'
    )


@html_of.register
def _comparison(comparison: Comparison) -> str:
    titles = [*WORDS, *NUMBERS]
    table = frame([dict(zip(titles, comparison_cells(row), strict=True)) for row in comparison.rows], titles)
    messages = "".join(
        f"<li>{escape(f'{row.instance}, {row.method}: {row.message}')}</li>" for row in comparison.rows if row.message
    )
    drawn = ""
    if comparison.results:
        from igniter_opt.report.comparison_plots import comparison_figure

        drawn = _image(comparison_figure(comparison), repr(comparison))
    explanation = "; ".join(filter(None, (limits_line(comparison.rows), explanation_of(comparison.rows))))
    return (
        table.to_html(index=False, escape=True, border=0)
        + (f"<p>{escape(explanation)}</p>" if explanation else "")
        + (f"<ul>{messages}</ul>" if messages else "")
        + drawn
    )


@html_of.register
def _sweep(sweep: Sweep) -> str:
    head = f"<p><code>{escape(repr(sweep))}</code></p>"
    if all(point.plan is None for point in sweep.points):
        return head
    from igniter_opt.report.sweep_plots import sweep_figure

    return head + _image(sweep_figure(sweep), repr(sweep))


@html_of.register
def _explanation(explanation: Explanation) -> str:
    table = frame(explanation_rows(explanation)).to_html(
        index=False, escape=True, border=0, float_format="{:.2f}".format
    )
    lines = "".join(
        f"<li><b>{escape(entry.workload)}</b> on {escape(entry.gpu)}: {escape(entry.binding)}</li>"
        for entry in explanation.placements[:_MOST_GPUS]
    )
    return f"<p>{escape(explanation.origin)}</p>{table}<ul>{lines}</ul><p>{escape(CONDITIONS)}</p>"
