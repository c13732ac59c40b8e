"""What an audit is asked: which columns, which mixture, how much pressure."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from sim.checks import out_of_range, plain, wrong_kind
from sim.config import DECIMALS, SEPARATORS, InputError, knob, shown

MISSING = ("refuse", "drop_response", "drop_prompt")
DEFAULT_KL = 0.5


@dataclass
class Audit:
    """The questions of one audit. Columns are named as in the table; '-column' stands for its negative."""

    signals: Any = knob(None, "{column of a primary signal: its weight}, or a list of columns for equal weights", low=0)
    add: str = knob("", "column of the signal whose addition is studied")
    attribute: Any = knob("", "column of the attribute that must not rise, or a list whose first is that one")
    weight: float = knob(0.2, "planned weight of the added signal", low=0)
    renormalize: bool = knob(True, "true: adding w scales the others by 1 - w; false: w comes on top")
    scale: str = knob("none", "word; std divides each signal by its spread in the table", choices=("none", "std"))
    kl: Any = knob(None, "nats per prompt that training moves the primary mixture; none: 0.5 unless kl_coef is given")
    kl_coef: Any = knob(None, "reward per nat, the planned coefficient; none: the one at which `kl` is reached")
    max_weight: float = knob(1.0, "largest weight of the added signal that is looked at", above=0)
    points: int = knob(21, "weights from 0 to max_weight", low=3, high=201)
    prompt: str = knob("prompt_id", "column that names the prompt")
    response: str = knob("response_id", "column that names the response; empty: repeats are not looked for")
    reference_prob: str = knob("", "column with the reference probability; empty: uniform")
    prompt_weight: str = knob("", "column with the prompt's weight; empty: uniform")
    separator: str = knob(",", "word, or a character between the cells of a CSV file", choices=SEPARATORS)
    decimal: str = knob(".", "decimal sign of numbers written as text", choices=DECIMALS)
    slices: Any = knob(None, "column, or list of columns, that group prompts")
    features: Any = knob(
        None, "columns of what the policy can act on, alike in all prompts; none: each answer by itself"
    )
    missing: str = knob("refuse", "word: what a missing score does", choices=MISSING)
    resamples: int = knob(
        1000, "bootstrap draws of the prompts", "usual for percentile intervals (Efron & Tibshirani 1993)", low=100
    )
    level: float = knob(0.9, "coverage of the intervals", above=0.5, high=0.999)
    seed: int = knob(0, "of the bootstrap", low=0)

    def __post_init__(self) -> None:
        """Turn a list of signals into equal weights that sum to 1."""
        if isinstance(self.signals, list | tuple) and all(isinstance(name, str) for name in self.signals):
            self.signals = {name: 1 / len(self.signals) for name in self.signals}

    @property
    def attributes(self) -> list[str]:
        """The attribute columns, the feared one first."""
        return _names(self.attribute)

    @property
    def slice_columns(self) -> list[str]:
        """The columns that group prompts."""
        return _names(self.slices)

    @property
    def feature_columns(self) -> list[str]:
        """The columns of shared traits."""
        return _names(self.features)

    @property
    def signal_columns(self) -> list[str]:
        """The primary signals, then the added one."""
        return [*self.signals, self.add]


def _names(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) else list(value)


def check_audit(options: Audit) -> Audit:
    """Return the options in Python's own numbers, or raise `InputError` with every problem, a line each."""
    options = plain(options)
    found = [line for item in dataclasses.fields(Audit) for line in _problems(item, getattr(options, item.name))]
    if not found:
        found = _cross_checks(options)
    if found:
        raise InputError(*found)
    return options


def _problems(item: "dataclasses.Field[Any]", value: Any) -> list[str]:
    """Return a line for a value of the wrong kind or out of range."""
    name, limits = item.name, item.metadata
    if name == "signals":
        if not isinstance(value, dict) or not value or not all(isinstance(key, str) for key in value):
            return ["signals: has to be given, like {helpfulness: 0.5, correctness: 0.5}"]
        return [line for key, entry in value.items() for line in _wrong(f"signals.{key}", entry, limits, float)]
    if name in ("kl", "kl_coef"):
        return [] if value is None else _wrong(name, value, {"above": 0}, float)
    if name in ("attribute", "slices", "features"):
        entries = _names(value) if isinstance(value, str | list | tuple) or value is None else [value]
        return (
            []
            if all(isinstance(entry, str) for entry in entries)
            else [f"{name} = {shown(value)}: must be column names"]
        )
    kind = next(kind for kind in (bool, str, int, float) if item.type in (kind, kind.__name__))
    return _wrong(name, value, limits, kind)


def _wrong(name: str, value: Any, limits: Any, kind: type) -> list[str]:
    text = wrong_kind(value, kind) or out_of_range(value, limits)
    return [f"{name} = {shown(value)}: {text}"] if text else []


def _cross_checks(options: Audit) -> list[str]:
    found = []
    if not options.add:
        found.append("add: has to be given, the column of the signal whose addition is studied")
    if not options.attributes:
        found.append("attribute: has to be given, the column of what must not rise")
    if options.add in options.signals:
        found.append(f"add = {options.add}: is already among the signals; its weight is the option weight")
    for name, entries in (
        ("attribute", options.attributes),
        ("slices", options.slice_columns),
        ("features", options.feature_columns),
    ):
        if len(set(entries)) < len(entries):
            found.append(f"{name}: a column is named twice")
    if not any(options.signals.values()):
        found.append("signals: at least one needs a weight above 0")
    if options.kl is not None and options.kl_coef is not None:
        found.append("kl, kl_coef: give one of them; each follows from the other")
    if options.renormalize and options.max_weight > 1:
        found.append(f"max_weight = {options.max_weight}: must be <= 1 to renormalize")
    if options.weight > options.max_weight:
        found.append(f"weight = {options.weight}: must be <= max_weight = {options.max_weight}")
    return found
