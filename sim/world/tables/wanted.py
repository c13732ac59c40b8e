"""Which columns of a score table are read, what each is for, and the setting that names it."""

import difflib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sim.config import InputError, unknown_name

NAMED = 30  # names of columns that a message lists at most


class Wanted(NamedTuple):
    """The columns to read, and how a CSV file writes them.

    numbers: column -> the setting that names it.
    response, reference_prob, prompt_weight: empty where there is none.
    prefix: of the settings that name the other columns, such as "world.".
    separator: between the cells of a CSV file, a character or the word "tab".
    decimal: the decimal sign of numbers that are written as text.
    """

    prompt: str
    response: str
    numbers: Mapping[str, str]
    slices: Sequence[str] = ()
    reference_prob: str = ""
    prompt_weight: str = ""
    prefix: str = ""
    separator: str = ","
    decimal: str = "."

    def number_fields(self) -> dict[str, str]:
        """Return {column: setting} of the columns that hold numbers."""
        optional = {self.reference_prob: "reference_prob", self.prompt_weight: "prompt_weight"}
        return {**self.numbers, **{name: f"{self.prefix}{field}" for name, field in optional.items() if name}}

    def text_fields(self) -> dict[str, str]:
        """Return {column: setting} of the columns that hold identifiers: prompt, response, slices."""
        ids = {self.prompt: "prompt", self.response: "response"} | dict.fromkeys(self.slices, "slices")
        return {name: f"{self.prefix}{field}" for name, field in ids.items() if name}

    def fields(self) -> dict[str, str]:
        """Return {column: setting} of all columns."""
        return {**self.number_fields(), **self.text_fields()}


class Place(NamedTuple):
    """Where a column stands, for messages.

    field: the setting that names it.
    first: the number of its first row in the table.
    prefix: of settings, as in `Wanted`.
    """

    field: str
    column: str
    first: int = 0
    prefix: str = ""

    def error(self, problem: str) -> InputError:
        """Return the error of a whole column."""
        return InputError(f"{self.field}: column '{self.column}' {problem}")

    def row_error(self, row: int, problem: str) -> InputError:
        """Return the error of one row of it; messages count rows from 1."""
        return InputError(f"{self.field}: column '{self.column}', row {self.first + row + 1}{problem}")


def need(known: Sequence[str], wanted: Wanted, hint: str = "") -> None:
    """Raise `InputError` for a wanted column that is not there, or twice; the hint says what else may be wrong."""
    for column, field in wanted.fields().items():
        if column not in known:
            all_of_them = len(known) <= NAMED or difflib.get_close_matches(column, known, n=1)
            some = list(known) if all_of_them else [*known[:NAMED], "..."]
            raise InputError(f"{field}: {unknown_name('column', column, some)}{hint}")
        if (count := known.count(column)) > 1:
            raise InputError(f"{field}: the table has {count} columns named '{column}'")
