"""One self-contained HTML page: a question, a table of headline numbers, figures, and the command that made them."""

import base64
import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from sim.config import InputError

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; margin: 1rem 0 }} td, th {{ padding: .25rem .8rem; text-align: left }}
tr:nth-child(even) {{ background: #f4f4f4 }} td + td {{ font-variant-numeric: tabular-nums }}
caption {{ text-align: left; font-weight: bold }} .wide {{ overflow-x: auto; font-size: .85rem }}
.warning {{ border-left: .3rem solid #D55E00; padding-left: .7rem }}
img {{ max-width: 100% }} figure {{ margin: 2rem 0 }} figcaption {{ color: #555 }} code {{ background: #f0f0f0 }}
</style></head><body>
<h1>{title}</h1><p>{question}</p>
{notes}
<table><tr><th>headline</th><th>value</th></tr>{rows}</table>
{tables}
{figures}
<p>Made by <code>{command}</code></p>
</body></html>
"""


def write_report(
    path: Path,
    title: str,
    question: str,
    headlines: Mapping[str, str],
    figures: Sequence[tuple[Path, str]],
    command: str,
    tables: Sequence[tuple[str, Sequence[Sequence[str]]]] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write the page; figures are (PNG, caption) and are embedded, all text is escaped.

    Tables are (caption, rows), the first row being the header. Notes are warnings and stand first.
    """
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in headlines.items())
    pictures = "".join(
        f'<figure><img alt="{escape(caption, quote=True)}" src="data:image/png;base64,'
        f'{base64.b64encode(png.read_bytes()).decode()}"><figcaption>{escape(caption)}</figcaption></figure>'
        for png, caption in figures
    )
    page = PAGE.format(
        title=escape(title),
        question=escape(question),
        rows=rows,
        figures=pictures,
        command=escape(command),
        notes="".join(f'<p class="warning">{escape(note)}</p>' for note in notes),
        tables="".join(_table(caption, lines) for caption, lines in tables),
    )
    write_whole(path, page)


def _table(caption: str, lines: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = row(lines[0], "th") + "".join(row(cells, "td") for cells in lines[1:])
    return f'<div class="wide"><table><caption>{escape(caption)}</caption>{body}</table></div>'


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a reader never finds half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def writable(folder: str) -> Path:
    """Make the folder, or raise `InputError`: before the work, not after it."""
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path):
            pass
    except OSError as error:
        raise InputError(f"{folder}: cannot write a folder there ({error.strerror})") from None
    return path


@contextlib.contextmanager
def all_or_nothing(folder: Path) -> Iterator[Path]:
    """Give a temporary folder whose files move into `folder` when all have been written."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as temporary:
        yield Path(temporary)
        for file in sorted(Path(temporary).iterdir()):
            file.replace(folder / file.name)
