"""Readings of slices become a profile, or one message says what is wrong with them."""

import json
from pathlib import Path

import pytest

from igniter_opt import InputError, read_profile
from igniter_opt.base.schema import parse_record
from igniter_opt.data.profile_files import read_card_profile, read_slice_profile
from igniter_opt.data.slice_profile import SliceProfile, slice_profile_json, write_slice_profile
from igniter_opt.fitting.slice_tables import slice_tables
from igniter_opt.profiler.import_mig import import_mig
from igniter_opt.profiler.slice_check import slice_findings
from tests.cli.helpers import invoke
from tests.support.mig import REFERENCE

HEAD = "model,slice,batch,processes,throughput_rps_per_process,latency_ms"
CONTENT = {"a": {"slices": {"1g.10gb": {
    "batch": [1], "processes": [1], "throughput_rps_per_process": [1.0], "latency_ms": [900.0]
}}}}  # fmt: skip
ROWS = ["bert,1,1,1,74.4,13", "bert,1,2,1,85.9,23", "bert,3g,1,2,68.0,15", "vgg,7g.80gb,4,1,900,4.4"]


def written(folder: Path, *lines: str) -> Path:
    path = folder / "readings.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_csv_and_json_give_the_same(tmp_path: Path) -> None:
    found = import_mig(written(tmp_path, HEAD, *ROWS), card="a100-80gb", name="mine")
    assert list(found.models["bert"].slices) == ["1g.10gb", "3g.40gb"]
    assert found.latency_resolution_ms == 0.0
    data = {
        "card": "NVIDIA A100 80GB",
        "source": found.source,
        "models": {
            "bert": {"1": [[1, 1, 74.4, 13], [2, 1, 85.9, 23]], "3": [[1, 2, 68.0, 15]]},
            "vgg": {"7": [[4, 1, 900, 4.4]]},
        },
    }
    (tmp_path / "readings.json").write_text(json.dumps(data))
    assert import_mig(tmp_path / "readings.json", name="mine") == found


def test_spaces_after_commas_and_other_names_of_files_do_not_matter(tmp_path: Path) -> None:
    expected = import_mig(written(tmp_path, HEAD, *ROWS), card="a100-80gb", name="mine", source="me")
    for name in ("spaced.CSV", "spaced.txt"):
        (tmp_path / name).write_text("\n".join(line.replace(",", ", ") for line in (HEAD, *ROWS)))
        assert import_mig(tmp_path / name, card="a100-80gb", name="mine", source="me") == expected


@pytest.mark.parametrize("data", [[1, 2], {"card": "NVIDIA A100 80GB"}, {"models": []}, None])
def test_other_json_is_refused(tmp_path: Path, data: object) -> None:
    (tmp_path / "readings.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="has no models; readings are a CSV table"):
        import_mig(tmp_path / "readings.json")


def test_whole_milliseconds_are_taken_for_rounded_ones(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD, *ROWS[:3])
    assert import_mig(path, card="a100-80gb").latency_resolution_ms == 1.0
    assert import_mig(path, card="a100-80gb", latency_resolution_ms=0.5).latency_resolution_ms == 0.5


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([HEAD.replace(",latency_ms", ""), *ROWS], "the column latency_ms is missing"),
        ([HEAD, "bert,5,1,1,74.4,13"], "line 2: card a100-80gb has no slice '5'"),
        ([HEAD, "bert,1,one,1,74.4,13"], "line 2: batch: must be a number; found 'one'"),
        ([HEAD, "bert,1,1,1,-4,13"], r"throughput_rps_per_process\[0\]: must be greater than 0"),
        ([HEAD, ROWS[0], ROWS[0]], r"batch 1 with 1 process\(es\) is there twice"),
        ([HEAD, "bert,1,1,100,74.4,13"], r"processes\[0\]: must be at most 48"),
        ([HEAD], "has no readings"),
        ([HEAD, "bert,1,1,1,74,4,13"], "line 2: has more fields than the 6 columns"),
        ([HEAD + ",batch", *(f"{row},7" for row in ROWS)], "the column batch is there twice"),
        ([HEAD, "two words,1,1,1,74.4,13"], "line 2: 'two words' is no name of a model"),
        ([HEAD + ",memory_mib", ROWS[0] + ",900", ROWS[1] + ","], "line 3: memory_mib is missing, and other readings"),
        ([HEAD, "bert,1,1,1,74.4," + "1" * 200_000], "line 2: not CSV"),
        ([HEAD, "bert,1,1.5,1,74.4,13"], "must be a whole number"),
    ],
)
def test_bad_readings_are_refused(tmp_path: Path, lines: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        import_mig(written(tmp_path, *lines), card="a100-80gb")


def test_the_card_must_be_known(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give it with --card"):
        import_mig(written(tmp_path, HEAD, *ROWS))
    with pytest.raises(InputError, match="unknown card 'a100'; did you mean 'a100-40gb'"):
        import_mig(written(tmp_path, HEAD, *ROWS), card="a100")


def test_a_profile_is_written_and_read_as_it_is(tmp_path: Path) -> None:
    profile = import_mig(written(tmp_path, HEAD, *ROWS), card="a100-80gb", name="mine")
    write_slice_profile(profile, tmp_path / "mine.json")
    assert read_card_profile("mine.json", tmp_path) == profile
    with pytest.raises(InputError, match="of a card that MIG cuts"):
        read_profile(tmp_path / "mine.json")
    with pytest.raises(InputError, match="shared by MPS"):
        read_slice_profile("v100")


def test_the_shipped_profile_is_synthetic_plausible_and_made_by_its_script() -> None:
    from bench.make_mig_profile import DESTINATION, synthetic

    profile = read_slice_profile("a100-mig-synthetic")
    assert profile.synthetic
    assert "synthetic" in str(profile.caution())
    assert not slice_findings(profile)
    assert slice_profile_json(synthetic()) == DESTINATION.read_text()


def test_implausible_readings_are_found(tmp_path: Path) -> None:
    rows = [
        "a,1,1,1,100,30",  # says 10 ms a batch, and 30 ms
        "a,1,2,1,400,5",  # a larger batch, much sooner
        "b,1,4,1,200,20",
        "b,1,4,2,200,20",  # copied
        "b,7,4,1,20,200",  # slower on seven times as much
    ]
    found = slice_findings(import_mig(written(tmp_path, HEAD, *rows), card="a100-80gb"))
    assert [(entry.level, entry.where) for entry in found] == [
        ("warning", "a.1g.10gb"),
        ("fault", "a.1g.10gb"),
        ("warning", "b.1g.10gb"),
        ("fault", "b"),
    ]


def test_memory_beyond_a_slice_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + ",memory_mib", "bert,1,1,1,74.4,13,20000")
    with pytest.raises(InputError, match="20000 MiB are more than the slice has"):
        import_mig(path, card="a100-80gb")


def test_partial_batches_take_as_long_as_the_next_larger_that_was_read(tmp_path: Path) -> None:
    rows = ["a,1,1,1,100,10", "a,1,4,1,200,20", "a,1,8,1,250,32", "a,1,8,2,100,80"]
    table = slice_tables(import_mig(written(tmp_path, HEAD, *rows), card="a100-80gb"))["a"]["1g.10gb"]
    row = table.row(8, 1)
    assert row is not None
    busy, latency = table.times_up_to(row)
    assert busy.tolist() == [10, 20, 20, 20, 32, 32, 32, 32]
    assert latency.tolist() == [10, 20, 20, 20, 32, 32, 32, 32]
    assert table.row(2, 1) is None


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the published readings are not at hand")
def test_published_readings_have_no_fault() -> None:
    found = slice_findings(import_mig(REFERENCE / "a100-80gb.json"))
    assert {entry.level for entry in found} == {"warning"}


def test_the_command(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD, *ROWS)
    done = invoke("profile", "import-mig", str(path), "--card", "a100-80gb", "-o", str(tmp_path / "a100-mig.json"))
    assert done.code == 0
    assert "2 models in slices of card a100-80gb" in done.err
    assert "has run on a card under MIG" in done.err
    shown = invoke("profile", "show", str(tmp_path / "a100-mig.json"))
    assert "3g.40gb" in shown.out
    again = invoke("profile", "check", str(tmp_path / "a100-mig.json"), "--json")
    assert json.loads(again.out)["ok"] is True
    refused = invoke("profile", "import-mig", str(path), "-o", str(tmp_path / "x.json"))
    assert refused.code == 2
    other = tmp_path / "notes.json"
    other.write_text('{"mine": 1}')
    assert invoke("profile", "import-mig", str(path), "--card", "a100-80gb", "-o", str(other)).code == 2
    assert other.read_text() == '{"mine": 1}'


def test_a_profile_says_what_of_it_is_wrong() -> None:
    with pytest.raises(InputError, match="card: unknown 'a100'"):
        parse_record(SliceProfile, {"name": "x", "source": "", "card": "a100", "models": CONTENT}, "x")
