"""How a workload's requests are shared out among its replicas."""

from typing import Literal, get_args

Split = Literal["random", "round-robin"]
SPLITS: tuple[Split, ...] = get_args(Split)


def unless_random(split: Split | None) -> Split | None:
    """Return None for the usual way, which files leave out."""
    return None if split == "random" else split
