import csv
from importlib import resources

import pytest

from igniter_opt import InputError, Profile
from igniter_opt.measurements import ColocatedMeasurements, SoloMeasurements, parse_csv
from igniter_opt.schema import parse_record

GOOD = "group,model,batch,share_percent,latency_ms\n1,a,2,20,3.5\n1,b,4,80,7\n"


def test_csv_becomes_columns() -> None:
    found = parse_csv(ColocatedMeasurements, GOOD, "x.csv")
    assert found.members() == {1: [0, 1]}
    assert found.latency_ms == (3.5, 7.0)
    assert found.take([2]) is None
    assert found.take([1]) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no measurements"),
        (GOOD.splitlines()[0], "no measurements"),
        (GOOD.replace("batch", "size"), "unknown key 'size'"),
        (GOOD.replace("batch", "model"), "line 1: a column is given twice"),
        (GOOD.replace("3.5", "fast"), "line 2: latency_ms: must be a number; found 'fast'"),
        (GOOD.replace("a,2,", "a,2.5,"), "line 2: batch: must be a whole number; found '2.5'"),
        (GOOD.replace(",3.5", ""), "line 2: 4 entries, the header has 5"),
        (GOOD.replace("3.5", "-1"), r"latency_ms\[0\]: must be greater than 0"),
        (GOOD.replace("3.5", "nan"), r"latency_ms\[0\]: must be .*finite"),
        (GOOD.replace("80", "90"), "group 1: the shares add up to 110 %, more than 100 %"),
        (GOOD.replace("1,b", "2,b"), "group 1 has one reading"),
        (GOOD.replace("20", "120"), r"share_percent\[0\]: must be at most 100"),
    ],
)
def test_bad_csv_says_where_and_what(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_csv(ColocatedMeasurements, text, "x.csv")


def test_columns_must_be_as_long() -> None:
    columns = {"model": ["a", "a"], "batch": [1], "share_percent": [10, 20], "latency_ms": [1, 2]}
    with pytest.raises(InputError, match="batch has 1 entries and model has 2"):
        parse_record(SoloMeasurements, columns, "x")


def test_solo_measurements_in_the_profile_are_the_shipped_file(v100: Profile) -> None:
    text = (resources.files("igniter_opt.instances") / "measurements" / "v100-solo.csv").read_text("utf-8")
    solo = v100.solo_measurements
    assert solo is not None
    rows = list(csv.DictReader(text.splitlines()))
    for name, column in (("model", solo.model), ("batch", solo.batch), ("latency_ms", solo.latency_ms)):
        assert [type(column[0])(row[name]) for row in rows] == list(column)
    assert [float(row["share_percent"]) for row in rows] == list(solo.share_percent)
