"""Attributes of every slice or block of a label volume that need not fit in memory.

One file, because the ways to walk a volume share one source, task and progress.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from brodmann.core import BACKGROUND, DataError, Volume
from brodmann.core.files import write_text
from brodmann.metrics.attributes import (
    ATTRIBUTES,
    check_ids,
    check_labels,
    count_pixels,
    nearest_distances,
    summary,
)
from brodmann.metrics.components import ComponentStream, check_connectivity, components

Per = Literal["slice", "volume", "block"]
READ_VOXELS = 1 << 25
"""Voxels read at a time; some eight bytes of memory each."""
Window = tuple[slice, slice, slice]


def attribute_table(
    volume: Volume,
    ids: Mapping[str, int | None],
    per: Per = "slice",
    *,
    block: Sequence[int] | None = None,
    block_um: Sequence[float] | None = None,
    whole_cells: bool = True,
    vocabulary: Collection[int] | None = None,
    connectivity: int | None = None,
    min_voxels: int = 0,
    published_distance: bool = False,
    where: str = "",
    read_voxels: int = READ_VOXELS,
    report: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """A row of attributes for each slice, for each block, or for the whole.

    The volume is read once, by window. Numbers are the same to the last bit for all windows:
    cells that a window cuts are put together.

    Parameters
    ----------
    volume : Volume
        Label ids, 2D or 3D, one channel.
    ids : mapping
        "vessel", "cell", "axon", "ignore" -> id, or None. `roles` finds them in a label map.
    per : {"slice", "volume", "block"}
        A slice is a picture of its own: what it holds of cells are their profiles, in 2D.
    block : sequence of int, or block_um : sequence of float
        Size of blocks along each axis, in voxels or micrometres (rounded to voxels). The last
        block of an axis is what is left.
    whole_cells : bool
        With blocks: a cell is of the block that its centroid lies in, with its whole size and
        its nearest neighbour anywhere, so that counts add up to that of the volume. False
        makes each block a picture of its own, in which cells are cut off at its faces.
    vocabulary : collection of int, optional
        Every id that may be there, 0 among them; default: any.
    connectivity : int, optional
        4 or 8 for slices and 2D images, 6, 18 or 26 for volumes; default 4 and 6.
    min_voxels : int
        Components of fewer voxels (of a slice: pixels) are no cells.
    published_distance : bool
        As for `attributes_of`.
    where : str
        Names the volume in errors.
    read_voxels : int
        About so many are held at a time.
    report : callable, optional
        Called as (voxels done, voxels in all).

    Returns
    -------
    list of dict
        Where the row lies, in voxels: z (slice); z, y, x, depth, height, width (block).
        `known`, the share of pixels that are not ignored, and ATTRIBUTES by the definitions of
        `attributes_of`; sizes are areas (um2) of slices and 2D images, else volumes (um3).

    Raises
    ------
    DataError
        If labels are not whole numbers of one channel, an id is outside the vocabulary, or
        blocks do not fit the axes.

    Example
    -------
    >>> labels = np.zeros((2, 4, 4), np.uint8)
    >>> labels[:, 1, 1], labels[0, 3, 3] = 2, 2
    >>> cells = Volume(labels, "zyx", (2.0, 1.0, 1.0))
    >>> [row["cell_count"] for row in attribute_table(cells, {"cell": 2})]
    [2.0, 1.0]
    >>> attribute_table(cells, {"cell": 2}, "volume")[0]["cell_size"]
    3.0
    """
    if volume.num_channels != 1:
        raise DataError("label images have one channel", where or None, volume.num_channels)
    check_labels(volume.dtype, where or None)
    if per not in ("slice", "volume", "block"):
        raise DataError("attributes are per slice, volume or block", found=repr(per))
    if (block is not None or block_um is not None) != (per == "block"):
        raise DataError("a size of blocks goes with blocks, and they with it", found=f"per {per!r}")
    flat = volume.ndim == 2 or per == "slice"
    # A 2D image is one plane, whose depth is no length.
    shape = (1,) * (3 - volume.ndim) + volume.spatial_shape
    spacing = (1.0, *volume.spacing[-2:]) if flat else volume.spacing
    size: tuple[int, ...] = shape
    if per == "slice":
        size = (1, *shape[1:])
    elif per == "block":
        size = _block(volume, block, block_um)
    source = _Source(volume, shape, check_ids(ids), vocabulary, where, read_voxels)
    neighbours = check_connectivity(connectivity, 2 if flat else 3)
    task = _Task(
        source, spacing, {4: 6, 8: 26}.get(neighbours, neighbours), min_voxels,
        published_distance, _Progress(report, math.prod(shape)),
    )  # fmt: skip
    edges = tuple(_edges(n, step) for n, step in zip(shape, size))
    if per == "slice" or (per == "block" and not whole_cells):
        found = _apart(task, edges, size)
    else:
        found = _together(task, edges)
    return [_place(box, per, volume.ndim) | row for box, row in found]


def columns(per: Per, ndim: int, published_distance: bool = False) -> list[tuple[str, str]]:
    """Key of a row and head of its column, with units: what `write_table` writes.

    >>> columns("slice", 3)[0], columns("slice", 3)[-1]
    (('z', 'z'), ('cell_distance', 'cell_distance_um'))
    """
    places = list(_place(((0, 1),) * 3, per, ndim))
    units = {
        "cell_size": "cell_size_um2" if per == "slice" or ndim == 2 else "cell_size_um3",
        "cell_distance": "cell_distance_px" if published_distance else "cell_distance_um",
    }
    return [(key, units.get(key, key)) for key in (*places, "known", *ATTRIBUTES)]


def write_table(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    per: Per,
    ndim: int,
    published_distance: bool = False,
) -> Path:
    """Rows of `attribute_table` as CSV, whole or not at all; a cell is empty for NaN.

    Rows that have a `sample` begin with it.
    """
    heads = columns(per, ndim, published_distance)
    if any("sample" in row for row in rows):
        heads = [("sample", "sample"), *heads]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([head for _, head in heads])
    for row in rows:
        writer.writerow([_shown(row[key]) for key, _ in heads])
    return write_text(Path(path), text.getvalue())


@dataclass(frozen=True, eq=False)
class _Source:
    """A label volume that is read by window as (z, y, x), and checked."""

    volume: Volume
    shape: tuple[int, ...]
    ids: Mapping[str, int | None]
    vocabulary: Collection[int] | None
    where: str
    read_voxels: int

    def read(self, window: Window) -> np.ndarray:
        labels = self.volume.read(window[-self.volume.ndim :])[0]
        if self.vocabulary is not None:
            allowed = {int(id_) for id_ in self.vocabulary}
            if sum(np.count_nonzero(labels == id_) for id_ in sorted(allowed)) < labels.size:
                unknown = [int(id_) for id_ in np.unique(labels) if int(id_) not in allowed]
                raise DataError(
                    "label ids outside the vocabulary",
                    self.where or None,
                    ", ".join(map(str, unknown[:8])) + (" ..." if len(unknown) > 8 else ""),
                    "name them, or set them to the ignore id",
                )
        return labels.reshape([part.stop - part.start for part in window])

    def windows(self, box: Sequence[tuple[int, int]]) -> Iterator[Window]:
        """Row-major, of about so many voxels as may be held."""
        steps = _steps(self.shape, self._chunks(), self.read_voxels)
        cuts = []
        for (start, stop), step in zip(box, steps):
            # On the chunks' own borders, so that few are read twice.
            first = (start // step + 1) * step
            cuts.append(pairwise([start, *range(first, stop, step), stop]))
        for parts in product(*cuts):
            yield tuple(slice(*part) for part in parts)  # type: ignore[misc]

    def _chunks(self) -> tuple[int, ...]:
        from brodmann.io.integrity import source_of

        array = source_of(self.volume.data)
        chunks = getattr(self.volume.data if array is None else array, "chunks", None)
        if not chunks or not all(isinstance(n, int) for n in chunks):
            return (1, 1, self.shape[2])
        return (1, 1, 1, *chunks)[-3:]


@dataclass(frozen=True, eq=False)
class _Task:
    source: _Source
    spacing: tuple[float, ...]
    connectivity: int
    min_voxels: int
    published: bool
    progress: _Progress

    @property
    def cell(self) -> int | None:
        return self.source.ids["cell"]

    def row(self, pixels: Mapping[str, int], voxels: int, cells: Any, nearest_um: Any = None):
        attributes = summary(
            pixels, self.source.ids, cells, self.spacing, nearest_um,
            published_distance=self.published,
        )  # fmt: skip
        return {"known": pixels["known"] / voxels} | attributes


class _Progress:
    def __init__(self, report: Callable[[int, int], None] | None, total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def more(self, voxels: int) -> None:
        self._done += voxels
        if self._report is not None:
            self._report(self._done, self._total)


Box = tuple[tuple[int, int], ...]
Found = list[tuple[Box, dict[str, Any]]]


def _together(task: _Task, edges: Sequence[np.ndarray]) -> Found:
    """Every block of a grid, cells whole: of the block in which the centroid lies."""
    counts = tuple(len(along) - 1 for along in edges)
    pixels = {role: np.zeros(counts, np.int64) for role in ("known", "vessel", "axon")}
    region = tuple((int(along[0]), int(along[-1])) for along in edges)
    stream = ComponentStream([stop - start for start, stop in region], task.connectivity)
    for window in task.source.windows(region):
        labels = task.source.read(window)
        if task.cell is not None:
            at = [part.start - start for part, (start, _) in zip(window, region)]
            stream.add(labels == task.cell, at)
        for place, inside in _blocks_within(window, edges):
            for role, count in count_pixels(labels[inside], task.source.ids).items():
                pixels[role][place] += count
        task.progress.more(labels.size)
    cells = nearest = None
    if task.cell is not None:
        cells = stream.result().at_least(task.min_voxels)
        nearest = nearest_distances(cells.centroids * task.spacing)
        # A voxel reaches half its size beyond its centre.
        home = [
            np.searchsorted(along - along[0], np.floor(centre + 0.5), "right") - 1
            for along, centre in zip(edges, cells.centroids.T)
        ]
        flat = np.ravel_multi_index(home, counts)
        order = np.argsort(flat, kind="stable")
        ends = np.searchsorted(flat[order], np.arange(math.prod(counts) + 1))
    found: Found = []
    for number, place in enumerate(np.ndindex(*counts)):
        box = tuple((int(a[i]), int(a[i + 1])) for a, i in zip(edges, place))
        mine, near = None, None
        if cells is not None and nearest is not None:
            some = order[ends[number] : ends[number + 1]]
            mine, near = cells.among(some), nearest[some]
        here = {role: int(table[place]) for role, table in pixels.items()}
        voxels = math.prod(stop - start for start, stop in box)
        found.append((box, task.row(here, voxels, mine, near)))
    return found


def _apart(task: _Task, edges: Sequence[np.ndarray], size: Sequence[int]) -> Found:
    """Every block of a grid as a picture of its own; some are read at a time."""
    source = task.source
    if math.prod(size) > source.read_voxels:
        boxes = product(*(pairwise(map(int, along)) for along in edges))
        return [
            one for box in boxes for one in _together(task, tuple(np.array(part) for part in box))
        ]
    found: Found = []
    steps = _many(size, source.shape, source._chunks(), source.read_voxels)
    groups = [_edges(n, step) for n, step in zip(source.shape, steps)]
    for box in product(*(pairwise(map(int, along)) for along in groups)):
        window = tuple(slice(*part) for part in box)
        labels = source.read(window)  # type: ignore[arg-type]
        for place, inside in _blocks_within(window, edges):
            own = labels[inside]
            cells = None
            if task.cell is not None:
                cells = components(own == task.cell, task.connectivity).at_least(task.min_voxels)
            where = tuple((int(a[i]), int(a[i + 1])) for a, i in zip(edges, place))
            found.append((where, task.row(count_pixels(own, source.ids), own.size, cells)))
        task.progress.more(labels.size)
    return sorted(found, key=lambda one: one[0])


def _blocks_within(
    window: Sequence[slice], edges: Sequence[np.ndarray]
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Blocks that a window touches: their place in the grid, and their part of the window."""
    parts = []
    for part, along in zip(window, edges):
        first = int(np.searchsorted(along, part.start, "right")) - 1
        last = int(np.searchsorted(along, part.stop, "left"))
        parts.append(
            [
                (i, slice(max(int(along[i]), part.start) - part.start,
                          min(int(along[i + 1]), part.stop) - part.start))
                for i in range(first, last)
            ]
        )  # fmt: skip
    for one in product(*parts):
        yield tuple(i for i, _ in one), tuple(inside for _, inside in one)


def _block(
    volume: Volume, block: Sequence[int] | None, block_um: Sequence[float] | None
) -> tuple[int, ...]:
    given = block if block is not None else block_um
    size = [float(n) for n in given or ()]
    fits = len(size) == volume.ndim and all(math.isfinite(n) and n > 0 for n in size)
    if block is not None and (block_um is not None or any(n != int(n) for n in size if fits)):
        fits = False
    if not fits:
        raise DataError(
            f"blocks have a size for each of the axes {volume.spatial_axes!r}, in voxels or um",
            found=f"block {block}, block_um {block_um}",
        )
    if block_um is not None:
        size = [max(1, round(n / step)) for n, step in zip(size, volume.spacing)]
    return (1,) * (3 - volume.ndim) + tuple(int(n) for n in size)


def _edges(n: int, step: int) -> np.ndarray:
    return np.array([*range(0, n, step), n], np.int64)


def _steps(shape: Sequence[int], chunks: Sequence[int], voxels: int) -> tuple[int, int, int]:
    """Windows of whole chunks, whole planes of them where these are few enough.

    >>> _steps((90, 100, 100), (1, 1, 100), 50_000), _steps((90, 100, 100), (30, 50, 50), 300_000)
    ((5, 100, 100), (30, 100, 100))
    """
    depth, height, width = (min(c, n) for c, n in zip(chunks, shape))
    _, rows, columns_ = shape
    if depth * rows * columns_ <= voxels:
        return (depth * max(1, voxels // (depth * rows * columns_)), rows, columns_)
    if depth * height * columns_ <= voxels:
        return (depth, height * (voxels // (depth * height * columns_)), columns_)
    return (depth, height, width * max(1, voxels // (depth * height * width)))


def _many(
    size: Sequence[int], shape: Sequence[int], chunks: Sequence[int], voxels: int
) -> list[int]:
    """As many whole blocks as may be held, along x first; over whole chunks where it can be.

    >>> _many((1, 10, 10), (99, 10, 10), (8, 10, 10), 2_000)
    [16, 10, 10]
    """
    many = list(size)
    for axis in (2, 1, 0):
        step = size[axis]
        times = max(1, min(voxels // math.prod(many), -(-shape[axis] // step)))
        whole = math.lcm(step, chunks[axis]) // step
        many[axis] = step * (times // whole * whole or times)
    return many


def _place(box: Box, per: Per, ndim: int) -> dict[str, int]:
    starts = {axis: start for axis, (start, _) in zip("zyx", box)}
    if per == "volume":
        return {}
    if per == "slice":
        return {"z": starts["z"]} if ndim == 3 else {}
    sizes = {name: b - a for name, (a, b) in zip(("depth", "height", "width"), box)}
    if ndim == 2:
        del starts["z"], sizes["depth"]
    return starts | sizes


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.10g}"
    return str(value)


def vocabulary_of(ids: Mapping[str, int | None]) -> set[int]:
    """Background and every id that is named.

    >>> sorted(vocabulary_of({"cell": 2, "axon": None, "ignore": 255}))
    [0, 2, 255]
    """
    return {BACKGROUND} | {int(id_) for id_ in ids.values() if id_ is not None}
