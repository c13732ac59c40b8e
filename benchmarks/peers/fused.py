"""One exact log-linear step fused into one pass over the prompts, in C++ compiled on first use by g++.

How close does a kernel come that never writes logits or probabilities to memory? `train_fused` does what
`sim.training.train.train` does for `LogLinear`, "exact" and "sgd" in float32, without a ledger. ctypes lets go of
Python's lock, so threads over chunks use every core.
"""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sim.training.train import Trajectory
from sim.world.arrays import Array, World

SOURCE = Path(__file__).with_name("fused.cpp")
LANES = 16
FLAGS = ("-O3", "-march=native", "-mprefer-vector-width=512", "-fno-math-errno", "-std=c++17", "-shared", "-fPIC")
Floats = npt.NDArray[np.float32]


def available() -> bool:
    """Return whether g++ is here; x86 with AVX-512 is what the flags are for."""
    return shutil.which("g++") is not None and "avx512f" in _cpu()


def train_fused(
    world: World,
    signals: Array,
    weights: Array,
    kl_coef: Array,
    learning_rate: Array,
    *,
    steps: int,
    record_every: int = 1,
) -> Trajectory:
    """Return the trajectories of R runs; arguments and result as of `sim.training.train.train`."""
    prompts, responses, size = world.features.shape
    kernel = _kernel(responses, size)
    runs = weights.shape[1]
    tiles = -(-runs // LANES)

    def tiled(values: Array) -> Floats:
        """Return [..., R] as [tiles, ..., LANES], with zeros for runs that are not there."""
        whole = np.zeros((*values.shape[:-1], tiles * LANES), dtype=np.float32)
        whole[..., :runs] = values
        return np.ascontiguousarray(np.moveaxis(whole.reshape(*values.shape[:-1], tiles, LANES), -2, 0))

    features, log_ref, prompt_prob = (
        np.ascontiguousarray(array, dtype=np.float32) for array in (world.features, world.log_ref, world.prompt_prob)
    )
    flat = signals.reshape(len(signals), -1).astype(np.float32)
    # As the core does: reward - kl_coef (logits - log_ref), the constant part now.
    reward = tiled(flat.T @ weights.astype(np.float32) + log_ref.reshape(-1, 1) * kl_coef.astype(np.float32))
    coefficient, rate = tiled(kl_coef), tiled(learning_rate)
    now = np.zeros((tiles, size, LANES), dtype=np.float32)
    recorded = np.unique(np.append(np.arange(0, steps + 1, record_every), steps))
    theta = np.zeros((len(recorded), size, runs))
    for row in range(1, len(recorded)):
        arrays = (features, log_ref, prompt_prob, reward, coefficient, rate, now)
        kernel(*(array.ctypes.data for array in arrays), prompts, tiles, int(recorded[row] - recorded[row - 1]))
        theta[row] = np.moveaxis(now, 0, 1).reshape(size, -1)[:, :runs]
    return Trajectory(recorded, theta, None)


@functools.cache
def _cpu() -> str:
    """Return what the system says of the processor."""
    described = Path("/proc/cpuinfo")
    return described.read_text() if described.exists() else ""


@functools.cache
def _kernel(responses: int, size: int) -> "ctypes._NamedFuncPointer":
    """Compile for one shape, unless that was done before, and return the function."""
    command = ["g++", *FLAGS, f"-DRESPONSES={responses}", f"-DSIZE={size}", str(SOURCE)]
    told = "".join((*command, SOURCE.read_text(), _cpu().partition("\n\n")[0].partition("flags")[2].partition("\n")[0]))
    folder = Path(tempfile.gettempdir()) / f"thumbscale-fused-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; nothing is loaded from there")
    library = folder / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.so"
    if not library.exists():
        fresh = library.with_suffix(f".{os.getpid()}")
        subprocess.run([*command, "-o", str(fresh)], check=True)
        fresh.replace(library)
    function = ctypes.CDLL(str(library)).train
    function.argtypes = [ctypes.c_void_p] * 7 + [ctypes.c_long] * 3
    function.restype = None
    return function
