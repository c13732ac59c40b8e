"""QUESTION: what does one mixture do?

    python -m experiments.train mixture.weights.thumbs_up=0.3 memory.share=1
    python -m experiments.train -m mixture.weights.thumbs_up=0,0.1,0.2,0.3

Writes into Hydra's run folder: settings (.hydra/config.yaml), metrics.csv (a row per recorded
step), ledger.csv, reward_models.csv (how well the learned signals predict held-out votes), figures.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig

from experiments.app import command, command_line
from sim.config import Settings, knob
from sim.pipeline import simulate_problem
from sim.rewards.learned import Reports

if TYPE_CHECKING:
    import xarray as xr


@dataclass
class Train(Settings):
    """One run, and what to write of it."""

    figures: bool = knob(True, "true: draw figures (the batched launcher draws none; experiments.plot does)")


@command("config", Train)
def main(settings: Train) -> float:
    """Train one policy, write its tables and figures, return the final headline metric (for sweepers)."""
    data, problem = simulate_problem(settings)
    reports = problem.reports
    out = Path(HydraConfig.get().runtime.output_dir)
    write_run(data, out, command_line("experiments.train"), reports, settings.figures)
    name = data.attrs["headline"]
    start, end = (float(data[name].isel(run=0, step=step)) for step in (0, -1))
    print(f"{data[name].long_name}: {start:.3f} -> {end:.3f}   {out}")
    for line in report_lines(reports):
        print(line)
    return end


def report_lines(reports: Reports) -> list[str]:
    """Return a line for each reward model: what it was fitted to, and how it did on held-out data."""
    return [
        f"reward model {name}: {found['fitted_on']:.0f} outcomes; held out {found['held_out']:.0f}: "
        f"accuracy {found['accuracy']:.3f}, AUC {found['auc']:.3f}, calibration slope {found['calibration_slope']:.2f}"
        for name, found in reports.items()
    ]


def write_run(data: "xr.Dataset", out: Path, command: str, reports: Reports, figures: bool = True) -> None:
    """Write metrics.csv, ledger.csv, reward_models.csv and, if wanted, two figures of the only run in `data`."""
    import pandas as pd

    from sim.plots.report import all_or_nothing

    run = data.isel(run=0)
    with all_or_nothing(out) as folder:
        run.drop_dims(["interval", "cause"], errors="ignore").to_dataframe().to_csv(folder / "metrics.csv")
        if "ledger" in run:
            run["ledger"].to_pandas().to_csv(folder / "ledger.csv")
        if reports:
            table = pd.DataFrame(reports).T
            table.to_csv(folder / "reward_models.csv", index_label="signal")
        if figures:
            _draw(run, folder, command)


def _draw(run: "xr.Dataset", folder: Path, command: str) -> None:
    from sim.plots.run import ledger_figure, metrics_figure  # a sweep draws nothing and need not load matplotlib
    from sim.plots.style import save

    save(metrics_figure(run), folder, "metrics", command)
    if "ledger" in run:
        save(ledger_figure(run), folder, "ledger", command)


if __name__ == "__main__":
    main()
