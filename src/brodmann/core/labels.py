"""LabelMap: the tree of regions that the ids in a label image stand for."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brodmann.core.errors import DataError

BACKGROUND = 0
IGNORE_CLASS = -1
"""Class index of pixels that losses and metrics skip."""
COLUMNS = ("id", "name", "acronym", "parent", "color")


@dataclass(frozen=True)
class Label:
    """One region: a positive id, its names, its parent's id (or None) and a colour "RRGGBB"."""

    id: int
    name: str
    acronym: str
    parent: int | None = None
    color: str = "808080"

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The colour as three numbers in 0..255."""
        return int(self.color[0:2], 16), int(self.color[2:4], 16), int(self.color[4:6], 16)


class LabelMap:
    """The labels of a dataset: id -> name, acronym, parent and colour.

    Ids are what stands in a label image (any positive integers). Class indices are what a
    net predicts: 0 is background, then 1..n in the order of `classes`, and -1 is ignore.

    Parameters
    ----------
    labels : sequence of Label
        Every node of the tree, in any order.
    classes : sequence of int, optional
        The ids that images may hold and nets predict, in class order.
        Default: the leaves in the order given.
    ignore : int, optional
        The id in a label image of pixels that nobody annotated.

    Raises
    ------
    DataError
        On an id used twice, a parent that is not there, a cycle, or an id below 1.

    Example
    -------
    >>> tree = LabelMap([Label(1, "Thalamus", "TH"), Label(2, "Ventral posterior", "VP", 1)])
    >>> tree.num_classes, tree.to_classes(np.array([0, 2])).tolist(), tree.ancestors(2)
    (2, [0, 1], [1])
    """

    def __init__(
        self,
        labels: Sequence[Label],
        classes: Sequence[int] | None = None,
        ignore: int | None = None,
    ) -> None:
        self._by_id: dict[int, Label] = {}
        for label in labels:
            if label.id <= BACKGROUND:
                raise DataError("label ids start at 1 (0 is background)", found=label.id)
            if label.id in self._by_id:
                raise DataError(
                    "label id used twice", found=label.id, fix="give each region its own id"
                )
            if label.id == ignore:
                raise DataError("the ignore id is also a region's id", found=label.id)
            self._by_id[label.id] = label
        for label in labels:
            if label.parent is not None and label.parent not in self._by_id:
                raise DataError(
                    "unknown parent in the label tree",
                    f"id {label.id} {label.name!r}",
                    label.parent,
                    "add the parent's row or leave the column empty",
                )
            self.ancestors(label.id)
        parents = {label.parent for label in labels}
        leaves = [label.id for label in labels if label.id not in parents]
        self.classes: tuple[int, ...] = tuple(leaves if classes is None else classes)
        self.ignore = ignore
        unknown = [id_ for id_ in self.classes if id_ not in self._by_id]
        if unknown:
            raise DataError("class ids missing from the label tree", found=unknown[:5])

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Label]:
        return iter(self._by_id.values())

    def __contains__(self, id_: object) -> bool:
        return id_ in self._by_id

    def __getitem__(self, id_: int) -> Label:
        return self._by_id[id_]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, LabelMap)
            and self._by_id == other._by_id
            and self.classes == other.classes
            and self.ignore == other.ignore
        )

    @property
    def num_classes(self) -> int:
        """Classes a net predicts: background and every class id; ignore is not one."""
        return len(self.classes) + 1

    @property
    def class_names(self) -> list[str]:
        """Acronyms in class order, "background" first."""
        return ["background", *(self[id_].acronym for id_ in self.classes)]

    def find(self, acronym: str) -> Label:
        """The label with this acronym."""
        for label in self:
            if label.acronym == acronym:
                return label
        raise DataError("no label with this acronym", found=repr(acronym))

    def ancestors(self, id_: int) -> list[int]:
        """Ids from the parent up to the root."""
        line: list[int] = []
        parent = self._by_id[id_].parent
        while parent is not None:
            if parent == id_ or parent in line:
                raise DataError("the label tree has a cycle", found=[id_, *line])
            line.append(parent)
            parent = self._by_id[parent].parent if parent in self._by_id else None
        return line

    def children(self, id_: int | None) -> list[int]:
        """Ids directly below `id_`; the roots for None."""
        return [label.id for label in self if label.parent == id_]

    def primary(self, id_: int) -> int:
        """The top-most ancestor below the root level that groups regions, or `id_` itself.

        With a single root (as in the Allen tree) its children are the primary regions; with
        several roots (118 subregions under 11) the roots are.
        """
        roots = self.children(None)
        line = [id_, *self.ancestors(id_)]
        if len(roots) == 1 and len(line) > 1:
            line = line[:-1]
        return line[-1]

    @property
    def ids_allowed(self) -> set[int]:
        """Every id that a label image may hold."""
        return {BACKGROUND, *self.classes} | ({self.ignore} if self.ignore is not None else set())

    def to_classes(self, ids: np.ndarray, where: str = "labels") -> np.ndarray:
        """Label ids -> class indices (int16, ignore -1), any shape.

        Raises
        ------
        DataError
            Names the ids that the tree does not have.
        """
        ids = np.asarray(ids)
        if ids.dtype.kind not in "iub":
            raise DataError("label images hold whole numbers", where, ids.dtype)
        present, inverse = unique_inverse(ids)
        lut = np.empty(len(present), np.int16)
        index = {id_: i for i, id_ in enumerate(self.classes, start=1)} | {BACKGROUND: 0}
        if self.ignore is not None:
            index[self.ignore] = IGNORE_CLASS
        unknown = [int(id_) for id_ in present if int(id_) not in index]
        if unknown:
            raise DataError(
                "label id missing from the label table",
                where,
                ", ".join(map(str, unknown[:8])) + (" ..." if len(unknown) > 8 else ""),
                "add it to labels.csv, or set it to the ignore id",
            )
        for i, id_ in enumerate(present):
            lut[i] = index[int(id_)]
        return lut[inverse].reshape(ids.shape)

    def to_ids(self, classes: np.ndarray) -> np.ndarray:
        """Class indices -> label ids (uint16 where they fit, else uint32); -1 becomes ignore."""
        top = max([*self.classes, self.ignore or 0, 0])
        lut = np.array([BACKGROUND, *self.classes, self.ignore or BACKGROUND])
        return lut.astype(np.uint16 if top < 2**16 else np.uint32)[classes]

    def roll_up(self, targets: Iterable[int]) -> tuple[LabelMap, dict[int, int]]:
        """A coarser map whose classes are `targets`, and id -> target id for what lies under them.

        Ids under none of the targets are not in the table.
        """
        targets = list(targets)
        table = {}
        for label in self:
            for id_ in (label.id, *self.ancestors(label.id)):
                if id_ in targets:
                    table[label.id] = id_
                    break
        coarse = [Label(t, self[t].name, self[t].acronym, None, self[t].color) for t in targets]
        return LabelMap(coarse, ignore=self.ignore), table

    @property
    def colors(self) -> np.ndarray:
        """RGB of every class, (num_classes, 3) uint8, black background first."""
        return np.array([(0, 0, 0), *(self[id_].rgb for id_ in self.classes)], np.uint8)

    def to_csv(self, path: Path) -> None:
        """Write `id,name,acronym,parent,color,class`; the ignore id is a row named "ignore"."""
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow((*COLUMNS, "class"))
            # Rows in class order, so that reading gives the same indices back.
            order = [*self.classes, *(label.id for label in self if label.id not in self.classes)]
            for label in map(self.__getitem__, order):
                parent = "" if label.parent is None else label.parent
                is_class = int(label.id in self.classes)
                row = (label.id, label.name, label.acronym, parent, label.color, is_class)
                writer.writerow(row)
            if self.ignore is not None:
                writer.writerow((self.ignore, "ignore", "ignore", "", "000000", 0))

    @classmethod
    def from_csv(cls, path: Path) -> LabelMap:
        """Read a labels.csv; only `id` and `name` are demanded, other columns are optional.

        A row whose name is "ignore" sets the ignore id. A row with id 0 is background and
        is skipped. Leaves are the classes unless a column `class` marks them with 1.
        """
        path = Path(path)
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                missing = {"id", "name"} - set(reader.fieldnames or ())
                if missing:
                    raise DataError(
                        f"labels table needs columns {sorted(missing)}", path, reader.fieldnames
                    )
                rows = list(reader)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError("cannot read the labels table", path, error) from error
        labels, classes, ignore = [], [], None
        for line, row in enumerate(rows, start=2):
            where = f"{path.name} line {line}"
            id_ = _whole(row["id"], "id", where)
            name = (row["name"] or "").strip()
            if name.lower() == "ignore":
                ignore = id_
                continue
            if id_ == BACKGROUND:
                continue
            parent = (row.get("parent") or "").strip()
            color = (row.get("color") or "808080").strip().lstrip("#")
            if not re.fullmatch("[0-9a-fA-F]{6}", color):
                raise DataError("a colour is six hexadecimal digits", where, color)
            labels.append(
                Label(
                    id_,
                    name,
                    (row.get("acronym") or "").strip() or name,
                    _whole(parent, "parent", where) if parent else None,
                    color.upper(),
                )
            )
            if (row.get("class") or "").strip() == "1":
                classes.append(id_)
        return cls(labels, classes or None, ignore)


def unique_inverse(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted distinct values and, for each pixel (flat), the position of its value.

    Ids of at most 16 bits go through a table, some 30 times faster than sorting.
    """
    flat = np.ascontiguousarray(ids).reshape(-1)
    if flat.dtype == bool:
        flat = flat.view(np.uint8)
    low = int(flat.min(initial=0))
    high = int(flat.max(initial=0))
    if low < 0 or high - low >= 1 << 24:
        return np.unique(flat, return_inverse=True)
    seen = np.zeros(high + 1, bool)
    seen[flat] = True
    present = np.flatnonzero(seen)
    position = np.zeros(high + 1, np.int32)
    position[present] = np.arange(len(present))
    return present, position[flat]


def _whole(text: str | None, column: str, where: str) -> int:
    try:
        return int((text or "").strip())
    except ValueError:
        raise DataError(f"column {column!r} needs a whole number", where, repr(text)) from None
