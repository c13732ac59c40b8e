"""What is written at build from the code itself, so that it cannot be out of date.

Fragments (`docs/generated/_*.md`) are included by pages; the pages of the API are whole. Nothing of it is kept in git.
"""

import ast
import re
import shutil
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import jupytext

import sim
from docs.site.settings import cell, modules, parameters_page
from sim.config import Settings, with_value
from sim.pipeline import simulate
from sim.problem import prepare
from sim.validation.check import HEADER
from sim.validation.run import table

DOCS = Path(__file__).parent.parent
ROOT = DOCS.parent
GENERATED = DOCS / "generated"


def write_all() -> None:
    """Write everything, over what an earlier build left."""
    shutil.rmtree(GENERATED, ignore_errors=True)
    pages = {"_parameters": parameters_page(), "_metrics": metrics_page(), "_names": public_names()}
    pages["_validation"] = validation_page()
    pages |= {f"_{name}": "\n".join((ROOT / f"{name.upper()}.md").read_text().splitlines()[2:])
              for name in ("contributing", "changelog")}  # fmt: skip
    pages |= {f"_experiment_{path.stem}": experiment(path) for path in experiment_files()}
    pages["_experiments_other"] = other_experiments()
    pages |= {f"api/{place:02d}_{name.removeprefix('sim.')}": api_page(name) for place, name in enumerate(rooms())}
    for name, text in pages.items():
        file = GENERATED / f"{name}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    for path in notebooks():
        target = GENERATED / "notebooks" / f"{path.stem}.ipynb"
        target.parent.mkdir(exist_ok=True)
        jupytext.write(jupytext.read(path), target)


def notebooks() -> list[Path]:
    """Return the pages that are notebooks: they say so in their first lines."""
    return [path for path in sorted(DOCS.glob("*/*.md")) if "jupytext:" in path.read_text()[:100]]


def metrics_page() -> str:
    """Return a table of everything that a run of each world measures, from a small run of it."""
    small = {"world.prompts": 60, "training.steps": 2, "mixture.constraints": {"model_spec": 0.5}}
    chat = Settings()
    for key, value in small.items():
        chat = with_value(chat, key, value)
    splits = {name: metric.split for name, metric in prepare(chat, 0).metrics.items()}
    lines = ["| metric | what it is | unit | better | taken on |", "|---|---|---|---|---|"]
    rows: dict[str, str] = {}
    for name, values in simulate(chat).data_vars.items():
        known = values.attrs
        texts = [known["long_name"], known["units"], known.get("better") or ""]
        common = re.sub(r"rewards/\w+/", "rewards/NAME/", str(name))
        if common != name:
            texts = [re.sub(rf"\b{str(name).split('/')[1]}\b", "NAME", text) for text in texts]
        on = splits.get(str(name), "train" if "step" in values.dims else "")
        rows.setdefault(common, f"| `{common}` | {' | '.join(cell(text) for text in texts)} | {on} |")
    return "\n".join([*lines, *rows.values()])


def validation_page() -> str:
    """Return the table of `experiments.validate`, a part for each case, from a run of every case: a minute or two."""
    checks = sim.validate()
    failed = [check for check in checks if not check.passed]
    count = f"{len(checks)} checks of {sum(len(check.got) for check in checks)} numbers; {len(failed)} failed."
    case, source = HEADER.index("case"), HEADER.index("source")
    shown = [column for column in range(len(HEADER)) if column not in (case, source)]
    parts = [count]
    for name, lines in groupby(table(checks), key=itemgetter(case)):
        rows = list(lines)
        cells = [[cell(line[column]) for column in shown] for line in (HEADER, *rows)]
        cells.insert(1, ["---"] * len(shown))
        parts += [f"### {name}", rows[0][source], "\n".join(f"| {' | '.join(line)} |" for line in cells)]
    return "\n\n".join(parts)


def public_names() -> str:
    """Return a table of the names that `import sim` gives."""
    lines = ["| name | what it is |", "|---|---|"]
    for name in sim.__all__:
        summary = (getattr(sim, name).__doc__ or "").strip().split("\n\n")[0]
        where = getattr(sim, name).__module__
        lines.append(f"| {{py:obj}}`sim.{name} <{where}.{name}>` | {cell(' '.join(summary.split()))} |")
    return "\n".join(lines)


def rooms() -> list[str]:
    """Return the rooms of the house: in the reading order of `sim/__init__.py`, then any that it does not name."""
    named = re.findall(r"^\* `(sim\.\w+)`", sim.__doc__ or "", re.MULTILINE)
    every = [module.__name__ for module in modules(sim)]
    return list(dict.fromkeys([*named, *(".".join(name.split(".")[:2]) for name in every)]))


def api_page(room: str) -> str:
    """Return the page of one room: itself, then its modules."""
    names = [module.__name__ for module in modules(sim) if f"{module.__name__}.".startswith(f"{room}.")]
    parts = [f"# `{room}`"]
    for name in names:
        title = [] if name == room else [f"## `{name}`"]
        parts += [*title, f"```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n   :member-order: bysource\n```"]
    return "\n\n".join(parts)


def experiment_files() -> list[Path]:
    """Return the commands that answer a question."""
    files = sorted((ROOT / "experiments").glob("*.py"))
    return [path for path in files if docstring(path).startswith("QUESTION:")]


def experiment(path: Path) -> str:
    """Return the question of a command, how it is called and what to expect, out of its docstring."""
    question, *rest = docstring(path).split("\n\n")
    asked = " ".join(question.removeprefix("QUESTION:").split())
    parts = [f"**{asked[0].upper()}{asked[1:]}**"]
    for text in rest:
        commands = "\n".join(line.strip() for line in text.splitlines())
        parts.append(f"```bash\n{commands}\n```" if text.startswith("    ") else text)
    return "\n\n".join(parts)


def other_experiments() -> str:
    """Return the commands that the page of experiments does not take up one by one."""
    written = (DOCS / "reference" / "experiments.md").read_text()
    others = [path for path in experiment_files() if f"_experiment_{path.stem}.md" not in written]
    return "\n\n".join(f"### `experiments.{path.stem}`\n\n{experiment(path)}" for path in others)


def docstring(path: Path) -> str:
    """Return what a file says of itself."""
    return ast.get_docstring(ast.parse(path.read_text())) or ""
