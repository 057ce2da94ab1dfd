"""An expansion folder read back: what was made of what, and what was not and why."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from brodmann.augment.expand import REQUEST, replay
from brodmann.core import DataError, Dataset, LabelMap, OutputError, Sample, Volume
from brodmann.core.files import make_folder
from brodmann.datasets.folder import open_image, open_labels, write_folder
from brodmann.datasets.layout import PARTS, Files, Layout, scan


@dataclass(frozen=True)
class Expansion:
    """What `expand` left in a folder.

    `request` is what the folder was begun for (dataset, method, options, factor, seed, split,
    targets); `records` is the provenance of every copy by name, in the order of targets.
    """

    path: Path
    request: Mapping[str, Any]
    records: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, path: str | Path) -> Expansion:
        """Read the request and all provenance; no image is opened.

        Raises
        ------
        DataError
            If the folder holds no expansion, or a file of it is damaged.
        """
        path = Path(path)
        request = read_json(path / REQUEST)
        order = {target: i for i, target in enumerate(request["targets"])}
        records = [read_json(file) for file in (path / "provenance").glob("*.json")]
        records.sort(key=lambda record: (order.get(record["target"], -1), record["copy"]))
        return cls(path, request, {record["name"]: record for record in records})

    @property
    def made(self) -> dict[str, Mapping[str, Any]]:
        """Provenance of the copies that were made."""
        return {name: r for name, r in self.records.items() if "skipped" not in r}

    @property
    def reasons(self) -> dict[str, int]:
        """Why copies were skipped, and how many for each reason; the most frequent first."""
        texts = (r["skipped"] for r in self.records.values() if "skipped" in r)
        return dict(Counter(re.split(r" \(|: found |; ", text)[0] for text in texts).most_common())

    @cached_property
    def layout(self) -> Layout:
        """The dataset folder that the expansion is."""
        return scan(self.path)

    @property
    def label_map(self) -> LabelMap | None:
        return self.layout.label_map

    def image(self, name: str) -> Volume:
        """An image, read by window however large."""
        return open_image(self.layout, self._files(name))

    def labels(self, name: str) -> Volume | None:
        """A label map, read by window."""
        files = self._files(name)
        return None if files.labels is None else open_labels(files.labels, self.image(name))

    def _files(self, name: str) -> Files:
        if name not in self.layout.samples:
            raise DataError("the expansion lacks this image", self.path, name, "expand it again")
        return self.layout.samples[name]

    def summary(self) -> dict[str, Any]:
        """Numbers for people and machines."""
        made, request = len(self.made), self.request
        return {
            "path": str(self.path),
            **{key: request[key] for key in ("dataset", "method", "options", "split")},
            **{key: request[key] for key in ("factor", "seed")},
            "targets": len(request["targets"]),
            "made": made,
            "skipped": len(self.records) - made,
            "reasons": self.reasons,
            "samples": len(self.layout.samples),
        }


def replay_into(record: Path, dataset: Dataset, out: Path) -> dict[str, Any]:
    """Make one image again from its provenance, and compare its files with the expansion's.

    Parameters
    ----------
    record : Path
        ``EXPANSION/provenance/NAME.json``.
    dataset : Dataset
        The one that was expanded.
    out : Path
        Gets ``images/NAME.tif``, ``labels/NAME.tif``, and what else the sample has.

    Returns
    -------
    dict
        `name`, `path`, and `files`: for each its `sha256`, that of the `expansion` (None
        where the expansion no longer holds it) and whether they are the `same`.

    Raises
    ------
    OutputError
        If `out` is the expansion itself.
    DataError
        If a source has changed, or the record is none.
    """
    record, out = Path(record), Path(out)
    home = record.resolve().parent.parent
    if out.resolve() == home:
        raise OutputError(
            "this is the expansion itself", out, fix="choose a folder beside it to compare with"
        )
    sample = replay(record, dataset)
    files = {
        name: _compared(make_folder(out) / name, home / name) for name in _written(sample, out)
    }
    return {"name": sample.name, "path": str(out), "files": files}


def words_of(record: Mapping[str, Any], label_map: LabelMap | None) -> list[tuple[str | None, str]]:
    """Where a made image comes from, as (source, what was taken); the source may be None.

    >>> words_of({"params": {"sources": ["b"], "weight": 0.25}}, None)
    [('b', 'source 75 %, target 25 %')]
    """
    params = record["params"]
    sources = list(params.get("sources", ()))
    if "regions" in params:
        taken: dict[str, list[str]] = {}
        for region in params["regions"]:
            taken.setdefault(region["source"], []).append(acronym(label_map, region["id"]))
        return [(source, ", ".join(taken[source])) for source in sources if source in taken]
    if "weight" in params:
        share = 100 * params["weight"]
        return [(name, f"source {100 - share:.0f} %, target {share:.0f} %") for name in sources]
    if "region" in params:
        level = params["level_um"]
        rim = f"{abs(level):.4g} µm {'wider' if level > 0 else 'narrower'}"
        return [(name, f"{acronym(label_map, params['region'])}, {rim}") for name in sources]
    if "box" in params:
        share = 1.0
        for (start, stop), size in zip(params["box"], params["shape"]):
            share *= (stop - start) / size
        return [(name, f"a box, {100 * share:.2g} % of the frame") for name in sources]
    if "style" in params:
        return [(name, "its stain") for name in sources] or [(None, "a random stain")]
    return [(name, "") for name in sources]


def acronym(label_map: LabelMap | None, id_: int) -> str:
    return label_map[id_].acronym if label_map is not None and id_ in label_map else f"id {id_}"


def _written(sample: Sample, out: Path) -> list[str]:
    """Write a sample's files as a dataset folder has them; their names below it."""
    one = Dataset(sample.name, [sample.name], lambda _: sample)
    written = []
    with TemporaryDirectory(dir=make_folder(out), prefix=".replay-") as beside:
        folder = write_folder(one, Path(beside) / "one")
        for part in ("images", *PARTS):
            for file in sorted((folder / part).glob("*")):
                file.replace(make_folder(out / part) / file.name)
                written.append(f"{part}/{file.name}")
    return written


def _compared(file: Path, other: Path) -> dict[str, Any]:
    own = _sha256(file)
    kept = _sha256(other) if other.exists() else None
    return {"sha256": own, "expansion": kept, "same": None if kept is None else own == kept}


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def read_json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("cannot read the expansion", file, error) from error
