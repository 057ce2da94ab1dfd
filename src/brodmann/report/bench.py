"""A benchmark run as one self-contained page: tables, charts, confusions, pictures, provenance."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from brodmann.core import DataError, LabelMap, Volume
from brodmann.core.files import make_folder, write_text
from brodmann.report.bench_charts import attributes_svg, seeds_svg
from brodmann.report.bench_notes import (
    configurations_of,
    facts_of,
    hashes_of,
    warnings_of,
)
from brodmann.report.bench_rows import (
    BenchRow,
    Published,
    Standing,
    TaskText,
    best_of,
    confusion_of,
    standings,
    values_of,
)
from brodmann.report.embeddings import ATTRIBUTE_TITLES
from brodmann.report.figures import DIFFERENCES, image_uri
from brodmann.report.html import render, score_text
from brodmann.report.panels import SectionView, section_view
from brodmann.report.plots import category_colors
from brodmann.report.sheet import composites, viewed
from brodmann.report.view import MappedSection

PAGE = "report.html"
METRICS = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "recall": "Recall",
    "f1": "F1",
    "iou": "IoU",
    "r2": "R²",
}
KINDS = ("method", "baseline", "published")
MOST_PATCHES = 8
PATCH = 192
"""Pixels along the longer side of an example."""
WRONG = ("another label", "missed", "invented")


@dataclass(frozen=True)
class Picture:
    """A picture for the page: a PNG file with its title and what it shows."""

    title: str
    caption: str
    path: Path


@dataclass(frozen=True)
class Extras:
    """What a page shows besides scores; every part may be missing.

    Parameters
    ----------
    embeddings, figures : sequence of Picture
        Of representations, and any others.
    patches : mapping of str to sequence of Volume
        Region -> examples, "yx" or "zyx" (the middle plane); at most MOST_PATCHES are shown.
    sections : sequence of MappedSection
        Predictions beside their truth.
    label_map : LabelMap, optional
        Of the sections.
    colors : mapping of str to str
        Category -> "#rrggbb".
    """

    embeddings: Sequence[Picture] = ()
    figures: Sequence[Picture] = ()
    patches: Mapping[str, Sequence[Volume]] = field(default_factory=dict)
    sections: Sequence[MappedSection] = ()
    label_map: LabelMap | None = None
    colors: Mapping[str, str] = field(default_factory=dict)


def write_bench_report(
    folder: Path,
    rows: Sequence[Any],
    *,
    tasks: Sequence[Any] = (),
    published: Published | None = None,
    intervals: Mapping[tuple[str, str], tuple[float, float]] | None = None,
    extras: Extras | None = None,
    title: str = "Benchmark",
    description: str = "",
    command: str = "",
    facts: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write report.html into a folder; it needs no network and no other file.

    Each version of a task has a section and a table of its own.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    rows : sequence of BenchRow, mapping or result record
        In any order; a mapping is what a result file holds.
    tasks : sequence of TaskText or task record, optional
        What is asked. A task without one is shown by its id.
    published : mapping, optional
        Task id -> method -> score -> (mean, deviation or None). Stands beside version 1 only;
        tasks that no row is of are left out.
    intervals : mapping of (task id, method) to (low, high), optional
        Of the main score.
    extras : Extras, optional
        Embeddings, examples, predictions.
    title, description, command : str
        Heading, one line on what was done, and the command that does it again.
    facts : mapping of str to str, optional
        Such as data, licence and citation.
    notes : sequence of str
        What a reader must know first.

    Returns
    -------
    Path
        `folder`/report.html.

    Raises
    ------
    DataError
        If there is no row, two results of a method and seed differ, published rows are of another
        version than the first, or evidence does not fit its task.
    OutputError
        If the file cannot be written.
    """
    known = [BenchRow.of(row) for row in rows]
    if not known:
        raise DataError("a page of a benchmark needs at least one result", folder, 0)
    texts = {text.id: text for text in map(TaskText.of, tasks)}
    extras = extras or Extras()
    if extras.sections and extras.label_map is None:
        raise DataError("sections need their label map", folder)
    of_task: dict[str, list[BenchRow]] = {}
    for row in known:
        of_task.setdefault(row.task, []).append(row)
    views = []
    order = [id_ for id_ in texts if id_ in of_task]
    order += sorted(set(of_task) - set(order), key=_order)
    for number, id_ in enumerate(order):
        mine = of_task[id_]
        text = texts.get(id_) or TaskText.guessed(id_, mine)
        spans = {m: span for (t, m), span in (intervals or {}).items() if t == id_}
        table = standings(mine, text, (published or {}).get(id_), spans)
        views.append(_task_view(text, table, f"t{number}"))
    make_folder(Path(folder))
    page = render(
        "bench.html.j2",
        title=title,
        description=description,
        command=command,
        notes=[*notes, *warnings_of(of_task, texts)],
        tasks=views,
        embeddings=[_inline(one) for one in extras.embeddings],
        figures=[_inline(one) for one in extras.figures],
        regions=_examples(extras),
        sections=[
            _section(section, extras.label_map, f"s{number}")
            for number, section in enumerate(extras.sections)
            if extras.label_map is not None
        ],
        differences=[
            {"name": name, "color": "#{:02x}{:02x}{:02x}".format(*color[:3])}
            for name, (_, color) in zip(WRONG, DIFFERENCES[1:])
        ],
        labels=[
            {"name": label.name, "color": f"#{label.color}"} for label in extras.label_map or ()
        ],
        facts={**(facts or {}), **facts_of(known)},
        hashes=hashes_of(order, of_task),
        methods=configurations_of(known),
        every=known,
        spread=spread,
        key_title=key_title,
    )
    return write_text(Path(folder) / PAGE, page)


def spread(one: Standing, key: str) -> str:
    """A mean and its deviation.

    >>> spread(Standing("a", "method", {"f1": 0.12345}, {"f1": 0.01}, {}), "f1")
    '0.123 ± 0.010'
    >>> spread(Standing("a", "method", {"f1": 0.5}, {"f1": None}, {}), "f1")
    '0.500'
    """
    mean, deviation = one.mean.get(key), one.std.get(key)
    text = score_text(mean).replace("-", "−")
    return text if mean is None or deviation is None else f"{text} ± {deviation:.3f}"


def key_title(key: str) -> str:
    """What a score is called.

    >>> key_title("balanced_accuracy"), key_title("iou:vessel"), key_title("r2:cell_size")
    ('Balanced accuracy', 'IoU vessel', 'R² cell size')
    """
    metric, _, of = key.partition(":")
    words = METRICS.get(metric, metric.replace("_", " "))
    return f"{words} {of.replace('_', ' ')}" if of else words


def _order(id_: str) -> tuple[str, int]:
    name, _, version = id_.rpartition("@v")
    return name, int(version)


def _task_view(text: TaskText, table: list[Standing], key: str) -> dict[str, Any]:
    metrics = [name for name, _ in text.metrics]
    by_class = list(
        dict.fromkeys(k for one in table for k in one.mean if ":" in k and one.mean[k] is not None)
    )
    groups = [
        (metric, [k for k in by_class if k.startswith(metric + ":")])
        for metric in dict.fromkeys(k.partition(":")[0] for k in by_class)
    ]
    best = best_of(table, text.main)
    main_first = sorted(metrics, key=lambda name: name != text.main)
    attributes = text.answer == "attributes"
    columns = [(name, key_title(name)) for name in main_first]
    chart = seeds_svg(table, columns, f"{key}-seeds", main=text.main, maximum=text.maximum)
    scatter = ""
    if attributes:
        r2 = [(f"r2:{name}", _attribute(name)[0]) for name in text.classes]
        chart = seeds_svg(table, [*columns, *r2], f"{key}-bars", bars=True)
        values = values_of(best.rows[:1], len(text.classes)) if best else np.zeros((0, 2, 1))
        if len(values):
            shown = [_attribute(name) for name in text.classes]
            titles = [f"{words} ({unit})" if unit else words for words, unit, _ in shown]
            scatter = attributes_svg(
                values * [factor for *_, factor in shown], titles, f"{key}-values"
            )
    return {
        "key": key,
        "text": text,
        "version": text.id.rpartition("@")[2],
        "metrics": columns,
        "rows": {kind: [one for one in table if one.kind == kind] for kind in KINDS},
        "best": {
            k: leader.name if (leader := best_of(table, k)) else None
            for k in [*main_first, *by_class]
        },
        "groups": [
            {
                "metric": metric,
                "keys": keys,
                "rows": {
                    kind: [
                        one
                        for one in table
                        if one.kind == kind and any(one.mean.get(k) is not None for k in keys)
                    ]
                    for kind in KINDS
                },
            }
            for metric, keys in groups
        ],
        "chart": Markup(chart),
        "bars": attributes,
        "scatter": Markup(scatter),
        "matrix": None if attributes or best is None else _matrix(text, best),
        "first": best.name if best else "",
        "first_seed": best.seeds[0] if best else "",
        "spans": any(one.interval for one in table),
    }


def _matrix(text: TaskText, best: Standing) -> dict[str, Any] | None:
    counts = confusion_of(best.rows, text.classes)
    if counts is None:
        return None
    true = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(true, 1)
    return {
        "method": best.name,
        "names": list(text.classes),
        "rows": [
            [
                {"share": float(share), "count": int(count)} if total else None
                for share, count in zip(line, row)
            ]
            for line, row, total in zip(shares, counts, true[:, 0])
        ],
        "what": "pixels" if text.answer == "labels" else "images",
        "seeds": len(best.seeds),
    }


def _attribute(name: str) -> tuple[str, str, float]:
    return ATTRIBUTE_TITLES.get(name, (name.replace("_", " ").capitalize(), "", 1.0))


def _section(section: MappedSection, label_map: LabelMap, key: str) -> SectionView:
    """A section's card without the share of wrong tissue: microstructure is not tissue."""
    view = section_view(section, label_map, key, None)
    return replace(view, planes=[replace(plane, wrong=None) for plane in view.planes])


def _examples(extras: Extras) -> list[dict[str, Any]]:
    """Examples of every region, all stretched alike."""
    names = [name for name, volumes in extras.patches.items() if len(volumes)]
    colors = category_colors(names, extras.colors)
    views = [
        [viewed(volume, PATCH, mean=True)[:1] for volume in extras.patches[name][:MOST_PATCHES]]
        for name in names
    ]
    pictures = iter(composites([view for row in views for view in row]) if views else [])
    found = []
    for name, row in zip(names, views):
        volume = extras.patches[name][0]
        height, width = volume.spatial_shape[-2:]
        micrometres = f"{height * volume.spacing[-2]:.3g} × {width * volume.spacing[-1]:.3g} µm"
        found.append(
            {
                "name": name,
                "color": colors[name],
                "size": micrometres,
                "images": [image_uri(next(pictures), 88) for _ in row],
            }
        )
    return found


def _inline(picture: Picture) -> tuple[str, str, str]:
    path = Path(picture.path)
    kinds = {".png": "png", ".webp": "webp", ".jpg": "jpeg"}
    if not re.fullmatch("|".join(kinds), path.suffix.lower()):
        raise DataError("a picture on the page is a PNG, WebP or JPEG file", path, path.suffix)
    try:
        text = base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise DataError("cannot read this picture", path, error.strerror or error) from error
    return picture.title, picture.caption, f"data:image/{kinds[path.suffix.lower()]};base64,{text}"
