"""Trace files: what is read, what is refused and how, and that size is no matter."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from igniter_opt.base.errors import InputError
from igniter_opt.data import traces
from igniter_opt.data.traces import read_traces


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(text: str | bytes, *workloads: str, name: str | None = None) -> dict[str, list[float]]:
    Path("trace.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return {key: times.tolist() for key, times in read_traces([(name, "trace.csv")], workloads or ("A",)).items()}


def test_what_is_read() -> None:
    assert read("timestamp\n1.5\n2\n2\n") == {"A": [0, 5e8, 5e8]}
    assert read("10\n10.25\n") == {"A": [0, 2.5e8]}
    assert read("1e1\n") == {"A": [0]}
    assert read("\ufeffTimestamp\r\n1\r\n\r\n2\r\n\r\n") == {"A": [0, 1e9]}
    assert read(" timestamp , size\n 1 , 7\n 2 , 8\n") == {"A": [0, 1e9]}
    assert read("id,workload,timestamp\nx,B,3\ny, A,4\nz,B,4.5\n", "A", "B") == {"A": [1e9], "B": [0, 1.5e9]}
    assert read('timestamp,workload\n1,"A"\n', "A") == {"A": [0]}


def test_files_of_several_workloads() -> None:
    Path("a.csv").write_text("5\n6\n")
    Path("rest.csv").write_text("timestamp,workload\n4,B\n4,C\n")
    found = read_traces([("A", "a.csv"), (None, "rest.csv")], ("A", "B", "C"))
    assert {name: times.tolist() for name, times in found.items()} == {"A": [1e9, 2e9], "B": [0], "C": [0]}


def test_unix_times_keep_their_order_to_the_last_digit() -> None:
    texts = [f"{1_700_000_000 + k // 10**9}.{k % 10**9:09d}" for k in range(123456789, 123456789 + 4000)]
    times = read("\n".join(texts))["A"]
    assert times == sorted(times)
    # A double holds such a time to a quarter of a microsecond.
    assert np.abs(np.array(times) - np.arange(4000)).max() < 500


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the trace is empty"),
        ("\n", "the trace is empty"),
        ("timestamp\n", "the trace is empty"),
        ("timestamp\n\n\n", "the trace is empty"),
        ("time,a\n1,2\n", "expected a column 'timestamp' (seconds), and 'workload' for several workloads"),
        ("timestamp,timestamp\n1,2\n", "expected a column 'timestamp'"),
        ("x" * 20_000, "expected a column 'timestamp'"),
        ("timestamp\n3\n1\n", "row 2: the time 1.0 of workload A is before 3.0 above it; sort the rows by time"),
        ("3\n4\n1\n", "row 3: the time 1.0 of workload A is before 4.0 above it"),
        ("timestamp\n1\n-0.5\n", "row 2: the timestamp -0.5 is negative"),
        ("-1\n", "row 1: the timestamp -1.0 is negative"),
        ("timestamp\n1\nnan\n", "row 2: the timestamp is missing or not a number"),
        ("timestamp\n1\nsoon\n", "row 2: the timestamp is missing or not a number"),
        ("timestamp\nTrue\n", "row 1: the timestamp is missing or not a number"),
        ("timestamp,b\n1,2\n,3\n", "row 2: the timestamp is missing or not a number"),
        ("timestamp\n1\n0x10\n", "row 2: the timestamp is missing or not a number"),
        ("timestamp\n1\ninf\n", "row 2: the timestamp is infinity; it must be a finite number of seconds"),
        ("timestamp\n-inf\n", "row 1: the timestamp is -infinity"),
        ("timestamp\n1e400\n", "row 1: the timestamp is infinity"),
        ("timestamp\n1700000000000\n", "row 1: the timestamp 1700000000000.0 is beyond 1e+10; give seconds, not"),
        ("timestamp\n1,2\n", "not CSV (line 2 has more entries than the 1 of the first line)"),
        ("timestamp\n1\n2\n3,4\n", "not CSV (line 4 has 2 entries, the first line 1)"),
        ("timestamp,b\n1,2\n1,2,3\n", "not CSV (line 3 has 3 entries, the first line 2)"),
        ('timestamp\n"1\n', "not CSV ("),
        ("timestamp\n1\n\x00\n", "row 2: the timestamp is missing or not a number"),
        (b"\xff\xfe1\n", "is not a UTF-8 text file"),
        (b"timestamp\n1\n\xff\n", "is not a UTF-8 text file"),
        ("timestamp,workload\n1,A\n2,\n", "row 2: the workload is missing"),
        ("timestamp,workload\n1,A\n2\n", "row 2: the workload is missing"),
        ("timestamp,workload\n1,A\n2,a\n", "row 2: the plan has no workload 'a'"),
    ],
)
@pytest.mark.parametrize("rows_at_once", [traces._ROWS_AT_ONCE, 2])
def test_what_is_refused(text: str | bytes, says: str, rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "_ROWS_AT_ONCE", rows_at_once)
    with pytest.raises(InputError) as caught:
        read(text)
    assert str(caught.value).startswith("trace.csv: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        (
            "1\n2\n",
            None,
            "has no column 'workload', and the plan has 2 workloads; say whose requests these are, as in A=",
        ),
        ("1\n2\n", "A", "trace: no requests of workload B; add them, or leave the workload out of the plan"),
        ("1\n2\n", "C", "trace: the plan has no workload 'C'"),
        ("timestamp,workload\n1,A\n", "A", "has a column 'workload' of its own; give the file without A="),
        ("timestamp,workload\n1,A\n1,B\n0,A\n", None, "row 3: the time 0.0 of workload A is before 1.0 above it"),
    ],
)
def test_workloads_and_files_that_do_not_go_together(text: str, name: str | None, says: str) -> None:
    with pytest.raises(InputError) as caught:
        read(text, "A", "B", name=name)
    assert says in str(caught.value)


def test_two_files_about_one_workload() -> None:
    Path("a.csv").write_text("5\n")
    for second in [(None, "b.csv"), ("A", "a.csv")]:
        Path("b.csv").write_text("timestamp,workload\n4,B\n4,A\n")
        with pytest.raises(InputError, match="workload A has requests in two trace files"):
            read_traces([("A", "a.csv"), second], ("A", "B"))


@pytest.mark.parametrize(
    ("path", "says"),
    [("nowhere.csv", "nowhere.csv: no such file"), (".", "is a folder"), ("a\0b", "cannot be read")],
)
def test_files_that_cannot_be_read(path: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        read_traces([(None, path)], ("A",))
    assert says in str(caught.value)


def write_large(path: Path, rows: int) -> None:
    """Write requests of two workloads in turn, a thousand a second, as a Unix time."""
    with path.open("w") as file:
        file.write("timestamp,workload\n")
        for start in range(0, rows, 100_000):
            file.writelines(
                f"{1_700_000_000 + k // 1000}.{k % 1000:03d},{'AB'[k % 2]}\n"
                for k in range(start, min(rows, start + 100_000))
            )


CHILD = """
import resource, sys
import pandas, numpy
from igniter_opt.data.traces import read_traces
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = read_traces([(None, sys.argv[1])], ("A", "B"))
print(*(len(times) for times in found.values()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def read_in_a_child(rows: int) -> int:
    """Read a large file in a process of its own; return the memory that took in KiB."""
    write_large(Path("large.csv"), rows)
    done = subprocess.run([sys.executable, "-c", CHILD, "large.csv"], capture_output=True, text=True, check=True)
    of_a, of_b, memory = map(int, done.stdout.split())
    assert (of_a, of_b) == (rows - rows // 2, rows // 2)
    return memory


def test_a_million_rows() -> None:
    write_large(Path("large.csv"), 1_000_000)
    found = read_traces([(None, "large.csv")], ("A", "B"))
    for times in found.values():
        assert len(times) == 500_000
        # As exact as Unix times are in floating point.
        assert np.abs(np.diff(times) - 2e6).max() < 1000


@pytest.mark.slow
def test_ten_million_rows_take_little_more_memory_than_their_times() -> None:
    memory = read_in_a_child(10_000_000)
    assert memory < 800 * 1024


def test_a_row_without_end_is_not_kept_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    for text in ("timestamp\n1\n" + "2" * 2**21, 'timestamp\n"1\n' + "2\n" * 2**20, "timestamp\n" + "\0" * 2**21):
        path.write_text(text)
        with pytest.raises(InputError, match="a row goes on for over 1 MiB"):
            read_traces([(None, path)], ["A"])


def test_quotes_are_part_of_csv(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    fill = "".join(f'{k},"a ""b"", c",5" disk\n' for k in range(100_000))
    path.write_text("timestamp,note,what\n" + fill)
    assert len(read_traces([(None, path)], ["A"])["A"]) == 100_000


def test_a_byte_order_mark_is_no_part_of_a_number(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\xef\xbb\xbf1\n2\n")
    assert read_traces([(None, path)], ["A"])["A"].tolist() == [0, 10**9]


def test_only_regular_files_of_some_size_are_traces(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match="is larger than 4,096 MiB; give every workload a file of its own"):
        read_traces([(None, path)], ["A"])
    with pytest.raises(InputError, match="is a device, not a regular file"):
        read_traces([(None, "/dev/zero")], ["A"])
