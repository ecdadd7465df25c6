"""The table that puts methods side by side."""

from rich.markup import escape

from igniter_opt.cli.console import stdout
from igniter_opt.cli.tables.late import late_line_of
from igniter_opt.cli.tables.layout import new_table, print_table
from igniter_opt.compare import Comparison
from igniter_opt.report.tables import NUMBERS, WORDS, comparison_cells, explanation_of, limits_line


def print_comparison(comparison: Comparison) -> None:
    """Print the comparison table, one block per instance."""
    console = stdout()
    table = new_table()
    for title in WORDS:
        table.add_column(title)
    for title in NUMBERS:
        table.add_column(title, justify="right")
    last = None
    for row in comparison.rows:
        violates = row.status in ("violates", "no plan", "infeasible")
        instance, method, status, *numbers = comparison_cells(row)
        table.add_row(
            instance if instance != last else "", method, f"[red]{status}[/red]" if violates else status, *numbers
        )
        last = row.instance
    print_table(console, table, keys=2)
    for line in (
        *_of_each(comparison, "costs in", "currency"),
        *_of_each(comparison, "coefficients:", "coefficients"),
        *_of_each(comparison, "headroom:", "headroom_words"),
    ):
        console.print(line, soft_wrap=True)
    for explanation in (limits_line(comparison.rows), explanation_of(comparison.rows)):
        if explanation is not None:
            console.print(escape(explanation))
    late = late_line_of(comparison)
    if late is not None:
        console.print(escape(late), soft_wrap=True)
    for row in comparison.rows:
        if row.message:
            console.print(f"{row.instance}, {row.method}: {escape(row.message)}", soft_wrap=True)


def _of_each(comparison: Comparison, before: str, attribute: str) -> list[str]:
    """Say what instances have, such as their coefficients: in one line if it is the same for all."""
    used = {name: getattr(result.plan.instance, attribute) for (name, _), result in comparison.results.items()}
    if len(set(used.values())) == 1:
        return [f"{before} {escape(text)}" for text in set(used.values()) if text is not None]
    return [
        f"{escape(name)}: {before.removesuffix(':')} {'none' if text is None else escape(text)}"
        for name, text in used.items()
    ]
