"""A cube as NIfTI, for proofreading in ITK-SNAP, and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from brodmann.core import DataError, LabelMap
from brodmann.core.files import make_folder, write_json, write_text
from brodmann.datasets.cubes import Cube
from brodmann.datasets.folder import whole_numbers
from brodmann.io import read_volume, with_spacing, write_volume

IMAGE, LABELS, NAMES, PLACE = "image.nii.gz", "labels.nii.gz", "labels.txt", "cube.json"
STEP_SLACK = 1e-4
"""NIfTI keeps spacing in 32 bits, in millimetres."""


def export_cube(cube: Cube, folder: str | Path, label_map: LabelMap) -> list[Path]:
    """Write the image, its microstructure (all 0 where there is none), names and place.

    `labels.txt` is a label description of ITK-SNAP. Arrays are (x, y, z) on disk, as NIfTI has
    them, nothing is flipped, and spacing is in millimetres.

    Raises
    ------
    DataError
        If ids are outside the label map.
    OutputError
        If the folder cannot be written.

    Example
    -------
    >>> import tempfile
    >>> from brodmann.core import Volume
    >>> from brodmann.datasets.cubes import MICROSTRUCTURE
    >>> image = Volume(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "zyx", (1.17, 1.17, 1.17))
    >>> cube = Cube("a", "CTX", image, origin=(110, 900, 4600))
    >>> [file.name for file in export_cube(cube, tempfile.mkdtemp(), MICROSTRUCTURE)]
    ['image.nii.gz', 'labels.nii.gz', 'labels.txt', 'cube.json']
    """
    folder = make_folder(Path(folder))
    dtype = np.uint8 if max([*label_map.ids_allowed]) < 256 else np.uint16
    if cube.microstructure is None:
        ids = np.zeros(cube.image.shape, dtype)
    else:
        ids = cube.microstructure.numpy()
        _check_ids(ids, label_map, cube.name)
        ids = ids.astype(dtype, copy=False)
    lines = ["# ITK-SnAP Label Description File", "# IDX -R- -G- -B- -A- VIS MSH LABEL"]
    lines.append('0 0 0 0 0 0 0 "background"')
    lines += [
        f'{label.id} {" ".join(map(str, label.rgb))} 1 1 1 "{label.name}"' for label in label_map
    ]
    return [
        write_volume(folder / IMAGE, cube.image),
        write_volume(folder / LABELS, cube.image.like(ids), labels=True),
        write_text(folder / NAMES, "\n".join(lines) + "\n"),
        write_json(
            folder / PLACE,
            {
                "name": cube.name,
                "region": cube.region,
                "origin": list(cube.origin),
                "spacing_um": list(cube.image.spacing),
            },
        ),
    ]


def import_cube(folder: str | Path, label_map: LabelMap) -> Cube:
    """The cube that `export_cube` wrote, with its labels as they are now.

    Raises
    ------
    DataError
        If a file is missing, the labels lie on another grid, are no whole numbers, or are
        outside the label map.

    Example
    -------
    >>> cube = import_cube("proofread/ctx-A", label_map)  # doctest: +SKIP
    """
    folder = Path(folder)
    place = _place(folder / PLACE)
    spacing = tuple(map(float, place["spacing_um"]))
    found = []
    for name in (IMAGE, LABELS):
        volume = read_volume(folder / name, axes="zyx")
        if not np.allclose(volume.spacing, spacing, rtol=STEP_SLACK):
            raise DataError(
                "this file has another spacing than the cube",
                folder / name,
                " x ".join(f"{step:g}" for step in volume.spacing),
                "expected " + " x ".join(f"{step:g}" for step in spacing) + " um",
            )
        found.append(with_spacing(volume, spacing))
    image, labels = found
    if labels.shape != image.shape:
        raise DataError(
            "the labels lie on another grid than the image",
            folder / LABELS,
            labels.shape,
            f"expected {image.shape}; save them without resampling",
        )
    ids = labels.numpy()
    if ids.dtype.kind == "f":
        ids = whole_numbers(ids, folder / LABELS)
    _check_ids(ids, label_map, folder / LABELS)
    ids = ids.astype(np.min_scalar_type(max(label_map.ids_allowed)))
    return Cube(
        str(place["name"]),
        str(place["region"]),
        image,
        None,
        image.like(ids),
        tuple(int(v) for v in place["origin"]),  # type: ignore[arg-type]
    )


def _place(file: Path) -> dict:
    try:
        place = json.loads(file.read_text(encoding="utf-8"))
        if len(place["origin"]) != 3 or len(place["spacing_um"]) != 3:
            raise ValueError("origin and spacing are (z, y, x)")
        place["name"], place["region"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "cannot read where this cube lies", file, error, "keep the file of the export"
        ) from error
    return place


def _check_ids(ids: np.ndarray, label_map: LabelMap, where: str | Path) -> None:
    wrong = sorted(set(np.unique(ids).tolist()) - label_map.ids_allowed)
    if wrong:
        raise DataError(
            "labels outside the vocabulary",
            where,
            wrong[:8],
            f"known: {sorted(label_map.ids_allowed)}",
        )
