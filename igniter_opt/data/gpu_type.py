"""A kind of GPU that can be had: its card, its price, how many there are."""

import os
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import EMPTY_CELLS, CheckedRecord, Count, Name, Positive, describe, invalid
from igniter_opt.data.profile import Profile
from igniter_opt.data.profile_files import CardProfile, read_card_profile
from igniter_opt.data.slice_profile import SliceProfile

# Finer prices than this would make costs incomparable within floating-point accuracy.
PRICE_DECIMALS = 6


def _plain_price(value: float) -> float:
    if round(value, PRICE_DECIMALS) != value:
        raise invalid(f"must have at most {PRICE_DECIMALS} decimals; found {describe(value)}")
    return value


# No card costs as much; keeps sums finite.
LARGEST_PRICE = 1e9


def _no_free_gpu(value: object) -> object:
    """Refuse 0: gaps are relative to the cost, bounds are multiples of prices, and idle GPUs would be free."""
    if not isinstance(value, bool) and value == 0:
        raise invalid(
            "must be greater than 0; found 0 (for cards that you own, give all the same price, such as 1, so that cost"
            " counts GPUs; beside rented ones a far smaller one than theirs, such as 0.01, so that they are used first)"
        )
    return value


Price = Annotated[Positive, Field(le=LARGEST_PRICE), AfterValidator(_plain_price), BeforeValidator(_no_free_gpu)]


def _named_profile(value: object, info: ValidationInfo) -> object:
    """Read a profile that a program names; what a file names is read by `parse_instance`, from the file's folder."""
    if info.context is not None or not isinstance(value, str | os.PathLike):
        return value
    try:
        return read_card_profile(value)
    except InputError as error:
        raise invalid(str(error)) from None


class GpuType(CheckedRecord):
    """A kind of GPU that can be had.

    In files a type may have ``coefficients``, the set to be derived from its profile (`profile.Profile`).

    Attributes
    ----------
    profile
        The card and its models, or the name or path of a profile; by its kind the card is shared by MPS or cut by MIG.
    price_per_hour
        Price in the instance's currency.
    count
        How many exist; unlimited when not given.
    memory_mib
        Memory of this offer, when it differs from the profile's card.
    """

    reading_keys: ClassVar[tuple[str, ...]] = ("coefficients",)

    name: Name
    profile: Annotated[CardProfile, BeforeValidator(_named_profile)]
    price_per_hour: Price
    count: Annotated[Count | None, EMPTY_CELLS] = None
    memory_mib: Annotated[Positive | None, EMPTY_CELLS] = None

    @model_validator(mode="after")
    def _slices_have_their_memory(self) -> Self:
        if self.is_cut and self.memory_mib is not None:
            raise invalid("memory_mib: the memory of a card under MIG is that of its slices; leave it out")
        return self

    @property
    def is_cut(self) -> bool:
        """Whether MIG cuts the card; else it is shared by MPS, or whole."""
        return isinstance(self.profile, SliceProfile)

    @property
    def card(self) -> str:
        """The card's name."""
        if isinstance(self.profile, SliceProfile):
            return f"NVIDIA {self.profile.mig_card.gpu} {self.profile.mig_card.memory_gb}GB"
        return self.profile.hardware.gpu

    @property
    def mps_profile(self) -> Profile:
        """The profile of a card that is shared by MPS.

        Raises
        ------
        InputError
            MIG cuts the card.
        """
        if isinstance(self.profile, SliceProfile):
            raise InputError(
                f"GPU type {self.name} is cut by MIG, and this knows cards that are shared by MPS only; take an"
                " instance or plan without it"
            )
        return self.profile

    @property
    def slice_profile(self) -> SliceProfile:
        """The profile of a card that MIG cuts.

        Raises
        ------
        InputError
            The card is shared by MPS.
        """
        if isinstance(self.profile, SliceProfile):
            return self.profile
        raise InputError(f"GPU type {self.name} is shared by MPS, and not cut by MIG")

    @property
    def memory_limit_mib(self) -> float | None:
        """Memory of one GPU in MiB where known."""
        return self.memory_mib if self.memory_mib is not None else self.mps_profile.hardware.memory_mib
