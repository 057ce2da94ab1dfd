"""Rows shared out among threads.

Compiled kernels release the interpreter's lock and are handed bands of rows. Numba's own
parallel loops would end a process that forks (a data loader's workers) or that calls them
from two threads at once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

FEWEST_ROWS = 48
"""A band of fewer rows is not worth a thread."""


def by_rows(kernel: Callable[..., None], rows: int, *args: Any) -> None:
    """Call ``kernel(first, last, *args)`` for bands that cover `rows` rows, in threads.

    What a row becomes must not depend on its band. At most NUMBA_NUM_THREADS threads, which
    is the number of cores unless that variable is set.

    >>> out = [0] * 100
    >>> def fill(first, last, out):
    ...     out[first:last] = [1] * (last - first)
    >>> by_rows(fill, 100, out)
    >>> sum(out)
    100
    """
    from numba import config

    threads = max(1, min(config.NUMBA_NUM_THREADS, rows // FEWEST_ROWS))
    if threads == 1:
        kernel(0, rows, *args)
        return
    # More bands than threads, since some rows hold more tissue than others.
    bands = 4 * threads
    edges = [rows * k // bands for k in range(bands + 1)]
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(kernel, a, b, *args) for a, b in pairwise(edges)]:
            future.result()
