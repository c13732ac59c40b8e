"""Files of scores, in batches of a few megabytes: only the wanted columns, as they are written.

A batch is {column: an Arrow array, or a list of Python values}. What of it is a number, missing, or an identifier is
decided elsewhere, so that a CSV file, whose columns all come as text, gives what a Parquet file of the same data gives.
"""

import contextlib
import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from sim.config import SEPARATORS, InputError
from sim.world.tables.wanted import Wanted, need

BLOCK = 1 << 23  # bytes of CSV or JSON read at once
ROWS = 1 << 16  # rows of Parquet, or of a frame, read at once
LONGEST = 1 << 26  # characters of a line of JSON
MOST_COLUMNS = 100_000  # of a file, wanted or not: their names are held, and a million of them took gigabytes
EXTENSION = b"ARROW:extension:name"
Batch = dict[str, Any]


def csv_batches(file: Path, wanted: Wanted) -> Iterator[Batch]:
    """Yield the wanted columns as text; a line with too few or too many cells is an error."""
    delimiter = _delimiter(wanted.separator)
    names = _header(file, delimiter)
    _refuse_many(names)
    columns = list(wanted.fields())
    need(names, wanted, "" if set(columns) <= set(names) else _separator_hint(file, names, wanted))
    convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), include_columns=columns)
    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    for batch in pa.csv.open_csv(file, pa.csv.ReadOptions(block_size=BLOCK), parse, convert):
        yield {name: batch.column(name) for name in columns}


def _header(file: Path, delimiter: str) -> list[str]:
    """Return the names in the first line of a CSV file. Arrow, asked for all columns, takes 9 kB of memory for each."""
    with file.open(encoding="utf-8-sig", newline="") as opened:
        head = opened.read(BLOCK)
    rows = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter)
    return next((row for row in rows if row), [])


def _refuse_many(names: list[str]) -> None:
    if len(names) > MOST_COLUMNS:
        raise InputError(
            f"the table has {len(names):,} columns, more than {MOST_COLUMNS:,}; keep the ones that are used"
        )


def _delimiter(separator: str) -> str:
    return "\t" if separator == "tab" else separator


def _separator_hint(file: Path, names: list[str], wanted: Wanted) -> str:
    """Return which other separator finds more of the wanted columns, or an empty text."""
    columns = wanted.fields().keys()
    found = dict.fromkeys(SEPARATORS, 0)
    for other in SEPARATORS:
        with contextlib.suppress(csv.Error):  # of a header that is one cell, and far too long for one
            found[other] = len(columns & _header(file, _delimiter(other)))
    best = max(SEPARATORS, key=lambda other: found[other])
    if found[best] <= len(columns & names):
        return ""
    return f"; the cells seem to be separated by '{best}': say \"{wanted.prefix}separator='{best}'\""


def parquet_batches(file: Path, wanted: Wanted) -> Iterator[Batch]:
    """Yield the wanted columns as Arrow arrays."""
    with pq.ParquetFile(file) as opened:
        names = opened.schema_arrow.names
        _refuse_many(names)
        need(names, wanted)
        yield from arrow_batches(opened.iter_batches(batch_size=ROWS, columns=list(wanted.fields())), wanted)


def arrow_batches(batches: Iterable[Any], wanted: Wanted) -> Iterator[Batch]:
    """Yield the wanted columns of Arrow record batches whose columns are known to be there."""
    for batch in batches:
        for name, field in wanted.number_fields().items():
            # A program that never loaded the extension sees its storage: for a pandas period, whole numbers.
            extension = (batch.schema.field(name).metadata or {}).get(EXTENSION)
            if extension:
                raise InputError(f"{field}: column '{name}' holds {extension.decode()}, not numbers")
        yield {name: batch.column(name) for name in wanted.fields()}


def jsonl_batches(file: Path, wanted: Wanted) -> Iterator[Batch]:
    """Yield the wanted columns as lists; a key that a line lacks is missing there, as an empty cell of CSV is."""
    columns = list(wanted.fields())
    unmet = set(columns)
    for rows in _json_rows(file):
        for row in rows if unmet else ():
            unmet -= row.keys()
        if unmet & wanted.text_fields().keys():  # a missing identifier ends the reading: a wrong name is said first
            need(_keys(file) or columns, wanted)
        yield {name: [row.get(name) for row in rows] for name in columns}
    if unmet:
        need(_keys(file) or columns, wanted)


def _keys(file: Path) -> list[str]:
    """Return the keys of all lines, in order of appearance; where their number is absurd, the first of them."""
    known = dict[str, None]()
    for rows in _json_rows(file):
        for row in rows:
            known |= dict.fromkeys(row)
        if len(known) > MOST_COLUMNS:
            break
    return list(known)


def _json_rows(file: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the objects of a file of JSON Lines, some megabytes at a time; blank lines count for nothing."""
    first = 1
    with file.open(encoding="utf-8-sig") as opened:
        for lines in _blocks(opened):
            rows = [_object(line, number) for number, line in enumerate(lines, first) if not line.isspace()]
            if rows:
                yield rows
            first += len(lines)


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except RecursionError:
        raise ValueError(f"line {number}: nested too deep") from None
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None
    if not isinstance(row, dict):
        raise InputError(f"line {number}: every line must be an object {{column: value}}")
    return row


def _blocks(opened: io.TextIOBase) -> Iterator[list[str]]:
    """Yield the lines of a text file, some megabytes at a time."""
    lines, size = list[str](), 0
    while line := opened.readline(LONGEST):
        if len(line) == LONGEST:
            raise InputError(f"a line is longer than {LONGEST:,} characters; is it JSON Lines, one object a line?")
        lines.append(line)
        size += len(line)
        if size >= BLOCK:
            yield lines
            lines, size = [], 0
    yield lines


BATCHES = {".csv": csv_batches, ".parquet": parquet_batches, ".jsonl": jsonl_batches}  # by the ending of the file
