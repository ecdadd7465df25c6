"""Reading a feed, whatever becomes of the file."""

import os
from pathlib import Path

import pytest

from igniter_opt.base.errors import InputError
from igniter_opt.guard.feed import FeedReader
from igniter_opt.measure.feed import FeedLine, FeedWriter


def line(number: float, workload: str = "A") -> FeedLine:
    return FeedLine(at=1.0, workload=workload, server="127.0.0.1:8001", latencies_ms=(number,))


def numbers(reader: FeedReader) -> list[float]:
    return [latency for entry in reader.read() for latency in entry.latencies_ms]


def test_what_is_written_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    reader, writer = FeedReader(path), FeedWriter(path)
    assert reader.read() == []
    writer.write([line(1.0), line(2.0)])
    assert reader.read() == [line(1.0), line(2.0)]
    assert reader.read() == []
    writer.write([line(3.0)])
    assert numbers(reader) == [3.0]
    writer.close()
    reader.close()


def test_the_past_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    writer = FeedWriter(path)
    writer.write([line(1.0)])
    with path.open("ab") as file:
        file.write(b'{"at": 2, "workload": "A", ')
    reader = FeedReader(path)
    with path.open("ab") as file:
        file.write(b'"latencies_ms": [9]}\n')
    writer.write([line(3.0)])
    assert numbers(reader) == [3.0]
    assert reader.bad_lines == 0


def test_a_torn_line_counts_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    path.touch()
    reader = FeedReader(path)
    with path.open("ab", buffering=0) as file:
        file.write(b'{"at": 1, "workload": "A", "late')
        assert reader.read() == []
        file.write(b'ncies_ms": [4.5]}')
        assert reader.read() == []
        file.write(b"\n")
    assert numbers(reader) == [4.5]


def test_truncated(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    writer = FeedWriter(path)
    reader = FeedReader(path)
    writer.write([line(1.0), line(2.0)])
    assert numbers(reader) == [1.0, 2.0]
    path.write_bytes(b"")
    writer.write([line(3.0)])
    assert numbers(reader) == [3.0]


def test_rotated(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    old = FeedWriter(path)
    reader = FeedReader(path)
    old.write([line(1.0)])
    assert numbers(reader) == [1.0]
    old.write([line(2.0)])
    path.rename(tmp_path / "feed.1")
    new = FeedWriter(path)
    new.write([line(3.0)])
    assert numbers(reader) == [2.0, 3.0]
    path.unlink()
    assert numbers(reader) == []
    FeedWriter(path).write([line(4.0)])
    assert numbers(reader) == [4.0]


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense\n",
        b"{}\n",
        b'{"at": 1, "workload": "A", "latencies_ms": [-1]}\n',
        b'{"at": 1, "workload": "A", "latencies_ms": [NaN]}\n',
        b'{"at": 1, "workload": "../A"}\n',
        b'{"at": 1, "workload": "A", "server": "x y"}\n',
        b'{"at": 1, "workload": "A", "failed": -1}\n',
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
    ],
)
def test_lines_that_are_none_are_skipped_and_counted(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "feed"
    path.touch()
    reader = FeedReader(path)
    with path.open("ab") as file:
        file.write(text)
    FeedWriter(path).write([line(2.0)])
    assert numbers(reader) == [2.0]
    assert reader.bad_lines == 1
    assert str(path) in reader.last_problem


def test_what_cannot_be_a_feed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no regular file"):
        FeedReader(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        FeedReader(tmp_path / "none" / "feed")
    with pytest.raises(InputError, match="cannot be written"):
        FeedWriter(tmp_path)


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    os.mkfifo(path)
    with pytest.raises(InputError, match="is no regular file"):
        FeedReader(path)
    with pytest.raises(InputError, match="cannot be written"):  # nobody reads it
        FeedWriter(path)
    path.unlink()
    reader = FeedReader(path)
    os.mkfifo(path)
    end = os.open(path, os.O_RDWR)
    os.write(end, b'{"at": 1, "workload": "A", "latencies_ms": [1]}\n')
    assert reader.read() == []  # a pipe in its place is no feed either
    os.close(end)
    path.unlink()
    FeedWriter(path).write([line(2.0)])
    assert numbers(reader) == [2.0]


def test_a_look_takes_so_many_lines_and_the_next_one_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    writer = FeedWriter(path)
    reader = FeedReader(path)
    with path.open("ab") as file:
        file.write(b"{}\n" * 60_000)
    writer.write([line(1.0)])
    path.rename(tmp_path / "feed.1")
    FeedWriter(path).write([line(2.0)])
    assert numbers(reader) == []
    assert reader.bad_lines == 50_000
    assert numbers(reader) == [1.0, 2.0]
    assert reader.bad_lines == 60_000


def test_a_hole_in_a_feed_is_skipped_at_once(tmp_path: Path) -> None:
    path = tmp_path / "feed"
    path.touch()
    reader = FeedReader(path)
    with path.open("ab") as file:
        file.truncate(20 * 2**20)
    for _ in range(3):
        assert reader.read() == []
    with path.open("ab") as file:
        file.write(b"\n")
    FeedWriter(path).write([line(2.0)])
    assert numbers(reader) == [2.0]
