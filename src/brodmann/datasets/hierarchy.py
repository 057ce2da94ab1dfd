"""Regions under primary regions, from whatever table comes with a dataset."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brodmann.core import BACKGROUND, DataError, Label, LabelMap, nearest

COLUMNS = {
    "id": ("id", "value", "label", "label_id", "region_id", "index"),
    "acronym": ("acronym", "abbreviation", "subregion", "region"),
    "name": ("name", "full_name", "safe_name"),
    "parent": ("parent", "primary", "primary_region", "parent_acronym", "parent_id"),
    "color": ("color", "colour", "color_hex_triplet", "hex"),
    "class": ("class",),
}
"""What a column means -> the headings it may have, in any case, the first of them wins."""
WANTED = "a CSV with the columns id, acronym (or name), parent, and if you like color"
MAX_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Row:
    """One line of a table, as text; `line` is for errors."""

    line: str
    id: str = ""
    acronym: str = ""
    name: str = ""
    parent: str = ""
    color: str = ""
    is_class: bool = False


def fields(headings: Sequence[str]) -> dict[str, str]:
    """Which heading holds what.

    >>> fields(["ID", "Acronym", "Primary region"])
    {'id': 'ID', 'acronym': 'Acronym', 'parent': 'Primary region'}
    """
    plain = {re.sub(r"[\s-]+", "_", head.strip().lower()): head for head in headings if head}
    found = {
        key: next((plain[n] for n in names if n in plain), "") for key, names in COLUMNS.items()
    }
    return {key: heading for key, heading in found.items() if heading}


def read_table(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV as text, every value stripped.

    Raises
    ------
    DataError
        If it cannot be read, or is longer than 16 MiB.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ValueError("the file is longer than 16 MiB")
        with file.open(newline="", encoding="utf-8-sig") as opened:
            rows = list(csv.DictReader(opened))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError("cannot read this table", file, str(error)[:200]) from error
    return [
        {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)}
        for row in rows
    ]


def read_hierarchy(
    file: str | Path, primary: Sequence[Label], values: Mapping[str, int] | None = None
) -> LabelMap:
    """A tree of regions under primary regions, from a CSV or JSON file.

    A CSV has the columns id, acronym or name, parent and if need be color and class (1 for
    what images hold; else the leaves are). A parent is a primary region (by acronym or
    name) or another row (by acronym, id or name). JSON is a list of such rows, a table of
    them by id or acronym, {primary: [acronyms]}, {primary: {acronym: id}} or
    {acronym: primary}. Rows called background or ignore mean what they say.

    Parameters
    ----------
    file : str or Path
    primary : sequence of Label
        The roots, in order; all are in the tree. Their ids are not used: one is that of its
        row in the file, or follows the largest.
    values : mapping of str to int, optional
        Acronym or name -> id in the images, where something else states it; ids of the file
        then serve for parents only, and regions that are not in `values` are left out.

    Returns
    -------
    LabelMap
        Classes in the order of their ids. Regions without a colour get shades of their
        primary region's.

    Raises
    ------
    DataError
        If columns are missing, a parent is unknown or missing, or an id is wrong or used
        twice.

    Example
    -------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "regions.csv"
    >>> _ = file.write_text("id,acronym,parent\\n1,AOB,OLF\\n2,MOB,Olfactory areas\\n")
    >>> primary = [Label(1, "Olfactory areas", "OLF"), Label(2, "Thalamus", "TH")]
    >>> tree = read_hierarchy(file, primary)
    >>> tree.class_names, tree[tree.primary(2)].acronym
    (['background', 'AOB', 'MOB'], 'OLF')
    """
    file = Path(file)
    rows = _json_rows(file, primary) if file.suffix.lower() == ".json" else _csv_rows(file)
    ignore = None if values is None else values.get("ignore")
    kept: list[Row] = []
    for row in rows:
        called = {row.name.lower(), row.acronym.lower()}
        if "ignore" in called:
            ignore = ignore if values is not None else _number(row)
        elif "background" not in called and row.id != str(BACKGROUND):
            kept.append(row)
    parents, inner = _parents(kept, primary, file)
    if values is None:
        ids = {i: _number(row) for i, row in enumerate(kept) if row.id}
    else:
        ids = _stated(kept, values, file)
    roots = {i for i, row in enumerate(kept) if _primary_of(row, primary) is not None}
    marked = {i for i, row in enumerate(kept) if row.is_class}
    leaves = {i for i in range(len(kept)) if i not in inner}
    classes = set(ids) if values is not None else marked or leaves
    for i in sorted(classes - set(ids)):
        raise DataError(
            "a region without an id", kept[i].line, kept[i].acronym, f"wanted: {WANTED}"
        )
    lost = [kept[i].acronym for i in sorted(classes) if i not in roots and i not in parents]
    if lost:
        raise DataError(
            "regions under no primary region",
            file,
            ", ".join(lost[:8]),
            "give each a parent: " + ", ".join(label.acronym for label in primary),
        )
    return _tree(kept, parents, ids, classes, primary, ignore)


def _tree(
    rows: list[Row],
    parents: dict[int, int | str],
    ids: dict[int, int],
    classes: set[int],
    primary: Sequence[Label],
    ignore: int | None,
) -> LabelMap:
    """Primary regions, then what lies between, then the classes."""
    free = max([*ids.values(), ignore or 0], default=0) + 1
    own = {}
    for i, row in enumerate(rows):
        label = _primary_of(row, primary)
        if label is not None:
            own[label.acronym] = i
    top: dict[str, Label] = {}
    for label in primary:
        id_ = ids.get(own.get(label.acronym, -1))
        if id_ is None:
            id_, free = free, free + 1
        top[label.acronym] = replace(label, id=id_, parent=None)
    needed = set(classes)
    for i in classes:
        parent = parents.get(i)
        while isinstance(parent, int) and parent not in needed:
            needed.add(parent)
            parent = parents.get(parent)
    needed -= set(own.values())
    for i in sorted(needed - set(ids)):
        ids[i], free = free, free + 1
    of_row = {i: top[acronym].id for acronym, i in own.items()}

    def above(i: int) -> int | None:
        parent = parents.get(i)
        if isinstance(parent, str):
            return top[parent].id
        return None if parent is None else of_row.get(parent, ids.get(parent))

    labels = list(top.values())
    shades: dict[int | None, int] = {}
    colors = {label.id: label.color for label in labels}
    for i in sorted(needed, key=lambda i: (i in classes, ids[i])):
        row, parent = rows[i], above(i)
        shades[parent] = shades.get(parent, -1) + 1
        color = row.color.lstrip("#").upper() or shade(colors.get(parent, "808080"), shades[parent])
        if not re.fullmatch("[0-9A-F]{6}", color):
            raise DataError("a colour is six hexadecimal digits", row.line, row.color)
        colors[ids[i]] = color
        labels.append(Label(ids[i], row.name or row.acronym, row.acronym, parent, color))
    order = sorted(of_row.get(i, ids[i]) for i in classes)
    return LabelMap(labels, order, ignore)


def shade(color: str, position: int) -> str:
    """The nth of ten shades of a colour, neighbours unlike each other.

    >>> shade("808080", 0), shade("808080", 1)
    ('606060', '939393')
    """
    step = position * 7 % 10
    toward, share = (0, (5 - step) * 0.05) if step < 5 else (255, (step - 4) * 0.05)
    parts = (int(color[i : i + 2], 16) for i in (0, 2, 4))
    return "".join(f"{round(part + (toward - part) * share):02X}" for part in parts)


def _parents(
    rows: list[Row], primary: Sequence[Label], file: Path
) -> tuple[dict[int, int | str], set[int]]:
    """Row -> the row above it, or the acronym of its primary region where that has no row.

    Second, the rows that others name as parents. Lines that end under no primary region,
    and what an atlas has above the primary regions, are cut off the first, not the second.
    """
    own: dict[str, int] = {}
    for i, row in enumerate(rows):
        label = _primary_of(row, primary)
        if label is not None:
            own[label.acronym] = i
    named: dict[str, int] = {}
    for key in ("acronym", "id", "name"):
        for i, row in enumerate(rows):
            if getattr(row, key):
                named.setdefault(getattr(row, key).casefold(), i)
    parents: dict[int, int | str] = {}
    inner: set[int] = set()
    for i, row in enumerate(rows):
        label = _called(row.parent, primary) if row.parent else None
        found: int | str | None
        if label is not None:
            found = own.get(label.acronym, label.acronym)
        else:
            found = named.get(row.parent.removesuffix(".0").casefold())
        if not row.parent or (found is None and i in own.values()):
            continue
        if found is None:
            known = [label.acronym for label in primary]
            fix = f"{nearest(row.parent, known)} or give the acronym or id of another row"
            raise DataError("unknown parent", row.line, repr(row.parent), fix)
        if found != i:
            parents[i] = found
            inner |= {found} if isinstance(found, int) else set()
    for i in own.values():
        parents.pop(i, None)
    for i in list(parents):
        line: list[Any] = [i]
        while isinstance(line[-1], int) and line[-1] in parents:
            line.append(parents[line[-1]])
            if line[-1] in line[:-1]:
                raise DataError("the regions go round in a ring", file, rows[i].acronym)
        if isinstance(line[-1], int) and line[-1] not in own.values():
            parents.pop(i)
    return parents, inner


def _called(text: str, primary: Sequence[Label]) -> Label | None:
    text = text.casefold()
    return next((p for p in primary if text in (p.acronym.casefold(), p.name.casefold())), None)


def _primary_of(row: Row, primary: Sequence[Label]) -> Label | None:
    return _called(row.acronym, primary)


def _stated(rows: list[Row], values: Mapping[str, int], file: Path) -> dict[int, int]:
    """Row -> id in the images; every region that images hold needs a row."""
    names: dict[str, int] = {}
    for key in ("acronym", "name"):
        for i, row in enumerate(rows):
            names.setdefault(getattr(row, key).casefold(), i)
    ids, lost = {}, []
    for name, value in values.items():
        if value == BACKGROUND or name == "ignore":
            continue
        if name.casefold() in names:
            ids[names[name.casefold()]] = value
        else:
            lost.append(name)
    if lost:
        raise DataError(
            "regions that the table does not have", file, ", ".join(lost[:8]), "add their rows"
        )
    return ids


def _number(row: Row) -> int:
    try:
        return int(row.id)
    except ValueError:
        raise DataError("an id is a whole number", row.line, repr(row.id)) from None


def _csv_rows(file: Path) -> list[Row]:
    table = read_table(file)
    columns = fields(list(table[0]) if table else [])
    if "parent" not in columns or not {"acronym", "name"} & set(columns):
        found = ", ".join(table[0]) if table else "no rows"
        raise DataError("columns are missing", file, found, f"wanted: {WANTED}")
    return [_row(row, columns, f"{file} line {line}") for line, row in enumerate(table, start=2)]


def _row(given: Mapping[str, Any], columns: Mapping[str, str], line: str) -> Row:
    text = {key: str(given.get(heading, "") or "") for key, heading in columns.items()}
    is_class = text.pop("class", "") == "1"
    row = Row(line, is_class=is_class, **text)
    return row if row.acronym else replace(row, acronym=row.name)


def _json_rows(file: Path, primary: Sequence[Label]) -> list[Row]:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ValueError("the file is longer than 16 MiB")
        given = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError("cannot read this JSON file", file, str(error)[:200]) from error
    where = str(file)
    tables: list[dict] = []
    if isinstance(given, list) and all(isinstance(row, dict) for row in given):
        tables = given
    elif isinstance(given, dict) and all(isinstance(row, dict) for row in given.values()):
        if all(_called(str(key), primary) for key in given):
            for key, below in given.items():
                tables += [{"acronym": n, "id": value, "parent": key} for n, value in below.items()]
        else:
            for key, row in given.items():
                tables.append({"id" if str(key).isdecimal() else "acronym": key} | row)
    elif isinstance(given, dict) and all(isinstance(row, list) for row in given.values()):
        tables = [{"acronym": n, "parent": key} for key, below in given.items() for n in below]
    elif isinstance(given, dict) and all(isinstance(row, str) for row in given.values()):
        tables = [{"acronym": name, "parent": key} for name, key in given.items()]
    rows = [_row(row, fields(list(map(str, row))), where) for row in tables]
    if not rows or not any(row.parent for row in rows) or not all(row.acronym for row in rows):
        raise DataError("this JSON is no table of regions", file, fix="wanted: " + WANTED)
    return rows
