"""Neuroglancer's compressed_segmentation: blocks of 8 x 8 x 8 ids, each with its own table.

Source: the format's public description, sliceview/compressed_segmentation of Neuroglancer.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from brodmann.core import DataError

BLOCK = (8, 8, 8)
"""Voxels of a block, (z, y, x)."""
BITS = (0, 1, 2, 4, 8, 16, 32)


def encode_segmentation(chunk: np.ndarray, block: tuple[int, int, int] = BLOCK) -> bytes:
    """A (z, y, x) chunk of uint32 or uint64 ids as one channel of compressed_segmentation.

    Example
    -------
    >>> ids = np.arange(60, dtype=np.uint64).reshape(3, 4, 5) // 7
    >>> data = encode_segmentation(ids)
    >>> bool((decode_segmentation(data, ids.shape, np.uint64) == ids).all())
    True
    """
    words = 2 if chunk.dtype.itemsize == 8 else 1
    grid = [-(-n // b) for n, b in zip(chunk.shape, block)]
    blocks = int(np.prod(grid))
    size = int(np.prod(block))
    # Worst case: 16 bits for each voxel (a block of 512 has no more values) and a table.
    room = 2 * blocks + blocks * (size + words * size)
    out = np.zeros(room, np.uint32)
    used = _encode(np.ascontiguousarray(chunk).astype(np.uint64), np.array(block), words, out)
    if used < 0:
        raise DataError("a chunk is too large for compressed_segmentation", found=chunk.shape)
    return np.uint32(1).astype("<u4").tobytes() + out[:used].astype("<u4").tobytes()


def decode_segmentation(
    data: bytes,
    shape: tuple[int, ...],
    dtype: np.dtype | type,
    block: tuple[int, int, int] = BLOCK,
    where: object = None,
) -> np.ndarray:
    """What `encode_segmentation` made: (z, y, x) ids.

    Raises
    ------
    DataError
        If the bytes end early, or point outside themselves.
    """
    dtype = np.dtype(dtype)
    out = np.zeros(shape, np.uint64)
    words = np.frombuffer(data[: len(data) // 4 * 4], "<u4").astype(np.uint32)
    good = len(words) > 0 and words[0] <= len(words)
    if not good or not _decode(words[int(words[0]) :], np.array(block), dtype.itemsize // 4, out):
        raise DataError("this chunk is no compressed_segmentation, or cut short", where)
    return out.astype(dtype)


@njit(cache=True, nogil=True)
def _encode(chunk, block, words, out):
    nz, ny, nx = chunk.shape
    bz, by, bx = block
    gz, gy, gx = -(-nz // bz), -(-ny // by), -(-nx // bx)
    at = 2 * gz * gy * gx
    values = np.empty(bz * by * bx, np.uint64)
    row = 0
    for z0 in range(0, nz, bz):
        for y0 in range(0, ny, by):
            for x0 in range(0, nx, bx):
                # Positions beyond the edge hold any value; the first keeps the table short.
                n = 0
                for z in range(bz):
                    for y in range(by):
                        for x in range(bx):
                            if z0 + z < nz and y0 + y < ny and x0 + x < nx:
                                values[n] = chunk[z0 + z, y0 + y, x0 + x]
                            else:
                                values[n] = chunk[z0, y0, x0]
                            n += 1
                table = np.unique(values)
                bits = 0
                while bits < 16 and len(table) > (1 << bits):
                    bits = 1 if bits == 0 else 2 * bits
                encoded = at
                if bits:
                    for i in range(n):
                        code = np.uint32(np.searchsorted(table, values[i]))
                        place = i * bits
                        out[at + place // 32] |= code << np.uint32(place % 32)
                    at += (n * bits + 31) // 32
                start = at
                if start >= 1 << 24:
                    return -1
                for value in table:
                    out[at] = np.uint32(value & np.uint64(0xFFFFFFFF))
                    at += 1
                    if words == 2:
                        out[at] = np.uint32(value >> np.uint64(32))
                        at += 1
                out[row] = np.uint32(start) | (np.uint32(bits) << np.uint32(24))
                out[row + 1] = np.uint32(encoded)
                row += 2
    return at


@njit(cache=True, nogil=True)
def _decode(data, block, words, out):
    nz, ny, nx = out.shape
    bz, by, bx = block
    gy, gx = -(-ny // by), -(-nx // bx)
    size = np.int64(len(data))
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                row = 2 * (((z // bz) * gy + y // by) * gx + x // bx)
                if row + 1 >= size:
                    return False
                table = np.int64(data[row]) & 0xFFFFFF
                bits = np.int64(data[row]) >> 24
                code = np.int64(0)
                if bits:
                    place = bits * (((z % bz) * by + y % by) * bx + x % bx)
                    word = np.int64(data[row + 1]) + place // 32
                    if bits > 32 or word >= size:
                        return False
                    code = (np.int64(data[word]) >> (place % 32)) & ((1 << bits) - 1)
                entry = table + code * words
                if entry + words > size:
                    return False
                value = np.uint64(data[entry])
                if words == 2:
                    value |= np.uint64(data[entry + 1]) << np.uint64(32)
                out[z, y, x] = value
    return True
