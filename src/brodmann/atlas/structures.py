"""The tree of an atlas: reading its table, its order, and sums up the tree."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from brodmann.core import BACKGROUND, DataError, Label, LabelMap

MAX_BYTES = 64 * 2**20
NAMES = {
    "id": ("id", "structure_id", "label", "value"),
    "acronym": ("acronym", "abbreviation"),
    "name": ("name", "safe_name", "full_name"),
    "parent": ("parent_structure_id", "parent_id", "parent", "parent_acronym"),
    "path": ("structure_id_path", "parent_path", "path"),
    "color": ("color_hex_triplet", "rgb_triplet", "color", "colour", "hex"),
}
"""What a column means -> the headings that it may have; the first of them wins."""


def read_structures(path: str | Path) -> LabelMap:
    """The tree of an atlas, from its table of structures.

    Reads the Allen Institute's structures.csv, the structures.json and .csv of BrainGlobe
    atlases, a labels.csv, and any table with the columns id, name or acronym, and a parent:
    as id or acronym, or as a path of ids from the root (/997/8/567/). Colours are six
    hexadecimal digits or three numbers. Order is kept.

    Raises
    ------
    DataError
        Names the line and column at fault, an unknown parent, or an id used twice.

    Example
    -------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "structures.csv"
    >>> _ = file.write_text("id,acronym,structure_id_path\\n997,root,/997/\\n549,TH,/997/549/\\n")
    >>> tree = read_structures(file)
    >>> tree[549].parent, len(tree)
    (997, 2)
    """
    path = Path(path)
    rows = _rows(path)
    headings = {re.sub(r"[\s-]+", "_", str(h).strip().lower()): h for h in rows[0]} if rows else {}
    columns = {
        key: next((headings[name] for name in names if name in headings), None)
        for key, names in NAMES.items()
    }
    if columns["id"] is None or not (columns["acronym"] or columns["name"]):
        raise DataError(
            "a table of structures needs the columns id, and acronym or name",
            path,
            ", ".join(map(str, headings.values())) or "no rows",
        )
    given = []
    for line, row in enumerate(rows, start=2):
        where = f"{path.name} line {line}"
        text = {key: _text(row.get(head)) if head else "" for key, head in columns.items()}
        raw = row.get(columns["color"]) if columns["color"] else None
        if not text["id"] and not text["acronym"] and not text["name"]:
            continue
        number = _whole(text["id"], where)
        if number == BACKGROUND:
            continue
        given.append((where, number, text, _color(raw, where)))
    acronyms = {text["acronym"]: number for _, number, text, _ in given if text["acronym"]}
    ids = {number for _, number, _, _ in given}
    labels = []
    for where, number, text, color in given:
        name = text["name"] or text["acronym"]
        parent = _parent(text, number, acronyms, ids, where)
        labels.append(Label(number, name, text["acronym"] or name, parent, color))
    return LabelMap(labels)


@dataclass(frozen=True, eq=False)
class Tree:
    """A label map laid out from the roots downwards, each structure before those below it.

    Example
    -------
    >>> tree = Tree(LabelMap([Label(2, "b", "b", 9), Label(9, "all", "all"), Label(5, "a", "a", 2)]))
    >>> tree.ids.tolist(), tree.depth.tolist()
    ([9, 2, 5], [0, 1, 2])
    >>> tree.roll_up(np.array([1, 10, 100])).tolist()
    [111, 110, 100]
    """

    label_map: LabelMap

    @cached_property
    def labels(self) -> tuple[Label, ...]:
        below: dict[int | None, list[Label]] = {}
        for label in self.label_map:
            below.setdefault(label.parent, []).append(label)
        order, stack = [], below.get(None, [])[::-1]
        while stack:
            label = stack.pop()
            order.append(label)
            stack += below.get(label.id, [])[::-1]
        return tuple(order)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def ids(self) -> np.ndarray:
        """(n,) int64 in the order of the tree."""
        return np.array([label.id for label in self.labels], np.int64)

    @cached_property
    def place(self) -> dict[int, int]:
        """Id -> position in the order."""
        return {int(id_): i for i, id_ in enumerate(self.ids)}

    @cached_property
    def parents(self) -> np.ndarray:
        """(n,) position of each one's parent, -1 for roots."""
        return np.array(
            [-1 if label.parent is None else self.place[label.parent] for label in self.labels],
            np.int64,
        )

    @cached_property
    def depth(self) -> np.ndarray:
        """(n,) steps from the root."""
        depth = np.zeros(len(self), np.int64)
        for i, parent in enumerate(self.parents):
            depth[i] = 0 if parent < 0 else depth[parent] + 1
        return depth

    @cached_property
    def ends(self) -> np.ndarray:
        """(n,) where each subtree ends: what lies under i has the positions i to ends[i] - 1."""
        ends = np.arange(1, len(self) + 1)
        for i in range(len(self) - 1, -1, -1):
            if self.parents[i] >= 0:
                ends[self.parents[i]] = max(ends[self.parents[i]], ends[i])
        return ends

    def positions(self, ids: np.ndarray, where: str = "annotation") -> np.ndarray:
        """Positions of ids, -1 for background and the ignore id.

        Raises
        ------
        DataError
            Names the ids that the tree does not have.
        """
        present, inverse = np.unique(np.asarray(ids).reshape(-1), return_inverse=True)
        found = np.array([self.place.get(int(id_), -1) for id_ in present], np.int64)
        skipped = {BACKGROUND, self.label_map.ignore}
        unknown = [int(i) for i, at in zip(present, found) if at < 0 and int(i) not in skipped]
        if unknown:
            raise DataError(
                "ids of the annotation are missing from the table of structures",
                where,
                ", ".join(map(str, unknown[:8])) + (" ..." if len(unknown) > 8 else ""),
                "give the table that belongs to this annotation",
            )
        return found[inverse].reshape(np.shape(ids))

    def parted(self, voxels: np.ndarray, count: int) -> list[int]:
        """Positions of at least `count` structures, if there are so many, that part the brain.

        The largest is split into those below it until there are enough, so a brain is parted
        evenly whatever its tree is like; one that alone has `count` below it is left whole.
        Structures without voxels are left out.

        Parameters
        ----------
        voxels : (n,) array of int
            Of each structure's own id.
        count : int
        """
        total = self.roll_up(voxels)
        parts = [i for i in range(len(self)) if self.parents[i] < 0 and total[i]]
        whole = set()
        while len(parts) < count:
            split = [i for i in parts if i not in whole]
            if not split:
                break
            largest = max(split, key=lambda i: total[i])
            below = [i for i in np.flatnonzero(self.parents == largest).tolist() if total[i]]
            if not below or len(below) >= count:
                whole.add(largest)
                continue
            parts.remove(largest)
            parts += below
        return sorted(parts)

    def group_of(self, parts: Sequence[int]) -> np.ndarray:
        """(n,) which of `parts` each structure lies under (or is), -1 for none."""
        group = np.full(len(self), -1, np.int64)
        for number, i in enumerate(parts):
            group[i : self.ends[i]] = number
        return group

    def roll_up(self, values: np.ndarray) -> np.ndarray:
        """Sums over each structure and all below it; (n, ...) in tree order."""
        totals = np.array(values)
        for i in range(len(self) - 1, -1, -1):
            if self.parents[i] >= 0:
                totals[self.parents[i]] += totals[i]
        return totals


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("the file is longer than 64 MiB")
        if path.suffix.lower() == ".json":
            rows = json.loads(path.read_text(encoding="utf-8-sig"))
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise ValueError("not a list of structures")
            return rows
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise DataError("cannot read the table of structures", path, str(error)[:200]) from error


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(map(str, value))
    return "" if value is None else str(value).strip()


def _whole(text: str, where: str) -> int:
    try:
        number = float(text)
        if number != int(number) or number < 0:
            raise ValueError
    except (ValueError, OverflowError):
        raise DataError("an id is a whole number", where, repr(text)) from None
    return int(text) if text.isdigit() else int(number)


def _color(value: Any, where: str) -> str:
    if value is None or value == "":
        return "808080"
    parts = value if isinstance(value, list) else re.findall(r"\d+", str(value))
    if len(parts) == 3 and (isinstance(value, list) or re.search(r"[,;\s]", str(value).strip())):
        try:
            numbers = [int(part) for part in parts]
        except (TypeError, ValueError):
            numbers = [-1]
        if all(0 <= number <= 255 for number in numbers):
            return "".join(f"{number:02X}" for number in numbers)
    text = str(value).strip().lstrip("#")
    # Spreadsheets drop leading zeros.
    text = text.zfill(6) if text.isdigit() else text
    if not re.fullmatch("[0-9a-fA-F]{6}", text):
        raise DataError("a colour is six hexadecimal digits or three numbers", where, repr(value))
    return text.upper()


def _parent(
    text: dict[str, str], own: int, acronyms: dict[str, int], ids: set[int], where: str
) -> int | None:
    """The parent's id, by its own column or by the path."""
    said = text["parent"]
    if said and re.fullmatch(r"\d+(\.0+)?", said):
        parent = int(float(said))
        # Some tables give the root itself, or 0, as the parent of the root.
        return None if parent in (own, BACKGROUND) else parent
    if said and said.lower() not in ("nan", "none", "null"):
        if said not in acronyms:
            raise DataError("unknown parent", where, repr(said), "give its id or acronym")
        return acronyms[said] if acronyms[said] != own else None
    steps = [int(part) for part in re.findall(r"\d+", text["path"])]
    above = [step for step in steps if step != own]
    if not above:
        return None
    if above[-1] not in ids:
        raise DataError("unknown parent in the path", where, above[-1], "add its row")
    return above[-1]
