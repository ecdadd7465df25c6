"""Tables on narrow terminals: numbers stay whole, names fold, and what does not fit goes below."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from igniter_opt.cli.tables.layout import fitted, new_table, print_table
from tests.cli.helpers import SCRIPT, invoke

WORDS = ("GPU", "workload", "with margin", "limit", "share %")
Rows = list[tuple[str, str, list[int]]]


@given(
    st.lists(
        st.tuples(
            st.text("abcdefgh-", min_size=1, max_size=30),
            st.text("abcdefgh", max_size=20),
            st.lists(st.integers(0, 10**9), min_size=5, max_size=5),
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(30, 120),
)
def test_numbers_are_never_cut_and_lines_never_too_long(rows: Rows, width: int) -> None:
    table = new_table()
    table.add_column("name")
    for word in WORDS:
        table.add_column(word, justify="right")
    table.add_column("")
    for name, verdict, numbers in rows:
        table.add_row(name, *map(str, numbers), verdict)
    out = StringIO()
    console = Console(file=out, width=width, force_terminal=True, no_color=True, highlight=False)
    parts = fitted(table, width)
    for part in parts:
        console.print(part)
    text = re.sub("\x1b\\[[0-9;]*m", "", out.getvalue())
    assert all(len(line) <= width for line in text.splitlines())
    found = re.findall(r"\d+", text)
    for _, _, numbers in rows:
        for number in numbers:
            assert str(number) in found
    # The name stands in every part, folded or not.
    for name, _, _ in rows:
        letters = re.sub(r"[^a-h-]", "", text)
        assert len(letters) >= len(name) * len(parts)


def test_a_pipe_gets_the_whole_width() -> None:
    table = new_table()
    table.add_column("name")
    table.add_row("x" * 300)
    out = StringIO()
    print_table(Console(file=out, width=80, force_terminal=False), table)
    assert out.getvalue().splitlines()[-1].strip() == "x" * 300


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_plan_on_a_narrow_terminal(columns: int, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    assert invoke("solve", "igniter-table3", "--method", "igniter", "--margin", "0.1", "-o", plan).code == 0
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    child = subprocess.Popen([SCRIPT, "verify", plan], stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    text = b""
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:
            break
        if not read:
            break
        text += read
    os.close(ours)
    assert child.wait(60) == 0
    lines = re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", text.decode()).splitlines()
    assert not any("…" in line or "..." in line for line in lines)
    assert all(len(line.rstrip()) <= columns for line in lines)
    whole = invoke("verify", plan).out
    numbers = set(re.findall(r"(?<=\s)\d+\.\d\d(?=\s)", whole))
    assert len(numbers) > 20
    assert numbers <= set(re.findall(r"\d+\.\d\d", "\n".join(lines)))


def test_words_of_a_status_are_whole_on_a_narrow_terminal() -> None:
    table = new_table()
    for title in ("instance", "method", "status"):
        table.add_column(title)
    for title in ("GPUs", "cost/h", "saving"):
        table.add_column(title, justify="right")
    table.add_row("igniter-table3", "dedicated", "heuristic", "12", "36.72", "-100.0 %")
    out = StringIO()
    for part in fitted(table, 60, 2):
        Console(file=out, width=60).print(part)
    assert {"dedicated", "heuristic", "-100.0"} <= set(out.getvalue().split())
