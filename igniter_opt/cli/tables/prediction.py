"""The table of a prediction."""

from typing import Any

from igniter_opt.base.text import rounded
from igniter_opt.cli.console import stdout
from igniter_opt.cli.tables.layout import new_table, print_table
from igniter_opt.predict import Prediction
from igniter_opt.report.tables import number


def print_prediction(rows: list[dict[str, Any]], prediction: Prediction, coefficients: str) -> None:
    """Print a prediction as a table."""
    table = new_table()
    table.add_column("model")
    for title in ("batch", "share %", "latency ms", "throughput/s"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(
            row["model"],
            str(row["batch"]),
            rounded(row["share_percent"]),
            number(row["latency_ms"], 3),
            number(row["throughput_rps"], 1),
        )
    console = stdout()
    print_table(console, table)
    console.print(
        f"clock {prediction.frequency_mhz:.0f} MHz, power drawn without a cap {prediction.power_w:.0f} W;"
        f" {coefficients} coefficients"
    )
