"""Named, counter-based random streams: the same name and seed give the same numbers, whoever else draws.

A stream is keyed by (seed, component, ...). Two components never share numbers, and adding a draw to one moves no
draw of another, which is what makes "the same world but for one change" possible.
"""

import hashlib

import numpy as np


def stream(seed: int, *names: object) -> np.random.Generator:
    """Return the random generator that belongs to `seed` and `names`.

    The 128-bit key of a Philox counter generator (Salmon et al., SC 2011) is the BLAKE2 digest of the names.

    Args:
        seed: the run's seed.
        names: what the numbers are for, such as ("chat", "train", "stakes").
    """
    label = "/".join([str(seed), *map(str, names)]).encode()
    key = int.from_bytes(hashlib.blake2b(label, digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key))
