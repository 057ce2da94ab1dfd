"""A study's table as CSV for machines, as Markdown, and as one self-contained page."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from brodmann.core.files import write_text
from brodmann.report.html import render
from brodmann.report.study_chart import seeds_svg

TITLES = {
    "f1": "F1",
    "iou": "mIoU",
    "precision": "Precision",
    "recall": "Recall",
    "dice": "Dice",
}
TESTS = {
    "paired_t": "paired t-test",
    "wilcoxon": "Wilcoxon signed-rank test",
    "bootstrap": "paired bootstrap",
}

FACTS = ("steps", "batch", "schedule", "images_real", "images_made")


def write_study(result: Mapping[str, Any], folder: Path) -> None:
    """Write table.csv, table.md and table.html.

    Parameters
    ----------
    result : mapping
        A study's result.json: scores from 0 to 1, written as percent.
    folder : Path
    """
    write_text(folder / "table.csv", table_csv(result))
    write_text(folder / "table.md", table_markdown(result))
    write_text(folder / "table.html", table_html(result))


def table_csv(result: Mapping[str, Any]) -> str:
    """One line for each row; empty where nothing is known.

    Columns: row, n (models), seeds, steps, batch, schedule, images_real, images_made (empty
    where they are made online); for each score
    KEY_percent_mean and _std; published_KEY_percent_mean and _std; p_KEY_against_REFERENCE.
    """
    keys = result["columns"]
    tests = result["tests"]["comparisons"]
    references = list(dict.fromkeys(test["reference"] for test in tests))
    p = {(t["method"], t["reference"], t["column"]): t["p"] for t in tests}
    lines = []
    for row in result["rows"]:
        line = {
            "row": row["name"],
            "n": row["n"],
            "seeds": " ".join(map(str, row["seeds"])),
            **{key: row[key] for key in FACTS},
        }
        for key in keys:
            line[f"{key}_percent_mean"] = _percent(row["mean"][key], 4)
            line[f"{key}_percent_std"] = _percent(row["std"][key], 4)
        for key in keys:
            printed = row["published"].get(key, {})
            line[f"published_{key}_percent_mean"] = _percent(printed.get("mean"))
            line[f"published_{key}_percent_std"] = _percent(printed.get("std"))
        for reference in references:
            for key in keys:
                line[f"p_{key}_against_{reference}"] = p.get((row["name"], reference, key))
        lines.append(line)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def table_markdown(result: Mapping[str, Any]) -> str:
    """The table, the published values, the tests and the notes, to paste into a text."""
    keys = result["columns"]
    best = best_of(result)
    titles = [TITLES[key] for key in keys]
    parts = [f"# {result['title']}", result["description"], *_quoted(result)]
    parts.append(
        _grid(
            ["Method", *titles, "n", "steps", "batch", "images real + made", "trains on"],
            [
                [
                    row["name"],
                    *(
                        f"**{text}**" if best[key] == row["name"] else text
                        for key, text in _cells(row, keys).items()
                    ),
                    *(_text(row[key]) for key in ("n", "steps", "batch")),
                    images(row),
                    trains_on(row),
                ]
                for row in result["rows"]
            ],
        )
    )
    parts.append(caption(result))
    published = [row for row in result["rows"] if row["published"]]
    if published:
        parts.append(f"**{result['published_as']}**")
        rows = [
            [row["name"], *(spread(row["published"].get(key, {})) for key in keys)]
            for row in published
        ]
        parts.append(_grid(["Method", *titles], rows))
    groups = grouped(result)
    if groups:
        parts.append("**Is the method higher than the reference?** " + how_tested(result))
        rows = [
            [group["reference"], row["method"], *(_test(row["tests"][key]) for key in keys)]
            for group in groups
            for row in group["rows"]
        ]
        parts.append(_grid(["Reference", "Method", *titles], rows))
    if result["command"]:
        parts.append(f"    {result['command']}")
    return "\n\n".join(part for part in parts if part) + "\n"


def table_html(result: Mapping[str, Any]) -> str:
    """The page; needs no network and no other file."""
    keys = result["columns"]
    groups = grouped(result)
    facts = {
        "Runs": f"{result['runs']['done']} of {result['runs']['total']}",
        "Time of all runs": f"{result['seconds'] / 60:.1f} min",
        "Peak memory": f"{result['peak_memory_mb'] / 1000:.1f} GB",
        "Brodmann": result["environment"]["brodmann"],
        "PyTorch": result["environment"]["torch"],
        "Commit": result["commit"] or "installed package",
    }
    return render(
        "study.html.j2",
        result=result,
        titles=[(key, TITLES[key]) for key in keys],
        best=best_of(result),
        cells={row["name"]: _cells(row, keys) for row in result["rows"]},
        published=[
            {"name": row["name"], "cells": [spread(row["published"].get(k, {})) for k in keys]}
            for row in result["rows"]
            if row["published"]
        ],
        groups=groups,
        chart=Markup(seeds_svg(result["rows"], [(key, TITLES[key]) for key in keys])),
        caption=caption(result),
        tested=how_tested(result) if groups else "",
        images=images,
        trains_on=trains_on,
        points=points,
        stars=stars,
        p_text=p_text,
        percent=lambda value: "–" if value is None else f"{100 * value:.2f}",
        folds=any(m["fold"] is not None for row in result["rows"] for m in row["models"]),
        facts=facts,
    )


def best_of(result: Mapping[str, Any]) -> dict[str, str | None]:
    """Column -> the row with the highest mean, where there are two to choose from."""
    best: dict[str, str | None] = {}
    for key in result["columns"]:
        known = {r["name"]: r["mean"][key] for r in result["rows"] if r["mean"][key] is not None}
        best[key] = max(known, key=known.__getitem__) if len(known) > 1 else None
    return best


def spread(value: Mapping[str, float | None]) -> str:
    """Percent with deviation.

    >>> spread({"mean": 0.65329, "std": 0.0049}), spread({"mean": 0.5, "std": None}), spread({})
    ('65.33 ± 0.49', '50.00', '–')
    """
    if value.get("mean") is None:
        return "–"
    deviation = value.get("std")
    return f"{100 * value['mean']:.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")


def stars(p: float | None) -> str:
    """One to three, as p falls below 0.05, 0.01 and 0.001.

    >>> [stars(p) for p in (0.2, 0.02, 0.0001, None)]
    ['', '*', '***', '']
    """
    return "" if p is None else "*" * sum(p < level for level in (0.05, 0.01, 0.001))


def p_text(p: float | None) -> str:
    """Two significant figures.

    >>> [p_text(p) for p in (0.5, 0.0123, 0.0789, 0.0004, 0.0, None)]
    ['0.50', '0.012', '0.079', '4.0e-04', '<1e-99', '–']
    """
    if p is None:
        return "–"
    if p < 0.001:
        return f"{p:.1e}" if p >= 1e-99 else "<1e-99"
    return f"{p:.{1 - math.floor(math.log10(p))}f}" if p < 0.995 else "1"


def points(difference: float | None) -> str:
    """A difference in points of percent, with its sign.

    >>> points(0.0123), points(-0.005), points(None)
    ('+1.23', '−0.50', '–')
    """
    return "–" if difference is None else f"{100 * difference:+.2f}".replace("-", "−")


def images(row: Mapping[str, Any]) -> str:
    """Images real and made that a row has to train on.

    >>> images({"images_real": 12, "images_made": 240}), images({"images_real": None})
    ('12 + 240', '–')
    """
    if row["images_real"] is None:
        return "–"
    made = "online" if row["images_made"] is None else row["images_made"]
    return f"{row['images_real']} + {made}"


def trains_on(row: Mapping[str, Any]) -> str:
    """Which of its images a row's batches come from.

    >>> trains_on({"schedule": "hybrid"})
    'made, then real'
    """
    words = {"synthetic": "made", "hybrid": "made, then real", "together": "both", None: "–"}
    return words.get(row["schedule"], row["schedule"])


def caption(result: Mapping[str, Any]) -> str:
    """How to read the table."""
    folds = any(model["fold"] is not None for row in result["rows"] for model in row["models"])
    over = "the models of all folds and seeds" if folds else "models with different seeds"
    return (
        f"Percent on the test images, pixels pooled over images and the score averaged over "
        f"regions; mean ± standard deviation (n − 1) over n, {over}. Steps are optimiser steps; "
        f"with the batch they are {'the same in every row' if result['study']['matched'] else 'as each row says'}. "
        f"The best of a column is bold."
    )


def how_tested(result: Mapping[str, Any]) -> str:
    """What was tested, on what."""
    tests = result["tests"]
    how = {
        "subject": f"{tests['units']} subjects of the test",
        "image": f"{tests['units']} test images",
        "block": f"{tests['units']} blocks of neighbouring test images",
    }[tests["unit"]]
    unit = "" if tests["unit"] == "image" else f", then over the images of a {tests['unit']}"
    return (
        f"One-sided {TESTS[tests['kind']]} over {how}: scores of each image are averaged over "
        f"seeds{unit}"
        f"{', which are drawn together' if tests['kind'] == 'bootstrap' else ''}. "
        "Differences are points of percent, means over these units; "
        "* p < 0.05, ** p < 0.01, *** p < 0.001, not corrected for the number of tests."
    )


def grouped(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tests by reference, then method: as the page shows them."""
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for test in result["tests"]["comparisons"]:
        methods = groups.setdefault(test["reference"], {})
        methods.setdefault(test["method"], {})[test["column"]] = test
    return [
        {
            "reference": reference,
            "rows": [{"method": method, "tests": tests} for method, tests in methods.items()],
        }
        for reference, methods in groups.items()
    ]


def _cells(row: Mapping[str, Any], keys: Sequence[str]) -> dict[str, str]:
    return {key: spread({"mean": row["mean"][key], "std": row["std"][key]}) for key in keys}


def _test(test: Mapping[str, Any]) -> str:
    found = f"{points(test['difference'])}{stars(test['p'])}"
    return found if test["p"] is None else f"{found} (p {p_text(test['p'])})"


def _quoted(result: Mapping[str, Any]) -> list[str]:
    lines = [*result["warnings"], *result["notes"]]
    return ["\n".join(f"> - {line}" for line in lines)] if lines else []


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines
    )


def _percent(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(100 * value, digits)


def _text(value: Any) -> str:
    return "–" if value is None else str(value)
