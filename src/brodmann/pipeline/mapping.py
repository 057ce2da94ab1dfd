"""From a model and an image to label files, whatever the image's size and spacing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import DataError, LabelMap, Volume
from brodmann.core.files import make_folder, write_text
from brodmann.io import read_volume, write_volume
from brodmann.pipeline.model import Model
from brodmann.pipeline.stages import content_key
from brodmann.preprocess.resample import at_spacing


@dataclass(frozen=True)
class Mapped:
    """Files of one mapped image."""

    labels: Path
    confidence: Path | None

    @property
    def whole(self) -> bool:
        return self.labels.exists() and (self.confidence is None or self.confidence.exists())


class _OnGrid:
    """Class indices on the model's grid, read as label ids on the image's own grid.

    A window costs the rows of the source that it touches: the nearest pixel is taken.
    """

    def __init__(self, source: Any, shape: tuple[int, ...], label_map: LabelMap | None) -> None:
        self.source, self.shape, self.label_map = source, shape, label_map
        probe = label_map.to_ids(np.zeros(1, np.int64)) if label_map else np.zeros(1, source.dtype)
        self.dtype, self.ndim = probe.dtype, len(shape)
        self._nearest = [
            None if n == m else np.minimum(((np.arange(n) + 0.5) * m / n).astype(np.int64), m - 1)
            for n, m in zip(shape, source.shape)
        ]

    def __getitem__(self, window: Any) -> np.ndarray:
        if window is Ellipsis:
            window = ()
        window = window if isinstance(window, tuple) else (window,)
        window = (*window, *(slice(None),) * (self.ndim - len(window)))
        values: np.ndarray
        if all(index is None for index in self._nearest):
            values = np.asarray(self.source[window])
        else:
            picks = [
                np.arange(m)[part] if index is None else index[part]
                for part, index, m in zip(window, self._nearest, self.source.shape)
            ]
            low = [int(pick.min()) for pick in picks]
            block = np.asarray(
                self.source[tuple(slice(lo, int(p.max()) + 1) for lo, p in zip(low, picks))]
            )
            values = block[np.ix_(*(pick - lo for pick, lo in zip(picks, low)))]
        return self.label_map.to_ids(values.astype(np.int64)) if self.label_map else values


def map_image(
    model: Model,
    image: Volume,
    labels_path: Path,
    *,
    confidence_path: Path | None = None,
    where: str = "image",
    key: str = "",
    redo: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
    **options: Any,
) -> Mapped:
    """Map one image into a label file, and a confidence file where one is named.

    Parameters
    ----------
    model : Model
    image : Volume
        Any size; brought to the model's spacing by window when it differs, and the labels
        back to the image's own grid.
    labels_path, confidence_path : Path
        Label ids (uint16 or uint32) and probability of the winner (uint8, 0..255), in the
        format of their suffix.
    where : str
        What to call the image in an error.
    key : str
        Stands for all that the map depends on; half-mapped work of another key is not gone on
        with. By default made of the model, `where`, the image's grid and the options.
    redo : bool
        Map although the files are there; the old ones stay until the new ones are whole.
    report : callable
        Called with (windows done, windows).
    **options
        Of the problem's `assemble`.

    Work in progress lies beside the label file in `.NAME.partial` and is used when the same
    call is made again after a stop; files appear only when they are whole.

    Raises
    ------
    DataError
        If the image holds NaN or cannot be read; names `where`.
    ModelError
        If the image does not fit the model.
    """
    done = Mapped(labels_path, confidence_path)
    partial = labels_path.with_name(f".{labels_path.name}.partial")
    if done.whole and not redo:
        # A stop after the last file appeared leaves it behind.
        shutil.rmtree(partial, ignore_errors=True)
        return done
    options = {**options, "confidence": confidence_path is not None}
    key = key or content_key(
        model.fingerprint, where, image.shape, image.spacing, sorted(options.items())
    )
    mark = partial / "key"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != key:
        shutil.rmtree(partial, ignore_errors=True)
        write_text(make_folder(partial) / mark.name, key)
    on_grid = at_spacing(image, model.plan.spacing)
    try:
        model.map(on_grid, partial, where, key=key, report=report, **options)
    except DataError as error:
        if error.where == "image":
            error.where = where
        raise
    shape = image.spatial_shape

    def finish(name: str, path: Path, label_map: LabelMap | None) -> None:
        source = read_volume(partial / name).data
        data = _OnGrid(source, shape, label_map)
        write_volume(
            path, Volume(data, image.spatial_axes, image.spacing), labels=label_map is not None
        )

    if confidence_path is not None:
        finish("confidence.zarr", confidence_path, None)
    finish("classes.zarr", labels_path, model.label_map)
    shutil.rmtree(partial, ignore_errors=True)
    return done
