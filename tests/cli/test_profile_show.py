"""Shipped profiles are listed, and any profile is shown, with what it says and what `profile check` finds."""

from pathlib import Path

import pytest

from igniter_opt.data.profile import read_profile, shipped_profiles, shipped_slice_profiles, write_profile
from igniter_opt.profiler.check import check_profile
from tests.cli.helpers import invoke, rejected


def test_every_shipped_profile_is_listed() -> None:
    rows = {row["name"]: row for row in invoke("profile", "list", "--json").json()}
    assert list(rows) == [*shipped_profiles(), *shipped_slice_profiles()]
    shown = invoke("profile", "list").out
    for name in shipped_slice_profiles():
        assert rows.pop(name)["synthetic"] is True
        assert f"under MIG: {name} (synthetic)" in shown
    for name, row in rows.items():
        card = read_profile(name)
        assert (row["gpu"], row["sm_count"]) == (card.hardware.gpu, card.hardware.sm_count)
        assert list(row["models"]) == list(card.models)
        assert card.calibration is not None
        assert row["calibrated_mean_error"] == card.calibration[card.coefficients].mean_error
    for name in rows:
        assert f"\n{name} " in shown
        assert rows[name]["date"] in shown


@pytest.mark.parametrize("given", ["name", "file"])
def test_what_is_shown_is_what_the_profile_and_its_check_say(given: str, tmp_path: Path) -> None:
    card = read_profile("v100")
    write_profile(card, tmp_path / "card.json")
    name = "v100" if given == "name" else str(tmp_path / "card.json")
    found = invoke("profile", "show", name, "--json").json()
    assert found["source"] == card.source
    assert found["errors"] == {
        check.model: {"mean": check.mean_error, "worst": check.worst_error} for check in check_profile(card).models
    }
    text = invoke("profile", "show", name).out
    for model, errors in found["errors"].items():
        (line,) = (line for line in text.splitlines() if line.startswith(f"{model} "))
        assert f"{100 * errors['mean']:.1f}" in line
    assert card.source in text
    assert "80 SMs, memory unknown" in text
    assert "coefficients igniter, unseen on 714 readings" in text


def test_other_coefficients_have_other_errors() -> None:
    found = invoke("profile", "show", "h100", "--coefficients", "igniter", "--json").json()
    own = invoke("profile", "show", "h100", "--json").json()
    assert (found["coefficients"], own["coefficients"]) == ("igniter", "refined")
    assert found["calibrated_mean_error"] > 2 * own["calibrated_mean_error"]
    assert found["errors"] != own["errors"]


def test_what_is_no_profile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rejected("profile", "show", "v10", says=("unknown profile 'v10'; did you mean 'v100'?",))
    rejected("profile", "show", "v100", "--coefficients", "best", says=("unknown coefficients 'best'",))
