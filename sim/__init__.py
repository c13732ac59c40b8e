"""Thumbscale: a reward-signal mixing simulator.

Read the rooms in this order; each imports only from those above it:

* `sim.config`    settings, with units, ranges and sources
* `sim.derived`   what follows from settings alone
* `sim.checks`    everything that can be wrong with them
* `sim.rng`       named random streams
* `sim.world`     who asks what, and what could be answered
* `sim.rewards`   what is rewarded, and how it is mixed
* `sim.training`  policies and how they learn: the core, its plain twin, closed forms
* `sim.analysis`  what it did: metrics, drift ledger, critical weight
* `sim.problem`   settings and a seed become one world with its signals and metrics
* `sim.recipe`    settings, problem and columns become the arguments of a training
* `sim.batch`     one batch: runs of one world, trained and measured together
* `sim.workers`   many runs: worlds and chunks shared out to threads
* `sim.pipeline`  from settings to one labelled data set
* `sim.variants`  the same worlds under several variants of the settings
* `sim.launch`    who would have noticed: checks, gates, rollout, and what users lived through
* `sim.sweep`     many groups: the Hydra launcher, results on disk
* `sim.plots`     from data sets to figures
* `sim.auditing`  what a mixture would do, from a user's own scored samples (`sim.audit`)
* `sim.validation` what is known independently of this code, as functions of the problem (`sim.validate`)

Axis letters, everywhere: R runs, P prompts, K responses per prompt, S signals, D policy parameters, T recorded steps,
C causes (the signals, then the KL penalty), B bootstrap draws or fits, M metrics, N observations (votes, worlds).

Names below load on first use, so that `import sim` stays quick.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

# Hydra 1.3 finds launchers in the namespace `hydra_plugins` only; ours is a shim there (`sim/_plugins`).
_PLUGINS = str(Path(__file__).parent / "_plugins")
if _PLUGINS not in sys.path:
    sys.path.append(_PLUGINS)

_PUBLIC = {
    "Settings": "sim.config",
    "Chat": "sim.config",
    "Scores": "sim.config",
    "Users": "sim.config",
    "Memory": "sim.config",
    "Signals": "sim.config",
    "Feedback": "sim.config",
    "Mixture": "sim.config",
    "Policy": "sim.config",
    "Training": "sim.config",
    "InputError": "sim.config",
    "World": "sim.world.arrays",
    "prepare": "sim.problem",
    "simulate": "sim.pipeline",
    "open_sweep": "sim.sweep.results",
    "export": "sim.sweep.results",
    "audit": "sim.auditing.run",
    "validate": "sim.validation.run",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Load a public name from the room it lives in."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'sim' has no attribute '{name}'")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
