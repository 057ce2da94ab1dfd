"""The table of a neuron run: a row a method, mean and deviation over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean, stdev
from typing import Any


def neuron_table(seeds: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of what each seed's segment stage gave.

    Parameters
    ----------
    seeds : mapping
        Seed -> outcome: `methods` (name -> settings and `test` scores) and `trivial`
        (name -> scores), and `membranes` (scores) where they are marked.

    Returns
    -------
    dict
        `rows`: name, n, `mean`, `std` (n - 1; None of one seed) and `seeds`; `trivial`: the
        same of the rows without agglomeration; `membranes`: one such row, or None; `best`: the
        name of the row of lowest mean VI.

    Example
    -------
    >>> one = {"methods": {"mean": {"test": {"vi": 1.0}}}, "trivial": {}}
    >>> two = {"methods": {"mean": {"test": {"vi": 2.0}}}, "trivial": {}}
    >>> found = neuron_table({0: one, 1: two})
    >>> found["rows"][0]["mean"], round(found["rows"][0]["std"]["vi"], 3), found["best"]
    ({'vi': 1.5}, 0.707, 'mean')
    """
    first = next(iter(seeds.values()))
    rows = [
        _row(name, {s: out["methods"][name] for s, out in seeds.items()})
        for name in first["methods"]
    ]
    trivial = [
        _row(name, {s: {"test": out["trivial"][name]} for s, out in seeds.items()})
        for name in first["trivial"]
    ]
    best = min(rows, key=lambda row: row["mean"]["vi"])["name"]
    membranes = None
    if "membranes" in first:
        membranes = _row("membranes", {s: {"test": out["membranes"]} for s, out in seeds.items()})
    return {"rows": rows, "trivial": trivial, "membranes": membranes, "best": best}


def _row(name: str, found: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    scores = [one["test"] for one in found.values()]
    return {
        "name": name,
        "n": len(scores),
        "mean": {key: mean(s[key] for s in scores) for key in scores[0]},
        "std": {
            key: stdev(s[key] for s in scores) if len(scores) > 1 else None for key in scores[0]
        },
        "seeds": [{"seed": seed, **one} for seed, one in found.items()],
    }
