"""Neuroglancer's sharded index: many small entries in few files.

Source: the format's public description, datasource/precomputed/sharded of Neuroglancer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

ENTRY_BITS, MINISHARD_BITS = 10, 6
"""1024 entries that follow each other make a minishard, 64 of those a shard."""


def write_shards(folder: Path, records: np.ndarray) -> dict[str, Any]:
    """Write records of one size, numbered by row; returns what `info` says of the shards.

    Parameters
    ----------
    folder : Path
        An empty one.
    records : (n,) structured array
    """
    per_minishard, minishards = 2**ENTRY_BITS, 2**MINISHARD_BITS
    per_shard = per_minishard * minishards
    shards = max(1, -(-len(records) // per_shard))
    shard_bits = (shards - 1).bit_length()
    digits = -(-shard_bits // 4)
    size = records.dtype.itemsize
    for shard in range(shards):
        rows = np.arange(shard * per_shard, min((shard + 1) * per_shard, len(records)))
        index = np.zeros((minishards, 2), "<u8")
        tables, end = [], len(rows) * size
        for number in range(-(-len(rows) // per_minishard)):
            part = rows[number * per_minishard : (number + 1) * per_minishard]
            # Ids and starts are differences, starts those from the end of the entry before.
            table = np.zeros((3, len(part)), "<u8")
            table[0] = np.diff(part, prepend=0)
            table[1, 0] = number * per_minishard * size
            table[2] = size
            index[number] = end, end + table.nbytes
            tables.append(table.tobytes())
            end += table.nbytes
        name = f"{shard:0{digits}x}.shard" if digits else "0.shard"
        data = index.tobytes() + records[rows].tobytes() + b"".join(tables)
        (folder / name).write_bytes(data)
    return {
        "@type": "neuroglancer_uint64_sharded_v1",
        "preshift_bits": ENTRY_BITS,
        "hash": "identity",
        "minishard_bits": MINISHARD_BITS,
        "shard_bits": shard_bits,
        "minishard_index_encoding": "raw",
        "data_encoding": "raw",
    }
