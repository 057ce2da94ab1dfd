"""Neuroglancer's precomputed volumes, meshes and skeletons: folders that a web server can serve.

Source: the format's public description, datasource/precomputed of Neuroglancer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, OutputError, Volume
from brodmann.core.files import written_beside
from brodmann.io.ngff import SMALLEST_LEVEL, _halved, folder_beside
from brodmann.io.precomputed_codec import BLOCK, decode_segmentation, encode_segmentation
from brodmann.io.raw import LazyArray, blocks, reading

CHUNK = (64, 64, 64)
NM_PER_UM = 1000.0
IMAGE_TYPES = ("uint8", "uint16", "float32")
SEGMENT_TYPES = ("uint32", "uint64")


def write_precomputed(
    path: str | Path,
    volume: Volume,
    *,
    segmentation: bool = False,
    encoding: str | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write a volume with coarser levels, chunk by chunk, into a new folder.

    Parameters
    ----------
    path : str or Path
        Written beside and renamed; what is there is replaced.
    volume : Volume
        Axes "zyx", or "czyx" for images. Images uint8, uint16 or float32; ids of any integer type,
        kept as uint32 where they fit, else uint64.
    segmentation : bool
        Ids; coarser levels take the most frequent value and not the mean.
    encoding : "raw" or "compressed_segmentation", optional
        Default: compressed for ids, raw for images.
    report : callable
        Called with chunks done and all chunks.

    Raises
    ------
    OutputError
        If the format cannot hold the volume, or the disk the files.
    """
    path = Path(path)
    encoding = encoding or ("compressed_segmentation" if segmentation else "raw")
    if volume.ndim != 3:
        raise OutputError("precomputed volumes have three axes", path, repr(volume.axes))
    if encoding not in ("raw", "compressed_segmentation"):
        raise OutputError("encodings are raw and compressed_segmentation", path, repr(encoding))
    if encoding != "raw" and not segmentation:
        raise OutputError("compressed_segmentation is for ids, not images", path)
    if segmentation and (volume.num_channels != 1 or volume.dtype.kind not in "iub"):
        raise OutputError("ids are whole numbers in one channel", path, volume.dtype)
    dtype = np.dtype("uint8") if volume.dtype == bool else volume.dtype
    if segmentation:
        dtype = np.dtype("uint64" if dtype.itemsize == 8 else "uint32")
    elif dtype.name not in IMAGE_TYPES:
        raise OutputError(f"images are one of {', '.join(IMAGE_TYPES)}", path, dtype)
    plan = _levels(volume)
    counts = [int(np.prod([-(-n // c) for n, c in zip(shape, CHUNK)])) for shape, _, _ in plan]
    done = 0
    with folder_beside(path) as beside:
        beside.mkdir(parents=True)
        scales = [_scale(shape, spacing, encoding) for shape, spacing, _ in plan]
        source: Any = volume
        for level, (shape, _, step) in enumerate(plan):
            folder = beside / scales[level]["key"]
            folder.mkdir()
            for window in blocks(shape, CHUNK):
                fine = tuple(
                    slice(part.start * f, min(part.stop * f, n))
                    for part, f, n in zip(window, step, source.spatial_shape)
                )
                block = source.read(fine)
                if block.dtype.kind == "i" and block.size and block.min() < 0:
                    raise DataError("segment ids are 0 or more", path, int(block.min()))
                if level:
                    block = _halved(block, (1, *step), segmentation)
                block = block.astype(dtype, copy=False)
                name = "_".join(f"{part.start}-{part.stop}" for part in reversed(window))
                (folder / name).write_bytes(_encoded(block, encoding))
                done += 1
                report(done, sum(counts))
            info = {
                "@type": "neuroglancer_multiscale_volume",
                "type": "segmentation" if segmentation else "image",
                "data_type": dtype.name,
                "num_channels": volume.num_channels,
                "scales": scales[: level + 1],
            }
            (beside / "info").write_text(json.dumps(info), encoding="utf-8")
            source = read_precomputed(beside, level)
    return path


def _levels(volume: Volume) -> list[tuple[tuple, tuple, tuple]]:
    """Shape, spacing and step from the level before, of every level."""
    shape, spacing, step = volume.spatial_shape, volume.spacing, (1, 1, 1)
    plan = []
    while True:
        plan.append((shape, spacing, step))
        finest = min(spacing)
        step = tuple(2 if s < 2 * finest and n > 1 else 1 for s, n in zip(spacing, shape))
        if max(shape) <= SMALLEST_LEVEL or set(step) == {1}:
            return plan
        shape = tuple(-(-n // f) for n, f in zip(shape, step))
        spacing = tuple(s * f for s, f in zip(spacing, step))


def _scale(shape: tuple, spacing: tuple, encoding: str) -> dict[str, Any]:
    nm = [float(f"{s * NM_PER_UM:.9g}") for s in reversed(spacing)]
    scale: dict[str, Any] = {
        "key": "_".join(f"{n:g}" for n in nm),
        "size": list(reversed(shape)),
        "resolution": nm,
        "voxel_offset": [0, 0, 0],
        "chunk_sizes": [list(reversed(CHUNK))],
        "encoding": encoding,
    }
    if encoding == "compressed_segmentation":
        scale["compressed_segmentation_block_size"] = list(reversed(BLOCK))
    return scale


def _encoded(block: np.ndarray, encoding: str) -> bytes:
    # In Fortran order [x, y, z, channel] is [channel, z, y, x] in C order.
    if encoding == "raw":
        return block.astype(block.dtype.newbyteorder("<")).tobytes()
    return encode_segmentation(block[0])


def read_precomputed(path: str | Path, level: int = 0) -> Volume:
    """Open a level of a precomputed volume on disk, lazily; raw and compressed_segmentation.

    Raises
    ------
    DataError
        If the folder has no `info`, no such level, or another encoding; when a window is read,
        if a chunk is missing or damaged.
    """
    path = Path(path)
    if not (path / "info").is_file():
        raise DataError("no precomputed volume: there is no file info", path, fix="check the path")
    with reading(path / "info"):
        info = json.loads((path / "info").read_text(encoding="utf-8"))
        if not 0 <= level < len(info["scales"]):
            raise DataError("no such level", path, level, f"levels: {len(info['scales'])}")
        scale = info["scales"][level]
        source = _Chunks(path, info, scale)
        spacing = tuple(n / NM_PER_UM for n in reversed(scale["resolution"]))
    array = LazyArray(partial(_Chunks, path, info, scale), path, source.shape, source.dtype)
    if source.shape[0] == 1:
        return Volume(array.taking((1, 2, 3)), "zyx", spacing)
    return Volume(array, "czyx", spacing)


class _Chunks:
    """The chunks of one level as a (c, z, y, x) array that is read by window."""

    def __init__(self, path: Path, info: dict, scale: dict) -> None:
        self.folder = path / scale["key"]
        if Path(scale["key"]).is_absolute() or ".." in Path(scale["key"]).parts:
            raise DataError("a level's key leads out of the folder", path, scale["key"])
        if "sharding" in scale or scale["encoding"] not in ("raw", "compressed_segmentation"):
            raise DataError("this encoding cannot be read", path, scale["encoding"])
        self.encoding = scale["encoding"]
        self.dtype = np.dtype(info["data_type"])
        size = tuple(int(n) for n in reversed(scale["size"]))
        self.shape = (int(info["num_channels"]), *size)
        self.chunk = tuple(int(n) for n in reversed(scale["chunk_sizes"][0]))
        self.offset = tuple(int(n) for n in reversed(scale.get("voxel_offset", (0, 0, 0))))
        block = scale.get("compressed_segmentation_block_size", BLOCK[::-1])
        z, y, x = (int(n) for n in reversed(block))
        self.block = (z, y, x)
        if min(*self.chunk, *self.block, *size) < 1:
            raise DataError("sizes are 1 or more", path, scale)

    def __getitem__(self, window: tuple[slice, ...]) -> np.ndarray:
        channels, *parts = window
        out = np.empty([part.stop - part.start for part in window], self.dtype)
        grid = [range(p.start // c, -(-p.stop // c)) for p, c in zip(parts, self.chunk)]
        for index in np.ndindex(*map(len, grid)):
            low = [g[i] * c for g, i, c in zip(grid, index, self.chunk)]
            high = [min(a + c, n) for a, c, n in zip(low, self.chunk, self.shape[1:])]
            block = self._read(low, high)
            inner = [(max(a, p.start), min(b, p.stop)) for a, b, p in zip(low, high, parts)]
            take = tuple(slice(a - lo, b - lo) for (a, b), lo in zip(inner, low))
            put = tuple(slice(a - p.start, b - p.start) for (a, b), p in zip(inner, parts))
            out[(slice(None), *put)] = block[(channels, *take)]
        return out

    def _read(self, low: list[int], high: list[int]) -> np.ndarray:
        spans = [f"{a + o}-{b + o}" for a, b, o in zip(low, high, self.offset)]
        file = self.folder / "_".join(reversed(spans))
        if not file.is_file():
            raise DataError("a chunk is missing", file, fix="export the volume again")
        data = file.read_bytes()
        shape = (self.shape[0], *(b - a for a, b in zip(low, high)))
        if self.encoding == "raw":
            if len(data) != int(np.prod(shape)) * self.dtype.itemsize:
                raise DataError("a chunk has another size than it says", file, len(data))
            return np.frombuffer(data, self.dtype.newbyteorder("<")).reshape(shape)
        if self.shape[0] != 1:
            raise DataError("ids have one channel", file, self.shape[0])
        return decode_segmentation(data, shape[1:], self.dtype, self.block, file)[None]


def write_mesh_fragment(
    path: str | Path, id_: int, vertices: np.ndarray, faces: np.ndarray
) -> None:
    """Add a segment's surface to a precomputed segmentation, in the legacy format.

    Parameters
    ----------
    path : str or Path
        Folder of the segmentation; its `info` learns where the meshes are.
    vertices : (n, 3) array
        (z, y, x) in micrometres, the centre of voxel (0, 0, 0) at the origin.
    faces : (m, 3) integers
    """
    path = Path(path)
    info = _tell(path, "mesh", "mesh", {"@type": "neuroglancer_legacy_mesh"})
    nm = _corner_nm(info, vertices).astype("<f4")
    data = np.uint32(len(nm)).astype("<u4").tobytes() + nm.tobytes()
    data += np.ascontiguousarray(faces, "<u4").tobytes()
    for name, content in (
        (f"{id_}.fragment", data),
        (f"{id_}:0", json.dumps({"fragments": [f"{id_}.fragment"]}).encode()),
    ):
        with written_beside(path / "mesh" / name) as beside:
            beside.write_bytes(content)


def write_skeleton(
    path: str | Path, id_: int, nodes: np.ndarray, edges: np.ndarray, radius_um: np.ndarray
) -> None:
    """Add a segment's centre line to a precomputed segmentation; nodes as for meshes."""
    path = Path(path)
    entry = {
        "@type": "neuroglancer_skeletons",
        "vertex_attributes": [{"id": "radius", "data_type": "float32", "num_components": 1}],
    }
    info = _tell(path, "skeletons", "skeletons", entry)
    nm = _corner_nm(info, nodes).astype("<f4")
    head = np.array([len(nm), len(edges)], "<u4").tobytes()
    data = head + nm.tobytes() + np.ascontiguousarray(edges, "<u4").tobytes()
    data += (np.asarray(radius_um) * NM_PER_UM).astype("<f4").tobytes()
    with written_beside(path / "skeletons" / str(id_)) as beside:
        beside.write_bytes(data)


def _corner_nm(info: dict, points: np.ndarray) -> np.ndarray:
    """(x, y, z) in nanometres from the corner of the first voxel, not from its centre."""
    step = np.array(info["scales"][0]["resolution"], float)
    return np.asarray(points, float).reshape(-1, 3)[:, ::-1] * NM_PER_UM + step / 2


def _tell(path: Path, key: str, folder: str, entry: dict) -> dict:
    """Name a folder in `info` and give it its own."""
    with reading(path / "info"):
        info = json.loads((path / "info").read_text(encoding="utf-8"))
    if info.get("type") != "segmentation":
        raise OutputError("shapes belong to a segmentation", path, info.get("type"))
    if info.get(key) != folder:
        (path / folder).mkdir(exist_ok=True)
        with written_beside(path / folder / "info") as beside:
            beside.write_text(json.dumps(entry), encoding="utf-8")
        info[key] = folder
        with written_beside(path / "info") as beside:
            beside.write_text(json.dumps(info), encoding="utf-8")
    return info
