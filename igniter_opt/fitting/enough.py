"""Whether a profile holds enough readings side by side for refined contention (see `refined`)."""

from igniter_opt.data.profile import Profile

# Readings that every model needs side by side with others before contention is fitted.
FEWEST_READINGS = 12


def fits_contention(profile: Profile) -> bool:
    """Whether the profile holds enough to fit the refined contention terms."""
    readings = profile.colocated_measurements
    return readings is not None and min(readings.model.count(name) for name in profile.models) >= FEWEST_READINGS
