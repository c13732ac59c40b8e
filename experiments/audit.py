"""QUESTION: what would this mixture do to that attribute, judging by scored samples alone, before anything is trained?

    python -m experiments.audit scores=mine.parquet signals='{helpful: 0.5, correct: 0.5}' add=votes attribute=flattery
    python -m experiments.audit ... fail_on='critical_weight<0.2'       # a gate: exit code 3 where it fails
    python -m experiments.audit ... trainer_log=out/trainer_state.json  # what happened, beside the prediction

The table has a row per prompt and response. docs/audit.md explains every number; docs/audit.schema.json the JSON.
"""

import contextlib
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments.app import command_line
from experiments.options import need, options_command
from sim.auditing.gate import parse_all
from sim.auditing.options import Audit
from sim.auditing.page import page_tables
from sim.auditing.result import AuditResult, headlines, safe_csv
from sim.auditing.run import run_audit
from sim.auditing.trainer_log import lay_beside, read_trainer_log
from sim.config import DECIMALS, SEPARATORS, InputError, knob
from sim.plots.report import all_or_nothing, writable, write_report
from sim.plots.style import save

GATE_FAILED = 3  # exit code; bad input is 1


@dataclass
class AuditCommand(Audit):
    """An audit, where it reads and writes, and when it fails."""

    scores: str = knob("", "file: .csv, .parquet, .jsonl, a row per prompt and response")
    out: str = knob("results/audit", "folder for the page, the figures, the JSON report and the predictions")
    fail_on: Any = knob(None, "condition such as critical_weight<0.2, or a list: exit code 3 where one is met")
    trainer_log: str = knob("", "TRL's trainer_state.json (or its folder), to lay beside the prediction")
    log_names: Any = knob(None, "{signal: reward function}, where the log calls it otherwise")
    log_kl: str = knob("token", "word: what the logged kl is a mean over", choices=("token", "response"))


@options_command("audit", AuditCommand)
def main(options: AuditCommand) -> None:
    """Print the headline numbers, write the report, and exit with 3 where the gate fails."""
    need(options, "scores")
    conditions = parse_all(options.fail_on)
    log = read_trainer_log(options.trainer_log, options.log_kl) if options.trainer_log else None
    asked = Audit(**{item.name: getattr(options, item.name) for item in dataclasses.fields(Audit)})
    out = writable(options.out)
    with contextlib.closing(Bars()) as bars:
        result = run_audit(options.scores, asked, conditions, bars.tell)
    if log is not None:
        result.report["trainer"] = lay_beside(result.report, log, options.log_names)
    write(result, out)
    print(result)
    for warning in result.report["warnings"]:
        print(f"WARNING  {warning}")
    print(f"\nreport: {out / 'report.html'}")
    for verdict in result.verdicts:
        print(f"gate: {verdict.condition}  {'FAILED' if verdict.failed else 'passed'}  (found {verdict.value:.4g})")
    if result.failed:
        sys.exit(GATE_FAILED)


class Bars:
    """A progress bar a stage."""

    def __init__(self) -> None:
        """Start without one."""
        self.stage = ""
        self.bar: tqdm[Any] | None = None

    def tell(self, stage: str, total: int, more: int) -> None:
        """Show that so much more of a stage is done."""
        if stage != self.stage or self.bar is None:
            self.close()
            self.stage, self.bar = stage, tqdm(desc=stage, total=total or None, unit_scale=True, unit="")
        self.bar.update(more)

    def close(self) -> None:
        """Leave the last bar as it is."""
        if self.bar is not None:
            self.bar.close()


def write(result: AuditResult, out: Path) -> None:
    """Write the page, the JSON report, the predictions and the figures, all of them or none."""
    this = command_line("experiments.audit")
    with all_or_nothing(out) as folder:
        try:
            pictures = [(save(figure, folder, name, this), text) for name, (figure, text) in result.figures().items()]
            result.to_json(folder / "audit.json")
            (folder / "predictions.csv").write_text(safe_csv(result.to_dataframe()), encoding="utf-8")
        except OSError as error:
            raise InputError(f"out = {out}: cannot be written ({error.strerror or error})") from None
        write_report(
            folder / "report.html",
            "Thumbscale: audit",
            (__doc__ or "").splitlines()[0],
            headlines(result.report)
            | {f"gate {v.condition}": "FAILED" if v.failed else "passed" for v in result.verdicts},
            pictures,
            this,
            [(table.title, [table.header, *table.rows]) for table in page_tables(result.report)],
            result.report["warnings"],
        )


def quoted(arguments: list[str]) -> list[str]:
    """Return the arguments with quotes around what Hydra's grammar does not take bare: < and >, ; and commas."""
    found = []
    for text in arguments:
        name, _, value = text.partition("=")
        if name == "fail_on" and not value.startswith(("'", '"')) and any(sign in value for sign in "<>"):
            bare = value.removeprefix("[").removesuffix("]").replace("'", "").replace('"', "")
            text = f"fail_on='{bare}'"
        elif (name == "separator" and value in SEPARATORS) or (name == "decimal" and value in DECIMALS):
            text = f"{name}='{value}'"
        found.append(text)
    return found


if __name__ == "__main__":
    sys.argv[1:] = quoted(sys.argv[1:])
    main()
