"""What a config may name to be called: Hydra's own launchers and sweepers, installed plugins, and nothing else.

Hydra composes the config, then sets up logging, calls callbacks, builds a sweeper and a launcher; in each of these the
config names what is called (`_target_`, and `()` or `class` in logging). While a command runs, every composed config is
looked at before any of that, wherever it came from: a file, a folder given as --config-dir, or the command line.
"""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl  # every composition goes through it
from hydra._internal.utils import get_args_parser
from hydra.core.plugins import Plugins
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from sim.config import shown

CALLED = ("launcher", "sweeper", "callbacks", "job_logging", "hydra_logging")  # parts of the node `hydra`
NAMING = ("_target_", "()", "class", "custom_search_space")  # keys whose value is imported and called
KNOWN = frozenset({
    "hydra.experimental.callbacks.LogJobReturnCallback", "logging.StreamHandler", "logging.FileHandler",
    "logging.NullHandler", "logging.Formatter", "colorlog.ColoredFormatter", "ext://sys.stdout", "ext://sys.stderr",
})  # fmt: skip
SAMPLER = re.compile(r"optuna\.samplers\.[A-Z]\w*")


class TargetError(CompactHydraException):
    """A config that is not taken; shown by Hydra as its message alone."""


@contextlib.contextmanager
def known_targets_only() -> Iterator[None]:
    """While inside, Hydra composes no config that names anything else to be called, and unpickles none."""
    compose: Callable[..., DictConfig] = ConfigLoaderImpl.load_configuration

    def checked(self: Any, *arguments: Any, **options: Any) -> DictConfig:
        try:
            config = compose(self, *arguments, **options)
        except (YAMLError, UnicodeDecodeError) as error:  # Hydra would show a stack trace
            raise TargetError(f"a config file cannot be read: {' '.join(str(error).split())}") from None
        check_targets(config)
        return config

    if get_args_parser().parse_known_args()[0].experimental_rerun is not None:
        sys.exit("--experimental-rerun: reads a pickle, which can run any code; give the settings instead")
    ConfigLoaderImpl.load_configuration = checked  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = compose  # type: ignore[method-assign]


def check_targets(config: DictConfig) -> None:
    """Raise `TargetError` naming what the config would call and nobody knows.

    Interpolations that are a whole value are replaced by what they stand for, so that what is checked is what is used.
    """
    plugins = [kind for role in (Launcher, Sweeper) for kind in Plugins.instance().discover(role)]
    known = KNOWN | {f"{kind.__module__}.{kind.__name__}" for kind in plugins}
    raw: Any = OmegaConf.to_container(config.hydra, resolve=False)
    for part in CALLED:
        _check(config.hydra, part, raw[part], f"hydra.{part}", known)


def _check(parent: Any, key: Any, raw: Any, where: str, known: frozenset[str]) -> None:
    if isinstance(raw, str) and raw.startswith("${") and raw.endswith("}"):
        try:
            value = parent[key]
        except OmegaConfBaseException:
            raise TargetError(f"{where} = {shown(raw)}: must be known before the run starts") from None
        parent[key] = value
        raw = OmegaConf.to_container(value, resolve=False) if OmegaConf.is_config(value) else value
    if isinstance(raw, dict | list):
        for inner in raw if isinstance(raw, dict) else range(len(raw)):
            _check(parent[key], inner, raw[inner], f"{where}.{inner}", known)
        return
    names = raw not in (None, MISSING) and (key in NAMING or str(raw).startswith("ext://"))
    if names and raw not in known and not SAMPLER.fullmatch(str(raw)):
        raise TargetError(f"{where} = {shown(raw)}: names no known launcher, sweeper or log handler, and is not called")
