"""How a volume is cut into blocks that give the peaks of the whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from brodmann.core import RecipeError
from brodmann.core.volume import Window
from brodmann.inference.blocks import Block, BlockGrid

BLOCK_VOXELS = 1 << 24
"""Of a block, without its margin, unless the caller says otherwise."""


@dataclass(frozen=True)
class Layout:
    """Blocks, each read with a margin in which its heat and its peaks are whole.

    Parameters
    ----------
    shape, block : tuple of int
        Blocks are rounded up so that each begins at a multiple of `multiple`.
    halo : tuple of int
        Voxels that heat depends on beyond its own.
    radius : tuple of int
        Of the peak window.
    multiple : tuple of int
        Windows begin at multiples of it, margins too.

    Attributes
    ----------
    margin : tuple of int
        Halo and radius, rounded up to the multiple.
    grid : BlockGrid

    Example
    -------
    >>> layout = Layout((9, 20), (4, 10), (3, 3), (1, 2), (4, 4))
    >>> layout.grid.block, layout.margin, len(layout.grid)
    ((4, 12), (4, 8), 6)
    """

    shape: tuple[int, ...]
    block: tuple[int, ...]
    halo: tuple[int, ...]
    radius: tuple[int, ...]
    multiple: tuple[int, ...]
    margin: tuple[int, ...] = field(init=False)
    grid: BlockGrid = field(init=False)

    def __post_init__(self) -> None:
        parts = (self.block, self.halo, self.radius, self.multiple)
        if any(len(part) != len(self.shape) for part in parts):
            raise RecipeError(
                f"{len(self.shape)} axes need {len(self.shape)} numbers each of block, halo, "
                "radius and multiple",
                found=parts,
            )
        if min(self.block) < 1 or min(self.multiple) < 1:
            raise RecipeError("sizes are at least 1", "block", self.block)
        block = tuple(_up(b, m) for b, m in zip(self.block, self.multiple))
        margin = tuple(_up(h + r, m) for h, r, m in zip(self.halo, self.radius, self.multiple))
        object.__setattr__(self, "margin", margin)
        object.__setattr__(self, "grid", BlockGrid(self.shape, block, margin))

    def window(self, block: Block) -> Window:
        """Where peaks of a block are compared: what it owns, and the radius within the volume.

        Beyond a true border there is nothing: a mirrored peak must not stand in for its twin.
        """
        return tuple(
            slice(max(0, w.start - r), min(n, w.stop + r))
            for w, r, n in zip(block.window, self.radius, self.shape)
        )

    def padded(
        self, read: Callable[[Window], np.ndarray], block: Block
    ) -> tuple[np.ndarray, tuple[int, ...]]:
        """A block with its margin on all sides, mirrored ("symmetric") at the volume's borders.

        Parameters
        ----------
        read : callable
            Window -> (*spatial) or (c, *spatial).

        Returns
        -------
        raw : ndarray
        origin : tuple of int
            Of its first voxel in the volume; negative where it is padded.
        """
        raw, pads = read(block.outer), []
        for w, o, margin, m in zip(block.window, block.outer, self.margin, self.multiple):
            rest = -(w.stop - w.start) % m  # the last block may be cut anywhere
            pads.append((margin - (w.start - o.start), margin - (o.stop - w.stop) + rest))
        if any(before or after for before, after in pads):
            lead = [(0, 0)] * (raw.ndim - len(pads))
            raw = np.pad(raw, lead + pads, mode="symmetric")
        return raw, tuple(w.start - margin for w, margin in zip(block.window, self.margin))


def usual_block(
    shape: Sequence[int], margin: Sequence[int], voxels: int = BLOCK_VOXELS
) -> tuple[int, ...]:
    """The block of at most so many voxels whose margin costs least; blocks of an axis are alike.

    Sides go with the margin along their axis; an axis that is shorter is taken whole.

    >>> usual_block((100, 4000, 4000), (8, 16, 16), 1 << 21)
    (50, 200, 200)
    """
    weights = [max(1, m) for m in margin]
    sizes = [0] * len(shape)
    free, room = set(range(len(shape))), float(voxels)
    while free:
        unit = (room / math.prod(weights[i] for i in free)) ** (1 / len(free))
        # The axis with the fewest blocks first: what evenness leaves over goes to the others.
        axis = max(free, key=lambda i: unit * weights[i] / shape[i])
        size = max(1, min(shape[axis], int(unit * weights[axis] + 1e-9), int(room)))
        sizes[axis] = math.ceil(shape[axis] / math.ceil(shape[axis] / size))
        room /= sizes[axis]
        free.remove(axis)
    return tuple(sizes)


def _up(size: int, multiple: int) -> int:
    return -(-int(size) // int(multiple)) * int(multiple)
