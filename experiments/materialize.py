"""QUESTION: what exactly did run N of a sweep do? Re-creates the folder that a run of its own would have.

    python -m experiments.materialize sweep=PATH job=17

Trains the run again, checks that it ends where the sweep says, and writes into PATH/17: .hydra/config.yaml,
.hydra/overrides.yaml (what the sweep varies), metrics.csv, ledger.csv and figures.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments.app import command_line
from experiments.options import need, options_command
from experiments.train import write_run
from sim.config import InputError, Settings, knob
from sim.pipeline import simulate_problem
from sim.plots.report import write_whole
from sim.sweep.plan import flatten
from sim.sweep.rerun import agrees, stored_run
from sim.sweep.results import Store, open_sweep
from sim.sweep.select import varying
from sim.training.threads import use_one_thread


@dataclass
class Materialize:
    """Which run."""

    sweep: str = knob("", "the folder of a sweep")
    job: Any = knob(None, "the number of a run in it")
    out: str = knob("", "folder to write; empty: named by the job number, in the sweep's folder")


@options_command("materialize", Materialize)
def main(options: Materialize) -> None:
    """Run it again, check it, write its folder."""
    need(options, "sweep", "job")
    if not isinstance(options.job, int) or isinstance(options.job, bool):
        raise InputError(f"job = {options.job}: must be a whole number")
    use_one_thread()
    stored = stored_run(options.sweep, options.job)
    data, problem = simulate_problem(stored.settings)
    final = float(data[stored.headline].isel(run=0, step=-1))
    agrees(final, stored, Store(options.sweep).manifest())
    out = Path(options.out or Path(options.sweep) / str(options.job))
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_run(data, out, command_line("experiments.materialize"), problem.reports)
        for name, text in hydra_files(stored.settings, swept_keys(options.sweep)).items():
            write_whole(out / ".hydra" / name, text)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror or error})") from None
    print(f"{data[stored.headline].long_name}: {final:.6g}, as stored   {out}")


def swept_keys(path: str) -> list[str]:
    """Return the settings that differ between the runs of a sweep."""
    data = open_sweep(path)
    return [*varying(data), *(["seed"] if len(set(data["seed"].values.tolist())) > 1 else [])]


def hydra_files(settings: Settings, swept: list[str]) -> dict[str, str]:
    """Return the text of config.yaml and overrides.yaml, as Hydra would write them."""
    flat = flatten(settings)
    overrides = [f"{key}={_quoted(flat[key])}" for key in swept if key in flat]
    return {
        "config.yaml": OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(settings))),
        "overrides.yaml": OmegaConf.to_yaml(OmegaConf.create(overrides)),
    }


def _quoted(value: Any) -> str:
    """Return a value as Hydra's command line reads it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and not value.replace("_", "").isalnum():
        escaped = value.replace("'", "\\'")
        return f"'{escaped}'"
    return str(value)


if __name__ == "__main__":
    main()
