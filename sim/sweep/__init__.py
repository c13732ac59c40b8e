"""Floor 6: many runs. Job overrides become groups of columns, run in batches, written as they finish."""

from collections.abc import Callable
from typing import Any


def batched(convert: Callable[[Any], Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Mark a Hydra task function as one whose runs may be batched; `convert` makes settings of a composed config."""

    def mark(task: Callable[..., Any]) -> Callable[..., Any]:
        task.batched_convert = convert  # type: ignore[attr-defined]
        return task

    return mark
