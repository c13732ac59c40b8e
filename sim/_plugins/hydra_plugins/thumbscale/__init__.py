"""Where Hydra 1.3 looks for plugins; the launcher itself is in `sim/sweep/launcher.py`."""

from sim.sweep.launcher import BatchedLauncher as _BatchedLauncher
from sim.sweep.launcher import GridSweeper as _GridSweeper


class BatchedLauncher(_BatchedLauncher):
    """See `sim.sweep.launcher.BatchedLauncher`."""


class GridSweeper(_GridSweeper):
    """See `sim.sweep.launcher.GridSweeper`."""
