"""Any BossDB volume by a YAML file: its cubes opened, and datasets of their slices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from brodmann.core import DataError, Dataset, LabelMap, RecipeError, nearest
from brodmann.datasets.bossdb_store import check_there
from brodmann.datasets.bossdb_volume import BossVolume, read_boss_volume
from brodmann.datasets.cubes import Box, Cube, as_parts, cube_dataset
from brodmann.io import read_volume


def open_cubes(
    volume: BossVolume, root: str | Path, names: Sequence[str] | None = None
) -> dict[str, Callable[[], Cube]]:
    """Name -> what opens the cube, for `cube_dataset`, from a folder that was fetched.

    Raises
    ------
    DataError
        If a cube was not fetched, or a chunk of it is gone.
    """
    wanted = list(volume.cubes) if names is None else list(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in volume.cubes]
    if unknown:
        raise RecipeError(
            "no such cube", volume.name, unknown[:4], "known: " + ", ".join(volume.cubes)
        )
    check_there(volume, Path(root), wanted)
    return {name: partial(_open, volume, str(root), name) for name in wanted}


def check_boxes(volume: BossVolume, parts: Mapping[str, Sequence[Box]]) -> list[str]:
    """The cubes that parts are of, each once, if the parts lie within them.

    Raises
    ------
    RecipeError
        Names the cube that is not there, or whose end is passed.
    """
    for part, boxes in parts.items():
        for box in boxes:
            if box.cube not in volume.cubes:
                raise RecipeError(
                    "no such cube", f"parts.{part}", box.cube, nearest(box.cube, volume.cubes)
                )
            first, end = volume.cubes[box.cube].z
            if not first <= box.z[0] < box.z[1] <= end:
                raise RecipeError(
                    "slices past the end of a cube",
                    f"parts.{part}",
                    f"{box.cube} {list(box.z)}",
                    f"it holds {[first, end]}",
                )
    return list(dict.fromkeys(box.cube for boxes in parts.values() for box in boxes))


def _open(volume: BossVolume, root: str, name: str) -> Cube:
    cube = volume.cubes[name]
    found = {kind: read_volume(Path(root) / name / f"{kind}.zarr") for kind in volume.kinds(name)}
    for kind, opened in found.items():
        if opened.shape != cube.shape:
            raise DataError(
                "a cube of another shape", Path(root) / name / kind, opened.shape, f"{cube.shape}"
            )
    return Cube(
        name,
        cube.region,
        found["image"],
        found.get("regions"),
        found.get("microstructure"),
        (cube.z[0], cube.y[0], cube.x[0]),
    )


def bossdb(
    root: str | Path,
    volume: str | Path | Mapping[str, Any],
    parts: Mapping[str, Sequence[Any]],
    answer: str = "category",
    mapping: Mapping[int, int] | None = None,
    depth: int = 1,
    size: int | None = None,
    downsample: int = 1,
) -> Dataset:
    """Slices of cubes of any BossDB volume, described in a YAML file and fetched beforehand.

    Parameters
    ----------
    root : str or Path
        Where `fetch_cubes` put them.
    volume : str, Path or mapping
        The description, see `read_boss_volume`.
    parts : mapping
        ``{part: [{cube: NAME, z: [first, end]}, ...]}``, in the volume's own z.
    answer : str
        "category" (the region of the cube), "labels" or "attributes" (of the microstructure).
    mapping : mapping of int to int, optional
        Stored id -> id, such as {3: 0} to count a class as background. Ids that are mapped
        away leave the label map.
    depth, size, downsample
        As of `cube_dataset`.

    Raises
    ------
    RecipeError
        If the description or the parts are at fault.
    DataError
        If a cube was not fetched or is damaged.

    Example
    -------
    >>> parts = {"train": [{"cube": "a", "z": [110, 118]}]}
    >>> data = bossdb("data/mine", "mine.yaml", parts)  # doctest: +SKIP
    """
    described = read_boss_volume(volume)
    boxes = as_parts(parts)
    label_map = None
    if answer != "category":
        if described.microstructure is None:
            raise RecipeError(f"{answer} need an annotation", described.name, fix="microstructure")
        whole = described.microstructure.label_map
        gone = {old for old, new in (mapping or {}).items() if old != new}
        label_map = LabelMap([label for label in whole if label.id not in gone])
    return cube_dataset(
        described.name,
        open_cubes(described, root, check_boxes(described, boxes)),
        boxes,
        answer=answer,
        label_map=label_map,
        mapping=mapping,
        depth=depth,
        size=size,
        downsample=downsample,
        licence=described.licence,
        citation=described.citation,
        description=described.title,
    )
