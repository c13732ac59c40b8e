"""Ctrl-C during a sweep, and the command that goes on with it."""

import contextlib
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def interrupt_sets(event: threading.Event) -> Iterator[None]:
    """While inside, Ctrl-C sets the event instead of raising; a second one raises."""

    def handle(*_: object) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    if threading.current_thread() is not threading.main_thread():  # only that one may handle signals
        yield
        return
    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def command(arguments: list[str] | None = None) -> str:
    """Return the running command, as a shell reads it; with other arguments where they are given."""
    module = getattr(sys.modules.get("__main__"), "__spec__", None)
    start = ["python", "-m", module.name] if module is not None else ["python", sys.argv[0]]
    return shlex.join([*start, *(sys.argv[1:] if arguments is None else arguments)])


def resume_command(folder: Path) -> str:
    """Return the command that goes on with the sweep in a folder."""
    kept = [word for word in sys.argv[1:] if not word.startswith(("hydra.sweep.dir=", "hydra.launcher.resume="))]
    return command([*kept, f"hydra.sweep.dir={folder}", "hydra.launcher.resume=true"])
