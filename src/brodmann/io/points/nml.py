"""WEBKNOSSOS NML: points as nodes of trees, with the scale of the volume."""

from __future__ import annotations

import colorsys
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from brodmann.core import DataError, OutputError, Points
from brodmann.io.points.rows import Rows
from brodmann.io.points.xml import check_text, read_xml
from brodmann.io.raw import in_um

SAID = ("id", "score", "region", "marker", "label", "type")
"""Columns that a node's comment holds, as JSON."""
TREE = "cells"
RADIUS_UM = 5.0
"""About a cell body, so that nodes are seen."""
NM_PER_UM = 1000.0


def read_nml(path: Path) -> Rows:
    """Nodes of every tree; edges are left aside.

    A comment that `write_nml` wrote becomes columns again, others a column `comment`.
    Source: WEBKNOSSOS, documentation of NML files.
    """
    import pandas as pd

    places: dict[str, list[str]] = {"z": [], "y": [], "x": []}
    trees: list[str] = []
    lines: list[int] = []
    numbers: dict[str, int] = {}
    comments: dict[int, str] = {}
    spacing: tuple[float, ...] | None = None
    tree = ""

    def start(tags: list[str], attributes: dict[str, str], line: int) -> None:
        nonlocal spacing, tree
        tag = tags[-1]
        if tag == "scale":
            spacing = _scale(attributes, f"{path} line {line}")
        elif tag == "thing":
            tree = attributes.get("name") or attributes.get("comment", "")
        elif tag == "node":
            numbers[attributes.get("id", "")] = len(lines)
            for axis, column in places.items():
                column.append(attributes.get(axis, ""))
            trees.append(tree)
            lines.append(line)
        elif tag == "comment" and tags[-2:-1] == ["comments"]:
            node = attributes.get("node", "")
            if node not in numbers:
                raise DataError(
                    "a comment is of a node that is not there", f"{path} line {line}", node
                )
            comments[numbers[node]] = attributes.get("content", "")

    read_xml(path, "things", "NML file", start, lambda tags, text, line: None)
    table = pd.DataFrame({axis: pd.Series(column, dtype=object) for axis, column in places.items()})
    table["tree"] = pd.Series(trees, dtype=object)
    for name, values in _columns(comments).items():
        column = [values.get(row, np.nan if name == "score" else "") for row in range(len(lines))]
        table[name] = pd.Series(column, dtype=object).infer_objects()
    order = _order(list(numbers), len(lines))
    where = np.array(lines, np.int64)[order]
    table = table.iloc[order].reset_index(drop=True)
    return Rows(table, lambda rows: where[rows].tolist(), spacing=spacing)


def _order(ids: list[str], count: int) -> np.ndarray:
    """Nodes by number, as trees part points that followed each other."""
    if len(ids) == count and all(re.fullmatch(r"\d{1,18}", id_) for id_ in ids):
        return np.argsort(np.array(ids, dtype=np.int64), kind="stable")
    return np.arange(count)


def _scale(attributes: dict[str, str], where: str) -> tuple[float, ...]:
    unit = attributes.get("unit", "nanometer")
    try:
        steps = [in_um(float(attributes[axis]), unit) for axis in "zyx"]
    except (KeyError, ValueError):
        steps = [None]
    if None in steps:
        raise DataError(
            "the scale is three positive lengths", where, ", ".join(map(str, attributes.items()))
        )
    return tuple(float(step) for step in steps if step is not None)


def _columns(comments: dict[int, str]) -> dict[str, dict[int, Any]]:
    """Comments as columns: name -> row -> value."""
    columns: dict[str, dict[int, Any]] = {}
    for row, content in comments.items():
        try:
            said = json.loads(content) if content.startswith("{") else None
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict) or not all(
            key in SAID and isinstance(value, str | int | float) for key, value in said.items()
        ):
            said = {"comment": content}
        for name, value in said.items():
            columns.setdefault(name, {})[row] = value
    return columns


def write_nml(path: Path, points: Points, spacing: Sequence[float], name: str = "cells") -> None:
    """A tree for each marker (or value of the column `tree`), a node for each point.

    Nodes lie on whole voxels, as WEBKNOSSOS keeps them.

    Raises
    ------
    OutputError
        If points are 2D, or a text holds characters that XML cannot.
    """
    if points.axes != "zyx":
        raise OutputError("NML has three axes", path, repr(points.axes))
    table, at = points.table, np.rint(points.coordinates).astype(np.int64)
    by = next((column for column in ("tree", "marker") if column in table.columns), None)
    names = [TREE] * len(table) if by is None else [_word(value) for value in table[by]]
    nm = [f"{step * NM_PER_UM:.9g}" for step in spacing]
    centre = at.mean(axis=0).astype(int).tolist() if len(at) else [0, 0, 0]
    members: dict[str, list[int]] = {}
    for row, tree in enumerate(names):
        members.setdefault(tree, []).append(row)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(
            '<?xml version="1.0" encoding="UTF-8"?>\n<things>\n'
            '  <meta name="writer" content="brodmann" />\n  <parameters>\n'
            f"    <experiment name={_quoted(name, path)} />\n"
            f'    <scale x="{nm[2]}" y="{nm[1]}" z="{nm[0]}" unit="nanometer" />\n'
            '    <offset x="0" y="0" z="0" />\n    <time ms="0" />\n'
            f'    <editPosition x="{centre[2]}" y="{centre[1]}" z="{centre[0]}" />\n'
            '    <editRotation xRot="0" yRot="0" zRot="0" />\n    <zoomLevel zoom="1" />\n'
            "  </parameters>\n"
        )
        for number, (tree, rows) in enumerate(members.items(), start=1):
            red, green, blue = colorsys.hsv_to_rgb(0.13 + 0.618034 * number % 1.0, 0.75, 0.95)
            file.write(
                f'  <thing id="{number}" color.r="{red:.4f}" color.g="{green:.4f}" '
                f'color.b="{blue:.4f}" color.a="1" name={_quoted(tree, path)}>\n    <nodes>\n'
            )
            file.writelines(
                f'      <node id="{row + 1}" radius="{RADIUS_UM * NM_PER_UM:g}" x="{at[row, 2]}" '
                f'y="{at[row, 1]}" z="{at[row, 0]}" rotX="0" rotY="0" rotZ="0" inVp="0" inMag="0" '
                'bitDepth="8" interpolation="false" time="0" />\n'
                for row in rows
            )
            file.write("    </nodes>\n    <edges>\n    </edges>\n  </thing>\n")
        file.write("  <branchpoints>\n  </branchpoints>\n  <comments>\n")
        for row, content in enumerate(_comments(points)):
            if content:
                file.write(f'    <comment node="{row + 1}" content={_quoted(content, path)} />\n')
        file.write("  </comments>\n  <groups>\n  </groups>\n</things>\n")


def _word(value: Any) -> str:
    return "" if value is None or value != value else str(value)


def _comments(points: Points) -> list[str]:
    """What is known of each point, as JSON; where that is nothing, its own comment."""
    table = points.table
    names = [column for column in SAID if column in table.columns]
    own = table["comment"] if "comment" in table.columns else [""] * len(table)
    rows = zip(*(table[column].tolist() for column in names)) if names else [()] * len(table)
    comments = []
    for values, comment in zip(rows, own):
        said = {name: value for name, value in zip(names, values) if _word(value) != ""}
        comments.append(json.dumps(said, ensure_ascii=False) if said else _word(comment))
    return comments


def _quoted(text: str, where: Path) -> str:
    return quoteattr(check_text(text, where), {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})
