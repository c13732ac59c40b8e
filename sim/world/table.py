"""A long table read in batches: only the columns that are asked for, as numbers, codes and hashes, never as text rows.

Files come through pyarrow a few megabytes at a time (`sim/world/formats.py`); text columns become integer codes with
each value held once. What stays in memory is 8 bytes a row and number, 4 a row and text column, whatever else the file
holds. Missing values stay missing (NaN): what to do about them is for the caller to say.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sim.config import InputError, printable
from sim.world.arrays import Array
from sim.world.formats import BATCHES, Wanted, first_bad_number, frame_batch, need, not_a_number

LARGEST = 1e100  # of a number; squares and their sums must stay finite
Progress = Callable[[int], object]


class Coded(NamedTuple):
    """A text column: codes [N], in order of first appearance, and the value of each code."""

    codes: npt.NDArray[np.int32]
    values: npt.NDArray[np.str_]


class Columns(NamedTuple):
    """What was read. N rows in the order of the table.

    text: column -> codes.
    hashed: column -> [N] 64-bit hashes, for columns of which only equality matters.
    numbers: column -> [N], NaN where missing.
    """

    text: dict[str, Coded]
    hashed: dict[str, npt.NDArray[np.uint64]]
    numbers: dict[str, Array]


def read_columns(source: Any, wanted: Wanted, progress: Progress | None = None) -> Columns:
    """Return the wanted columns of a file (path), a pandas frame or an Arrow table.

    Raises:
        InputError: naming the file, or the column and row, that cannot be used.
    """
    if isinstance(source, str | Path):
        return _read_file(str(source), wanted, progress)
    if isinstance(source, pa.Table):
        source = source.to_pandas()
    if not isinstance(source, pd.DataFrame):
        raise InputError(f"frame: expected a path, a pandas or an Arrow table, got {type(source).__name__}")
    need([str(name) for name in source.columns], wanted)
    if source.empty:
        raise InputError("frame: the table has no rows")
    return _collect(iter([frame_batch(source, wanted)]), wanted, progress)


def _read_file(path: str, wanted: Wanted, progress: Progress | None) -> Columns:
    file = Path(path)
    ending = file.suffix.lower()
    if ending not in BATCHES:
        raise InputError(f"scores = {path}: the ending must be one of {', '.join(BATCHES)}")
    if not file.is_file():
        raise InputError(f"scores = {path}: no such file")
    if file.stat().st_size == 0:
        raise InputError(f"scores = {path}: the file is empty")
    try:
        return _collect(BATCHES[ending](file, wanted), wanted, progress)
    except InputError as error:
        raise InputError(f"scores = {path}: {error}") from None
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        bad = first_bad_number(file, wanted) if ending == ".csv" else ""
        reason = bad or f"cannot be read as {ending[1:]} ({first_line(error)})"
        raise InputError(f"scores = {path}: {reason}") from None


def first_line(error: Exception) -> str:
    """Return the first line of a reader's message, which may quote the file: printable, and not too long."""
    lines = str(error.args[0] if error.args else error).splitlines() or [type(error).__name__]
    return printable(lines[0])[:200]


def _collect(batches: Iterator[pa.RecordBatch], wanted: Wanted, progress: Progress | None) -> Columns:
    """Return the columns of all batches; each is reduced to codes, hashes and floats as it arrives."""
    coded: dict[str, list[Any]] = {name: [] for name in wanted.text}
    hashed: dict[str, list[Any]] = {name: [] for name in wanted.hashed}
    numbers: dict[str, list[Any]] = {name: [] for name in wanted.numbers}
    rows = 0
    for batch in batches:
        for name, field in wanted.fields().items():
            column = batch.column(batch.schema.get_field_index(name))
            if name in numbers:
                numbers[name].append(_floats(column, name, field, rows))
            if name in coded or name in hashed:
                encoded = _encoded(column, name, field, rows)
                if name in coded:
                    coded[name].append(encoded)
                if name in hashed:
                    keys = pd.util.hash_array(encoded.dictionary.to_numpy(zero_copy_only=False), categorize=False)
                    hashed[name].append(keys[encoded.indices.to_numpy()])
        rows += len(batch)
        if progress is not None:
            progress(len(batch))
    if not rows:
        raise InputError("the table has no rows")
    return Columns(
        {name: _unify(coded.pop(name)) for name in list(coded)},
        {name: np.concatenate(hashed.pop(name)) for name in list(hashed)},
        {name: np.concatenate(numbers.pop(name)) for name in list(numbers)},
    )


def _floats(column: Any, name: str, field: str, first: int) -> Array:
    """Return the column as floats, NaN where missing; text that is a number counts as one."""
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(column.type):
        column = pc.cast(column, pa.int8())
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if not is_text and not any(
        test(column.type) for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    ):
        raise InputError(f"{field}: column '{name}' holds {column.type}, not numbers")
    try:
        cast = pc.cast(column, pa.float64(), safe=False)
    except pa.ArrowInvalid:
        texts = pd.Series(column.to_pandas())
        bad = np.flatnonzero(pd.to_numeric(texts, errors="coerce").isna() & texts.notna())
        row = int(bad[0]) if len(bad) else 0
        raise InputError(not_a_number(field, name, first + row, texts[row])) from None
    values: Array = cast.to_numpy(zero_copy_only=False).astype(float)
    if np.isinf(values).any():
        row = int(np.flatnonzero(np.isinf(values))[0])
        raise InputError(f"{field}: column '{name}', row {first + row + 1}: {values[row]} is not finite")
    if (np.abs(values) > LARGEST).any():
        row = int(np.flatnonzero(np.abs(values) > LARGEST)[0])
        raise InputError(f"{field}: column '{name}', row {first + row + 1}: {values[row]:g} is too large to be squared")
    return values


def _encoded(column: Any, name: str, field: str, first: int) -> Any:
    """Return a text column dictionary-encoded; an empty cell is an error, since it names nothing."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_nested(column.type):
        raise InputError(f"{field}: column '{name}' must be text or a number")
    text = pc.cast(column, pa.string())
    empty = pc.fill_null(pc.equal(text, ""), True).to_numpy(zero_copy_only=False)
    if empty.any():
        raise InputError(f"{field}: column '{name}', row {first + int(np.argmax(empty)) + 1} is empty")
    return text.dictionary_encode()


def _unify(chunks: list[Any]) -> Coded:
    whole = pa.chunked_array(chunks).unify_dictionaries()
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in whole.chunks]).astype(np.int32, copy=False)
    values = whole.chunk(whole.num_chunks - 1).dictionary
    return Coded(codes, values.to_numpy(zero_copy_only=False))
