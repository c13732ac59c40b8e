"""The Hydra launcher `batched`: a whole sweep as a few tensor programs.

    hydra.launcher.resume=true     go on with the sweep in this folder: skip what is complete, run again what failed
    hydra.launcher.dry_run=true    print the plan and run nothing
    +hydra/launcher@hydra.launcher.inner=joblib|ray|submitit_slurm    shards through one of Hydra's own launchers

The launcher plans (`plan.py`), cuts groups into shards (`shards.py`), and each shard's results are written by whoever
ran it (`results.py`). An inner launcher is any launcher of Hydra's, so no scheduler is written here.
"""

import copy
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict
from tqdm import tqdm

from sim.config import InputError, Settings
from sim.sweep.interrupt import command, interrupt_sets, resume_command
from sim.sweep.plan import Group, flatten, make_plan, verify
from sim.sweep.results import COMPLETED, NOT_IDENTITY, RESULTS_VERSION, Store, versions
from sim.sweep.returns import Returns, play_back
from sim.sweep.shards import Shard, cut, group_ids, load_shard, run_shard, run_shards, save_shard
from sim.training.threads import use_one_thread
from sim.training.trajectory import Cancelled

SHARD_RUNS = 2048  # runs whose results are written together, unless `shard` says otherwise


class SweepError(CompactHydraException):
    """Shown by Hydra as its message alone, with exit code 1."""


class BatchedLauncher(Launcher):
    """Runs all jobs of a sweep as batches; see the module's docstring and configs/hydra/launcher/batched.yaml."""

    def __init__(
        self,
        inner: Any = None,
        workers: int | None = None,
        shard: int | None = None,
        shards: int | None = None,
        job_dirs: str = "auto",
        job_dirs_limit: int = 50,
        resume: Any = False,
        dry_run: bool = False,
    ) -> None:
        """Take the options of hydra.launcher.

        Args:
            inner: config of a Hydra launcher that runs the shards; None runs them here.
            workers: threads; the number of cores where None.
            shard: runs per shard.
            shards: instead of `shard`, how many shards to cut the sweep into.
            job_dirs: auto (up to the limit) | all | none.
            job_dirs_limit: how many job folders `auto` writes.
            resume: false | true | extend (another base configuration is accepted).
            dry_run: print the plan and run nothing.
        """
        self.inner, self.workers, self.shard, self.shards = inner, workers, shard, shards
        self.job_dirs, self.job_dirs_limit, self.resume, self.dry_run = job_dirs, job_dirs_limit, resume, dry_run
        self.opened = False  # a sweeper may call launch many times; the folder is checked the first time

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """Keep what Hydra hands over."""
        self.context, self.task, self.config = hydra_context, task_function, config
        convert = getattr(task_function, "batched_convert", None)
        if convert is None:
            raise SweepError("hydra/launcher=batched: this command cannot be batched; use hydra/launcher=basic")
        self.convert: Callable[[DictConfig], Settings] = convert
        if config.hydra.job.chdir or config.hydra.job.env_set:
            raise SweepError("hydra.job.chdir and hydra.job.env_set cannot be honoured by hydra/launcher=batched")

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs and return one JobReturn each, in order."""
        try:
            return self._launch(job_overrides, initial_job_idx)
        except InputError as error:
            raise SweepError(str(error)) from None

    def _launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        loader = self.context.config_loader

        def compose(overrides: list[str]) -> DictConfig:
            return loader.load_sweep_config(self.config, overrides)

        parser = OverridesParser.create(config_loader=loader)
        groups = make_plan(job_overrides, compose, self.convert, self._is_group, parser)
        folder = Path(str(self.config.hydra.sweep.dir))
        store = Store(folder)
        ids = [group_ids(group) for group in groups]
        if self.dry_run:
            verify(groups, job_overrides, compose, self.convert)
            self._print_plan(groups, ids, store)
            return Returns(job_overrides, [(JobStatus.COMPLETED, None)] * len(job_overrides))
        self._open(store, groups, initial_job_idx + len(job_overrides))
        known = store.statuses() if store.parts() else {}
        wanted = [np.array([known.get(run) != COMPLETED for run in own], dtype=bool) for own in ids]
        total = int(sum(mask.sum() for mask in wanted))
        if len(job_overrides) > total:
            print(f"{len(job_overrides) - total} of {len(job_overrides)} runs are complete already", file=sys.stderr)
        size = self.shard or (max(1, -(-total // self.shards)) if self.shards else SHARD_RUNS)

        def cut_groups() -> Iterator[Shard]:
            checked = False
            for group, own, mask in zip(groups, ids, wanted, strict=True):
                for shard in cut(group, own, mask, initial_job_idx, size):
                    yield shard
                    if not checked:  # asked for the next shard: the first is being computed by now
                        checked = True
                        verify(groups, job_overrides, compose, self.convert)

        shards = cut_groups()
        if self.inner is None:
            self._run_here(shards, store, total)
        else:
            self._run_inner(list(shards), store)
        return self._collect(job_overrides, initial_job_idx, groups, ids, store)

    def _is_group(self, key: str) -> bool:
        """Say whether a key is a config group; Hydra takes its time to answer, so a key that holds a number is not."""
        held = OmegaConf.select(self.config, key, throw_on_missing=False)
        if isinstance(held, int | float):
            return False
        loader = self.context.config_loader
        return bool(loader.get_group_options(key, None, self.config.hydra.job.config_name, []))

    def _open(self, store: Store, groups: Sequence[Group], total: int) -> None:
        """Start the sweep's folder, or check that it is the same sweep that is gone on with."""
        base = constant_settings(groups)
        if store.exists() and not self.opened:
            if not self.resume:
                raise InputError(
                    f"{store.folder}: there is a sweep in this folder; hydra.launcher.resume=true goes on with it, "
                    "another hydra.sweep.dir starts a new one"
                )
            before = store.manifest()["base"]
            differ = [k for k in base if k in before and base[k] != before[k] and k not in NOT_IDENTITY]
            if differ and self.resume != "extend":
                raise InputError(
                    f"{store.folder}: the sweep in this folder has other settings; use a new hydra.sweep.dir, or "
                    "hydra.launcher.resume=extend",
                    *(f"  - {key}: {before[key]} -> {base[key]}" for key in differ),
                )
            base = {key: value for key, value in before.items() if key in base}
        self.opened = True
        manifest = {"base": base, "command": command(), "total": total, "started": time.strftime("%Y-%m-%dT%H:%M:%S")}
        found = versions()
        store.write_manifest(
            manifest | {"versions": found, "commit": found["commit"], "results_version": RESULTS_VERSION}
        )

    def _print_plan(self, groups: Sequence[Group], ids: Sequence[Sequence[str]], store: Store) -> None:
        known = store.statuses() if store.exists() else {}
        done = sum(known.get(run) == COMPLETED for own in ids for run in own)
        print(f"plan: {sum(map(len, ids))} runs in {len(groups)} groups, {done} complete already")
        for group in groups:
            varied = {key: len(np.unique(v)) for key, v in group.columns.items() if len(np.unique(v)) > 1}
            print(f"  {len(group.jobs)} runs: " + (", ".join(f"{key} x {n}" for key, n in varied.items()) or "one"))

    def _run_here(self, shards: Iterator[Shard], store: Store, total: int) -> None:
        """Run the shards in this process, with a progress line; Ctrl-C keeps what is done."""
        use_one_thread()
        stop = threading.Event()
        failed = 0
        with interrupt_sets(stop), tqdm(total=total, unit="run", desc="sweep", smoothing=0.1) as bar:
            try:
                for more in run_shards(shards, store, self.workers, bar.update, stop.is_set):
                    failed += more
                    bar.set_postfix(failed=failed)
            except Cancelled:
                bar.close()
                print(
                    f"\ninterrupted; what is done is kept. Resume with:\n  {resume_command(store.folder)}",
                    file=sys.stderr,
                )
                raise SystemExit(130) from None

    def _run_inner(self, shards: Sequence[Shard], store: Store) -> None:
        """Run one shard a job of another Hydra launcher."""
        plan = store.inner / "shards"
        for number, shard in enumerate(shards):
            save_shard(shard, plan / f"{number}.json")
        task = ShardTask(str(store.folder.absolute()), self.workers or 1)
        config = copy.deepcopy(self.config)
        own = [f"hydra.sweep.dir={store.inner / 'inner'}", "hydra.sweep.subdir=${hydra.job.num}"]
        with open_dict(config):
            config.hydra.launcher = self.inner
            config.hydra.callbacks = {}
            config.hydra.sweep.dir = str(store.inner / "inner")
            config.hydra.sweep.subdir = "${hydra.job.num}"
            kept = [o for o in config.hydra.overrides.hydra if not o.lstrip("+").startswith("hydra.sweep.")]
            config.hydra.overrides.hydra = kept + own
        inner = Plugins.instance().instantiate_launcher(hydra_context=self.context, task_function=task, config=config)
        print(f"{sum(len(s.ids) for s in shards)} runs in {len(shards)} shards", file=sys.stderr)
        returns = inner.launch([[] for _ in shards], initial_job_idx=0) if shards else []
        for job in returns:
            if job.status != JobStatus.COMPLETED:
                raise InputError(f"a shard failed: {job._return_value}; resume with: {resume_command(store.folder)}")
        shutil.rmtree(plan, ignore_errors=True)  # only the workers needed it

    def _collect(
        self,
        job_overrides: Sequence[Sequence[str]],
        first: int,
        groups: Sequence[Group],
        ids: Sequence[Sequence[str]],
        store: Store,
    ) -> Sequence[JobReturn]:
        """Return the jobs' results in order, and write their folders up to the limit."""
        by_job: list[tuple[JobStatus, Any]] = [(JobStatus.UNKNOWN, None)] * len(job_overrides)
        run_of = [""] * len(job_overrides)
        found = store.returns()
        for group, own in zip(groups, ids, strict=True):
            for job, run in zip(group.jobs.tolist(), own, strict=True):
                run_of[job] = run
                status, value = found.get(run, ("", "the run is missing"))
                if status == COMPLETED:
                    by_job[job] = (JobStatus.COMPLETED, value)
                else:
                    by_job[job] = (JobStatus.FAILED, InputError(value))
        few = self.job_dirs == "auto" and len(job_overrides) <= self.job_dirs_limit
        if self.job_dirs == "all" or few or self.context.callbacks.callbacks:
            return play_back(self.context, self.config, job_overrides, first, run_of, by_job, store)
        return Returns(job_overrides, by_job)


class ShardTask:
    """What an inner launcher runs: shard number `hydra.job.num` of the sweep in `folder`."""

    def __init__(self, folder: str, workers: int) -> None:
        """Take the sweep's folder, on storage that all workers see, and the threads of a worker."""
        self.folder, self.workers = folder, workers

    def __call__(self, _: DictConfig) -> int:
        """Run the shard and write its part; return how many runs failed."""
        use_one_thread()
        store = Store(self.folder)
        shard = load_shard(store.inner / "shards" / f"{HydraConfig.get().job.num}.json")
        return run_shard(shard, store, self.workers)


def constant_settings(groups: Sequence[Group]) -> dict[str, Any]:
    """Return the settings, by dotted key, that are the same in all runs."""
    flat = [flatten(group.settings) for group in groups]
    constant = {key: value for key, value in flat[0].items() if all(other.get(key) == value for other in flat[1:])}
    for key in groups[0].columns:
        values = np.concatenate([group.columns[key] for group in groups if key in group.columns])
        if (values == values[0]).all():
            constant[key] = values[0].item()
        else:
            constant.pop(key, None)
    return constant
