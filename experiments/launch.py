"""What the commands about launches share: their config groups, and the checks of their settings.

Not a command. `review` and `rollout` are config groups like `world`; their options are the functions of
`sim/launch/settings.py`, so that every default is written once.
"""

from collections.abc import Mapping

from hydra.core.config_store import ConfigStore

from sim.config import InputError
from sim.launch.process import review_problems
from sim.launch.rollout import rollout_clock
from sim.launch.settings import Review, Rollout, april_2025, improved


def register_launch() -> None:
    """Make the review processes and the rollout known to Hydra."""
    store = ConfigStore.instance()
    store.store(group="review", name="april_2025", node=april_2025())
    store.store(group="review", name="improved", node=improved())
    store.store(group="rollout", name="april_2025", node=Rollout)


def process_problems(reviews: Mapping[str, Review], rollout: Rollout) -> list[str]:
    """Return one line for each setting of a process or of the rollout that cannot work."""
    found = [line for where, review in reviews.items() for line in review_problems(review, where)]
    try:
        rollout_clock(rollout)
    except InputError as error:
        found.append(str(error))
    return found
