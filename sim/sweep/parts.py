"""One part of a sweep's results: rows, metrics and what is said of them, as Parquet bytes; read back and checked.

The end of a part's name is a checksum of all its bytes, since Parquet's own cover its pages alone.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sim.config import InputError
from sim.world.arrays import Array

OWN_COLUMNS = {"id": pa.string(), "job": pa.int64(), "status": pa.string(), "error": pa.string()}
DIGITS = 32  # of a checksum


def encode(
    rows: Mapping[str, Sequence[str] | npt.NDArray[Any]], metrics: Mapping[str, Array], meta: Mapping[str, Any]
) -> bytes:
    """Return a part as Parquet; see `Store.write_part`."""
    arrays = {name: _column(values) for name, values in rows.items()}
    for name, values in metrics.items():
        flat = _column(values.reshape(-1))
        arrays[f"metric:{name}"] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    table = pa.table(arrays).replace_schema_metadata({"thumbscale": json.dumps(meta)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=["status"])
    return sink.getvalue().to_pybytes()


def _column(values: Sequence[str] | npt.NDArray[Any]) -> pa.Array:
    """Return numbers or texts [N] as a column; `pa.array` would load pandas, to ask whether they are its own."""
    if isinstance(values, np.ndarray):
        kind = pa.from_numpy_dtype(values.dtype)
        return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])
    encoded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), len(values), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))])


def read_part(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Return one part, or raise `InputError` naming it if it is damaged.

    Args:
        path: as `Store.parts` gives it.
        columns: which of them; id, job, status and error must be there in any case.
    """
    try:
        content = path.read_bytes()
        told = path.stem.rpartition("-")[2]
        if len(told) == DIGITS and told != checksum(content):  # versions before this one wrote no checksum
            raise InputError(damage(path, "its checksum is another"))
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        if not OWN_COLUMNS.items() <= {field.name: field.type for field in file.schema_arrow}.items():
            raise InputError(damage(path, f"lacks one of {', '.join(OWN_COLUMNS)}"))
        table = file.read(columns=columns)
        bad = next((name for name in table.column_names if not _whole(name, table[name])), None)
        if bad is not None:
            raise InputError(damage(path, f"column '{bad}' holds something else"))
        return table
    except (OSError, pa.ArrowException) as error:
        raise InputError(damage(path, (str(error).splitlines() or [type(error).__name__])[0])) from None


def _whole(name: str, column: pa.ChunkedArray) -> bool:
    """Say whether a column is of a kind that `Store.write_part` writes, with nothing missing."""
    kind = column.type
    if name.startswith("metric:"):
        inner = pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type)
        return inner and not column.null_count and not any(chunk.values.null_count for chunk in column.chunks)
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return (number or name in OWN_COLUMNS) and not column.null_count


def part_meta(table: pa.Table, path: Path) -> dict[str, Any]:
    """Return what a part says of all its runs (`Store.write_part`), or raise `InputError` naming the part."""
    try:
        meta = json.loads((table.schema.metadata or {})[b"thumbscale"])
        kinds = {"settings": dict, "steps": list, "labels": dict, "headline": str, "added": str}
        right = all(isinstance(meta[key], kind) for key, kind in kinds.items())
        right &= all(type(step) is int for step in meta["steps"]) and meta["steps"] == sorted(set(meta["steps"]))
        right &= all(isinstance(text, str) for label in meta["labels"].values() for text in label.values())
        right &= isinstance(meta.get("engine", ""), str)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        right = False
    lists = [field.type for field in table.schema if field.name.startswith("metric:")]
    if not right or any(kind != pa.list_(kind.value_type, len(meta["steps"])) for kind in lists):
        raise InputError(damage(path, "does not say what it holds"))
    return dict(meta)


def damage(path: Path, reason: str) -> str:
    """Return what is said of a damaged part, and what to do."""
    return f"{path}: corrupt or truncated ({reason}); delete it and resume the sweep"


def checksum(content: bytes) -> str:
    """Return the end of a part's name."""
    return hashlib.blake2b(content, digest_size=DIGITS // 2).hexdigest()
