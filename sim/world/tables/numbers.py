"""A column as floats: one rule for what is a number, what is missing, and what is neither, whatever the format.

A number is what Arrow reads as one, spaces around it and a plus sign allowed; true and false count as 1 and 0. A cell
is missing if it is empty, null, NaN, or one of the words below. It stays missing (NaN): what to do about it is for the
caller to say.
"""

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sim.config import shown
from sim.world.arrays import Array
from sim.world.tables.cells import number_cells
from sim.world.tables.wanted import Place

LARGEST = 1e100  # of a number; squares and their sums must stay finite
# Small and capital letters alike; the words that pandas takes as missing in a CSV file.
MISSING = ("", "na", "n/a", "#n/a", "#na", "#n/a n/a", "<na>", "nan", "-nan", "null", "none", "1.#ind", "-1.#ind",
           "1.#qnan", "-1.#qnan")  # fmt: skip
DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+\s*")


def to_floats(column: Any, place: Place, decimal: str = ".") -> Array:
    """Return [N] floats, NaN where missing.

    Args:
        column: an Arrow array, or a list of Python values.
        place: where it stands, for messages.
        decimal: the decimal sign of numbers that are written as text.

    Raises:
        InputError: for a column of another kind, or a cell that is no number, not finite, or too large to be squared.
    """
    if isinstance(column, list):
        column = number_cells(column, place)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if is_text(column.type):
        column = _parsed(column, place, decimal)
    elif pa.types.is_boolean(column.type):
        column = pc.cast(column, pa.int8())
    elif not any(test(column.type) for test in (pa.types.is_null, pa.types.is_integer, pa.types.is_floating,
                                                pa.types.is_decimal)):  # fmt: skip
        raise place.error(f"holds {column.type}, not numbers")
    values = np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=float)
    wrong = np.abs(values) > LARGEST
    if wrong.any():
        row = int(np.argmax(wrong))
        what = "is too large to be squared" if np.isfinite(values[row]) else "is not finite"
        raise place.row_error(row, f": {values[row]:g} {what}")
    return values


def is_text(kind: Any) -> bool:
    """Return whether an Arrow type is one of text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _parsed(column: Any, place: Place, decimal: str) -> Any:
    """Return text as Arrow floats, null where missing; nearly always all of it is numbers, and one cast will do."""
    column = pc.cast(column, pa.large_string())
    if decimal == "." and (numbers := _cast(column)) is not None:
        return numbers
    text = pc.utf8_lower(pc.utf8_trim_whitespace(column))
    text = pc.if_else(pc.is_in(text, pa.array(MISSING, pa.large_string())), pa.scalar(None, pa.large_string()), text)
    if decimal == ",":  # a point would then set thousands apart
        text = pc.replace_substring(pc.replace_substring(text, ".", "_"), ",", ".")
    for pattern, number in ((r"^\+([0-9.])", r"\1"), ("^true$", "1"), ("^false$", "0")):
        text = pc.replace_substring_regex(text, pattern, number)
    if (numbers := _cast(text)) is not None:
        return numbers
    row = _first_bad(text)
    value = column[row].as_py()
    comma = decimal == "." and DECIMAL_COMMA.fullmatch(value)
    hint = f"; where commas are decimal signs, say \"{place.prefix}decimal=','\"" if comma else ""
    raise place.row_error(row, f": '{shown(value)}' is not a number{hint}")


def _cast(text: Any) -> Any | None:
    """Return text as floats, or None where some of it is no number."""
    try:
        return pc.cast(text, pa.float64())
    except pa.ArrowInvalid:
        return None


def _first_bad(text: Any) -> int:
    """Return the first row that cannot be cast, of a column that has one, by halving."""
    low, high = 0, len(text)  # the first bad row is in [low, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _cast(text.slice(low, middle - low)) is not None else (low, middle)
    return low
