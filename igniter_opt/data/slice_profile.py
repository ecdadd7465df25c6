"""Profiles of cards that MIG cuts: what was measured of every model, on every kind of slice, at every batch.

A reading is of `processes` equal processes of one model side by side in one slice, under MPS. Slices do not disturb
each other, so that a reading is all there is to predict: nothing is fitted.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath, json_lines
from igniter_opt.base.kinds import PROFILE, write_output
from igniter_opt.base.schema import (
    Count,
    Name,
    NonNegative,
    Positive,
    Record,
    check_to_write,
    describe,
    in_short,
    invalid,
    nearest,
)
from igniter_opt.data.provenance import Provenance
from igniter_opt.physics.mig_cards import MIG_CARDS, MigCard

# Clients of one MPS server.
MOST_PROCESSES = 48
LARGEST_BATCH = 65_536
UNTOUCHED = "nothing of this package has run on a card under MIG so far"
"""Whatever shows MIG says it."""


class SliceReadings(Record):
    """Readings on one kind of slice, in columns of one length (req/s of one process, ms of a batch, MiB of a slice).

    Attributes
    ----------
    memory_mib
        What all processes together take of the slice's memory, where it was read.
    """

    batch: tuple[Annotated[Count, Field(le=LARGEST_BATCH)], ...] = Field(min_length=1)
    processes: tuple[Annotated[Count, Field(le=MOST_PROCESSES)], ...]
    throughput_rps_per_process: tuple[Positive, ...]
    latency_ms: tuple[Positive, ...]
    memory_mib: tuple[NonNegative, ...] | None = None

    @model_validator(mode="after")
    def _same_length(self) -> "SliceReadings":
        columns = ("batch", "processes", "throughput_rps_per_process", "latency_ms", "memory_mib")
        lengths = {len(column) for name in columns if (column := getattr(self, name)) is not None}
        if len(lengths) != 1:
            raise invalid("batch, processes, throughput_rps_per_process, latency_ms (and memory_mib) differ in length")
        points = sorted(zip(self.processes, self.batch, strict=True))
        twice = next((first for first, second in pairwise(points) if first == second), None)
        if twice is not None:
            raise invalid(f"batch {twice[1]} with {twice[0]} process(es) is there twice")
        return self


class SliceModel(Record):
    """One model's readings, by kind of slice; slices on which it does not fit or was not measured are left out."""

    source: str | None = None
    slices: dict[str, SliceReadings] = Field(min_length=1)


class SliceProfile(Record):
    """A card under MIG and the models measured on its slices.

    Attributes
    ----------
    sharing
        ``mig``, by which files tell it from the profile of a card that is shared by MPS.
    card
        Which card of `physics.mig_cards`.
    synthetic
        Whether its numbers are made up.
    latency_resolution_ms
        To how many ms latencies were read; 0 where they are as exact as their digits.
    """

    name: Name
    sharing: Literal["mig"] = "mig"
    source: str
    provenance: Provenance = Provenance()
    synthetic: bool = False
    card: str
    latency_resolution_ms: NonNegative = 0.0
    models: dict[Name, SliceModel] = Field(min_length=1)

    @model_validator(mode="after")
    def _on_the_card(self) -> "SliceProfile":
        if self.card not in MIG_CARDS:
            known = ", ".join(MIG_CARDS)
            raise invalid(f"card: unknown {describe(self.card)}{nearest(self.card, MIG_CARDS)} (cards: {known})")
        for name, model in self.models.items():
            for kind, readings in model.slices.items():
                found = self.mig_card.slice(kind)
                if found is None:
                    kinds = [entry.name for entry in self.mig_card.slices]
                    raise invalid(
                        f"models.{name}.slices: card {self.card} has no slice {describe(kind)}{nearest(kind, kinds)}"
                        f" (its slices: {', '.join(kinds)})"
                    )
                most = max(readings.memory_mib or (0.0,))
                if most > found.memory_mib:
                    raise invalid(
                        f"models.{name}.slices.{kind}.memory_mib: {most:g} MiB are more than the slice has"
                        f" ({found.memory_mib:g})"
                    )
        return self

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from {"name": self.name, "card": self.card}.items()
        yield "models", in_short(self.models)

    @property
    def mig_card(self) -> MigCard:
        """The card."""
        return MIG_CARDS[self.card]

    def caution(self) -> str | None:
        """Say that the numbers are made up, or that latencies are read coarsely, and what follows."""
        if self.synthetic:
            return f"profile {self.name} is synthetic: its numbers are made up to try things out, and measured nowhere"
        if self.latency_resolution_ms:
            return (
                f"the latencies of profile {self.name} are read to {self.latency_resolution_ms:g} ms: a plan that has"
                " less than that left to a limit may miss it (`verify` names such placements; a margin avoids them)"
            )
        return None

    def margin_at(self, confidence: float) -> float:
        """Raise InputError: readings of slices have no calibrated margins."""
        raise InputError(
            f"profile {self.name} holds readings of slices and has no calibrated margins; give a margin (--margin)"
            f" in place of the confidence {confidence:g}"
        )


def slice_profile_json(profile: SliceProfile) -> str:
    """Render a profile as JSON text, one list of numbers a line; equal profiles give equal text."""
    return json_lines(profile.model_dump(mode="json", exclude_none=True)) + "\n"


def write_slice_profile(profile: SliceProfile, path: StrPath) -> None:
    """Write a profile file atomically.

    Raises
    ------
    InputError
        What is at the path is neither a profile nor empty, or nothing can be written there.
    """
    check_to_write(profile, SliceProfile)
    write_output(path, slice_profile_json(profile).encode(), PROFILE)
