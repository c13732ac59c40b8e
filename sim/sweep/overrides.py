"""A job's overrides, told apart: those that shape its config, and those that set a value in it; and what is wrong."""

from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType

from sim.config import InputError, Settings
from sim.derived import batched_values

NAMED_JOBS = 5  # how many jobs a complaint names


class Reader:
    """Splits a job's overrides; every distinct string is parsed once."""

    def __init__(self, parser: OverridesParser, is_group: Callable[[str], bool]) -> None:
        """Take Hydra's parser, and what says whether a key is a config group."""
        self.parser, self.is_group = parser, is_group
        self.parsed: dict[str, tuple[str, Any] | None] = {}
        self.groups: dict[str, bool] = {}
        self.batched: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[list[int], list[int]]] = {}

    def split(self, job: Sequence[str]) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Return the structural override strings and the leaf values by key (the last one wins)."""
        structural: list[str] = []
        leaves: dict[str, Any] = {}
        for text in job:
            if text not in self.parsed:
                self.parsed[text] = self._leaf(self.parser.parse_override(text))
            leaf = self.parsed[text]
            if leaf is None:
                structural.append(text)
            else:
                leaves[leaf[0]] = leaf[1]
        return tuple(structural), leaves

    def _leaf(self, override: Override) -> tuple[str, Any] | None:
        """Return (key, value) of an override that sets one existing number, word or truth value; else None."""
        key, value = override.key_or_group, override.value()
        plain = override.type == OverrideType.CHANGE and override.package is None and not key.startswith("hydra.")
        if not plain or not (value is None or isinstance(value, bool | int | float | str)):
            return None
        if isinstance(value, str) and "${" in value:
            return None
        if key not in self.groups:
            self.groups[key] = self.is_group(key)
        return None if self.groups[key] else (key, value)

    def partition(
        self,
        settings: Settings,
        interpolated: bool,
        structural: tuple[str, ...],
        keys: tuple[str, ...],
        given: tuple[Any, ...],
    ) -> tuple[tuple[tuple[str, Any], ...], tuple[Any, ...]]:
        """Return (fixed key-value pairs that split groups, values of the batched keys in the order of `keys`).

        Args:
            settings: of the structural overrides.
            interpolated: whether a value of theirs may depend on a swept one: nothing is batched then.
            structural: overrides.
            keys: of the leaf overrides.
            given: their values.
        """
        index = self.batched.get((structural, keys))
        if index is None:
            columns = {} if interpolated else batched_values(settings)
            index = (
                [i for i, key in enumerate(keys) if key not in columns],
                [i for i, key in enumerate(keys) if key in columns],
            )
            self.batched[structural, keys] = index
        return tuple((keys[i], given[i]) for i in index[0]), tuple(given[i] for i in index[1])


class Complaints:
    """Distinct problems, each with the jobs that it concerns."""

    def __init__(self) -> None:
        """Start without any."""
        self.jobs: dict[str, list[int]] = {}

    def add(self, text: str, *numbers: int) -> None:
        """Note a problem a line, and the jobs that have it."""
        for line in text.splitlines():
            self.jobs.setdefault(line, []).extend(numbers)

    def raise_if_any(self) -> None:
        """Raise `InputError` with a line for each problem and the first of its jobs."""
        if not self.jobs:
            return
        lines = []
        for text, numbers in self.jobs.items():
            shown = ", ".join(map(str, numbers[:NAMED_JOBS])) + (", ..." if len(numbers) > NAMED_JOBS else "")
            lines.append(f"  - {text}  (job {shown})")
        raise InputError("Invalid sweep, nothing was run:", *lines)
