"""The page of parameters: every dataclass with knobs, found in the code, a table each."""

import dataclasses
import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import experiments
import sim
from sim.config import Chat, Scores, Settings

HEADER = ["| setting | default | unit or meaning | range | source |", "|---|---|---|---|---|"]


def modules(*packages: Any) -> Iterator[Any]:
    """Yield every module of the packages but plugins, and of the commands those that have settings."""
    for package in packages:
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            source = importlib.util.find_spec(info.name).origin or ""  # type: ignore[union-attr]
            if "_plugins" not in info.name and (package is sim or "knob(" in Path(source).read_text()):
                yield importlib.import_module(info.name)


def knob_classes(*packages: Any) -> list[type]:
    """Return the dataclasses that have settings of their own, in the order of the modules."""
    found: dict[type, None] = {}
    for module in modules(*packages):
        for item in vars(module).values():
            if isinstance(item, type) and item.__module__ == module.__name__ and own_knobs(item):
                found[item] = None
    return list(found)


def own_knobs(kind: type) -> list[dataclasses.Field[Any]]:
    """Return the settings that a class adds to those of its parents."""
    if not dataclasses.is_dataclass(kind):
        return []
    inherited = {
        item.name for base in kind.__bases__ if dataclasses.is_dataclass(base) for item in dataclasses.fields(base)
    }
    return [item for item in dataclasses.fields(kind) if "unit" in item.metadata and item.name not in inherited]


def prefixes(roots: Iterable[type]) -> dict[type, str]:
    """Return class -> the dotted prefix of its settings, for every dataclass that is held by one of the roots."""
    found: dict[type, str] = {}
    for root in roots:
        for item in dataclasses.fields(root):
            if item.default_factory is dataclasses.MISSING or "unit" in item.metadata:
                continue
            value = item.default_factory()
            if dataclasses.is_dataclass(value) and type(value) not in found:
                start = found.get(root, "")
                found[type(value)] = f"{start}{item.name}."
                found |= {kind: f"{start}{item.name}.{tail}" for kind, tail in prefixes([type(value)]).items()}
    return found


def parameters_page() -> str:
    """Return the tables as Markdown: a run's settings first, then each command's and each review's own."""
    kinds = knob_classes(sim, experiments)
    inside = {Settings: ""} | prefixes([Settings])
    inside[Scores] = inside[Chat]  # two worlds, one place
    others = [kind for kind in kinds if kind not in inside]
    held = prefixes(others)
    lines = ["## A run", ""]
    for kind in [Settings, *(kind for kind in kinds if kind in inside and kind is not Settings)]:
        lines += table(kind, inside[kind])
    lines += ["## Commands and reviews", ""]
    for kind in others:
        lines += table(kind, held.get(kind, ""))
    return "\n".join(lines) + "\n"


def table(kind: type, prefix: str) -> list[str]:
    """Return one class as a heading, its docstring and a table."""
    title = f"### `{prefix}*` ({kind.__name__})" if prefix else f"### {kind.__name__}"
    summary = (kind.__doc__ or "").strip().split("\n\n")
    rows = [row(f"{prefix}{item.name}", item) for item in own_knobs(kind)]
    return [title, "", *[" ".join(text.split()) + "\n" for text in summary], *HEADER, *rows, ""]


def row(name: str, item: dataclasses.Field[Any]) -> str:
    """Return one setting as a row of the table."""
    default = item.default if item.default is not dataclasses.MISSING else item.default_factory()  # type: ignore[misc]
    known = item.metadata
    unit = known["unit"]
    if known.get("needs"):
        key, values = known["needs"]
        unit += f" (only where `{key}` is {' or '.join(map(str, values))})"
    cells = [f"`{name}`", shown(default), cell(unit), cell(limits(known)), cell(known["source"])]
    return f"| {' | '.join(cells)} |"


def shown(value: Any) -> str:
    """Return a default as a cell."""
    if isinstance(value, dict):
        return "<br>".join(f"`{key}: {held}`" for key, held in value.items()) or "(empty)"
    return f"`{value}`" if value not in ("", None) else "(empty)"


def limits(known: Any) -> str:
    """Return the allowed range in words."""
    if known.get("choices"):
        return ", ".join(known["choices"])
    low, high, above = (known.get(name) for name in ("low", "high", "above"))
    parts = [f"at least {low:,}" if low is not None else "", f"above {above:,}" if above is not None else ""]
    if low is not None and high is not None:
        return f"{low:,} to {high:,}"
    return ", ".join(filter(None, [*parts, f"at most {high:,}" if high is not None else ""])) or "any"


def cell(text: str) -> str:
    """Return text that cannot break a table."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
