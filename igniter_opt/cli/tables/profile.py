"""What commands say about profiles and the measurements beside them."""

from igniter_opt.cli.console import message
from igniter_opt.data.measurement_files import UNKNOWN_GPU, Measurements
from igniter_opt.data.profile import Profile


def note_unnamed_card(name: str, found: Measurements, profile: Profile) -> None:
    """Say whose card measurements are taken to be of, if they do not say."""
    if found.gpu == UNKNOWN_GPU:
        message(f"note: {name} names no card; taken to be of {profile.hardware.gpu}")
