"""A long table read in batches: only the columns that are asked for, as numbers, codes and hashes, never as text rows.

CSV, Parquet and JSON Lines come through pyarrow a few megabytes at a time; text columns become integer codes with each
value held once. What stays in memory is 8 bytes a row and number, 4 a row and text column, whatever else the file
holds. Missing values stay missing (NaN): what to do about them is for the caller to say.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from sim.config import InputError, printable, shown, unknown_name
from sim.world.arrays import Array

BLOCK = 1 << 23  # bytes of CSV or JSON read at once
ROWS = 1 << 18  # rows of Parquet read at once
SNIFFED = 1000  # lines of JSON that are looked at to learn its keys
LARGEST = 1e100  # of a number; squares and their sums must stay finite
ENDINGS = (".csv", ".parquet", ".jsonl")
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


class Wanted(NamedTuple):
    """The columns to read, each kind {column: the setting that names it}."""

    text: Mapping[str, str]
    hashed: Mapping[str, str]
    numbers: Mapping[str, str]

    def fields(self) -> dict[str, str]:
        """Return {column: setting} over all kinds."""
        return {**self.numbers, **self.hashed, **self.text}


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
    _need([str(name) for name in source.columns], wanted)
    if source.empty:
        raise InputError("frame: the table has no rows")
    return _collect(iter([_frame_batch(source, wanted)]), wanted, progress)


def _read_file(path: str, wanted: Wanted, progress: Progress | None) -> Columns:
    file = Path(path)
    ending = file.suffix.lower()
    if ending not in ENDINGS:
        raise InputError(f"scores = {path}: the ending must be one of {', '.join(ENDINGS)}")
    if not file.is_file():
        raise InputError(f"scores = {path}: no such file")
    if file.stat().st_size == 0:
        raise InputError(f"scores = {path}: the file is empty")
    batches = {".csv": _csv, ".parquet": _parquet, ".jsonl": _jsonl}[ending]
    try:
        return _collect(batches(file, wanted), wanted, progress)
    except InputError as error:
        raise InputError(f"scores = {path}: {error}") from None
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        bad = _first_bad_number(file, wanted) if ending == ".csv" else ""
        reason = bad or f"cannot be read as {ending[1:]} ({first_line(error)})"
        raise InputError(f"scores = {path}: {reason}") from None


def first_line(error: Exception) -> str:
    """Return the first line of a reader's message, which may quote the file: printable, and not too long."""
    lines = str(error.args[0] if error.args else error).splitlines() or [type(error).__name__]
    return printable(lines[0])[:200]


def _need(known: list[str], wanted: Wanted) -> None:
    for column, field in wanted.fields().items():
        if column not in known:
            some = known if len(known) < 30 else [*known[:30], "..."]
            raise InputError(f"{field}: {unknown_name('column', column, some)}")
        if known.count(column) > 1:
            raise InputError(f"{field}: the table has {known.count(column)} columns named '{column}'")


def _csv(file: Path, wanted: Wanted) -> Iterator[pa.RecordBatch]:
    seen = _open_csv(file, {}, None).schema
    _need(seen.names, wanted)
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


def _first_bad_number(file: Path, wanted: Wanted) -> str:
    """Return 'column ..., row ...: ... is not a number' for the first such cell of a CSV file, or nothing."""
    try:
        first = 0
        for batch in _open_csv(file, dict.fromkeys(wanted.numbers, pa.string()), list(wanted.numbers)):
            for name, field in wanted.numbers.items():
                texts = pd.Series(batch.column(name).to_pandas())
                bad = np.flatnonzero(pd.to_numeric(texts, errors="coerce").isna() & texts.notna() & (texts != ""))
                if len(bad) and texts[bad[0]].lower() not in ("nan", "na", "null", "n/a", "#n/a"):
                    return _not_a_number(field, name, first + int(bad[0]), texts[bad[0]])
            first += len(batch)
    except (pa.ArrowException, OSError, ValueError, KeyError):
        pass  # the file is broken in another way, which the caller knows
    return ""


def _not_a_number(field: str, column: str, row: int, value: object) -> str:
    return f"{field}: column '{column}', row {row + 1}: '{shown(value)}' is not a number"


def _parquet(file: Path, wanted: Wanted) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file) as opened:
        _need(opened.schema_arrow.names, wanted)
        yield from opened.iter_batches(batch_size=ROWS, columns=list(wanted.fields()))


def _jsonl(file: Path, wanted: Wanted) -> Iterator[pa.RecordBatch]:
    """Types come from the first lines: ids may be text or whole numbers, scores numbers or true and false."""
    import json

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
    _need(list(known), wanted)
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


def _frame_batch(frame: pd.DataFrame, wanted: Wanted) -> pa.RecordBatch:
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
            raise InputError(_not_a_number(field, name, row, column.iloc[row]))
        arrays[name] = pa.array(values.to_numpy(dtype=float, na_value=np.nan))
    return pa.RecordBatch.from_pydict(arrays)


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
        raise InputError(_not_a_number(field, name, first + row, texts[row])) from None
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
