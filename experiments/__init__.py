"""Commands; the only place that prints. Each file opens with its question."""

from sim.training.threads import use_one_thread

use_one_thread()  # before numpy, scipy and torch are loaded: what runs in parallel is the batch
