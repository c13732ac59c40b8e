"""Tables in memory, in batches: a pandas frame, or anything that hands out Arrow batches (Arrow itself, polars)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sim.config import InputError
from sim.world.tables.formats import ROWS, Batch, arrow_batches
from sim.world.tables.wanted import Wanted, need


def frame_batches(frame: Any, wanted: Wanted) -> Iterator[Batch]:
    """Yield the wanted columns of a table in memory as Arrow arrays, or as lists where cells are of several kinds.

    Raises:
        InputError: for something that is no table, or a column that is not there.
    """
    if isinstance(frame, pd.DataFrame):
        yield from _pandas_batches(frame, wanted)
    elif hasattr(frame, "__arrow_c_stream__"):
        reader = pa.RecordBatchReader.from_stream(frame)
        need(reader.schema.names, wanted)
        yield from arrow_batches(reader, wanted)
    else:
        raise InputError(f"frame: expected a path, a pandas or an Arrow table, got {type(frame).__name__}")


def _pandas_batches(frame: pd.DataFrame, wanted: Wanted) -> Iterator[Batch]:
    names = [str(name) for name in frame.columns]
    need(names, wanted)
    columns = {name: frame.iloc[:, names.index(name)] for name in wanted.fields()}
    for start in range(0, len(frame), ROWS):
        yield {name: _array(column.iloc[start : start + ROWS]) for name, column in columns.items()}


def _array(column: "pd.Series[Any]") -> Any:
    """Return a column as Arrow has it, or as a list of its values where Arrow has no type for them."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind == "f":
        return pa.array(column.to_numpy(dtype=float))  # of half and of long precision, too
    if isinstance(column.dtype, pd.SparseDtype):
        column = pd.Series(np.asarray(column.array))
    if column.dtype != object:
        try:
            found = pa.array(column, from_pandas=True)
            return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
        except (pa.ArrowException, TypeError, UnicodeEncodeError):
            column = column.astype(object)
    return column.tolist()
