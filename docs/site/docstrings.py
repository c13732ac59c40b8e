"""Docstrings as they are written here become reStructuredText.

Here an indented block is an equation, `this` is code, a row of `name: text` lines is a list, and *, | and _ are
themselves. The sections (Args, Raises) are left to Sphinx's napoleon.
"""

import re
from collections.abc import Iterator

SECTION = re.compile(r"(Args|Raises|Returns|Yields):$")
FIELD = re.compile(r"([a-z_]\w*(?:, [a-z_]\w*)*): (.*)")


def to_rst(lines: list[str]) -> list[str]:
    """Return the lines of a docstring as reStructuredText."""
    found: list[str] = []
    in_section = False
    for block in blocks(lines):
        if not block[0].startswith(" "):
            in_section = bool(SECTION.match(block[0]))
        if block[0].startswith(" ") and not in_section:
            found += ["::", "", *block]
        elif not in_section and FIELD.match(block[0]) and len(block) > 1:
            found += [field_item(line) for line in block]
        else:
            found += [escaped(line) for line in block]
        found.append("")
    return found


def blocks(lines: list[str]) -> Iterator[list[str]]:
    """Yield runs of lines between blank ones; an indented run stays with the runs of the same indent after it."""
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []


def field_item(line: str) -> str:
    """Return `name: text` as an item of a list; a line that goes on with the item before is indented."""
    match = FIELD.match(line)
    return f"* ``{match[1]}``: {escaped(match[2])}" if match else f"  {escaped(line.strip())}"


def escaped(line: str) -> str:
    """Return the line with its `code` as literals and everything else as plain text."""
    bullet, text = re.match(r"(\s*(?:[*-] )?)(.*)", line).groups()  # type: ignore[union-attr]
    parts = re.split(r"(`+[^`]+`+|(?<!\w)\*\w+\*(?!\w))", text)
    text = "".join(
        part if part.startswith("*") and part.endswith("*") and len(part) > 2 else plain(part) for part in parts
    )
    return bullet + re.sub(r"(?<=: )([A-Z]\.)$", r"\\\1", text)  # a letter and a dot would begin a numbered list


def plain(part: str) -> str:
    """Return `code` as a literal, anything else with what reStructuredText would read as markup escaped."""
    return f"``{part.strip('`')}``" if part.startswith("`") else re.sub(r"([\\*|`]|_(?!\w))", r"\\\1", part)
