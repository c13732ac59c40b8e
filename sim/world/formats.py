"""The wanted columns of a CSV, Parquet or JSON Lines file, or of a pandas frame, as Arrow batches."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from sim.config import InputError, shown, unknown_name

BLOCK = 1 << 23  # bytes of CSV or JSON read at once
ROWS = 1 << 18  # rows of Parquet read at once
SNIFFED = 1000  # lines of JSON that are looked at to learn its keys


class Wanted(NamedTuple):
    """The columns to read, each kind {column: the setting that names it}."""

    text: Mapping[str, str]
    hashed: Mapping[str, str]
    numbers: Mapping[str, str]

    def fields(self) -> dict[str, str]:
        """Return {column: setting} over all kinds."""
        return {**self.numbers, **self.hashed, **self.text}


def need(known: list[str], wanted: Wanted) -> None:
    """Raise `InputError` for a wanted column that is not there, or there twice."""
    for column, field in wanted.fields().items():
        if column not in known:
            some = known if len(known) < 30 else [*known[:30], "..."]
            raise InputError(f"{field}: {unknown_name('column', column, some)}")
        if known.count(column) > 1:
            raise InputError(f"{field}: the table has {known.count(column)} columns named '{column}'")


def not_a_number(field: str, column: str, row: int, value: object) -> str:
    """Return the complaint about a cell; rows are counted from 1."""
    return f"{field}: column '{column}', row {row + 1}: '{shown(value)}' is not a number"


def _csv(file: Path, wanted: Wanted) -> Iterator[pa.RecordBatch]:
    seen = _open_csv(file, {}, None).schema
    need(seen.names, wanted)
    types = {name: pa.string() for name in [*wanted.text, *wanted.hashed]}
    types |= {
        name: pa.bool_() if pa.types.is_boolean(seen.field(name).type) else pa.float64() for name in wanted.numbers
    }
    yield from _open_csv(file, types, list(types))


def _open_csv(file: Path, types: dict[str, Any], include: list[str] | None) -> Any:
    convert = pa.csv.ConvertOptions(column_types=types, include_columns=include)
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    return pa.csv.open_csv(file, pa.csv.ReadOptions(block_size=BLOCK), parse, convert)


def need_whole_lines(file: Path) -> None:
    """Raise `ArrowInvalid` for a CSV file whose lines have different numbers of cells, such as one that was cut off."""
    names = _open_csv(file, {}, None).schema.names
    for _ in _open_csv(file, dict.fromkeys(names, pa.string()), None):
        pass


def first_bad_number(file: Path, wanted: Wanted) -> str:
    """Return 'column ..., row ...: ... is not a number' for the first such cell of a CSV file, or nothing."""
    try:
        first = 0
        for batch in _open_csv(file, dict.fromkeys(wanted.numbers, pa.string()), list(wanted.numbers)):
            for name, field in wanted.numbers.items():
                texts = pd.Series(batch.column(name).to_pandas())
                bad = np.flatnonzero(pd.to_numeric(texts, errors="coerce").isna() & texts.notna() & (texts != ""))
                if len(bad) and texts[bad[0]].lower() not in ("nan", "na", "null", "n/a", "#n/a"):
                    return not_a_number(field, name, first + int(bad[0]), texts[bad[0]])
            first += len(batch)
    except (pa.ArrowException, OSError, ValueError, KeyError):
        pass  # the file is broken in another way, which the caller knows
    return ""


def _parquet(file: Path, wanted: Wanted) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file) as opened:
        need(opened.schema_arrow.names, wanted)
        yield from opened.iter_batches(batch_size=ROWS, columns=list(wanted.fields()))


def _jsonl(file: Path, wanted: Wanted) -> Iterator[pa.RecordBatch]:
    """Types come from the first lines: ids may be text or whole numbers, scores numbers or true and false."""
    known: dict[str, Any] = {}
    with file.open(encoding="utf-8") as lines:
        for _, line in zip(range(SNIFFED), lines, strict=False):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise InputError("every line must be an object {column: value}")
                for name, value in row.items():
                    if known.get(name) is None:
                        known[name] = value
    need(list(known), wanted)
    fields = []
    for name, field in wanted.fields().items():
        value = known[name]
        if isinstance(value, list | dict):
            raise InputError(f"{field}: column '{name}' must be text or a number")
        kind = pa.bool_() if isinstance(value, bool) else pa.float64()
        if name in wanted.text or name in wanted.hashed:
            kind = kind if isinstance(value, bool | float) else pa.int64() if isinstance(value, int) else pa.string()
        fields.append((name, kind))
    parse = pa.json.ParseOptions(
        explicit_schema=pa.schema(fields), newlines_in_values=False, unexpected_field_behavior="ignore"
    )
    yield from pa.json.open_json(file, read_options=pa.json.ReadOptions(block_size=BLOCK), parse_options=parse)


def frame_batch(frame: pd.DataFrame, wanted: Wanted) -> pa.RecordBatch:
    """Return the wanted columns of a frame, ids as text and scores as floats."""
    arrays: dict[str, Any] = {}
    named = frame.rename(columns=str)
    for name, field in {**wanted.text, **wanted.hashed}.items():
        column = named[name]
        odd = column.map(lambda value: isinstance(value, list | dict | tuple | set | np.ndarray)).to_numpy(bool)
        if odd.any():
            raise InputError(f"{field}: column '{name}', row {int(np.argmax(odd)) + 1}: must be text or a number")
        arrays[name] = pa.array([None if gone else str(v) for v, gone in zip(column, column.isna(), strict=True)])
    for name, field in wanted.numbers.items():
        column = named[name]
        if column.dtype.kind in "cmM":
            raise InputError(f"{field}: column '{name}' holds {column.dtype}, not numbers")
        try:
            values = pd.to_numeric(column, errors="coerce")
        except (TypeError, OverflowError):
            raise InputError(f"{field}: column '{name}' holds something other than numbers") from None
        if values.dtype.kind not in "biuf":
            raise InputError(f"{field}: column '{name}' holds something other than numbers")
        bad = (values.isna() & column.notna()).to_numpy(bool)
        if bad.any():
            row = int(np.argmax(bad))
            raise InputError(not_a_number(field, name, row, column.iloc[row]))
        arrays[name] = pa.array(values.to_numpy(dtype=float, na_value=np.nan))
    return pa.RecordBatch.from_pydict(arrays)


BATCHES = {".csv": _csv, ".parquet": _parquet, ".jsonl": _jsonl}  # by the ending of the file
