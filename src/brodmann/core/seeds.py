"""Random numbers keyed by what they are for, so that order, workers and restarts cannot matter."""

from __future__ import annotations

import hashlib

import numpy as np

Key = int | str


def key_seed(seed: int, *keys: Key) -> int:
    """A 63-bit seed that depends on every key and on nothing else.

    The same on every machine and Python version, unlike `hash`.
    """
    text = "\x1f".join(f"{type(key).__name__}:{key}" for key in (seed, *keys))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def keyed_rng(seed: int, *keys: Key) -> np.random.Generator:
    """A generator for one purpose, such as ``keyed_rng(seed, "patch", step, item)``.

    >>> float(keyed_rng(0, "patch", 3).random()) == float(keyed_rng(0, "patch", 3).random())
    True
    """
    return np.random.Generator(np.random.PCG64(key_seed(seed, *keys)))
