"""A column as identifiers: text as it is written, so that `01`, `1` and `1.0` are three, whatever the format.

A value that is no text, such as a number in Parquet or JSON, is the text that Python's `str` writes of it. An
identifier is missing if it is empty, null or NaN; words such as NA are identifiers.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sim.world.tables.cells import text_cells
from sim.world.tables.numbers import is_text
from sim.world.tables.wanted import Place


def to_ids(column: Any, place: Place) -> Any:
    """Return the identifiers [N] as an Arrow dictionary array of text.

    Args:
        column: an Arrow array, or a list of Python values.
        place: where it stands, for messages.

    Raises:
        InputError: for a column of another kind, or the first identifier that is missing.
    """
    if not isinstance(column, list) and isinstance(column.type, pa.BaseExtensionType):
        column = column.to_pylist()
    if isinstance(column, list):
        column = text_cells(column, place)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    text = pc.cast(column if is_text(column.type) else _written(column, place), pa.string())
    empty = pc.fill_null(pc.equal(text, ""), True).to_numpy(zero_copy_only=False)
    if empty.any():
        raise place.row_error(int(np.argmax(empty)), " is empty")
    return text.dictionary_encode()


def hashed(ids: Any) -> npt.NDArray[np.uint64]:
    """Return 64-bit hashes [N] of identifiers, for columns of which only equality matters."""
    keys = pd.util.hash_array(ids.dictionary.to_numpy(zero_copy_only=False), categorize=False)
    found: npt.NDArray[np.uint64] = keys[ids.indices.to_numpy()]
    return found


def _written(column: Any, place: Place) -> Any:
    """Return values that are no text as text, null where they are missing."""
    kind = column.type
    if pa.types.is_null(kind) or pa.types.is_integer(kind):
        return pc.cast(column, pa.string())
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
    elif not (pa.types.is_boolean(kind) or pa.types.is_decimal(kind) or pa.types.is_temporal(kind)):
        raise place.error(f"holds {kind}; it must hold text or numbers")
    distinct = column.dictionary_encode()
    return pa.array([str(value) for value in distinct.dictionary.to_pylist()], pa.string()).take(distinct.indices)
