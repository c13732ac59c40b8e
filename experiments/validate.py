"""QUESTION: does the simulator give what is known without it: closed forms and published numbers?

    python -m experiments.validate
    python -m experiments.validate 'cases=[V1a,V9]'

Expect every row to pass. A row shows the number of its kind that is farthest off; every number is in the CSV file. The
exit code is 3 if a check fails. For a problem of your own, see docs/validation.md.
"""

import csv
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments.options import options_command
from sim.config import InputError, knob
from sim.plots.report import write_whole
from sim.validation.check import HEADER
from sim.validation.run import CASES, table, validate

FAILED = 3  # exit code; bad input is 1


@dataclass
class Validate:
    """Which cases, and where every number is written."""

    cases: Any = knob(None, "case or list of cases, such as [V1a,V9]; empty: all")
    out: str = knob("results/validate/checks.csv", "file for every number; empty: none")


@options_command("validate", Validate)
def main(options: Validate) -> None:
    """Run the cases, print one table, write every number, and exit with 3 where a check fails."""
    names = read_names(options.cases)
    with tqdm(total=len(names), desc="validating", unit="case") as bar:
        checks = validate(names, lambda _: bar.update())
    print(shown(table(checks)))
    failed = [check for check in checks if not check.passed]
    print(f"\n{len(checks)} checks of {sum(len(check.got) for check in checks)} numbers; {len(failed)} failed")
    if options.out:
        write_table(Path(options.out), [HEADER, *table(checks, every=True)])
        print(f"every number: {options.out}")
    if failed:
        sys.exit(FAILED)


def read_names(cases: Any) -> list[str]:
    """Return the cases asked for, or raise `InputError` for what is no list of names."""
    if cases in (None, "", []):
        return list(CASES)
    names = cases if isinstance(cases, list) else [cases]
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"cases = {cases}: must be names, such as [V1a,V9]")
    return names


def shown(lines: list[list[str]]) -> str:
    """Return the table as text: aligned, with the source of a case on a line of its own."""
    source = HEADER.index("source")
    bare = [line[:source] + line[source + 1 :] for line in [HEADER, *lines]]
    known = [line for line in bare if line[-1] != "not reproduced"]  # a reason is longer than any column
    widths = [max(len(line[column]) for line in known) for column in range(len(bare[0]))]
    found, before = [], ""
    for line, whole in zip(bare, [HEADER, *lines], strict=True):
        if whole[0] not in (before, "case"):
            found.append(f"\n{whole[0]}  source: {whole[source]}")
        before = whole[0]
        if line[-1] == "not reproduced":
            found.append(f"{line[0]:{widths[0]}}  NOT REPRODUCED: {line[1]}\n{'':{widths[0]}}  {line[2]}")
        else:
            found.append("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
    return "\n".join(found)


def write_table(path: Path, lines: list[list[str]]) -> None:
    """Write the lines as CSV, whole or not at all."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.getvalue())
    except OSError as error:
        raise InputError(f"out = {path}: cannot be written ({error.strerror or error})") from None


if __name__ == "__main__":
    main()
