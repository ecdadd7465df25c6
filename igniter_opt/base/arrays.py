"""Types of arrays."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


IntArray = npt.NDArray[np.int64]


BoolArray = npt.NDArray[np.bool_]


RecordArray = npt.NDArray[np.record]


def record_type(whole: Sequence[str], real: Sequence[str] = ()) -> np.dtype[np.record]:
    """Type of records with fields of whole and of real numbers, in this order.

    Raises
    ------
    ValueError
        A field's name is one of NumPy's own (`base`, `item`, `size`): outside of compiled code that would be read.
    """
    for name in (*whole, *real):
        if hasattr(np.void, name):
            raise ValueError(f"a record's field cannot be named {name}")
    fields = [(name, np.int64) for name in whole] + [(name, np.float64) for name in real]
    return cast("np.dtype[np.record]", np.dtype((np.record, fields)))
