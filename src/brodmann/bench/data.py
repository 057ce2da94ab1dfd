"""A task's data: opened, looked through once, and handed out without names and truth."""

from __future__ import annotations

import hashlib
import inspect
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.bench.records import DataRecord, Split, Task
from brodmann.bench.tasks import Benchmark
from brodmann.core import DataError, Dataset, RecipeError, Sample, Volume, nearest
from brodmann.datasets.registry import DATASETS

Report = Callable[[str, int, int, str], None]
Counts = dict[str, dict[str, int]]
"""Part -> class -> samples (of a category, or of a region) or pixels."""


def open_parts(
    task: Task,
    split: Split,
    data_options: Mapping[str, Any] | None = None,
    *,
    oracle: bool = False,
) -> dict[str, Dataset]:
    """The datasets of a split's parts.

    Parameters
    ----------
    task, split
    data_options : mapping, optional
        Such as {"root": ...}; a kind that takes no root is not given one, and a folder in it
        that is called as the kind comes first.
    oracle : bool
        Open the samples as the oracle does, with the task's `oracle_data`.

    Raises
    ------
    BrodmannError
        If the kind does not take an option, or the data are missing or at fault.
    """
    kind = task.data["kind"]
    options = {key: value for key, value in task.data.items() if key != "kind"} | split.options
    if oracle:
        options |= task.oracle_data
    make = DATASETS[kind]
    known = inspect.signature(make).parameters
    options |= {
        key: value
        for key, value in (data_options or {}).items()
        if value is not None and (key != "root" or "root" in known)
    }
    if "root" in options and (Path(options["root"]) / kind).is_dir():
        options["root"] = Path(options["root"]) / kind
    if split.boxed:
        options["parts"] = split.data_parts()
    for key in options:
        if key not in known:
            raise RecipeError(
                f"data kind {kind!r} takes no such option", task.id, key, nearest(key, known)
            )
    missing = [
        name
        for name, one in known.items()
        if one.default is one.empty and one.kind is not one.VAR_KEYWORD and name not in options
    ]
    if missing:
        raise RecipeError(
            f"data kind {kind!r} needs more",
            task.id,
            ", ".join(missing),
            "give --data ROOT, or data.root in a recipe",
        )
    data = make(**options)
    if split.boxed:
        return {part: data.split(part) for part in split.parts}
    return {
        part: data.subset(_members(data, [str(one) for one in names], f"{task.id}: {part}"))
        for part, names in split.parts.items()
    }


def _members(data: Dataset, names: Sequence[str], where: str) -> list[str]:
    """Sample names of what a part names: splits of the data, samples, or subjects."""
    found: list[str] = []
    subjects = set(data.subjects.values())
    for name in names:
        if name in data.splits:
            found += data.splits[name]
        elif name in data.subjects:
            found.append(name)
        elif name in subjects:
            found += [sample for sample in data.names if data.subjects[sample] == name]
        else:
            raise DataError(
                "no split, sample or subject of this name",
                where,
                name,
                nearest(name, [*data.splits, *subjects]),
            )
    return list(dict.fromkeys(found))


def parts_by_rule(
    task: Task, split: Split, data: DataRecord, truth: str | None = None
) -> dict[str, Dataset]:
    """The samples of a split with the categories that follow from its boxes; no pixels.

    Images are one black pixel. With truth "channel", slices where the region channel says
    nothing have the first category, as the release reads its zeros.

    Raises
    ------
    RecipeError
        If the task's truth does not follow from boxes alone.

    Example
    -------
    >>> from brodmann.bench.tasks import find_task
    >>> bench, task = find_task("mtneuro/roi-c1@v1")
    >>> test = parts_by_rule(task, task.splits[0], bench.data)["test"]
    >>> len(test), test["zi-A-z0459"].category, test["zi-A-z0460"].category
    (200, 'ZI', 'CTX')
    """
    truth = truth or task.truth
    if truth is None or task.data.get("depth", 1) != 1:
        raise RecipeError("the truth of this task does not follow from its boxes", task.id)
    first = (task.categories or tuple(cube.region for cube in data.cubes.values()))[0]
    spacing = data.spacing_um[-2:]
    parts = {}
    for part in split.parts:
        categories: dict[str, tuple[str, str]] = {}
        for box in split.boxes(part):
            for z in range(*box.z):
                known = truth == "cube" or _says_something(data, z)
                region = data.cubes[box.cube].region if known else first
                categories[f"{box.cube}-z{z:04d}"] = (region, box.cube)

        def load(name: str, categories: dict[str, tuple[str, str]] = categories) -> Sample:
            image = Volume(np.zeros((1, 1), np.uint8), "yx", spacing)
            return Sample(name, image, category=categories[name][0])

        subjects = {name: cube for name, (_, cube) in categories.items()}
        parts[part] = Dataset(f"{task.id} {part}", list(categories), load, subjects=subjects)
    return parts


def _says_something(data: DataRecord, z: int) -> bool:
    return (
        data.labelled_slices is not None and data.labelled_slices[0] <= z < data.labelled_slices[1]
    )


def prove_encoder(bench: Benchmark, task: Task) -> None:
    """Prove that what an encoder may learn from lies apart from what the task tests on.

    Raises
    ------
    DataError
        As `Split.prove`; a task that tests in its own sample promises nothing.
    """
    other = next((one for one in bench.tasks if one.id == task.encoder), None)
    if other is None:
        return
    for split in task.splits:
        if split.in_sample:
            continue
        parts = {"train": other.splits[0].parts["train"], "test": split.parts["test"]}
        split.model_copy(update={"parts": parts, "name": f"{split.name}, encoder"}).prove(
            bench.data.cubes
        )


@dataclass(frozen=True)
class Survey:
    """What one look at every sample of a split tells: a hash of what was read, and counts.

    `parts` are the samples without their images, for what needs the truth alone; empty where
    the truth is labels.
    """

    digest: str
    counts: Counts
    parts: Mapping[str, Dataset]


def survey(
    task: Task,
    split: Split,
    data: DataRecord,
    parts: Mapping[str, Dataset],
    report: Report = lambda what, done, total, note: None,
) -> Survey:
    """Read every sample of a split once: hash and count, and prove that parts lie apart.

    Raises
    ------
    DataError
        If two parts share a sample, or a subject where the split is by name, or patches come
        nearer than the split's `guard_px`.
    """
    digest = hashlib.blake2b(digest_size=16)
    counts: Counts = {}
    squares: dict[str, dict[str, np.ndarray]] = {}
    light: dict[str, Dataset] = {}
    total, done = sum(map(len, parts.values())), 0
    _prove_names(split, parts)
    for part in sorted(parts):
        found: Counter[str] = Counter()
        places: dict[str, list[Any]] = {}
        kept: dict[str, Sample] = {}
        for sample in parts[part]:
            digest.update(f"{split.name}/{part}/{_sample_digest(sample)}\n".encode())
            found.update(_counts(task, sample, parts[part]))
            places.setdefault(sample.category or "", []).append(_square(sample, split, data))
            if task.answer != "labels":
                kept[sample.name] = _without_image(sample)
            done += 1
            report("look through", done, total, split.name)
        order = {name: i for i, name in enumerate(task.classes)}
        counts[part] = dict(sorted(found.items(), key=lambda item: order.get(item[0], 0)))
        if kept:
            light[part] = parts[part].with_load(kept.__getitem__)
        squares[part] = {key: np.array(found, float) for key, found in places.items()}
    if _has_places(split):
        _prove_squares(split, squares)
    return Survey(digest.hexdigest(), counts, light)


def _prove_names(split: Split, parts: Mapping[str, Dataset]) -> None:
    if split.in_sample:
        return
    for one, other in itertools.combinations(sorted(parts), 2):
        shared = set(parts[one].names) & set(parts[other].names)
        if not split.boxed:
            here, there = ({d.subjects[n] for n in d.names} for d in (parts[one], parts[other]))
            shared |= here & there
        if shared:
            raise DataError(
                "two parts share samples or subjects",
                f"{split.name}: {one} and {other}",
                ", ".join(sorted(shared)[:4]),
            )


def _has_places(split: Split) -> bool:
    return bool(split.guard_px) and not split.boxed and not split.in_sample


def _prove_squares(split: Split, squares: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    for one, other in itertools.combinations(sorted(squares), 2):
        for a, b in itertools.product(squares[one], squares[other]):
            gap = smallest_gap(squares[one][a], squares[other][b])
            guard = split.guard_px if a == b or split.guard_within == "all" else 0
            if gap < guard:
                raise DataError(
                    "parts come nearer than the guard",
                    f"{split.name}: {one} {a} and {other} {b}".replace("  ", " "),
                    f"{gap:g} pixels",
                    f"the split promises {guard}",
                )


def smallest_gap(a: np.ndarray, b: np.ndarray) -> float:
    """The least number of free pixels between two sets of rectangles (n, 4): y, x, end y, end x.

    Rectangles lie apart by the larger of their gaps along y and x; below 0 they overlap.

    >>> smallest_gap(np.array([[0.0, 0, 4, 4]]), np.array([[0.0, 9, 4, 13], [6, 2, 8, 4]]))
    2.0
    """
    least = np.inf
    for block in np.array_split(a, max(1, len(a) * len(b) // 1_000_000)):
        if not len(block) or not len(b):
            continue
        gaps = [
            np.maximum(block[:, None, k], b[None, :, k])
            - np.minimum(block[:, None, k + 2], b[None, :, k + 2])
            for k in (0, 1)
        ]
        least = min(least, float(np.maximum(*gaps).min()))
    return least


def _square(sample: Sample, split: Split, data: DataRecord) -> tuple[float, ...]:
    """Where a patch lies, in pixels of the data's own spacing; zeros where nobody asks."""
    if not _has_places(split):
        return (0.0,) * 4
    if not {"x", "y"} <= sample.meta.keys():
        raise DataError(
            "a guard in pixels needs the place of every sample", sample.name, fix="meta x and y"
        )
    y, x = sample.meta["y"], sample.meta["x"]
    sizes = zip(sample.image.spatial_shape[-2:], sample.image.spacing[-2:], data.spacing_um[-2:])
    height, width = (size * step / own for size, step, own in sizes)
    return y, x, y + height, x + width


def _sample_digest(sample: Sample) -> str:
    """Of the image, its labels, its category and its attributes (six figures of them)."""
    digest = hashlib.blake2b(digest_size=16)
    for volume in (sample.image, sample.labels):
        if volume is not None:
            array = np.ascontiguousarray(volume.numpy())
            digest.update(f"{volume.axes}{array.shape}{array.dtype.str}{volume.spacing}".encode())
            digest.update(array.data)
    attributes = {key: f"{value:.6g}" for key, value in sorted(sample.attributes.items())}
    digest.update(f"{sample.name}{sample.category}{attributes}".encode())
    return digest.hexdigest()


def _counts(task: Task, sample: Sample, data: Dataset) -> dict[str, int]:
    if task.answer != "labels":
        return {sample.category or "samples": 1}
    if sample.labels is None or data.label_map is None:
        raise DataError("a sample without labels", sample.name)
    classes = data.label_map.to_classes(sample.labels.numpy(), sample.name)
    numbers = np.bincount(classes[classes >= 0].ravel(), minlength=data.label_map.num_classes)
    return {name: int(n) for name, n in zip(data.label_map.class_names, numbers) if n}


def anonymous(sample: Sample, number: int) -> Sample:
    """The image of a sample, called "000000", ... by its place: no truth, no name, no region.

    >>> image = Volume(np.zeros((2, 2)), "yx", (1, 1))
    >>> hidden = anonymous(Sample("ctx-A-z0110", image, category="CTX", subject="ctx-A"), 7)
    >>> hidden.name, hidden.subject, hidden.category, hidden.meta
    ('000007', '000007', None, {})
    """
    return Sample(f"{number:06d}", sample.image)


def _without_image(sample: Sample) -> Sample:
    """The same with one black pixel for an image: cheap to keep."""
    pixel = Volume(np.zeros((1, 1), np.uint8), "yx", (1.0, 1.0))
    return Sample(
        sample.name,
        pixel,
        category=sample.category,
        attributes=sample.attributes,
        subject=sample.subject,
    )


def without_images(data: Dataset) -> Dataset:
    """The same samples, read once and kept, their images one black pixel."""
    kept = {sample.name: _without_image(sample) for sample in data}
    return data.with_load(kept.__getitem__)
