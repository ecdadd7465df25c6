"""Files that the user names are read with limits, and values in messages are cut, whatever they are."""

import os
import socket
from pathlib import Path

import pytest

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import MOST_DEPTH, MOST_VALUES, open_input, parse_json, read_text
from igniter_opt.base.schema import describe, nearest, one_of
from igniter_opt.data.measurements import ColocatedMeasurements, parse_csv
from igniter_opt.deploy.inventory import read_hosts


def nested(levels: int, width: int = 9) -> object:
    """A list of lists that share all their parts: small in memory, and without end when written out."""
    value: object = ["x"] * width
    for _ in range(levels):
        value = [value] * width
    return value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "nothing"),
        (float("nan"), "NaN"),
        (float("-inf"), "-infinity"),
        ("15", "'15'"),
        ([1, 2, 3], "[1, 2, 3]"),
        ({"a": 1}, "{'a': 1}"),
        (True, "True"),
        (10**50, "1" + "0" * 50),
    ],
)
def test_values_are_shown_as_they_are(value: object, shown: str) -> None:
    assert describe(value) == shown


def test_values_of_any_size_are_shown_briefly() -> None:
    for value in (nested(20), {"a": nested(20)}, "x" * 10**7, 16**10**5, b"x" * 10**6, list(range(10**6))):
        assert 3 < len(describe(value)) <= 60


def test_no_near_word_is_looked_for_where_there_is_none() -> None:
    assert nearest("alexnt", ["alexnet"]) == "; did you mean 'alexnet'?"
    for word in (nested(20), "alexnet" * 10**6, "", None):
        assert nearest(word, ["alexnet"]) == ""
    with pytest.raises(InputError, match=r"^unknown rule \[\[\["):
        one_of(nested(20), ["half"], "unknown rule", "rules")


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_text(path)
    return str(caught.value)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    for name, kind in (("pipe", "pipe"), ("socket", "socket"), ("/dev/zero", "device"), ("/dev/null", "device")):
        said = refusal(tmp_path / name)
        assert said == f"{tmp_path / name}: is a {kind}, not a regular file; write its content to a file and give that"
    (tmp_path / "link").symlink_to("pipe")
    assert "is a pipe" in refusal(tmp_path / "link")
    listener.close()


def test_what_else_cannot_be_read(tmp_path: Path) -> None:
    assert refusal(tmp_path).endswith("is a folder, not a file")
    assert refusal(tmp_path / "none").endswith("no such file")
    assert "cannot be read" in refusal(tmp_path / "a\0b")
    (tmp_path / "loop").symlink_to("loop")
    assert "cannot be read" in refusal(tmp_path / "loop")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    assert refusal(tmp_path / "bytes").endswith("is not a UTF-8 text file")


def test_large_files_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(2**40)  # a hole, which takes no room on disk
    assert refusal(path).endswith("is larger than 64 MiB; give a smaller file")
    with pytest.raises(InputError, match="larger than 1 MiB; split it"):
        open_input(path, 2**20, "split it")
    # The kernel's own files are regular, and say that they are empty.
    with pytest.raises(InputError, match="is larger than"):
        read_text(Path("/proc/self/status"), 100)


def test_marks_and_line_ends_of_other_systems(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n")
    assert read_text(path) == "a\nb\nc\n"


def test_json_is_neither_too_deep_nor_too_large() -> None:
    assert parse_json("[" * MOST_DEPTH + "]" * MOST_DEPTH, "x")
    for text in ("[" * 51 + "]" * 51, '{"a":' * 51 + "1" + "}" * 51, "[" * 10**5 + "]" * 10**5, "[" * 10**5):
        with pytest.raises(InputError, match=r"^x: nested too deeply \(over 50 levels\)$"):
            parse_json(text, "x")
    with pytest.raises(InputError, match=r"^x: holds more than 2,000,000 values; give a smaller file$"):
        parse_json("[" + "[]," * MOST_VALUES + "1]", "x")
    with pytest.raises(InputError, match=r"^x: not JSON \(the key 'kkk") as caught:
        parse_json(f'{{"{"k" * 10**5}": 1, "{"k" * 10**5}": 2}}', "x")
    assert len(str(caught.value)) < 120


def test_csv_is_not_too_large_either() -> None:
    for text, says in (
        ("a,b\n" * MOST_VALUES, "holds more than 2,000,000 values"),
        ("model,batch\n" + "x" * 200_000 + ",1\n", "not CSV"),
        ("model,batch\na," + "9" * 5000 + "\n", "batch: must be a whole number; found '999"),
    ):
        with pytest.raises(InputError, match=f"^x: .*{says}") as caught:
            parse_csv(ColocatedMeasurements, text, "x")
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("name: a b", "hosts[0].name: must be 1 to 63 letters, digits"),
        (
            "docker: node1",
            "hosts[0].docker: must be a Docker engine's URL: ssh://user@host[:port], unix:///path or tcp://",
        ),
        ("address: a/b", "hosts[0].address: must be an IP address or host name; found 'a/b'"),
        ("gpus: [{uuid: 'a b', name: x}]", "hosts[0].gpus[0].uuid: must be a GPU's UUID, as `nvidia-smi -L` prints it"),
    ],
)
def test_a_pattern_says_its_own_rule(tmp_path: Path, entry: str, says: str) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text("hosts:\n- {" + entry + ("" if entry.startswith("name") else ", name: a") + "}\n")
    with pytest.raises(InputError) as caught:
        read_hosts(path)
    assert str(caught.value).startswith(f"{path}: {says}")
