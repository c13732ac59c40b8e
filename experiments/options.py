"""Commands that look at sweeps: a dataclass of options in place of a run's settings.

The options are typed by the dataclass and live in `configs/NAME.yaml`, which only says where Hydra may write (nowhere).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from experiments.app import CONFIGS, told_in_one_line
from experiments.targets import known_targets_only
from sim.config import InputError, unknown_name

OptionsT = TypeVar("OptionsT")


def options_command(
    config_name: str, schema: type[OptionsT]
) -> Callable[[Callable[[OptionsT], Any]], Callable[[], Any]]:
    """Turn `main(options)` into a Hydra command whose config is `configs/{config_name}.yaml` over `schema`."""
    ConfigStore.instance().store(name=f"{config_name}_options", node=schema)

    def wrap(main: Callable[[OptionsT], Any]) -> Callable[[], Any]:
        @known_targets_only()
        @hydra.main(version_base="1.3", config_path=CONFIGS, config_name=config_name)
        @functools.wraps(main)
        def entry(config: DictConfig) -> Any:
            with told_in_one_line():
                return main(to_options(config, schema))

        return entry

    return wrap


def to_options(config: DictConfig, schema: type[OptionsT]) -> OptionsT:
    """Return the options of a composed config, or raise `InputError` naming what `+key=value` added to them."""
    options = OmegaConf.to_object(config)
    assert isinstance(options, schema)
    known = [item.name for item in dataclasses.fields(schema)]  # type: ignore[arg-type]
    unknown = [unknown_name("key", name, known) for name in vars(options) if name not in known]
    if unknown:
        raise InputError(*unknown)
    return options


def need(options: Any, *names: str) -> None:
    """Raise `InputError` for options that have to be given and are empty."""
    for name in names:
        if getattr(options, name) in ("", None):
            meaning = next(item.metadata["unit"] for item in dataclasses.fields(options) if item.name == name)
            raise InputError(f"{name}: has to be given, {meaning}")
