"""Where Hydra ends and the library begins: composed configs become checked settings, errors become one line.

The groups `world`, `mixture`, `policy` and `training` are the dataclasses of `sim/config.py`; the YAML files under
configs/ hold named variants of them only, so that every default is written once.
"""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import CompactHydraException
from omegaconf import MISSING, DictConfig, OmegaConf

from experiments.targets import known_targets_only
from sim.checks import check
from sim.config import Chat, InputError, Mixture, Policy, Scores, Settings, Training, unknown_name
from sim.sweep import batched
from sim.training.threads import use_one_thread

CONFIGS = str(Path(__file__).parent.parent / "configs")
SettingsT = TypeVar("SettingsT", bound=Settings)


class ConfigError(CompactHydraException):
    """Bad input, shown by Hydra as its message alone."""


def register() -> None:
    """Make the dataclasses known to Hydra as the options of its config groups."""
    store = ConfigStore.instance()
    store.store(group="world", name="chat", node=Chat)
    store.store(group="world", name="scores", node=Scores)
    store.store(group="mixture", name="default", node=Mixture)
    store.store(group="mixture", name="empty", node=Mixture(weights={}, added=""))
    store.store(group="policy", name="loglinear", node=Policy)
    store.store(group="policy", name="tabular", node=Policy(kind="tabular"))
    store.store(group="policy", name="mlp", node=Policy(kind="mlp"))
    store.store(group="training", name="natural", node=Training)


def to_settings(config: DictConfig) -> Settings:
    """Return the checked settings of a composed config, or raise `InputError` with every problem, a line each."""
    return check(read_settings(config))


def read_settings(config: DictConfig) -> Settings:
    """Return the settings of a composed config, whose values are still to be checked."""
    settings = OmegaConf.to_object(config)
    if not isinstance(settings, Settings):
        raise InputError("config: the defaults list must start with a settings schema")
    found = list(_unknown_keys(settings))
    if found:
        raise InputError(*found)
    return settings


def _unknown_keys(settings: Any, prefix: str = "") -> list[str]:
    """Name what Hydra's `+key=value` added to a dataclass that has no such field."""
    known = [item.name for item in dataclasses.fields(settings)]
    found = [f"{prefix}{unknown_name('key', name, known)}" for name in vars(settings) if name not in known]
    for name in known:
        value = getattr(settings, name)
        if dataclasses.is_dataclass(value):
            found += _unknown_keys(value, f"{prefix}{name}.")
    return found


def command(config_name: str, schema: type[SettingsT]) -> Callable[[Callable[[SettingsT], Any]], Callable[[], Any]]:
    """Turn `main(settings)` into a Hydra command whose config is `configs/{config_name}.yaml` over `schema`."""
    register()
    # The groups fill these two: a world is a Chat or a Scores, and Hydra merges dictionaries instead of replacing them.
    node = schema(world=MISSING, mixture=Mixture(weights={}, added=""))
    ConfigStore.instance().store(name=f"{config_name}_settings", node=node)

    def wrap(main: Callable[[SettingsT], Any]) -> Callable[[], Any]:
        @known_targets_only()
        @hydra.main(version_base="1.3", config_path=CONFIGS, config_name=config_name)
        @functools.wraps(main)
        @batched(read_settings)
        def entry(config: DictConfig) -> Any:
            use_one_thread()
            with told_in_one_line():
                return main(to_settings(config))  # type: ignore[arg-type]

        return entry

    return wrap


@contextlib.contextmanager
def told_in_one_line() -> Iterator[None]:
    """Turn what the user, the disk or the memory is to blame for into a message without a stack trace."""
    try:
        yield
    except InputError as error:
        raise ConfigError(str(error)) from None
    except MemoryError as error:
        raise ConfigError(f"not enough memory: {error}") from None
    except OSError as error:
        if error.filename is None:
            raise
        raise ConfigError(f"{error.filename}: {error.strerror}") from None


def command_line(module: str) -> str:
    """Return the command that is running, for figures and reports."""
    return " ".join(["python -m", module, *sys.argv[1:]])
