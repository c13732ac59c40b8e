"""One thread for each library: the batch is what runs in parallel, and workers do not fight over cores."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# OpenMP (torch), and OpenBLAS (numpy, scipy), which reads its own when it is loaded.
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def use_one_thread() -> None:
    """Keep the libraries that are loaded from here on, and torch in any case, to one thread in this process."""
    for name in VARIABLES:
        os.environ[name] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@contextmanager
def torch_on_one_thread() -> Iterator[None]:
    """Keep torch, if it is loaded, to one thread until the end of `with`, and then give back what it had."""
    torch = sys.modules.get("torch")
    had = torch.get_num_threads() if torch else 1
    if torch:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if torch:
            torch.set_num_threads(had)
