"""The gate: conditions such as `critical_weight<0.2` on the numbers of an audit.

A condition is one metric, one comparison, one number. Nothing is evaluated: the text is matched, and the rest is an
error. A number that the audit could not find fails its condition: missing data never passes.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sim.config import InputError, shown, unknown_name

CONDITION = re.compile(
    r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*(<=|>=|<|>)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|inf)\s*"
)


class Condition(NamedTuple):
    """Fail where `metric` `comparison` `bound`."""

    metric: str
    comparison: str
    bound: float


class Verdict(NamedTuple):
    """A condition, the number it was held against, and whether the audit fails by it."""

    condition: str
    value: float
    failed: bool


def parse(text: str) -> Condition:
    """Return the condition that a text states, or raise `InputError`."""
    match = CONDITION.fullmatch(text)
    if match is None:
        raise InputError(
            f"fail_on: '{shown(text)}' is not like critical_weight<0.2 (a metric, one of < <= > >=, a number)"
        )
    return Condition(match[1], match[2], float(match[3]))


def parse_all(texts: object) -> list[Condition]:
    """Return the conditions of the option `fail_on`: none, one text (several between commas), or a list of them."""
    if texts is None or texts == "":
        return []
    given = [texts] if isinstance(texts, str) else texts
    if not isinstance(given, list | tuple) or not all(isinstance(text, str) for text in given):
        raise InputError(f"fail_on = {shown(texts)}: must be like critical_weight<0.2, or a list of such")
    return [parse(part) for text in given for part in text.split(",")]


def judge(conditions: Sequence[Condition], metrics: Mapping[str, float | None]) -> list[Verdict]:
    """Return a verdict a condition, or raise `InputError` for an unknown metric."""
    found = []
    for condition in conditions:
        if condition.metric not in metrics:
            raise InputError(f"fail_on: {unknown_name('metric', condition.metric, list(metrics))}")
        given = metrics[condition.metric]
        value = math.nan if given is None else float(given)
        holds = {
            "<": value < condition.bound,
            "<=": value <= condition.bound,
            ">": value > condition.bound,
            ">=": value >= condition.bound,
        }[condition.comparison]
        text = f"{condition.metric}{condition.comparison}{condition.bound:g}"
        found.append(Verdict(text, value, holds or math.isnan(value)))
    return found
