"""Offline expansion: a dataset folder with augmented copies, each of which can be made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.augment.base import Augmentation, CannotDraw, Params, Progress, make_augmentation
from brodmann.core import DataError, Dataset, OutputError, Sample, keyed_rng
from brodmann.core.files import make_folder, write_json
from brodmann.datasets.folder import write_folder

FORMAT = 1
REQUEST = "expansion.json"
FITTED = "fitted"
"""Folder of what the method found out about its pool."""


def expand(
    dataset: Dataset,
    method: Augmentation,
    out: Path,
    *,
    factor: int,
    seed: int,
    split: str = "train",
    workers: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Write a dataset folder with `factor` augmented copies of each sample of one split.

    First every copy is drawn, and its provenance written to ``provenance/NAME.json``; then
    pictures are made and written. Stopped at any point, the same call goes on where it was
    and ends with the same bytes, since each copy is keyed by (seed, method, sample, copy).

    The folder also holds every sample of `dataset` as it was. Its split `split` names
    originals and copies; ``SPLIT-real`` and ``SPLIT-made`` name them apart; other splits are
    as they were. A copy has its target's subject, but mixing methods take from other
    subjects too: split first, then expand.

    Parameters
    ----------
    dataset : Dataset
        A dataset without splits counts as all `split`.
    method : Augmentation
    out : Path
        A new folder, or one that the same call has begun.
    factor : int
        Copies of each sample, 1 or more; 20 is the paper's largest (seeds/prmix.txt, Table 3).
    seed : int
    split : str
        The split to expand, and the pool that mixing methods draw partners from.
    workers : int
        Threads that draw and make pictures beside the one that writes.
    progress : callable, optional
        Called as (what, done, total, note).

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    DataError
        If there is nothing to expand, or no target allows the method.
    OutputError
        If the folder holds another expansion or cannot be written.
    """
    if factor < 1:
        raise DataError("an expansion needs a factor of at least 1", found=factor)
    splits = dataset.splits or {split: dataset.names}
    targets = dataset.split(split) if dataset.splits else dataset
    if not targets.names:
        raise DataError("nothing to expand", dataset.name, f"split {split!r} is empty")
    out = make_folder(Path(out))
    _claim(out, dataset, method, targets.names, factor, seed, split)
    method = method.fitted(targets, out / FITTED, seed=seed, progress=progress)
    records = _drawn(targets, method, out / "provenance", factor, seed, split, workers, progress)
    made = {name: record for name, record in records.items() if "skipped" not in record}
    if not made:
        reason = next(iter(records.values()))["skipped"]
        raise DataError(
            f"no sample of split {split!r} allows {method.name!r}", dataset.name, reason
        )
    both = {
        split: [*targets.names, *made],
        f"{split}-real": list(targets.names),
        f"{split}-made": list(made),
    }
    names = [*dataset.names, *made]
    clash = sorted(set(dataset.names) & set(made))
    if clash:
        raise DataError("the dataset has samples named like copies", dataset.name, clash[:3])

    def make(name: str) -> Sample:
        return _made(made[name], method, targets) if name in made else dataset[name]

    pending = [name for name in names if not (out / "images" / f"{name}.tif").exists()]
    with ThreadPoolExecutor(max(workers, 1)) as threads:
        load = _Ahead(make, pending, threads, workers, progress)
        expanded = Dataset(
            f"{dataset.name} + {method.name} x{factor}",
            names,
            load,
            method.tree(dataset.label_map),
            dataset.subjects | {name: dataset.subjects[r["target"]] for name, r in made.items()},
            {**splits, **both},
            dataset.licence,
            dataset.citation,
            dataset.description,
        )
        try:
            write_folder(expanded, out)
        finally:
            load.stop()
    if progress is not None:
        progress("write", len(pending), len(pending), "")
    return out


def copy_name(target: str, method: Augmentation, copy: int) -> str:
    """The name of one augmented copy, counted from 0."""
    return f"{target}-{method.name}-{copy:03d}"


def draw_copy(method: Augmentation, pool: Dataset, target: Sample, copy: int, seed: int) -> Params:
    """Parameters of one copy: the same in an expansion, in a loader and anywhere else."""
    rng = keyed_rng(seed, "expand", method.name, target.name, copy)
    return method.draw(rng, target, pool)


def make_copy(method: Augmentation, pool: Dataset, target: str, copy: int, seed: int) -> Sample:
    """One augmented copy, drawn and applied: what `expand` writes under the same seed.

    Parameters
    ----------
    method : Augmentation
        Fitted to the pool.
    pool : Dataset
        The samples that are expanded, the target among them.
    target : str
        A sample's name.
    copy : int
        From 0; each is another draw.
    seed : int

    Raises
    ------
    CannotDraw
        If this target allows none.
    """
    sample = pool[target]
    made = method.apply(draw_copy(method, pool, sample, copy, seed), sample, pool)
    return made.with_(name=copy_name(target, method, copy))


def replay(record: Mapping[str, Any] | Path, dataset: Dataset) -> Sample:
    """Make one augmented copy again, byte for byte, from its provenance.

    Parameters
    ----------
    record : mapping or Path
        What ``provenance/NAME.json`` holds, or its path. A method that learns (`translate`)
        needs the path, since what it learned lies beside.
    dataset : Dataset
        The one that was expanded.

    Raises
    ------
    DataError
        If the record is of another kind, the copy was skipped, or a source has changed.
    """
    where = record if isinstance(record, Path) else None
    if isinstance(record, Path):
        try:
            record = json.loads(record.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError("cannot read the provenance", where, error) from error
    needed = {"format", "method", "options", "target", "split", "name"}
    if not isinstance(record, Mapping) or not needed <= record.keys():
        raise DataError("this is no provenance of an augmented image", where)
    if record["format"] != FORMAT:
        raise DataError("unknown format of provenance", where, record["format"])
    if "skipped" in record:
        raise DataError("this copy was never made", where, record["skipped"])
    pool = dataset.split(record["split"]) if dataset.splits else dataset
    for name, digest in record["sources"].items():
        if _digest(pool[name]) != digest:
            raise DataError(
                "a source has changed since it was augmented", where, name, "restore the original"
            )
    method = make_augmentation(record["method"], record["options"])
    if method.learns and where is not None:
        method = method.fitted(pool, where.parent.parent / FITTED, seed=record["seed"])
    return _made(record, method, pool)


def _made(record: Mapping[str, Any], method: Augmentation, pool: Dataset) -> Sample:
    sample = method.apply(record["params"], pool[record["target"]], pool)
    return sample.with_(name=record["name"])


def _claim(
    out: Path,
    dataset: Dataset,
    method: Augmentation,
    targets: list[str],
    factor: int,
    seed: int,
    split: str,
) -> None:
    """Say what this folder is for, or see that it is for the same."""
    request = {
        "format": FORMAT,
        "dataset": dataset.name,
        "method": method.name,
        "options": method.options(),
        "factor": factor,
        "seed": seed,
        "split": split,
        "targets": targets,
    }
    file = out / REQUEST
    if not file.exists():
        if any(out.iterdir()):
            raise OutputError(
                "something else is in the folder", out, fix="choose a new or empty one"
            )
        write_json(file, request)
        return
    try:
        begun = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OutputError("cannot read what this folder was begun for", file, error) from error
    other = [key for key in request if begun.get(key) != request[key]]
    if other:
        raise OutputError(
            f"the folder holds an expansion with another {' and '.join(other)}",
            out,
            begun.get(other[0]),
            "choose another folder",
        )


def _drawn(
    pool: Dataset,
    method: Augmentation,
    folder: Path,
    factor: int,
    seed: int,
    split: str,
    workers: int,
    progress: Progress | None,
) -> dict[str, dict[str, Any]]:
    """Provenance of every copy by name, in order; drawn, or read if it was drawn before."""
    make_folder(folder)
    digests: dict[str, str] = {}

    def digest_of(name: str, sample: Sample | None = None) -> str:
        if name not in digests:
            digests[name] = _digest(pool[name] if sample is None else sample)
        return digests[name]

    def draw(target: str) -> dict[str, dict[str, Any]]:
        records, sample = {}, None
        for copy in range(factor):
            name = copy_name(target, method, copy)
            file = folder / f"{name}.json"
            if file.exists():
                records[name] = json.loads(file.read_text(encoding="utf-8"))
                continue
            sample = sample or pool[target]
            record = {
                "format": FORMAT,
                "name": name,
                "method": method.name,
                "options": method.options(),
                "seed": seed,
                "target": target,
                "copy": copy,
                "split": split,
            }
            try:
                params = draw_copy(method, pool, sample, copy, seed)
            except CannotDraw as reason:
                record["skipped"] = str(reason)
            else:
                record["sources"] = {target: digest_of(target, sample)} | {
                    source: digest_of(source) for source in method.sources_of(params)
                }
                record["params"] = params
            write_json(file, record)
            records[name] = record
        return records

    records: dict[str, dict[str, Any]] = {}
    with ThreadPoolExecutor(max(workers, 1)) as threads:
        for done, drawn in enumerate(threads.map(draw, pool.names), start=1):
            records |= drawn
            if progress is not None:
                progress("draw", done, len(pool), "")
    return records


class _Ahead:
    """Loads samples in a known order, some of them before they are asked for."""

    def __init__(
        self,
        load: Callable[[str], Sample],
        order: list[str],
        threads: ThreadPoolExecutor,
        ahead: int,
        progress: Progress | None,
    ) -> None:
        self.load, self.order, self.threads, self.ahead = load, order, threads, ahead
        self.progress = progress
        self.place = {name: i for i, name in enumerate(order)}
        self.futures: dict[str, Future[Sample]] = {}

    def __call__(self, name: str) -> Sample:
        i = self.place[name]
        if self.progress is not None:
            self.progress("write", i, len(self.order), name)
        if self.ahead == 0:
            return self.load(name)
        for other in self.order[i : i + 1 + self.ahead]:
            if other not in self.futures:
                self.futures[other] = self.threads.submit(self.load, other)
        return self.futures.pop(name).result()

    def stop(self) -> None:
        for future in self.futures.values():
            future.cancel()


def _digest(sample: Sample) -> str:
    """Of the image, labels and points that an augmentation sees."""
    hasher = hashlib.blake2b(digest_size=16)
    for volume in (sample.image, sample.labels, sample.labels2):
        if volume is not None:
            array = np.ascontiguousarray(volume.numpy())
            hasher.update(f"{array.dtype.str}{array.shape}{volume.spacing}".encode())
            hasher.update(array.data)
    if sample.points is not None:
        hasher.update(sample.points.table.to_csv(index=False).encode())
    hasher.update(repr(sample.weight).encode())
    return hasher.hexdigest()
