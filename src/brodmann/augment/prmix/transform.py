"""Regions on their way: turned, scaled and moved from a source's frame into a target's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brodmann.augment.mixing import OnGrid, Stain, grown
from brodmann.augment.prmix.placement import Candidate
from brodmann.augment.regions import Box
from brodmann.augment.warp import rotation, warp

Range = tuple[float, float]


@dataclass(frozen=True)
class Piece:
    """A primary region of a source.

    Attributes
    ----------
    region : (*box) uint8
        Its mask, within its bounding box.
    box : Box
        In the source's frame.
    offset : tuple of int
        Of the source's frame in the target's.
    frame : tuple of int
        The target's shape.
    spacing : tuple of float
        Micrometres, of both.
    """

    region: np.ndarray
    box: Box
    offset: tuple[int, ...]
    frame: tuple[int, ...]
    spacing: tuple[float, ...]

    def drawn(
        self,
        rng: np.random.Generator,
        rotation_deg: float,
        scales: Range,
        translation: float,
        aim: Aim | None = None,
    ) -> tuple[dict[str, Any], Candidate]:
        """A drawn transform as plain data, and the mask that it makes in the target's frame.

        Angles are uniform in +-`rotation_deg`, scales within `scales`, displacements in
        +-`translation` times the frame's longest side; `aim` is what they start from.
        """
        shape, ndim = self.region.shape, self.region.ndim
        step = np.asarray(self.spacing)
        angles = rng.uniform(-rotation_deg, rotation_deg, 1 if ndim == 2 else 3).tolist()
        scale = float(rng.uniform(*scales)) * (aim.scale if aim else 1.0)
        reach = translation * max(self.frame) * step.min()
        move = np.rint(rng.uniform(-reach, reach, ndim) / step).astype(int)
        # From output to source, rigid in micrometres.
        matrix = rotation(angles, ndim) / scale * step / step[:, None]
        half = np.abs(np.linalg.inv(matrix)) @ (np.array(shape) / 2)
        # The same parity as the source's box, so that both centres fall on one grid.
        size = [n + 2 * int(np.ceil(h - n / 2)) for n, h in zip(shape, half)]
        size = [max(s, 2 - s % 2) for s in size]
        bare = np.empty((0, *shape), np.float32)
        mask = warp(bare, self.region, matrix, size, None, 0.0, 0)[1].astype(bool)
        if aim:
            corner = aim.corner(matrix, size)
        else:
            sides = zip(self.box, self.offset, shape, size)
            corner = [int(b.start + o + (n - s) // 2) for b, o, n, s in sides]
        turn = {
            "rotation_deg": [round(angle, 4) for angle in angles],
            "scale": round(scale, 4),
            "translation_vox": move.tolist(),
            "matrix": matrix.tolist(),
        }
        return turn, Candidate(mask, tuple(int(c + m) for c, m in zip(corner, move)))


@dataclass(frozen=True)
class Aim:
    """Where a source's region should lie, and how large, to stand for the target's own."""

    scale: float
    centre: tuple[float, ...]
    """Centroid of the target's region, in its frame."""
    own_centre: tuple[float, ...]
    """Centroid of the source's region, from its box's centre."""

    @classmethod
    def at(cls, own: np.ndarray, cut: Box, region: np.ndarray) -> Aim:
        """From the target's region in its box and the source's in its own."""
        ratio = np.count_nonzero(own) / np.count_nonzero(region)
        scale = float(np.clip(ratio ** (1 / own.ndim), 0.5, 2.0))
        start = np.array([side.start for side in cut])
        middle = (np.array(region.shape) - 1) / 2
        return cls(
            scale,
            tuple(start + np.argwhere(own).mean(0)),
            tuple(np.argwhere(region).mean(0) - middle),
        )

    def corner(self, matrix: np.ndarray, size: Sequence[int]) -> list[int]:
        """The corner of a warped mask of `size` that brings the centroids together."""
        moved = np.linalg.inv(matrix) @ np.array(self.own_centre)
        return (
            np.rint(np.array(self.centre) - moved - (np.array(size) - 1) / 2).astype(int).tolist()
        )


def with_rim(view: OnGrid, box: Box, stain: Stain) -> np.ndarray:
    """A box of a source with one voxel more on every side, so that its rim interpolates."""
    wide = grown(box, 1, view.shape)
    missing = [
        (1 - (b.start - w.start), 1 - (w.stop - b.stop)) for b, w in zip(box, wide, strict=True)
    ]
    return np.pad(view.read(wide, stain), [(0, 0), *missing], mode="edge")
