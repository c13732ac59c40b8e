"""The fused engine: exact log-linear training in float32 by a kernel that never writes logits to memory (fused.cpp).

It offers what `run_batch` asks of the torch engine (`engines.py`), for "exact" with SGD or Adam and without a ledger.
Runs are tiled by the kernel's lanes and never meet, so a run's bits do not depend on its batch. The kernel lets go of
Python's lock, so chunks in threads use every core, and it is called in slices, so training can be called off.
"""

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sim.training import compiled
from sim.training.trajectory import ADAM_BETAS, ADAM_EPSILON, Cancelled, Trajectory, recorded
from sim.world.arrays import Array, World

SOURCE = Path(__file__).with_name("fused.cpp")
LARGEST = {"responses": 1024, "size": 512}  # the kernel keeps a prompt on its stack
SLICE = 5e8  # multiplications by a lane between two looks at `cancelled`: about 0.2 s
Floats = npt.NDArray[np.float32]


class Kernel:
    """The compiled functions for K responses and D features; `lanes` runs go side by side."""

    def __init__(self, responses: int, size: int) -> None:
        """Compile, unless that was done before.

        Raises:
            Unavailable: it cannot be compiled or loaded here, or a prompt is too large for it.
        """
        if responses > LARGEST["responses"] or size > LARGEST["size"]:
            limits = f"{LARGEST['responses']} responses and {LARGEST['size']} features"
            raise compiled.Unavailable(f"{responses} responses and {size} features: it takes at most {limits}")
        library = compiled.load(SOURCE, RESPONSES=responses, SIZE=size)
        self.lanes, self.group = int(library.lanes()), int(library.group())
        pointer, long, double = ctypes.c_void_p, ctypes.c_long, ctypes.c_double
        self.mix = _typed(library.mix, [pointer] * 5 + [long] * 3)
        self.train = _typed(library.train, [pointer] * 8 + [long] * 6 + [ctypes.c_int] + [double] * 3)
        self.measure = _typed(library.measure, [pointer] * 7 + [long] * 3)


def _typed(function: "ctypes._NamedFuncPointer", arguments: list[type]) -> Callable[..., None]:
    """Return a function that takes arrays, in order, then numbers; None is a null pointer."""
    function.argtypes, function.restype = arguments, None
    return lambda *given: function(*(a.ctypes.data if isinstance(a, np.ndarray) else a for a in given))


class FusedPolicy:
    """A world as the kernel reads it; compare `LogLinear` in `policies.py`."""

    def __init__(self, world: World) -> None:
        """Copy the arrays of a world in single precision."""
        prompts, responses, self.size = world.features.shape
        self.shape = (prompts, responses)
        self.kernel = Kernel(responses, self.size)
        self.arrays = tuple(_floats(array) for array in (world.features, world.log_ref, world.prompt_prob))


def make_policy(kind: str, world: World, dtype: str) -> FusedPolicy:
    """Return the policy on a world; the engine has one class and one precision."""
    if (kind, dtype) != ("loglinear", "float32"):
        raise ValueError(f"the fused engine has no {kind} policy in {dtype}")
    return FusedPolicy(world)


def train(
    policy: FusedPolicy,
    signals: Array,
    weights: Array,
    kl_coef: Array,
    learning_rate: Array,
    *,
    steps: int,
    record_every: int = 1,
    estimator: str = "exact",
    optimizer: str = "sgd",
    ledger: bool = False,
    chunk: int = 0,  # noqa: ARG001 (tiles have one width)
    cancelled: Callable[[], bool] = lambda: False,
) -> Trajectory:
    """Return the trajectories of R runs; arguments and result are those of `sim.training.train.train`.

    Raises:
        Cancelled: the work was called off.
    """
    if estimator != "exact" or optimizer not in ("sgd", "adam") or ledger:
        raise ValueError("the fused engine trains by the exact gradient with sgd or adam, without a ledger")
    kernel, (prompts, responses) = policy.kernel, policy.shape
    cells, runs, lanes = prompts * responses, weights.shape[1], kernel.lanes
    rows = recorded(steps, record_every)
    path = np.zeros((-(-runs // lanes), len(rows), policy.size, lanes), dtype=np.float32)
    scored = _floats(signals)
    weight, coefficient, rate = (_tiled(array, lanes) for array in (weights, kl_coef, learning_rate))
    work = cells * policy.size * 2
    together, stride = (max(1, int(SLICE // amount)) for amount in (work * steps, work))  # tiles and steps of a slice
    for at in range(0, len(path), together):
        part = slice(at, at + together)
        count = len(path[part])
        reward = np.empty((count, cells, lanes), dtype=np.float32)
        kernel.mix(scored, policy.arrays[1], weight[part], coefficient[part], reward, cells, len(signals), count)
        state = np.zeros((count, 3, policy.size, lanes), dtype=np.float32)
        arrays = (*policy.arrays, reward, coefficient[part], rate[part], state, path[part])
        for start in range(0, steps, stride):
            if cancelled():
                raise Cancelled
            numbers = (prompts, count, start, min(start + stride, steps), record_every, steps, optimizer == "adam")
            kernel.train(*arrays, *numbers, *ADAM_BETAS, ADAM_EPSILON)
    return Trajectory(rows, _untiled(path, runs), None)


def policy_means(policy: FusedPolicy, theta: Array, values: Array) -> Array:
    """Return the means [T, M, R] of metrics; arguments are those of `sim.training.train.policy_means`."""
    points = _points(theta, policy.kernel.lanes)
    count = -(-len(values) // policy.kernel.group) * policy.kernel.group
    means = np.zeros((len(points), count, policy.kernel.lanes))
    columns = np.zeros((*policy.shape, count), dtype=np.float32)  # the metrics of an answer side by side
    columns[..., : len(values)] = np.moveaxis(values, 0, -1)
    policy.kernel.measure(*policy.arrays, columns, points, means, None, policy.shape[0], count, len(points))
    return _by_step(means, theta)[:, : len(values)]


def kl_and_entropy(policy: FusedPolicy, theta: Array, prompt_prob: Array) -> tuple[Array, Array]:
    """Return KL(policy || reference) and the entropy, each [T, R] in nats per prompt, for theta [T, D, R]."""
    points = _points(theta, policy.kernel.lanes)
    found = np.zeros((len(points), 2, policy.kernel.lanes))
    weighted = (*policy.arrays[:2], _floats(prompt_prob))
    policy.kernel.measure(*weighted, None, points, None, found, policy.shape[0], 0, len(points))
    by_step = _by_step(found, theta)
    return by_step[:, 0], by_step[:, 1]


def _points(theta: Array, lanes: int) -> Floats:
    """Return theta [T, D, R] tiled as T R policies: to measure, every step of every run is one."""
    return _tiled(np.moveaxis(theta, 1, 0).reshape(theta.shape[1], -1), lanes)


def _by_step(found: Array, theta: Array) -> Array:
    """Return what was measured at the points of theta [T, D, R] as [T, M, R]."""
    steps, _, runs = theta.shape
    return _untiled(found, steps * runs).reshape(-1, steps, runs).swapaxes(0, 1)


def _floats(array: Array) -> Floats:
    return np.ascontiguousarray(array, dtype=np.float32)


def _tiled(values: Array, lanes: int) -> Floats:
    """Return [..., R] as [tiles, ..., lanes], with zeros for runs that are not there."""
    tiles = -(-values.shape[-1] // lanes)
    whole = np.zeros((*values.shape[:-1], tiles * lanes), dtype=np.float32)
    whole[..., : values.shape[-1]] = values
    return _floats(np.moveaxis(whole.reshape(*values.shape[:-1], tiles, lanes), -2, 0))


def _untiled(values: npt.NDArray[np.floating], runs: int) -> Array:
    """Return [tiles, ..., lanes] as [..., R] in double precision."""
    whole = np.moveaxis(values, 0, -2)
    return whole.reshape(*whole.shape[:-2], -1)[..., :runs].astype(np.float64)
