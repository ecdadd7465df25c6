"""Profiles of either kind: of cards that are shared by MPS, and of cards that MIG cuts."""

from pathlib import Path
from typing import Annotated

from pydantic import Discriminator, Tag

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath, as_path
from igniter_opt.base.schema import TAG, parse_record
from igniter_opt.data.named_files import FilesIn, NamedFiles
from igniter_opt.data.profile import Profile, profile_data, profile_from_data, shares_by, with_coefficients
from igniter_opt.data.slice_profile import SliceProfile


def _kind(value: object) -> str:
    cut = isinstance(value, SliceProfile) or shares_by(value) == "mig"
    return TAG + ("mig" if cut else "mps")


CardProfile = Annotated[
    Annotated[Profile, Tag(f"{TAG}mps")] | Annotated[SliceProfile, Tag(f"{TAG}mig")], Discriminator(_kind)
]
"""A field of either kind; a file says ``sharing: mig`` in the second."""


def read_card_profile(
    name_or_path: StrPath, relative_to: Path | None = None, *, coefficients: str | None = None
) -> Profile | SliceProfile:
    """Read a shipped profile by name, or a profile file by path, of whichever kind.

    Parameters
    ----------
    name_or_path, relative_to
        As for `profile.read_profile`.
    coefficients
        Coefficient set to use; readings of slices have none, and are taken as they are.

    Raises
    ------
    InputError
        No such profile or coefficient set, or its content is not valid.
    """
    name = str(as_path(name_or_path, "a profile, or the name or path of one"))
    return named_card_profile(name, FilesIn(relative_to), coefficients)


def named_card_profile(name: str, files: NamedFiles, coefficients: str | None = None) -> Profile | SliceProfile:
    """Read a profile as `read_card_profile` does, a name that is no shipped one's being what `files` take it for."""
    data, source, default_name = profile_data(name, files)
    if shares_by(data) == "mig":
        return parse_record(SliceProfile, {"name": default_name, **data}, source)
    profile = profile_from_data(data, source, default_name)
    return profile if coefficients is None else with_coefficients(profile, coefficients)


def read_slice_profile(name_or_path: StrPath) -> SliceProfile:
    """Read the profile of a card that MIG cuts, by name or path; raise InputError if it is of another kind."""
    profile = read_card_profile(name_or_path)
    if isinstance(profile, SliceProfile):
        return profile
    raise InputError(f"profile {profile.name} is of a card that is shared by MPS; this takes those of cards under MIG")
