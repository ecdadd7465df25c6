"""The profile commands, and the options that use what they store."""

import json
from pathlib import Path

import pytest

from igniter_opt import read_instance, read_plan, read_profile
from igniter_opt.data.measurement_files import measurements_json, read_measurements
from igniter_opt.data.measurements import ColocatedMeasurements
from igniter_opt.data.profile import Profile, write_profile
from igniter_opt.fitting.calibration import Report, calibrate, predict_readings, sure_margin
from igniter_opt.fitting.coefficients import fit_coefficients
from tests.cli.helpers import INSTANCE, invoke, rejected, write_instance


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_calibrate_stores_margins_that_solve_uses() -> None:
    run = invoke(
        "profile", "calibrate", "v100", "v100-colocated", "--coefficients", "igniter", "-o", "card.json", "--json"
    )
    assert run.code == 0
    card = read_profile("card.json")
    assert card.calibration is not None
    assert run.json()["igniter"]["margin"] == list(card.calibration["igniter"].margin)
    path = write_instance({**INSTANCE, "gpu_types": [{**INSTANCE["gpu_types"][0], "profile": "card.json"}]})
    assert invoke("solve", path, "--method", "bestfit", "--confidence", "0.95", "-o", "plan.json").code == 0
    plan = read_plan("plan.json")
    assert plan.solver.margin == card.margin_at(0.95)
    assert invoke("verify", "plan.json").code == 0


def test_calibrate_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `calibrate` reports goes to a printer, which writes on a terminal only."""
    told: list[tuple[str, int, int]] = []

    def reporting(
        profile: Profile, readings: ColocatedMeasurements, name: str, date: str, report: Report, planned: None
    ) -> Profile:
        report("fitting", 0, 8)
        return calibrate(profile, readings, name, date, report, planned=planned)

    monkeypatch.setattr("igniter_opt.cli.commands.profile_calibrate.calibrate", reporting)
    monkeypatch.setattr("igniter_opt.cli.console.StepPrinter.__call__", lambda _, *step: told.append(step))
    assert invoke("profile", "calibrate", "v100", "v100-colocated", "--coefficients", "igniter").code == 0
    assert told == [("fitting", 0, 8)]


def test_calibrate_allows_for_readings_of_solved_plans() -> None:
    """Margins rise to what the plans' GPUs ask for; as what they do not say is an error."""
    card, readings = read_profile("v100", coefficients="igniter"), read_measurements("v100-colocated").side_by_side()
    longer = tuple(1.2 * value for value in readings.latency_ms)
    solved = readings.model_copy(update={"latency_ms": longer}).take(sorted(set(readings.group))[:15])
    found = read_measurements("v100-colocated").model_copy(update={"colocated": solved})
    Path("solved.json").write_text(measurements_json(found))
    command = ("profile", "calibrate", "v100", "v100-colocated", "--planned", "solved.json")
    entry = invoke(*command, "--coefficients", "igniter", "-o", "card.json", "--json").json()["igniter"]
    assert card.calibration is not None and solved is not None
    before, after = card.calibration["igniter"].margin, tuple(entry["margin"])
    asked = sure_margin(predict_readings(fit_coefficients(card), solved).error, solved.group, 0.9)
    # Fifteen groups support 0.9 and nothing beyond it.
    assert asked is not None and after[1] == pytest.approx(asked, abs=1e-6) and after[1] > before[1]
    assert all(new >= max(old, after[1]) for new, old in zip(after[2:], before[2:], strict=True))
    assert entry["planned"] | {"measurements_sha256": "", "mean_error": 0.0} == {
        "measurements": "solved.json", "measurements_sha256": "", "readings": 30, "groups": 15, "mean_error": 0.0
    }  # fmt: skip
    assert read_profile("card.json").margin_at(0.9) == after[1]
    rejected(*command[:4], "--fit-planned", says=("--fit-planned", "--planned"))
    rejected(*command[:-1], "h200-colocated-solved", says=("of a NVIDIA H200",))


def test_calibrate_fits_to_measurements_that_the_profile_lacks() -> None:
    bare = read_profile("v100").model_copy(update={"colocated_measurements": None, "calibration": None})
    write_profile(bare, Path("bare.json"))
    command = ("profile", "calibrate", "bare.json", "v100-colocated", "--coefficients", "refined", "--json")
    judged = invoke(*command, "-o", "judged.json").json()["refined"]
    fitted = invoke(*command, "--fit", "-o", "fitted.json").json()["refined"]
    assert read_profile("judged.json").colocated_measurements is None
    card, shipped = read_profile("fitted.json"), read_profile("v100")
    assert card.colocated_measurements is not None and shipped.colocated_measurements is not None
    assert card.colocated_measurements.latency_ms == shipped.colocated_measurements.latency_ms
    assert shipped.calibration is not None
    assert fitted["margin"] == pytest.approx(shipped.calibration["refined"].margin, abs=2e-5)
    assert fitted["margin"][3] < judged["margin"][3]


def test_measurements_of_another_card_are_refused() -> None:
    says = ("measurements of a NVIDIA H100 80GB HBM3 do not judge profile v100",)
    rejected("profile", "calibrate", "v100", "h100-colocated", says=says)
    rejected("profile", "check", "v100", "--measurements", "h100-colocated", says=says)
    # A CSV file, whose shipped name says the card.
    says = ("measurements of a NVIDIA V100-SXM2-16GB do not judge profile h100",)
    rejected("profile", "calibrate", "h100", "v100-colocated", "--fit", "-o", "x.json", says=says)
    rejected("profile", "calibrate", "h100", "v100-colocated", says=says)
    rejected("profile", "check", "h100", "--measurements", "v100-colocated", says=says)


def test_a_csv_file_names_no_card_and_is_taken_to_be_of_the_profiles() -> None:
    Path("x.csv").write_text("group,model,batch,share_percent,latency_ms\n1,alexnet,1,20,3\n1,ssd,1,20,9\n")
    note = "note: x.csv names no card; taken to be of NVIDIA V100-SXM2-16GB\n"
    run = invoke("profile", "check", "v100", "--measurements", "x.csv")
    assert (run.code, run.err) == (0, note)
    run = invoke("profile", "calibrate", "v100", "x.csv", "--coefficients", "igniter", "-o", "card.json")
    assert (run.code, run.err) == (0, note)
    assert invoke("profile", "check", "v100", "--measurements", "v100-colocated").err == ""


@pytest.mark.parametrize(("factor", "warned"), [(1.0, False), (5.0, True)])
def test_readings_that_do_not_fit_the_profile_are_mentioned(factor: float, warned: bool) -> None:
    found = read_measurements("v100-colocated")
    slow = found.side_by_side().model_copy(
        update={"latency_ms": tuple(factor * t for t in found.side_by_side().latency_ms)}
    )
    Path("m.json").write_text(measurements_json(found.model_copy(update={"colocated": slow})))
    run = invoke("profile", "calibrate", "v100", "m.json", "--coefficients", "igniter", "-o", "card.json")
    assert run.code == 0
    says = "the readings do not fit the profile; are they of its card, framework and precision?"
    assert (says in run.err) == warned
    assert run.err.startswith("warning: the igniter coefficients need a margin of ") == warned


def test_calibrate_without_output_says_that_nothing_is_stored() -> None:
    run = invoke("profile", "calibrate", "v100", "v100-colocated", "--coefficients", "igniter")
    assert run.code == 0
    assert "unseen" in run.out
    assert "nothing was stored" in run.err


def test_calibrate_does_not_overwrite_the_measurements() -> None:
    Path("m.json").write_text(measurements_json(read_measurements("v100-colocated")))
    Path("link.json").symlink_to("m.json")
    for name in ("m.json", "link.json"):
        says = (f"{name}: --output would overwrite the measurements",)
        rejected("profile", "calibrate", "v100", "m.json", "--coefficients", "igniter", "-o", name, says=says)


def test_bad_measurements() -> None:
    rejected("profile", "calibrate", "v100", "v100-colocate", says=("did you mean 'v100-colocated'",))
    Path("x.csv").write_text("group,model,batch,share_percent,latency_ms\n1,alexnot,1,20,3\n1,ssd,1,20,9\n")
    rejected("profile", "calibrate", "v100", "x.csv", says=("unknown model 'alexnot'; did you mean 'alexnet'",))
    Path("x.csv").write_text("model,batch,share_percent,latency_ms\nssd,1,20,3\n")
    rejected("profile", "calibrate", "v100", "x.csv", says=("x.csv: group: this key is required and missing",))
    rejected(
        "profile", "calibrate", "v100", "v100-colocated", "--coefficients", "x", says=("unknown coefficients 'x'",)
    )


def test_predict_with_refined_coefficients_and_plans_that_say_so() -> None:
    plain = invoke("predict", "v100", "vgg19:3:40", "ssd:3:60", "--json").json()
    refined = invoke("predict", "v100", "vgg19:3:40", "ssd:3:60", "--coefficients", "refined", "--json").json()
    assert plain != refined
    # Measured (Xu et al. 2023, Figure 11): 14.43135 and 15.57500 ms; the faithful ones say 14.61 and 16.76.
    latencies = [entry["latency_ms"] for entry in refined["placements"]]
    assert latencies == pytest.approx([14.43135, 15.575], rel=0.05)
    rejected("predict", "v100", "ssd:3:60", "--coefficients", "best", says=("unknown coefficients 'best'",))


@pytest.mark.parametrize("where", ["file", "type"])
def test_coefficients_in_an_instance(where: str) -> None:
    data = {**INSTANCE, "gpu_types": [dict(INSTANCE["gpu_types"][0])]}
    (data if where == "file" else data["gpu_types"][0])["coefficients"] = "refined"
    path = write_instance(data)
    assert read_instance(path).gpu_types[0].profile.coefficients == "refined"
    run = invoke("solve", path, "--method", "bestfit", "-o", "plan.json")
    assert "coefficients refined" in " ".join(run.out.split())
    assert json.loads(Path("plan.json").read_text())["instance"]["gpu_types"][0]["profile"]["coefficients"] == "refined"
    assert invoke("verify", "plan.json").code == 0
    assert invoke("solve", path, "--method", "bestfit", "--coefficients", "igniter").code == 0


@pytest.mark.parametrize(("card", "named"), [("v100", "igniter"), ("h100", "refined"), ("h200", "refined")])
def test_a_shipped_profile_is_planned_with_the_set_that_is_right_for_its_card(card: str, named: str) -> None:
    path = write_instance({**INSTANCE, "gpu_types": [{**INSTANCE["gpu_types"][0], "profile": card}]})
    run = invoke("solve", path, "--method", "igniter", "-o", "plan.json")
    assert run.err == ""
    assert f"coefficients {named}" in " ".join(run.out.split())
    assert read_plan("plan.json").instance.gpu_types[0].profile.coefficients == named
    compared = " ".join(invoke("compare", path, "--methods", "igniter", "--requests", "0").out.split())
    assert f"coefficients: {named}" in compared
    assert named in invoke("predict", card, "alexnet:4:25").out
    page = Path("page.html")
    assert invoke("report", "plan.json", "--what-if-time", "0", "-o", page).code == 0
    assert f"{named} coefficients" in page.read_text()


def test_types_with_different_coefficients_are_told_apart() -> None:
    types = [
        {**INSTANCE["gpu_types"][0], "name": name, "profile": card, "price_per_hour": price}
        for name, card, price in (("old", "v100", 3.0), ("new", "h100", 7.0), ("newer", "h200", 8.0))
    ]
    run = invoke("solve", write_instance({**INSTANCE, "gpu_types": types}), "--method", "igniter")
    assert "coefficients igniter (old), refined (new, newer)" in " ".join(run.out.split())


def test_a_much_worse_set_is_warned_of_once() -> None:
    path = write_instance({**INSTANCE, "gpu_types": [{**INSTANCE["gpu_types"][0], "profile": "h200"}]})
    for command in (
        ("solve", path, "--method", "igniter"),
        ("compare", path, "--methods", "igniter,ffd++", "--requests", "0"),
        ("predict", "h200", "alexnet:4:25.757576"),
    ):
        run = invoke(*command, "--coefficients", "igniter")
        warned = [line for line in run.err.splitlines() if "warning" in line]
        assert len(warned) == 1, run.err
        assert "err by 97 % on average on the 837 latencies" in warned[0]
        assert "`--coefficients refined`" in warned[0]
        assert "warning" not in invoke(*command).err


def test_generated_instances_name_their_coefficients() -> None:
    for card, named in (("v100", "igniter"), ("h200", "refined")):
        options = ("--workloads", "3", "--seed", "1", "--profile", card, "--price", "3.0")
        assert invoke("instances", "generate", *options, "-o", f"{card}.yaml").code == 0
        assert f"coefficients: {named}" in Path(f"{card}.yaml").read_text()
        assert read_instance(f"{card}.yaml").coefficients == named


def test_a_type_has_the_last_word_and_errors_name_the_key() -> None:
    data = {**INSTANCE, "coefficients": "refined"}
    data["gpu_types"] = [{**INSTANCE["gpu_types"][0], "coefficients": "igniter"}]
    assert read_instance(write_instance(data)).gpu_types[0].profile.coefficients == "igniter"
    path = write_instance({**INSTANCE, "coefficients": "refind"})
    rejected("solve", path, says=(f"{path}: coefficients: unknown coefficients 'refind'; did you mean 'refined'",))
    path = write_instance({**INSTANCE, "coefficient": "refined"})
    rejected("solve", path, says=("did you mean 'coefficients'",))
    data["gpu_types"] = [{**INSTANCE["gpu_types"][0], "coefficients": 3}]
    rejected("solve", write_instance(data), says=("gpu_types[0]: coefficients: unknown coefficients 3",))
