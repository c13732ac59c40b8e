"""A world read from a table of scored responses: one row per prompt and response, in CSV, Parquet or JSON Lines.

The candidates of a prompt are taken as samples from the reference policy, so the softmax over them is the standard
empirical estimate of a tilted policy. Prompts may have different numbers of responses.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from sim import rng
from sim.config import InputError, Scores, shown, unknown_name
from sim.world.arrays import ABSENT, Array, World
from sim.world.formats import need_whole_lines
from sim.world.table import LARGEST, first_line

Signals = dict[str, Array]


def _read_csv(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, low_memory=False)  # which fills short lines up
    need_whole_lines(path)
    return table


def _read_jsonl(path: Path) -> pd.DataFrame:
    return pd.read_json(path, lines=True)


READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": _read_csv,
    ".parquet": pd.read_parquet,
    ".jsonl": _read_jsonl,
}


def read_table(path: str) -> pd.DataFrame:
    """Return the table, or raise `InputError` naming the file and what is wrong with it."""
    file = Path(path)
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        raise InputError(f"world.path = {path}: the ending must be one of {', '.join(READERS)}")
    if not file.is_file():
        raise InputError(f"world.path = {path}: no such file")
    try:
        table = reader(file)
    except pd.errors.EmptyDataError:
        raise InputError(f"world.path = {path}: the file is empty") from None
    except Exception as error:
        # Readers raise many kinds of error on a broken file; the user needs the file's name and the first line.
        raise InputError(f"world.path = {path}: cannot be read as {file.suffix[1:]} ({first_line(error)})") from None
    if table.empty:
        raise InputError(f"world.path = {path}: the table has no rows")
    return table


def make_scores(scores: Scores, table: pd.DataFrame) -> tuple[World, Signals]:
    """Return the world and its signals {name: [P, K]} from a table.

    Features [P, K, D] are the D columns that are named, standardised over the table, so that a log-linear policy can
    act on what is scored. Absent candidates (ragged K) get a log-probability of `ABSENT`, zero attributes and zero
    signals.

    Args:
        scores: which columns are what.
        table: a row per prompt and response.

    Raises:
        InputError: for an unknown, empty, non-numeric or duplicated column or row, naming it.
    """
    _need_columns(table, {"world.prompt": scores.prompt, "world.response": scores.response})
    if not scores.signals:
        raise InputError("world.signals: name at least one signal column (experiment=own_scores shows how)")
    if not scores.attributes:
        raise InputError("world.attributes: name at least one attribute column (experiment=own_scores shows how)")
    _need_distinct_rows(table, [scores.prompt, scores.response])
    prompt, ids = pd.factorize(table[scores.prompt])
    position = table.groupby(prompt, sort=False).cumcount().to_numpy()
    shape = (len(ids), int(position.max()) + 1)
    if shape[1] < 2:
        raise InputError(f"column '{scores.prompt}': every prompt has one response; a choice needs at least two")
    cell = (prompt, position)

    def fill(values: Array, absent: float = 0.0) -> Array:
        full = np.full(shape, absent)
        full[cell] = values
        return full

    signals = {name: fill(_signed(table, f"world.signals.{name}", text)) for name, text in scores.signals.items()}
    attributes = {
        name: fill(_finite(table, f"world.attributes.{name}", text)) for name, text in scores.attributes.items()
    }
    log_ref = fill(_log_reference(scores, table, prompt), ABSENT)
    prompt_prob = _prompt_prob(scores, table, prompt, len(ids))
    columns = dict.fromkeys(
        [*(text.removeprefix("-") for text in scores.signals.values()), *scores.attributes.values()]
    )
    features = np.stack([fill(_standardized(table[name])) for name in columns], axis=-1)
    world = World(prompt_prob, features, log_ref, attributes, prompts={"id": np.asarray(ids.astype(str))})
    return world, signals


def resample_prompts(world: World, seed: int) -> World:
    """Return the world with its prompts resampled with replacement (as weights): one bootstrap draw per seed."""
    count = len(world.prompt_prob)
    drawn = rng.stream(seed, "scores", "resample").multinomial(count, np.full(count, 1 / count))
    weight = world.prompt_prob * drawn
    return World(
        weight / weight.sum(), world.features, world.log_ref, world.attributes, world.prompts, world.true_quality
    )


def _need_columns(table: pd.DataFrame, wanted: Mapping[str, str]) -> None:
    for field, column in wanted.items():
        if column not in table.columns:
            raise InputError(f"{field}: {unknown_name('column', column, [str(name) for name in table.columns])}")


def _need_distinct_rows(table: pd.DataFrame, ids: list[str]) -> None:
    """Raise `InputError` for the first row whose ids are empty, no plain values, or those of another row."""
    for column in ids:
        odd = table[column].map(lambda value: isinstance(value, list | dict))
        for wrong, what in ((odd, "must be text or a number"), (table[column].isna(), "is empty")):
            if wrong.any():
                raise InputError(f"row {int(np.flatnonzero(wrong)[0]) + 1}: '{column}' {what}")
    repeated = table.duplicated(ids)
    if repeated.any():
        row = int(np.flatnonzero(repeated)[0])
        pair = tuple(str(table[column].iloc[row]) for column in ids)
        raise InputError(f"row {row + 1}: prompt and response {pair} occur twice")


def _numbers(table: pd.DataFrame, field: str, column: str) -> Array:
    """Return the column as floats, NaN where empty, or name the first row that is not a number."""
    _need_columns(table, {field: column})
    values = pd.to_numeric(table[column], errors="coerce")
    bad = values.isna() & table[column].notna()
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"{field}: column '{column}', row {row + 1}: '{shown(table[column].iloc[row])}' is not a number"
        )
    numbers = values.to_numpy(dtype=float)
    huge = np.isfinite(numbers) & (np.abs(numbers) > LARGEST)
    if huge.any():
        row = int(np.flatnonzero(huge)[0])
        raise InputError(f"{field}: column '{column}', row {row + 1}: {numbers[row]:g} is too large to be squared")
    return numbers


def _signed(table: pd.DataFrame, field: str, text: str) -> Array:
    values = _numbers(table, field, text.removeprefix("-"))
    if not np.isfinite(values).any():
        raise InputError(f"{field}: column '{text.removeprefix('-')}' has no number in it")
    return -values if text.startswith("-") else values


def _finite(table: pd.DataFrame, field: str, column: str) -> Array:
    values = _numbers(table, field, column)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InputError(f"{field}: column '{column}', row {row + 1}: missing or not finite")
    return values


def _standardized(column: pd.Series) -> Array:
    values = pd.to_numeric(column).to_numpy(dtype=float)
    known = values[np.isfinite(values)]
    scale = known.std() or 1.0
    return np.where(np.isfinite(values), (values - known.mean()) / scale, 0.0)


def _log_reference(scores: Scores, table: pd.DataFrame, prompt: npt.NDArray[np.int64]) -> Array:
    if not scores.reference_prob:
        return -np.log(np.bincount(prompt))[prompt]
    prob = _finite(table, "world.reference_prob", scores.reference_prob)
    if (prob <= 0).any():
        row = int(np.flatnonzero(prob <= 0)[0])
        raise InputError(f"world.reference_prob: row {row + 1}: {prob[row]} must be > 0")
    return np.log(prob / np.bincount(prompt, weights=prob)[prompt])


def _prompt_prob(scores: Scores, table: pd.DataFrame, prompt: npt.NDArray[np.int64], count: int) -> Array:
    if not scores.prompt_weight:
        return np.full(count, 1 / count)
    weight = _finite(table, "world.prompt_weight", scores.prompt_weight)
    first = weight[np.unique(prompt, return_index=True)[1]]
    if (weight < 0).any() or first.sum() <= 0:
        raise InputError(f"world.prompt_weight: column '{scores.prompt_weight}' must be >= 0 with a positive sum")
    if (weight != first[prompt]).any():
        row = int(np.flatnonzero(weight != first[prompt])[0])
        raise InputError(f"world.prompt_weight: row {row + 1}: differs from the weight of the same prompt above")
    return first / first.sum()
