"""Tables of pandas, which few programs need: imported where they are asked for."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from igniter_opt.base.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def frame(rows: Iterable[Mapping[str, Any]], columns: list[str] | None = None) -> "pd.DataFrame":
    """Return rows as a table.

    Raises
    ------
    InputError
        Pandas is missing.
    """
    try:
        import pandas as pd
    except ImportError:
        raise InputError("to_frame: tables need the package 'pandas'; install it with: pip install pandas") from None
    return pd.DataFrame(list(rows), columns=columns)
