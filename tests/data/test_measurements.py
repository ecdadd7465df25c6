import csv
from importlib import resources
from typing import Any

import pytest

from igniter_opt import InputError, Profile, read_profile
from igniter_opt.base.schema import parse_record
from igniter_opt.data.measurement_files import UNKNOWN_GPU, Measurements, with_measurements
from igniter_opt.data.measurements import ColocatedMeasurements, SoloMeasurements, parse_csv
from igniter_opt.data.provenance import Provenance

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


def measured(**changes: Any) -> Measurements:
    """Two groups and one reading alone, of the V100's models."""
    side = ColocatedMeasurements(
        group=(7, 7, 9, 9),
        model=("alexnet", "ssd", "vgg19", "ssd"),
        batch=(2, 4, 2, 2),
        share_percent=(50.0, 50.0, 40.0, 60.0),
        latency_ms=(1.0, 2.0, 3.0, 4.0),
        std_ms=(0.1, 0.1, 0.1, 0.1),
    )
    solo = SoloMeasurements(model=("ssd",), batch=(3,), share_percent=(35.0,), latency_ms=(5.0,))
    found = Measurements(profile="v100", gpu="NVIDIA V100-SXM2-16GB", source="made up", solo=solo, colocated=side)
    return found.model_copy(update=changes)


def rows(readings: ColocatedMeasurements | None) -> set[frozenset[tuple[str, int, float, float]]]:
    assert readings is not None
    columns = list(zip(readings.model, readings.batch, readings.share_percent, readings.latency_ms, strict=True))
    return {frozenset(columns[k] for k in members) for members in readings.members().values()}


def test_a_profile_takes_measurements_in(v100: Profile) -> None:
    bare = v100.model_copy(update={"solo_measurements": None, "colocated_measurements": None})
    found = measured()
    first = with_measurements(bare, found)
    assert (first.solo_measurements, rows(first.colocated_measurements)) == (found.solo, rows(found.colocated))
    # Its margins were found with other coefficients.
    assert v100.calibration is not None and first.calibration is None
    assert with_measurements(first, found) == first
    # The group of the same placements, in another order and with a share that is rounded, is replaced; one is new.
    more = ColocatedMeasurements(
        group=(1, 1, 2, 2),
        model=("ssd", "alexnet", "vgg19", "vgg19"),
        batch=(4, 2, 1, 1),
        share_percent=(49.999, 50.0, 20.0, 30.0),
        latency_ms=(2.5, 1.5, 6.0, 7.0),
    )
    joined = with_measurements(first, measured(colocated=more, solo=None))
    assert joined.solo_measurements == found.solo
    assert found.colocated is not None
    assert rows(joined.colocated_measurements) == rows(found.colocated.take([9])) | rows(more)
    beside = joined.colocated_measurements
    assert beside is not None and beside.std_ms is None and sorted(set(beside.group)) == [1, 2, 3]
    again = SoloMeasurements(model=("ssd", "ssd"), batch=(3, 3), share_percent=(35.0, 37.5), latency_ms=(5.5, 5.0))
    joined = with_measurements(first, measured(solo=again))
    assert joined.solo_measurements == again
    own = with_measurements(v100, found)
    assert own.colocated_measurements is not None and v100.colocated_measurements is not None
    assert rows(own.colocated_measurements) > rows(found.colocated)
    assert own.colocated_measurements.note == v100.colocated_measurements.note


def test_measurements_of_another_card_precision_or_model_are_refused(v100: Profile) -> None:
    h100 = read_profile("h100")
    with pytest.raises(InputError, match="of a NVIDIA V100-SXM2-16GB do not judge profile h100, which is of a N"):
        with_measurements(h100, measured())
    with pytest.raises(InputError, match="measurements in fp16 do not judge profile v100, which is in FP32"):
        with_measurements(v100, measured(provenance=Provenance(precision="fp16")))
    with_measurements(v100, measured(provenance=Provenance(precision="fp32"), gpu=UNKNOWN_GPU))
    few = v100.model_copy(update={"models": {"ssd": v100.models["ssd"]}})
    with pytest.raises(InputError, match=r"measurements: colocated.model: unknown model 'alexnet'"):
        with_measurements(few, measured())
    with pytest.raises(InputError, match="there are no readings side by side"):
        measured(colocated=None).side_by_side()
