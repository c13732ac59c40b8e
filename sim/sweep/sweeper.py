"""The Hydra sweeper `grid`: hands a whole grid to the launcher, and says at the end which runs failed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf

from sim.sweep.launcher import SweepError


class GridSweeper(Sweeper):
    """Hydra's grid, without composing every job to validate it (the launcher validates), plus zips and lists.

    hydra.sweeper.zip: groups of keys that go together, [[kl_coef, seed]]: their sweeps must be equally long.
    hydra.sweeper.list: dictionaries of overrides, each combined with the grid.
    """

    def __init__(
        self,
        max_batch_size: int | None = None,
        params: dict[str, str] | None = None,
        zip: Sequence[Sequence[str]] | None = None,  # noqa: A002
        list: Sequence[dict[str, Any]] | None = None,  # noqa: A002
    ) -> None:
        """Take the options of hydra.sweeper."""
        self.max_batch_size, self.params = max_batch_size, params or {}
        self.zipped, self.listed = zip or [], list or []

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """Keep what Hydra hands over, and make the launcher."""
        self.context, self.own_config = hydra_context, config
        self.launcher: Any = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Expand the grid, launch it, and say at the end which runs failed."""
        jobs = self.expand(arguments)
        folder = Path(str(self.own_config.hydra.sweep.dir))
        dry = bool(OmegaConf.select(self.own_config, "hydra.launcher.dry_run"))
        failures: list[tuple[int, Any]] = []
        size = self.max_batch_size or len(jobs)
        for at in range(0, len(jobs), size):
            returns = self.launcher.launch(jobs[at : at + size], initial_job_idx=at)
            outcomes = getattr(returns, "outcomes", None) or [(job.status, job._return_value) for job in returns]
            failures += [(at + i, value) for i, (status, value) in enumerate(outcomes) if status == JobStatus.FAILED]
        if not dry:
            OmegaConf.save(self.own_config, folder / "multirun.yaml")
            print(f"{len(jobs) - len(failures)} runs complete, {len(failures)} failed: {folder}")
        if failures:
            shown = "\n".join(f"  - job {job} ({' '.join(jobs[job])}): {error}" for job, error in failures[:20])
            more = f"\n  ... and {len(failures) - 20} more" if len(failures) > 20 else ""
            raise SweepError(f"{len(failures)} of {len(jobs)} runs failed:\n{shown}{more}")

    def expand(self, arguments: list[str]) -> list[list[str]]:
        """Return the overrides of every job; the last override varies fastest."""
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        axes: dict[str, list[str]] = {}
        for override in parser.parse_overrides([*(f"{k}={v}" for k, v in self.params.items()), *arguments]):
            key = override.get_key_element()
            if not override.is_sweep_override():
                axes[key] = [f"{key}={override.get_value_element_as_str()}"]
            elif override.is_discrete_sweep():
                axes[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
            else:
                raise SweepError(f"{key}: an interval cannot be swept on a grid; use range or choice")
        grid: list[list[tuple[str, ...]]] = []
        for keys in self.zipped:
            grid.append(self._zip(axes, list(keys)))
        grid += [[(text,) for text in axis] for axis in axes.values()]
        if self.listed:
            grid.append([tuple(f"{key}={value}" for key, value in entry.items()) for entry in self.listed])
        return _product(grid)

    @staticmethod
    def _zip(axes: dict[str, list[str]], keys: list[str]) -> list[tuple[str, ...]]:
        missing = [key for key in keys if key not in axes]
        if missing:
            raise SweepError(f"hydra.sweeper.zip: '{missing[0]}' is not swept on the command line")
        lengths = {key: len(axes[key]) for key in keys}
        if len(set(lengths.values())) > 1:
            raise SweepError("hydra.sweeper.zip: " + ", ".join(f"{key} has {n} values" for key, n in lengths.items()))
        return list(zip(*(axes.pop(key) for key in keys), strict=True))


def _product(grid: Sequence[Sequence[tuple[str, ...]]]) -> list[list[str]]:
    jobs: list[list[str]] = [[]]
    for axis in grid:
        jobs = [[*job, *entry] for job in jobs for entry in axis]
    return jobs
