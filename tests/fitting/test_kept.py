"""Fits are kept on disk to the last bit; what is damaged, of other content or open to others is fitted anew."""

import dataclasses
import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from igniter_opt import Profile, read_profile
from igniter_opt.base import compilation
from igniter_opt.fitting import coefficients, kept
from igniter_opt.fitting.coefficients import fit_coefficients, takes_a_while
from igniter_opt.physics.parameters import Coefficients
from tests.support.refined_profiles import refined_profile, with_counters
from tests.support.synthetic import random_profile


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where fits are kept in a test, in which nothing was fitted or said before."""
    monkeypatch.setattr(kept, "cache_folders", lambda: [tmp_path])
    monkeypatch.setattr(compilation._Work, "said", set())
    forget()
    return tmp_path / "fits"


def forget() -> None:
    coefficients._fit_cached.cache_clear()
    coefficients._FITTED.clear()


def exactly(found: Coefficients) -> str:
    """All numbers, to the last bit, and their types."""
    return repr((found, found.table.tobytes()))


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the profiles that are fitted."""
    names: list[str] = []
    fit: Callable[[Profile], Coefficients] = coefficients._fit

    def counted(profile: Profile) -> Coefficients:
        names.append(profile.name)
        return fit(profile)

    monkeypatch.setattr(coefficients, "_fit", counted)
    return names


def profiles() -> list[Profile]:
    rng = random.Random(5)
    refined = refined_profile(rng, models=2)
    return [read_profile("v100"), random_profile(rng), refined, with_counters(refined, rng)]


def test_what_is_kept_reads_back_to_the_last_bit(fits: list[str]) -> None:
    known = profiles()
    fits.clear()
    first = [exactly(fit_coefficients(profile)) for profile in known]
    assert len(fits) == len(known)
    forget()
    assert not any(takes_a_while(profile) for profile in known)
    assert [exactly(fit_coefficients(profile)) for profile in known] == first
    assert len(fits) == len(known)


def test_other_content_is_another_fit(fits: list[str]) -> None:
    v100 = read_profile("v100")
    other = v100.model_copy(update={"hardware": v100.hardware.model_copy(update={"idle_power_w": 50.0})})
    assert fit_coefficients(v100) != fit_coefficients(other)
    assert len(fits) == 2


def test_other_code_is_another_fit(fits: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fit_coefficients(read_profile("v100"))
    forget()
    monkeypatch.setattr(kept, "_code", lambda: b"of another version")
    fit_coefficients(read_profile("v100"))
    assert len(fits) == 2


def test_a_fit_that_nobody_asks_for_again_is_not_kept(folder: Path) -> None:
    fit_coefficients(read_profile("v100"), keep=False)
    assert not folder.exists()


def sealed(text: str) -> str:
    return f"{kept._MAGIC}\n{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n"


def changed(text: str, change: Callable[[Any], object]) -> str:
    data = json.loads(text.split("\n")[2])
    change(data)
    return sealed(json.dumps(data))


DAMAGE: dict[str, Callable[[str], str]] = {
    "empty": lambda text: "",
    "a part": lambda text: text[: len(text) // 2],
    "one digit": lambda text: text.replace("0.", "1.", 1),
    "not JSON": lambda text: sealed("{"),
    "too deep": lambda text: sealed("[" * 100_000),
    "a list": lambda text: sealed("[]"),
    "no models": lambda text: changed(text, lambda data: data["models"].clear()),
    "a key too many": lambda text: changed(text, lambda data: data.update(more=1.0)),
    "not a number": lambda text: changed(text, lambda data: data["hardware"].update(max_power_w=float("nan"))),
    "infinite": lambda text: changed(text, lambda data: data["hardware"].update(max_power_w=float("inf"))),
    "text": lambda text: changed(text, lambda data: data["hardware"].update(max_power_w="300")),
    "a flag": lambda text: changed(text, lambda data: data["hardware"].update(least_level=True)),
    "four of five": lambda text: changed(text, lambda data: data["models"]["resnet50"]["active"].pop()),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_fitted_anew_and_said(
    kind: str, folder: Path, fits: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    whole = exactly(fit_coefficients(read_profile("v100")))
    (file,) = folder.iterdir()
    text = file.read_text()
    file.write_text(DAMAGE[kind](text))
    assert file.read_text() != text
    forget()
    assert exactly(fit_coefficients(read_profile("v100"))) == whole
    assert len(fits) == 2
    assert caplog.messages == [f"note: the kept coefficients in {file} are damaged and fitted anew"]
    assert file.read_text() == text


def test_a_table_of_another_shape_is_damage() -> None:
    found = fit_coefficients(refined_profile(random.Random(6), models=1))
    (name,) = found.models
    terms = found.models[name].refined
    assert terms is not None
    short = dataclasses.replace(terms.surface, active_ms=terms.surface.active_ms[:-1])
    model = dataclasses.replace(found.models[name], refined=dataclasses.replace(terms, surface=short))
    with pytest.raises(ValueError, match="shape"):
        kept._parsed(kept._text(dataclasses.replace(found, models={name: model})))


def test_what_others_can_change_is_not_used(folder: Path, fits: list[str], caplog: pytest.LogCaptureFixture) -> None:
    fit_coefficients(read_profile("v100"))
    (file,) = folder.iterdir()
    file.chmod(0o666)
    forget()
    fit_coefficients(read_profile("v100"))
    assert len(fits) == 2
    assert caplog.messages == [
        f"note: kept coefficients are not used ({file}: others can write to it; `chmod go-w {file}`, or remove it)"
    ]


def test_no_folder_is_said_once(
    tmp_path: Path, fits: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(kept, "cache_folders", lambda: [tmp_path / "file"])
    for name in ("v100", "h200"):
        fit_coefficients(read_profile(name, coefficients="igniter"))
    assert len(fits) == 2
    (message,) = caplog.messages
    assert message.startswith("note: fitted coefficients are not kept, so that every run fits them anew (")


def test_the_oldest_are_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_FILES", 2)
    v100 = read_profile("v100")
    known = [v100.model_copy(update={"name": f"card-{number}"}) for number in range(3)]
    for profile in known:
        fit_coefficients(profile)
    forget()
    contents = [coefficients._deciding(profile) for profile in known]
    assert [kept.is_kept(content) for content in contents] == [False, True, True]
    assert len(list(folder.iterdir())) == 2
