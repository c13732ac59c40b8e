"""What a launcher hands back to Hydra: a JobReturn a job, and folders as if each job had been run on its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, run_job
from omegaconf import DictConfig, open_dict

from sim.sweep.results import Store, open_sweep


class Returns(Sequence[JobReturn]):
    """One JobReturn a job, made when it is asked for: a million of them would take a gigabyte."""

    def __init__(self, overrides: Sequence[Sequence[str]], outcomes: Sequence[tuple[JobStatus, Any]]) -> None:
        """Take each job's overrides, and its status with its value or error."""
        self.overrides, self.outcomes = overrides, outcomes

    def __len__(self) -> int:
        """Return how many jobs there are."""
        return len(self.outcomes)

    def __getitem__(self, index: Any) -> Any:
        """Return the JobReturn of one job, or a list of those of a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        status, value = self.outcomes[index]
        return JobReturn(overrides=list(self.overrides[index]), status=status, _return_value=value)


def play_back(
    context: Any,
    master: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    first: int,
    run_of: Sequence[str],
    outcomes: Sequence[tuple[JobStatus, Any]],
    store: Store,
) -> list[JobReturn]:
    """Let Hydra run each job with a task that looks its result up: folders and callbacks are its own.

    Args:
        context: Hydra's, with its config loader and callbacks.
        master: the config of the sweep.
        job_overrides: of each job.
        first: number of the first job.
        run_of: identity of each job's run.
        outcomes: of each job: status and value, or error.
        store: of the results.
    """
    data = open_sweep(store.folder)
    # By identity: a run that was complete already carries the job number of the sweep that ran it.
    place = {run: row for row, run in enumerate(data["id"].values.tolist())}
    returns = []
    for number, (job, (status, value)) in enumerate(zip(job_overrides, outcomes, strict=True), first):
        config = context.config_loader.load_sweep_config(master, list(job))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number

        def look_up(_: DictConfig, number: int = number, status: JobStatus = status, value: Any = value) -> Any:
            if status == JobStatus.FAILED:
                raise value
            table = (
                data.isel(run=place[run_of[number - first]]).drop_vars(["id", "job", "status", "error"]).to_dataframe()
            )
            table.to_csv(Path(HydraConfig.get().runtime.output_dir) / "metrics.csv")
            return value

        keys = {"job_dir_key": "hydra.sweep.dir", "job_subdir_key": "hydra.sweep.subdir"}
        returns.append(run_job(look_up, config, hydra_context=context, configure_logging=False, **keys))
    return returns
