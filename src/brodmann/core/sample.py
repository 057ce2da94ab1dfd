"""Sample and Dataset: what every room takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

from brodmann.core.errors import DataError, nearest
from brodmann.core.labels import LabelMap
from brodmann.core.points import Points
from brodmann.core.volume import Volume, check_same_grid


@dataclass(frozen=True, eq=False)
class Sample:
    """One image with whatever is known of it.

    `labels` hold ids of the dataset's LabelMap on the image's grid. A sample mixed of two
    (MixUp) has `labels2` and `weight`, the share of `labels` in 0..1. `subject` is the
    animal, by which splits are grouped.
    """

    name: str
    image: Volume
    labels: Volume | None = None
    labels2: Volume | None = None
    weight: float = 1.0
    points: Points | None = None
    category: str | None = None
    attributes: Mapping[str, float] = field(default_factory=dict)
    subject: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for labels in (self.labels, self.labels2):
            if labels is not None:
                check_same_grid(self.image, labels, self.name)
        if not self.subject:
            object.__setattr__(self, "subject", self.name)

    def with_(self, **changes: Any) -> Sample:
        """A copy with some fields changed."""
        return replace(self, **changes)


class Dataset(Sequence[Sample]):
    """Samples that are read when asked for, a LabelMap, and named splits.

    Parameters
    ----------
    name : str
    names : sequence of str
        One for each sample, all different.
    load : callable
        Name -> Sample. Called each time, so that nothing stays in memory.
    label_map : LabelMap, optional
    subjects : mapping of str to str, optional
        Sample name -> animal; a sample that is not named is its own subject.
    splits : mapping of str to sequence of str, optional
        "train", "test", ... -> sample names.
    licence, citation : str

    Example
    -------
    >>> import numpy as np
    >>> make = lambda name: Sample(name, Volume(np.zeros((4, 4)), "yx", (25, 25)))
    >>> pair = Dataset("pair", ["a", "b"], make, splits={"train": ["a"], "test": ["b"]})
    >>> len(pair), pair["b"].name, [sample.name for sample in pair.split("train")]
    (2, 'b', ['a'])
    """

    def __init__(
        self,
        name: str,
        names: Sequence[str],
        load: Callable[[str], Sample],
        label_map: LabelMap | None = None,
        subjects: Mapping[str, str] | None = None,
        splits: Mapping[str, Sequence[str]] | None = None,
        licence: str = "",
        citation: str = "",
        description: str = "",
    ) -> None:
        self.name, self.names, self._load = name, list(names), load
        self.label_map = label_map
        self.subjects = {n: (subjects or {}).get(n, n) for n in self.names}
        self.splits = {key: list(value) for key, value in (splits or {}).items()}
        self.licence, self.citation, self.description = licence, citation, description
        if len(set(self.names)) != len(self.names):
            twice = sorted({n for n in self.names if self.names.count(n) > 1})
            raise DataError("sample names must differ", name, twice[:3])
        for split, members in self.splits.items():
            unknown = [n for n in members if n not in self.subjects]
            if unknown:
                raise DataError(
                    f"split {split!r} names samples that are not there", name, unknown[:3]
                )

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, key: int | str) -> Sample: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[Sample]: ...
    def __getitem__(self, key: int | str | slice) -> Sample | Sequence[Sample]:
        if isinstance(key, slice):
            return self.subset(self.names[key])
        if isinstance(key, int):
            key = self.names[key]
        if key not in self.subjects:
            raise DataError("no such sample", self.name, repr(key), nearest(key, self.names[:50]))
        sample = self._load(key)
        return sample.with_(subject=self.subjects[key])

    def subset(self, names: Sequence[str]) -> Dataset:
        """The same dataset with some of its samples, in the order given."""
        keep = set(names)
        splits = {k: [n for n in v if n in keep] for k, v in self.splits.items()}
        return self._like(names=names, splits=splits)

    def with_splits(self, splits: Mapping[str, Sequence[str]]) -> Dataset:
        """The same samples, divided anew."""
        return self._like(splits=splits)

    def with_load(self, load: Callable[[str], Sample]) -> Dataset:
        """The same dataset, its samples read in another way."""
        return self._like(load=load)

    def _like(self, **changes: Any) -> Dataset:
        fields: dict[str, Any] = {
            "name": self.name,
            "names": self.names,
            "load": self._load,
            "label_map": self.label_map,
            "subjects": self.subjects,
            "splits": self.splits,
            "licence": self.licence,
            "citation": self.citation,
            "description": self.description,
        }
        return Dataset(**(fields | changes))

    def split(self, name: str) -> Dataset:
        """The samples of one split."""
        if name not in self.splits:
            raise DataError("no such split", self.name, repr(name), nearest(name, self.splits))
        return self.subset(self.splits[name])
