"""Cells that come as Python values, from JSON or from a column of objects, as Arrow arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sim.config import shown
from sim.world.tables.wanted import Place

NESTED = (list, dict, tuple, set, np.ndarray)
NUMBERS = (int, float, np.integer, np.floating, np.bool_)


def number_cells(values: Sequence[Any], place: Place) -> Any:
    """Return [N] floats where all values are numbers or missing, else each value as text, missing ones null."""
    kinds = set(map(type, values)) - {type(None)}
    if all(issubclass(kind, NUMBERS) and kind is not np.timedelta64 for kind in kinds):
        try:
            floats = values if kinds <= {float} else [None if value is None else float(value) for value in values]
            return pa.array(floats, pa.float64())
        except OverflowError:
            pass  # a whole number of hundreds of digits: as text it is named by its row
    return text_cells(values, place)


def text_cells(values: Sequence[Any], place: Place) -> Any:
    """Return [N] texts: text as it is, any other value as Python's `str` writes it, missing ones null."""
    if not set(map(type, values)) <= {str, type(None)}:
        values = [_text(value, row, place) for row, value in enumerate(values)]
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        row = next(row for row, value in enumerate(values) if value and not _encodes(value))
        raise place.row_error(row, ": is not text (half of a surrogate pair)") from None


def _text(value: Any, row: int, place: Place) -> str | None:
    if value is None or value is pd.NA or value is pd.NaT or value is np.ma.masked:
        return None
    if isinstance(value, float | np.floating) and np.isnan(value):
        return None
    if isinstance(value, NESTED):
        raise place.row_error(row, ": must be text or a number")
    try:
        return str(value)
    except Exception:  # such as a whole number of thousands of digits
        raise place.row_error(row, f": {shown(value)} that cannot be written as text") from None


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
