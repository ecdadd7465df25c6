"""The commands `profile measure`, `build` and `colocate`, on a made-up card."""

import json
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from igniter_opt.data.measurement_files import read_measurements
from igniter_opt.data.profile import profile_json, read_profile
from igniter_opt.profiler.runners.runner import Job, Moment
from igniter_opt.profiler.runners.synthetic import SyntheticRunner
from tests.cli.helpers import invoke, rejected
from tests.profiler.helpers import H100_COLOCATED, H100_GRANTED, H100_PROFILE, use_made_up_card

SMALL = ("--models", "alexnet,ssd", "--batches", "1,4,16", "--shares", "10,50,100")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_measured_built_and_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    use_made_up_card(monkeypatch, "v100")
    run = invoke("profile", "measure", "-o", "mine.json", "--resume", "mine.jsonl", *SMALL)
    assert (run.code, run.out) == (0, "")
    profile = read_profile("mine.json")
    assert (profile.name, set(profile.models)) == ("mine", {"alexnet", "ssd"})
    assert profile.models["ssd"].solo_grid.batch == (1, 4, 16)
    assert profile.provenance.precision == "fp32"
    assert profile.provenance.date is not None
    assert invoke("profile", "build", "mine.jsonl", "-o", "again.json", "--name", "mine").code == 0
    assert Path("again.json").read_bytes() == Path("mine.json").read_bytes()
    assert invoke("profile", "check", "mine.json").code == 0
    assert invoke("predict", "mine.json", "alexnet:4:10", "ssd:2:50").code == 0


def test_a_profile_is_named_after_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    use_made_up_card(monkeypatch, "v100")
    assert invoke("profile", "measure", "-o", "my card (2).json", "--resume", "mine.jsonl", *SMALL).code == 0
    assert read_profile("my card (2).json").name == "my-card-2"
    assert invoke("profile", "build", "mine.jsonl", "-o", "_again_.json").code == 0
    assert read_profile("_again_.json").name == "again"
    nameless = {key: value for key, value in json.loads(Path("_again_.json").read_text()).items() if key != "name"}
    Path("my other card.json").write_text(json.dumps(nameless))
    assert read_profile("my other card.json").name == "my-other-card"


def test_ctrl_c_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    use_made_up_card(monkeypatch, "v100")
    real = SyntheticRunner.measure

    def interrupted(self: SyntheticRunner, jobs: Sequence[Job], seconds: float) -> Moment:
        if len(self.measured) == 10:
            signal.raise_signal(signal.SIGINT)
        return real(self, jobs, seconds)

    monkeypatch.setattr(SyntheticRunner, "measure", interrupted)
    run = invoke("profile", "measure", "-o", "mine.json", "--resume", "mine.jsonl", *SMALL)
    assert (run.code, run.out) == (130, "")
    assert run.err == "interrupted; mine.jsonl holds what was measured, go on with --resume\n"
    assert not Path("mine.json").exists()
    before = len(Path("mine.jsonl").read_text().splitlines())
    monkeypatch.setattr(SyntheticRunner, "measure", real)
    assert invoke("profile", "measure", "-o", "mine.json", "--resume", "mine.jsonl", *SMALL).code == 0
    assert before > 8
    assert len(Path("mine.jsonl").read_text().splitlines()) > before


def test_co_locations_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = use_made_up_card(monkeypatch, "v100")
    command = (
        "profile",
        "colocate",
        "v100",
        "-o",
        "found.json",
        "--pairs",
        "4",
        "--larger",
        "2",
        "--resume",
        "c.jsonl",
    )
    assert invoke(*command).code == 0
    measured = read_measurements("found.json")
    assert (measured.profile, len(measured.groups())) == ("v100", len(set(made[0].measured)))
    assert invoke(*command).code == 0
    assert not made[1].measured
    said = invoke("profile", "check", "v100", "--measurements", "found.json", "--json").json()["measurements"]
    assert max(entry["worst_error"] for entry in said) < 1e-4


def test_co_locations_are_of_the_profile_s_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    made = use_made_up_card(monkeypatch, "h100")
    few = ("--models", "alexnet,ssd", "--pairs", "2", "--larger", "0")
    for options in ((), ("--precision", "tf32")):
        assert invoke("profile", "colocate", "h100", "-o", "found.json", *few, *options).code == 0
        assert made[-1].precision == "tf32"
        assert read_measurements("found.json").provenance.precision == "tf32"
    says = ("--precision: profile h100 is of tf32", "in fp16 would not judge it")
    rejected("profile", "colocate", "h100", "-o", "other.json", *few, "--precision", "fp16", says=says)
    for stated, options, wanted in (
        (None, (), "fp32"),
        (None, ("--precision", "fp16"), "fp16"),
        ("FP16", (), "fp16"),
    ):
        card = read_profile("h100")
        origin = card.provenance.model_copy(update={"precision": stated})
        Path("card.json").write_text(profile_json(card.model_copy(update={"provenance": origin})))
        assert invoke("profile", "colocate", "card.json", "-o", "found.json", *few, *options).code == 0
        assert made[-1].precision == wanted
        assert read_measurements("found.json").provenance.precision == wanted
    Path("card.json").write_text(Path("card.json").read_text().replace('"FP16"', '"int8"'))
    rejected("profile", "colocate", "card.json", "-o", "x.json", *few, says=("'int8', which cannot be measured",))


def test_own_models_are_found_again_where_the_profile_says(monkeypatch: pytest.MonkeyPatch) -> None:
    card = read_profile("v100")
    names = {"resnet50": "rn18", "ssd": "swin"}
    models = {names.get(name, name): model for name, model in card.models.items()}
    Path("card.json").write_text(profile_json(card.model_copy(update={"models": models})))
    made = use_made_up_card(monkeypatch, "card.json")
    rn18, swin = "rn18=tests.profiler.tiny:pictures", "swin=tests.profiler.tiny:words@128t"
    grid = ("--batches", "1,4,16", "--shares", "10,50,100", "--resume", "mine.jsonl")
    assert invoke("profile", "measure", "-o", "mine.json", "--models", f"alexnet,{rn18},{swin}", *grid).code == 0
    sources = {name: model.source for name, model in read_profile("mine.json").models.items()}
    assert sources == {"alexnet": None, "rn18": rn18[5:], "swin": swin[5:]}
    assert invoke("profile", "build", "mine.jsonl", "-o", "again.json", "--name", "mine").code == 0
    assert Path("again.json").read_bytes() == Path("mine.json").read_bytes()

    colocate = ("profile", "colocate", "mine.json", "-o", "found.json", "--pairs", "3", "--larger", "0")
    run = invoke(*colocate)
    assert run.code == 0, run.err
    assert f"models that are not built in: {rn18}, {swin}" in run.err
    assert {job.model for group in made[-1].measured for job in group} == {"alexnet", rn18, swin}
    assert set(read_measurements("found.json").colocated.model) == {"alexnet", "rn18", "swin"}
    other = "rn18=tests.profiler.tiny:not_a_model"
    assert invoke(*colocate, "--models", f"swin,{other}").code == 0
    assert {job.model for group in made[-1].measured for job in group} == {swin, other}


def test_where_own_models_are_to_be_found_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    card = read_profile("v100")
    older = {"alexnet": card.models["alexnet"], "rn18": card.models["resnet50"]}
    Path("older.json").write_text(profile_json(card.model_copy(update={"models": older})))
    made = use_made_up_card(monkeypatch, "older.json")
    colocate = ("profile", "colocate", "older.json", "-o", "found.json", "--pairs", "2", "--larger", "0")
    rejected(*colocate, says=("does not say where rn18 came from; add --models alexnet,rn18=...",))
    assert invoke(*colocate, "--models", "alexnet,rn18=tests.profiler.tiny:pictures").code == 0
    measured = len(made)
    older["rn18"] = older["rn18"].model_copy(update={"source": "rn18.pt"})
    Path("older.json").write_text(profile_json(card.model_copy(update={"models": older})))
    says = ("rn18.pt: no such file", "has it from there, --models alexnet,rn18=... takes it from elsewhere")
    rejected(*colocate, says=says)
    assert len(made) == measured


def test_nothing_is_measured_for_a_bad_option(monkeypatch: pytest.MonkeyPatch) -> None:
    made = use_made_up_card(monkeypatch, "v100")
    for options, says in (
        (("--models", "alexnett"), "did you mean 'alexnet'?"),
        (("--models", "alexnet,alexnet"), "each once"),
        (("--batches", "1,x,3"), "--batches: 'x' is no whole number"),
        (("--batches", "1,2"), "batches: give at least three"),
        (("--shares", "10,half"), "--shares: 'half' is no number"),
        (("--precision", "fp8"), "--precision: unknown 'fp8'"),
        (("--name", "my card"), "the profile's name must be 1 to 63 letters"),
        (("--models", "x=tests.profiler.failing:f"), "cannot be imported (no licence [ValueError])"),
        (("-o", "nowhere/mine.json"), "does not exist"),
    ):
        rejected("profile", "measure", "-o", "mine.json", *options, says=(says,))
    rejected(
        "profile", "colocate", "v100", "-o", "c.json", "--pairs", "0", "--larger", "0", says=("at least one group",)
    )
    rejected(
        "profile", "colocate", "v100", "-o", "c.json", "--seed", "-1", says=("seed: must be at least 0; found -1",)
    )
    rejected("profile", "colocate", "v100", "-o", "c.json", "--models", "unet", says=("unknown model 'unet'",))
    assert not any(runner.measured for runner in made)


def test_no_file_is_two_things(monkeypatch: pytest.MonkeyPatch) -> None:
    made = use_made_up_card(monkeypatch, "v100")
    few = ("--models", "alexnet,ssd", "--pairs", "2", "--larger", "0")
    Path("card.json").write_text(profile_json(read_profile("v100")))
    Path("link.jsonl").symlink_to("mine.jsonl")
    for name in ("mine.jsonl", "./mine.jsonl", "link.jsonl"):
        says = (f"{Path(name)}: --output would overwrite the log",)
        rejected("profile", "measure", "-o", name, "--resume", "mine.jsonl", *SMALL, says=says)
        rejected("profile", "colocate", "v100", "-o", name, "--resume", "mine.jsonl", *few, says=says)
    says = ("card.json: the log would overwrite an input",)
    rejected("profile", "colocate", "card.json", "-o", "c.json", "--resume", "card.json", *few, says=says)
    says = ("card.json: --output would overwrite an input",)
    rejected("profile", "colocate", "card.json", "-o", "card.json", *few, says=says)
    assert not any(runner.measured for runner in made)
    assert not Path("mine.jsonl").exists()


def test_logs_that_are_none_are_refused_and_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    use_made_up_card(monkeypatch, "v100")
    Path("notes.txt").write_text("hello\nworld, without an end")
    says = ("notes.txt: line 1", "not a file of measurements")
    rejected("profile", "measure", "-o", "p.json", "--resume", "notes.txt", *SMALL, says=says)
    rejected("profile", "colocate", "v100", "-o", "p.json", "--resume", "notes.txt", says=says)
    rejected("profile", "build", "notes.txt", "-o", "p.json", says=says)
    Path("text.jsonl").write_text("hello\nworld\n")
    Path("other.jsonl").write_text(H100_COLOCATED.read_text().splitlines()[0] + "\n")
    rejected(
        "profile", "build", "text.jsonl", "-o", "p.json", says=("text.jsonl: line 1", "not a file of measurements")
    )
    rejected(
        "profile", "build", "other.jsonl", "-o", "p.json", says=("not a log that `profile measure --resume` wrote",)
    )
    rejected("profile", "build", "none.jsonl", "-o", "p.json", says=("no such file",))
    Path("found.json").write_text(H100_GRANTED.read_text())
    said = rejected("profile", "build", "found.json", "-o", "p.json", says=("found.json: not a log of measurements",))
    assert "not JSON" not in said
    rejected("profile", "check", "none", says=("unknown profile 'none'",))
    rejected("profile", "check", "v100", "--measurements", "none", says=("unknown measurements 'none'",))


@pytest.mark.parametrize(("log", "command"), [(H100_COLOCATED, "colocate"), (H100_PROFILE, "measure")])
def test_a_log_is_not_the_file_made_of_it(log: Path, command: str) -> None:
    says = (f"{log}: is a log of `profile {command} --resume`", "give the file that `profile colocate -o` wrote")
    rejected("profile", "calibrate", "h100", log, says=says)
    rejected("profile", "check", "h100", "--measurements", log, says=says)


def test_log_of_a_stopped_session_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    use_made_up_card(monkeypatch, "v100")
    assert invoke("profile", "measure", "-o", "mine.json", "--resume", "mine.jsonl", *SMALL).code == 0
    lines = [line for line in Path("mine.jsonl").read_text().splitlines() if '"solo ssd 16 80"' not in line]
    Path("mine.jsonl").write_text("\n".join(lines) + "\n")
    rejected(
        "profile",
        "build",
        "mine.jsonl",
        "-o",
        "p.json",
        says=("mine.jsonl: the measurement 'solo ssd 16 80' is missing",),
    )


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there may be a GPU")
def test_without_a_gpu_there_is_one_clear_message() -> None:
    for command in (("measure",), ("colocate", "v100")):
        run = invoke("profile", *command, "-o", "mine.json")
        assert run.code == 2
        assert run.err.count("error: ") == 1
        assert "or run this on the machine that has the card" in run.err and "--cpu" not in run.err
