"""QUESTION: which changes look good alone, and what do they do together?

    python -m experiments.interactions
    python -m experiments.interactions ~factors.fresher_data "+factors.weak_leash='kl_coef=0.025'"

All 2^n combinations of n changes, on the same random worlds. A change is a name with one or more settings. With the
defaults expect: each change alone ends below the reference policy's sycophancy rate (0.313) with true quality up; all
three together end about 0.01 above it, 0.03 more than the single effects add up to, most of it thumbs-up x memory.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy.special import logit

from experiments.app import command
from experiments.studies import measured, publish, refuse_multirun, run_variants, seed_list, show_table
from sim.analysis.interactions import additive, combinations, dividends, interaction_index, shapley
from sim.analysis.intervals import mean_interval
from sim.config import InputError, Settings, Training, knob
from sim.plots.interactions import Measure, combination_figure
from sim.plots.report import writable
from sim.variants import Variant, at_start, final, read_changes
from sim.world.arrays import Array

MOST = 8  # changes: 256 combinations
FACTORS = {
    "thumbs_up": "mixture.weights.thumbs_up=0.13",
    "memory": "memory.share=1",
    "fresher_data": "world.freshness=1",
}
LOG_ODDS = "log-odds"


@dataclass
class Interactions(Settings):
    """One run, and the changes whose combinations are trained."""

    factors: dict[str, str] = knob(FACTORS, "change: KEY=VALUE, several of them separated by spaces")
    seeds: int = knob(96, "random worlds, or bootstrap draws of a score table's prompts", low=2)
    out: str = knob("results/interactions", "folder for the figures, the report and the tables")


@command("interactions", Interactions)
def main(settings: Interactions) -> None:
    """Train every combination, print and write what each change and each group of changes adds."""
    refuse_multirun("interactions")
    changes = read_factors(settings)
    writable(settings.out)
    settings.training = ends_only(settings.training)
    rows = combinations(len(changes))
    variants = [merge([change for change, made in zip(changes.values(), row, strict=True) if made]) for row in rows]
    data = run_variants(settings, variants, seed_list(settings, settings.seeds))
    names = [name.replace("_", " ") for name in changes]
    measures = read_measures(data)
    table, terms = combination_table(rows, names, measures), term_table(rows, names, measures)
    show_table("combinations (90 % intervals over worlds)", shown_combinations(table, measures))
    show_table("terms", shown_terms(terms))
    figures = [
        (combination_figure(rows, names, measure), f"combinations_{index}", caption(measure))
        for index, measure in enumerate(measures.values())
    ]
    question = (__doc__ or "").splitlines()[0]
    headlines = headline_numbers(names, measures, table)
    tables = {"combinations": table, "terms": terms}
    publish(settings, "interactions", "Thumbscale: interactions", question, headlines, figures, tables)


def read_factors(settings: Interactions) -> dict[str, Variant]:
    """Return the changes by name, or raise `InputError` for one that cannot be made."""
    if not 1 <= len(settings.factors) <= MOST:
        raise InputError(f"factors: {len(settings.factors)} changes; between 1 and {MOST} can be combined")
    found: dict[str, Variant] = {}
    owner: dict[str, str] = {}
    for name, text in settings.factors.items():
        changes = read_changes(settings, f"factors.{name}", text)
        for key, values in changes.items():
            if len(values) > 1:
                raise InputError(f"factors.{name}: {key} needs one value, got {len(values)}")
            if key in owner:
                raise InputError(f"factors.{name}: {key} is already changed by factors.{owner[key]}")
            owner[key] = name
        found[name] = {key: values[0] for key, values in changes.items()}
    return found


def merge(changes: list[Variant]) -> Variant:
    """Return the changes as one."""
    return {key: value for change in changes for key, value in change.items()}


def ends_only(training: Training) -> Training:
    """Return the training with nothing recorded on the way: only its end is looked at."""
    training.ledger, training.record_every = False, training.steps
    return training


def read_measures(data: list[xr.Dataset]) -> dict[str, Measure]:
    """Return what is looked at: the headline metric, its log-odds where it is a rate, and true quality.

    On the log-odds scale the optimum is linear in the reward (the mixing law), so what is left there is interaction in
    the pushes themselves and not the bend of the logistic curve.
    """
    name = data[0].attrs["headline"]
    found = {name: _measure(data, name)}
    ends, starts = found[name].values, found[name].reference
    if (ends > 0).all() and (ends < 1).all() and (starts > 0).all() and (starts < 1).all():
        found[LOG_ODDS] = Measure(f"log-odds of {found[name].label}", "logits", "", logit(ends), logit(starts))
    if "true/quality" in data[0] and name != "true/quality":
        found["true/quality"] = _measure(data, "true/quality")
    return found


def _measure(data: list[xr.Dataset], name: str) -> Measure:
    look = data[0][name].attrs
    return Measure(look["long_name"], look["units"], look["better"], final(data, name), at_start(data, name))


def combination_table(rows: npt.NDArray[np.bool_], names: list[str], measures: dict[str, Measure]) -> pd.DataFrame:
    """Return a row per combination: what was changed, where each metric ended, and how that compares.

    `against_reference` compares with the policy before training, `additive` is what the single effects add up to.
    """
    table = pd.DataFrame(rows, columns=names)
    for key, measure in measures.items():
        for what, values in (("", measure.values), (" against_reference", measure.values - measure.reference)):
            mean, half = mean_interval(values)
            table[f"{key}{what}"], table[f"{key}{what} low"], table[f"{key}{what} high"] = (
                mean,
                mean - half,
                mean + half,
            )
        table[f"{key} additive"] = additive(measure.values.T).mean(axis=1)
    table["looks_good"] = looks_good(list(measures.values()))
    return table


def looks_good(measures: list[Measure]) -> list[str]:
    """Return for each combination: yes if every metric with a better direction ended on the better side.

    Better than the reference policy, by an interval that leaves out 0: "yes" if all are, "no" if one is worse,
    "unclear" otherwise. Metrics without a direction have no say.
    """
    gains = [
        mean_interval((m.values - m.reference) * (1 if m.better == "higher" else -1)) for m in measures if m.better
    ]
    better = np.all([mean - half > 0 for mean, half in gains], axis=0) if gains else None
    worse = np.any([mean + half < 0 for mean, half in gains], axis=0)
    if better is None:
        return ["no direction"] * measures[0].values.shape[1]
    return [str(word) for word in np.select([better, worse], ["yes", "no"], "unclear")]


def term_table(rows: npt.NDArray[np.bool_], names: list[str], measures: dict[str, Measure]) -> pd.DataFrame:
    """Return a row per metric and group of changes: its dividend, and its index over all backgrounds."""
    lines = []
    for key, measure in measures.items():
        per_seed = measure.values.T  # [combination, seed]
        parts = {"dividend": dividends(per_seed), "index": interaction_index(per_seed)}
        columns = {what: mean_interval(part.T) for what, part in parts.items()}
        for index in sorted(range(1, len(rows)), key=lambda row: (rows[row].sum(), row)):
            line = {"metric": key, "term": label(rows[index], names), "order": int(rows[index].sum())}
            for what, (mean, half) in columns.items():
                line |= {what: mean[index], f"{what} low": mean[index] - half[index]}
                line |= {f"{what} high": mean[index] + half[index]}
            lines.append(line)
    return pd.DataFrame(lines)


def label(row: npt.NDArray[np.bool_], names: list[str]) -> str:
    """Return the names of the changes that are made, or 'none'."""
    return " x ".join(name for name, made in zip(names, row, strict=True) if made) or "none"


def shown_combinations(table: pd.DataFrame, measures: dict[str, Measure]) -> pd.DataFrame:
    """Return the table of combinations as it is printed."""
    count = table.shape[1] - 1 - 7 * len(measures)
    names = [str(name) for name in table.columns[:count]]
    made = table[names].to_numpy(dtype=bool)
    shown = pd.DataFrame({"changes": [label(row, names) for row in made]})
    for key in measures:
        if key == LOG_ODDS:
            continue
        shown[key] = table[key].map("{:.3f}".format)
        shown["v reference"] = [
            measured(mean, (high - low) / 2)
            for mean, low, high in table[[f"{key} against_reference{end}" for end in ("", " low", " high")]].to_numpy()
        ]
        shown = shown.rename(columns={"v reference": f"{key} - reference"})
        shown[f"{key} if additive"] = table[f"{key} additive"].map("{:.3f}".format)
    return shown.assign(looks_good=table["looks_good"])


def shown_terms(terms: pd.DataFrame) -> pd.DataFrame:
    """Return the table of terms as it is printed."""
    shown = terms[["metric", "term"]].copy()
    for what, heading in (("dividend", "dividend"), ("index", "Shapley value or interaction index")):
        shown[heading] = [
            measured(mean, (high - low) / 2, 4)
            for mean, low, high in terms[[what, f"{what} low", f"{what} high"]].values
        ]
    return shown


def headline_numbers(names: list[str], measures: dict[str, Measure], table: pd.DataFrame) -> dict[str, str]:
    """Return the numbers that docs/interactions.md quotes, as text."""
    name, headline = next(iter(measures.items()))
    singles = 2 ** np.arange(len(names))
    found = {f"{headline.label}, reference policy": f"{headline.reference.mean():.3f}"}
    found["changes that look good alone"] = (
        ", ".join(label for label, row in zip(names, singles, strict=True) if table["looks_good"][row] == "yes")
        or "none"
    )
    found["all together look good"] = str(table["looks_good"].iloc[-1])
    for key, measure in measures.items():
        if key == LOG_ODDS:
            continue
        found[f"{measure.label}, all together against the reference"] = pair(
            measure.values[:, -1] - measure.reference[:, -1]
        )
    for measure in measures.values():
        found[f"{measure.label}, beyond the sum of single effects"] = pair(excess_over_additive(measure.values))
        for who, per_seed in zip(names, shapley(measure.values.T), strict=True):
            found[f"{measure.label}, Shapley value of {who}"] = pair(per_seed)
    found["runs"] = f"{measures[name].values.size} ({len(table)} combinations x {len(headline.values)} worlds)"
    return found


def excess_over_additive(values: Array) -> Array:
    """Return what all changes together come to beyond the sum of the single effects, per seed [N]."""
    return values[:, -1] - additive(values.T)[-1]


def pair(per_seed: Array) -> str:
    """Return mean and interval of one number per seed, as text."""
    mean, half = mean_interval(per_seed)
    return measured(float(mean), float(half))


def caption(measure: Measure) -> str:
    """Return the caption of a measure's figure."""
    return (
        f"{measure.label}: left, every combination; right, what each change and each group of changes adds. Bars: 90 % "
        "intervals over worlds."
    )


if __name__ == "__main__":
    main()
