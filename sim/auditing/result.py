"""What an audit hands back: a report of plain numbers and words, and ways to write it."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sim.auditing.gate import Verdict
from sim.config import InputError
from sim.world.arrays import Array

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SCHEMA_VERSION = 1
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet runs what begins so (OWASP, CSV injection)
METRICS = {
    "critical_weight": "least weight above which the net push on the attribute is upward, at the reference",
    "critical_weight_low": "lower end of its interval",
    "critical_weight_high": "upper end of its interval",
    "critical_weight_at_kl": "the same, at the policy that the primary mixture leads to at the chosen KL",
    "critical_weight_at_kl_low": "lower end of its interval",
    "critical_weight_at_kl_high": "upper end of its interval",
    "critical_weight_trained": "least weight above which the trained policy's attribute lies above the reference's",
    "critical_weight_trained_low": "lower end of its interval",
    "critical_weight_trained_high": "upper end of its interval",
    "critical_weight_shared": "the same at the reference, for a policy that acts on the named features alone",
    "critical_weight_shared_low": "lower end of its interval",
    "critical_weight_shared_high": "upper end of its interval",
    "push_shared": "net push at the planned weight, for a policy that acts on the named features alone",
    "push_shared_low": "lower end of its interval",
    "push_shared_high": "upper end of its interval",
    "check_strength": "push of the primary signals against the added one's, at the planned weight and the reference",
    "push": "net push on the attribute at the planned weight and the reference",
    "push_low": "lower end of its interval",
    "push_high": "upper end of its interval",
    "drift": "predicted change of the attribute at the planned weight and kl_coef",
    "drift_low": "lower end of its interval",
    "drift_high": "upper end of its interval",
    "kl": "KL at the planned weight and kl_coef, nats per prompt",
    "penalty": "least penalty per unit of the attribute that keeps it from rising at the planned weight and kl_coef",
    "influence": "share of the mixed reward's variance that is the added signal's, at the planned weight",
    "decisions_changed": "share of best-of-n choices that would be others without the added signal",
    "effective_sample_size": "answers per prompt that carry the prediction at the planned weight and kl_coef",
    "supported": "share of prompt weight whose candidates carry that prediction",
    "dropped_responses": "responses left out for missing scores",
    "dropped_prompts": "prompts left out altogether for missing scores",
}


class AuditResult(NamedTuple):
    """The outcome of an audit.

    report: the content of the JSON report; infinite and unknown numbers are None, with a word beside them.
    verdicts: of the gate's conditions.
    draws: name -> bootstrap draws [B] of the main numbers; audits of the same prompts share their draws.
    """

    report: dict[str, Any]
    verdicts: list[Verdict]
    draws: dict[str, Array]

    @property
    def failed(self) -> bool:
        """Whether a condition of the gate is met, or could not be decided."""
        return any(verdict.failed for verdict in self.verdicts)

    def to_json(self, path: str | Path | None = None) -> str:
        """Return the report as JSON, and write it where a path is given (docs/audit.schema.json describes it)."""
        gate = [verdict._asdict() for verdict in self.verdicts]
        text = json.dumps(plain(self.report | {"gate": gate}), indent=1, allow_nan=False)
        if path is not None:
            from sim.plots.report import write_whole

            try:
                write_whole(Path(path), text + "\n")
            except OSError as error:
                raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
        return text

    def to_dataframe(self) -> "pd.DataFrame":
        """Return the predictions as a tidy table: a row per method, mixture, pressure and column."""
        import pandas as pd

        rows = [
            {key: cell[key] for key in ("method", "weight", "kl_coef", "n", "kl", "effective_sample_size", "supported")}
            | {"column": name, "reference": found["reference"], "predicted": found["value"]}
            | {"change": found["change"]["value"], "low": found["change"]["low"], "high": found["change"]["high"]}
            for cell in self.report["predictions"]
            for name, found in cell["values"].items()
        ]
        return pd.DataFrame(rows)

    def figures(self) -> "dict[str, tuple[Figure, str]]":
        """Return the figures with their captions, by name."""
        from sim.plots.audit import audit_figures

        return audit_figures(self.report)

    def __str__(self) -> str:
        """Return the headline numbers as text."""
        lines = headlines(self.report)
        width = max(map(len, lines))
        return "\n".join(f"{name:{width}s}  {value}" for name, value in lines.items())


def plain(value: Any) -> Any:
    """Return the value with everything that JSON has no word for as None."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def safe_cell(value: Any) -> Any:
    """Return a CSV cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def safe_csv(table: "pd.DataFrame") -> str:
    """Return the table as CSV with every text cell and column name made harmless."""
    return table.map(safe_cell).rename(columns=safe_cell).to_csv(index=False)


def number(value: float | None, digits: int = 3) -> str:
    """Return a number as people read it."""
    if value is None or math.isnan(value):
        return "unknown"
    return f"{value:.{digits}g}" if math.isfinite(value) else "no weight"


def with_interval(found: dict[str, Any], digits: int = 3) -> str:
    """Return 'value (low to high)'; a critical weight without a finite end says so."""
    text = number(found["value"], digits)
    if found["low"] is None or math.isnan(found["low"]):
        return f"{text} (no interval)"
    return f"{text} ({number(found['low'], digits)} to {number(found['high'], digits)})"


def headlines(report: dict[str, Any]) -> dict[str, str]:
    """Return the headline numbers as text, by name."""
    options, metrics, counts = report["options"], report["metrics"], report["sample"]
    add, attribute, weight = options["add"], report["attributes"][0], options["weight"]
    percent = f"{options['level'] * 100:g} %"
    found = {
        "sample": f"{counts['prompts']} prompts, {counts['responses']} responses"
        + (f"; left out {counts['dropped_responses']} responses" if counts["dropped_responses"] else "")
    }
    for entry in report["critical_weight"]:
        if entry["attribute"] == attribute:
            found[f"critical weight of {add}, {entry['at']}"] = f"{with_interval(entry)}  {entry['status']}"
    planned = {
        key: metrics[name]
        for key, name in zip(("value", "low", "high"), ("drift", "drift_low", "drift_high"), strict=True)
    }
    found[f"change of {attribute} at weight {weight:g}"] = (
        f"{with_interval(planned)}, at KL {number(metrics['kl'])} nats"
    )
    found["least penalty that undoes it"] = f"{number(metrics['penalty'])} per unit of {attribute}"
    found[f"check strength at weight {weight:g}"] = (
        "nothing to hold" if math.isinf(metrics["check_strength"]) else number(metrics["check_strength"])
    )
    found[f"share of the reward's variance that is {add}'s"] = number(metrics["influence"])
    found["choices that change without it"] = number(metrics["decisions_changed"])
    found["effective answers per prompt"] = number(metrics["effective_sample_size"])
    found["intervals"] = f"{percent}, prompts resampled {options['resamples']} times"
    return found
