"""Where Hydra 1.3 looks for plugins; the code is in `sim/sweep/`."""

from sim.sweep.launcher import BatchedLauncher as _BatchedLauncher
from sim.sweep.sweeper import GridSweeper as _GridSweeper


class BatchedLauncher(_BatchedLauncher):
    """See `sim.sweep.launcher.BatchedLauncher`."""


class GridSweeper(_GridSweeper):
    """See `sim.sweep.sweeper.GridSweeper`."""
