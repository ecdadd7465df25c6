"""Files of measurements: a CSV file may be called anything."""

import csv
from importlib import resources
from pathlib import Path

import pytest

from igniter_opt.base.files import parse_json
from igniter_opt.base.schema import is_name
from igniter_opt.data.measurement_files import measurements_from_data, measurements_json, read_measurements
from tests.cli.helpers import invoke

CSV = "group,model,batch,share_percent,latency_ms\n1,ssd,1,20,30\n1,alexnet,1,20,9\n"


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("my readings.csv", "my-readings"),
        ("card-colocated.csv", "card"),
        ("my card-colocated.csv", "my-card"),
        ("-colocated.csv", "unnamed"),
        ("größe (2).csv", "gr-e-2"),
        ("_x_.csv", "x"),
        (" .csv", "unnamed"),
        ("a" * 80 + ".csv", "a" * 63),
        ("v1.2_b-3.csv", "v1.2_b-3"),
    ],
)
def test_a_csv_file_may_be_called_anything(tmp_path: Path, name: str, profile: str) -> None:
    path = tmp_path / name
    path.write_text(CSV)
    found = read_measurements(path)
    assert found.profile == profile and is_name(profile)
    assert found.colocated is not None and found.colocated.model == ("ssd", "alexnet")
    assert measurements_from_data(parse_json(measurements_json(found), name), name) == found


def test_commands_take_a_csv_file_with_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = resources.files("igniter_opt.instances") / "measurements" / "v100-colocated.csv"
    rows = list(csv.reader(source.read_text("utf-8").splitlines()))
    Path("my readings (1).csv").write_text("\n".join(",".join(row) for row in rows) + "\n")
    assert invoke("profile", "check", "v100", "--measurements", "my readings (1).csv").code == 0
    assert invoke("profile", "calibrate", "v100", "my readings (1).csv", "--coefficients", "igniter").code == 0
