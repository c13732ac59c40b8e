"""A score table becomes numbers, codes and hashes: never text rows, and only the columns that are asked for.

What stays in memory is 8 bytes a row and number, 4 a row and text column (each value held once), 8 a row for the
responses, whatever else the file holds.
"""

import contextlib
import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sim.config import InputError, printable
from sim.world.arrays import Array
from sim.world.tables.formats import BATCHES, Batch
from sim.world.tables.frames import frame_batches
from sim.world.tables.ids import hashed, to_ids
from sim.world.tables.numbers import to_floats
from sim.world.tables.wanted import Place, Wanted

SHOWN_PATH = 300  # letters of a path in a message
Progress = Callable[[int], object]


class Coded(NamedTuple):
    """A text column: codes [N], in order of first appearance, and the value of each code."""

    codes: npt.NDArray[np.int32]
    values: npt.NDArray[np.object_]


class Columns(NamedTuple):
    """What was read. N rows in the order of the table.

    prompt: the prompt of each row.
    response: [N] 64-bit hashes, of which only equality matters; None where no column names the responses.
    slices: column -> the group of each row.
    numbers: column -> [N], NaN where missing.
    """

    prompt: Coded
    response: npt.NDArray[np.uint64] | None
    slices: dict[str, Coded]
    numbers: dict[str, Array]


def read_columns(source: Any, wanted: Wanted, field: str = "scores", progress: Progress | None = None) -> Columns:
    """Return the wanted columns of a table.

    Args:
        source: the path of a .csv, .parquet or .jsonl file, a pandas frame, or a table that hands out Arrow batches.
        wanted: its columns.
        field: the setting that names the file, for messages.
        progress: called with the number of rows that were read.

    Raises:
        InputError: naming the file, or the column and row, that cannot be used.
    """
    with naming(source, field):
        if not isinstance(source, str | Path):
            return _collect(frame_batches(source, wanted), wanted, progress, "frame: ")
        file = _existing(Path(source))
        try:
            return _collect(BATCHES[file.suffix.lower()](file, wanted), wanted, progress)
        except (pa.ArrowException, OSError, ValueError, KeyError, csv.Error) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"cannot be read as {file.suffix.lower()[1:]} ({first_line(error)})") from None


@contextlib.contextmanager
def naming(source: Any, field: str) -> Iterator[None]:
    """Name the file in every `InputError` raised inside; a frame has no name."""
    try:
        yield
    except InputError as error:
        if not isinstance(source, str | Path):
            raise
        text = str(source)
        path = text if len(text) <= SHOWN_PATH else f"{text[:SHOWN_PATH]}..."
        raise InputError(*(f"{field} = {path}: {line}" for line in error.args)) from None


def _existing(file: Path) -> Path:
    """Return the path of a file that is there and has a known ending, or raise `InputError`."""
    if file.suffix.lower() not in BATCHES:
        raise InputError(f"the ending must be one of {', '.join(BATCHES)}")
    try:
        if not file.is_file():
            raise InputError("no such file")
        if file.stat().st_size == 0:
            raise InputError("the file is empty")
    except OSError as error:  # such as a name that is too long
        raise InputError(f"cannot be opened ({error.strerror})") from None
    return file


def first_line(error: Exception) -> str:
    """Return the first line of a reader's message, which may quote the file: printable, and not too long."""
    if isinstance(error, OSError | UnicodeError):
        text = (isinstance(error, OSError) and error.strerror) or str(error)
    else:
        text = str(error.args[0] if error.args else error)
    lines = text.splitlines() or [type(error).__name__]
    return printable(lines[0])[:200]


def _collect(batches: Iterable[Batch], wanted: Wanted, progress: Progress | None, name: str = "") -> Columns:
    """Return the columns of all batches; each is reduced to codes, hashes and floats as it arrives."""
    numbers = {column: list[Array]() for column in wanted.number_fields()}
    coded = {column: list[Any]() for column in (wanted.prompt, *wanted.slices)}
    responses = list[npt.NDArray[np.uint64]]()
    rows = 0
    for batch in batches:
        for column, field in wanted.number_fields().items():
            place = Place(field, column, rows, wanted.prefix)
            numbers[column].append(to_floats(batch[column], place, wanted.decimal))
        for column, field in wanted.text_fields().items():
            ids = to_ids(batch[column], Place(field, column, rows))
            if column in coded:
                coded[column].append(ids)
            if column == wanted.response:
                responses.append(hashed(ids))
        size = len(batch[wanted.prompt])
        rows += size
        if progress is not None:
            progress(size)
    if not rows:
        raise InputError(f"{name}the table has no rows")
    joined = {column: _unify(coded.pop(column)) for column in list(coded)}
    found = Columns(
        joined[wanted.prompt],
        np.concatenate(responses) if wanted.response else None,
        {column: joined[column] for column in wanted.slices},
        {column: np.concatenate(numbers.pop(column)) for column in list(numbers)},
    )
    pa.default_memory_pool().release_unused()  # what held the text and the pieces of columns
    return found


def _unify(chunks: list[Any]) -> Coded:
    whole = pa.chunked_array(chunks).unify_dictionaries()
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in whole.chunks]).astype(np.int32, copy=False)
    values = whole.chunk(whole.num_chunks - 1).dictionary
    return Coded(codes, values.to_numpy(zero_copy_only=False))
