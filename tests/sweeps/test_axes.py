"""The table of what can be varied: what is read, what is made of it, and what is refused."""

import pytest

from igniter_opt import InputError, read_instance
from igniter_opt.options import SolveOptions
from igniter_opt.sweeps.axes import VARIABLES, SweepSetting, axis_with, parsed, varied

TABLE_3, CARDS = read_instance("igniter-table3"), read_instance("cards-table3")


def test_ends_and_steps_make_values_that_people_would_write() -> None:
    assert parsed("slo=0.8:1.4:7") == ("slo", pytest.approx([0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4], abs=0))
    assert parsed(" slo:W7 = 20 : 30 : 3 ") == ("slo:W7", [20.0, 25.0, 30.0])
    assert parsed("percentile=0.9,0.99,0.999") == ("percentile", [0.9, 0.99, 0.999])
    assert parsed("margin=0.1") == ("margin", [0.1])
    assert axis_with("slo", parsed("slo=1:2:4")[1], TABLE_3).values == (1.0, 1.33333333333, 1.66666666667, 2.0)
    assert axis_with("price:V100", [1 / 3, 0.5], TABLE_3).values == (0.333333, 0.5)
    assert axis_with("slo", [2, 1, 1], TABLE_3).values == (1.0, 2.0)


def test_every_row_changes_what_it_says_and_nothing_else() -> None:
    changed = varied(TABLE_3, "slo", 1.1)
    assert [entry.slo_ms for entry in changed.workloads[:3]] == [11.0, 16.5, 22.0]
    changed = varied(TABLE_3, "slo:W2", 33.0)
    assert [entry.slo_ms for entry in changed.workloads[:3]] == [10.0, 33.0, 20.0]
    assert varied(TABLE_3, "rate", 0.5).workloads[0].rate_rps == 600.0
    assert [entry.rate_rps for entry in varied(TABLE_3, "rate:W1", 7.0).workloads[:2]] == [7.0, 400.0]
    assert [gpu.price_per_hour for gpu in varied(CARDS, "price:H100", 5.0).gpu_types] == [3.06, 5.0, 7.912]
    assert [gpu.count for gpu in varied(CARDS, "count:H100", 2).gpu_types] == [None, 2, None]
    assert [gpu.name for gpu in varied(CARDS, "count:H100", 0).gpu_types] == ["V100", "H200"]
    added = varied(TABLE_3, "new:h100", 6.5)
    assert [(gpu.name, gpu.price_per_hour) for gpu in added.gpu_types] == [("V100", 3.06), ("h100", 6.5)]
    assert varied(TABLE_3.with_options("p99"), "percentile", 0.9).required_percentile == 0.9
    start = SweepSetting(TABLE_3, SolveOptions())
    for key in ("margin", "confidence"):
        changed = axis_with(key, [0.2], TABLE_3).applied(start, 0.2)
        assert (getattr(changed.options, key), changed.instance) == (0.2, TABLE_3)


def test_of_the_only_gpu_type_no_name_is_needed() -> None:
    axis = axis_with("price", [1.0], TABLE_3)
    assert (axis.key, axis.title("EUR")) == ("price:V100", "price of V100 (EUR per hour)")
    assert axis_with("count", [1.0], TABLE_3).title("EUR") == "GPUs of type V100 on offer"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slo", "must be KEY=FROM:TO:STEPS"),
        ("slo=", "is not numbers"),
        ("slo=1:2", "must be KEY=FROM:TO:STEPS"),
        ("slo=1:2:0", "STEPS is the number of values"),
        ("slo=1:1:5", "for one value write slo=1"),
        ("slo=1:2:1.5", "a whole number from 2"),
        ("slo=a:b:3", "is not numbers"),
        ("slo=nan:1:3", "must be KEY=FROM:TO:STEPS"),
        ("slo=inf", "a finite number of at least 0"),
        ("slo=-1:1:3", "a finite number of at least 0"),
        ("slo:W99=1:2:3", "the instance has no workload 'W99'; did you mean 'W9'?"),
        ("slow=1:2:3", "unknown key; did you mean 'slo'? (keys: slo, slo:WORKLOAD"),
        ("margin:x=1:2:3", "margin is of the whole instance, and takes no name"),
        ("count:V100=1:2:4", "values must be whole numbers; found 1.33333"),
        ("price:H100=1:2:4", "the instance has no GPU type 'H100'"),
        ("new:nowhere=1:2:4", "nowhere"),
        ("new:v100=1:2:2", "no plan"),
    ],
)
def test_what_is_refused_says_why(text: str, said: str) -> None:
    if text.startswith("new:v100"):
        # The profile's name is not the type's: V100 and v100 are two.
        assert axis_with(*parsed(text), TABLE_3).target is not None
        return
    with pytest.raises(InputError) as error:
        axis_with(*parsed(text), TABLE_3)
    assert said in str(error.value)


def test_values_that_cannot_be_are_refused_by_what_they_are_of() -> None:
    start = SweepSetting(TABLE_3, SolveOptions())
    for key, value, said in (
        ("count", 0.0, "leaves no GPU type"),
        ("price", 0.0, "--vary price:V100, value 0: "),
        ("slo", 0.0, "--vary slo, value 0: "),
        ("rate", 0.0, "--vary rate, value 0: the scale must be"),
        ("percentile", 0.9, "goes with the SLO rule p99 only"),
    ):
        with pytest.raises(InputError, match=said):
            axis_with(key, [value], TABLE_3).applied(start, value)


def test_half_way() -> None:
    axis = axis_with("count", [1, 4], TABLE_3)
    assert (axis.between(1, 4), axis.between(1, 2)) == (2.0, None)
    axis = axis_with("price", [1, 4], TABLE_3)
    assert (axis.between(1, 1.000004), axis.between(1, 1.000001)) == (1.000002, None)


def test_a_new_row_says_which_way_it_goes() -> None:
    for key, row in VARIABLES.items():
        assert row.stricter in ("larger", "smaller")
        assert (":" in key) == (row.find is not None)
