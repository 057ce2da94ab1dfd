"""Attributes of label files and dataset folders: what `brodmann measure attributes` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from brodmann.core import DataError, LabelMap, RecipeError, Volume
from brodmann.core.files import make_folder
from brodmann.metrics.attribute_table import Per, attribute_table, vocabulary_of, write_table
from brodmann.metrics.attributes import ATTRIBUTES, ROLES, WORDS, roles
from brodmann.metrics.overlap import none_if_nan

Report = Callable[[str, int, int, str], None]
EXAMPLE = "cell=2,vessel=1,axon=3"


def measure_attributes(
    labels: Path,
    out: Path,
    *,
    ids: str | None = None,
    label_table: Path | None = None,
    axes: str | None = None,
    spacing_um: Sequence[float] | None = None,
    per: Per = "slice",
    block: Sequence[int] | None = None,
    block_um: Sequence[float] | None = None,
    whole_cells: bool = True,
    connectivity: int | None = None,
    min_voxels: int = 0,
    published_distance: bool = False,
    report: Report | None = None,
) -> dict[str, Any]:
    """Measure one label file, or the labels of every sample of a dataset folder, into a CSV.

    Parameters
    ----------
    labels : Path
        A file that `read_volume` reads, or a dataset folder.
    out : Path
        The CSV; replaced if it is there.
    ids : str, optional
        "cell=2,vessel=1,axon=3,ignore=255"; any other name makes its id known and no more, and
        "cell=none" says that there are no cells. Goes before names in a label table.
    label_table : Path, optional
        A labels.csv, whose names tell the ids; a folder's own by default.
    axes : {"yx", "zyx"}, optional
        Where a file takes slices for channels, or says nothing.
    spacing_um : sequence of float, optional
        Where the file does not say its spacing.
    per, block, block_um, whole_cells, connectivity, min_voxels, published_distance
        As for `attribute_table`.
    report : callable, optional
        Called as (what, done, total, note).

    Returns
    -------
    dict
        JSON-safe: labels, ids, per, axes, spacing_um, rows (with `sample` for a folder), out.

    Raises
    ------
    RecipeError
        If ids cannot be read, or none is named for cells.
    DataError
        If labels are not whole numbers, or an id is outside the vocabulary.
    """
    given = parse_ids(ids) if ids is not None else {}
    named, label_map = _volumes(Path(labels), axes, spacing_um)
    if label_table is not None:
        label_map = LabelMap.from_csv(label_table)
    known, vocabulary = _ids(given, label_map, ids is not None)
    rows: list[dict[str, Any]] = []
    seen: Volume | None = None
    for name, volume, where in named:
        if seen is not None and seen.ndim != volume.ndim:
            raise DataError("samples of 2D and 3D in one table", where, f"axes {volume.axes!r}")
        seen = volume
        done = None
        if report is not None:
            done = lambda k, n, what=name or Path(labels).name: report(what, k, n, "")  # noqa: E731
        table = attribute_table(
            volume, known, per, block=block, block_um=block_um, whole_cells=whole_cells,
            vocabulary=vocabulary, connectivity=connectivity, min_voxels=min_voxels,
            published_distance=published_distance, where=where, report=done,
        )  # fmt: skip
        rows += [({"sample": name} if name else {}) | row for row in table]
    if seen is None:
        raise DataError("no sample has labels", labels)
    make_folder(Path(out).parent)
    write_table(out, rows, per, seen.ndim, published_distance)
    return {
        "labels": str(labels),
        "ids": known,
        "per": per,
        "axes": seen.spatial_axes,
        "spacing_um": list(seen.spacing),
        "published_distance": published_distance,
        "rows": [{k: none_if_nan(v) if isinstance(v, float) else v for k, v in row.items()}
                 for row in rows],
        "out": str(out),
    }  # fmt: skip


def parse_ids(text: str) -> dict[str, int | None]:
    """Names and ids, as typed on a command line; plurals are taken too.

    >>> parse_ids("cells=2, vessel=1, axon=none, glia=7")
    {'cell': 2, 'vessel': 1, 'axon': None, 'glia': 7}
    """
    found: dict[str, int | None] = {}
    for part in text.split(","):
        name, equals, id_ = (piece.strip().lower() for piece in part.partition("="))
        name = next((role for role in ROLES if name in WORDS[role]), name)
        whole = id_.isdecimal() or id_ == "none"
        if not name or not equals or not whole:
            raise RecipeError(
                "ids are written NAME=ID and parted by commas", "--ids", repr(part), f"as {EXAMPLE}"
            )
        if name in found:
            raise RecipeError("a name is given twice", "--ids", repr(name))
        found[name] = None if id_ == "none" else int(id_)
    return found


def _ids(
    given: Mapping[str, int | None], label_map: LabelMap | None, asked: bool
) -> tuple[dict[str, int | None], set[int]]:
    """Role -> id, and every id that may be there."""
    if not asked and label_map is None:
        raise RecipeError(
            "the labels do not say which ids are cells, vessels and axons",
            fix=f"name them: --ids {EXAMPLE}, or --labels labels.csv",
        )
    by_name = roles(label_map) if label_map is not None else {}
    known = {role: given.get(role, by_name.get(role)) for role in (*ROLES, "ignore")}
    if known["cell"] is None and "cell" not in given:
        names = f"named: {', '.join(given)}" if given else "no label is called cell"
        raise RecipeError(
            "no id is that of cells", "--ids" if asked else "labels.csv", names,
            "add cell=ID, or cell=none to measure without",
        )  # fmt: skip
    vocabulary = vocabulary_of(given) | vocabulary_of(known)
    return known, vocabulary | (label_map.ids_allowed if label_map is not None else set())


def _volumes(
    path: Path, axes: str | None, spacing_um: Sequence[float] | None
) -> tuple[Iterator[tuple[str, Volume, str]], LabelMap | None]:
    """Name ("" for a file), labels and what to call them in errors."""
    from brodmann.io import read_volume, suffix_of

    if path.is_dir() and not suffix_of(path) and not (path / "zarr.json").exists():
        from brodmann.datasets.folder import read_folder

        if axes is not None or spacing_um is not None:
            raise RecipeError(
                "a dataset folder says its axes and spacing itself", str(path),
                fix="write them into dataset.yaml",
            )  # fmt: skip
        dataset = read_folder(path)
        samples = (dataset[name] for name in dataset.names)
        return (
            (sample.name, sample.labels, f"{path}: {sample.name}")
            for sample in samples
            if sample.labels is not None
        ), dataset.label_map
    if axes not in (None, "yx", "zyx"):
        raise RecipeError("labels have axes yx or zyx", "--axes", repr(axes))
    volume = read_volume(path, axes=axes, spacing=spacing_um)
    if volume.num_channels > 1:
        raise DataError(
            "label images have one channel", path, volume.num_channels,
            "if these are slices: --axes zyx; else export ids, not RGB",
        )  # fmt: skip
    return iter([("", volume, str(path))]), None


def means(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | int | None]]:
    """Of each attribute its mean, least and largest over the rows that know it, and their number.

    >>> means([{"cell_count": 2.0}, {"cell_count": 4.0}, {"cell_count": None}])["cell_count"]
    {'mean': 3.0, 'min': 2.0, 'max': 4.0, 'rows': 2}
    """
    found: dict[str, dict[str, float | int | None]] = {}
    for name in ATTRIBUTES:
        values = [row[name] for row in rows if row.get(name) is not None]
        found[name] = {
            "mean": sum(values) / len(values) if values else None,
            "min": min(values, default=None),
            "max": max(values, default=None),
            "rows": len(values),
        }
    return found
