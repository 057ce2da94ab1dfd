"""What benchmarks share: alternating timings, the form of a result, the table of all.

A benchmark is a module of this folder with a function `run(repeats) -> dict` that ends in
`if __name__ == "__main__": harness.main(run, __doc__)`. It runs alone,
`python -m benchmarks.NAME --json`, and prints one JSON object with at least the keys of KEYS.
"""

from __future__ import annotations

import argparse
import json
import pkgutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

KEYS = (
    "name",
    "peer",
    "peer_version",
    "ours",
    "theirs",
    "ratio",
    "unit",
    "repeats",
    "spread",
)
FOLDER = Path(__file__).parent
NOT_BENCHMARKS = ("harness", "cellfinder_peer")


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def alternate(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    repeats: int = 3,
    ours_each: int = 3,
) -> tuple[list[float], list[float]]:
    """Seconds of ours and theirs in turn, so that a busy minute slows both.

    Each round calls ours `ours_each` times and keeps the median, then theirs once. Both run
    once beforehand if they have anything to compile: that is the caller's to do.
    """
    pairs = []
    for _ in range(repeats):
        mine = statistics.median(seconds(ours) for _ in range(ours_each))
        pairs.append((mine, seconds(theirs)))
    return [mine for mine, _ in pairs], [other for _, other in pairs]


def result(
    name: str,
    peer: str,
    peer_version: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    unit: str,
    **more: Any,
) -> dict[str, Any]:
    """The JSON object of a benchmark, from measurements in pairs.

    `ratio` is the median of theirs / ours over the pairs, more than 1 where ours is better;
    `spread` is the least and the largest of these.
    """
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return {
        "name": name,
        "peer": peer,
        "peer_version": peer_version,
        "ours": float(f"{statistics.median(ours):.4g}"),
        "theirs": float(f"{statistics.median(theirs):.4g}"),
        "ratio": float(f"{statistics.median(ratios):.4g}"),
        "unit": unit,
        "repeats": len(ratios),
        "spread": [float(f"{min(ratios):.4g}"), float(f"{max(ratios):.4g}")],
        **more,
    }


def main(run: Callable[[int], dict[str, Any]], doc: str | None, repeats: int = 3) -> None:
    """The command line of one benchmark: --json, --repeats."""
    parser = argparse.ArgumentParser(description=(doc or "").strip().splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=repeats, help=f"default {repeats}")
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error("--repeats must be 1 or more")
    found = run(args.repeats)
    if args.json:
        print(json.dumps(found))
    else:
        print("\n".join(f"{key}: {value}" for key, value in found.items()))


def names() -> list[str]:
    """Every benchmark of the folder."""
    found = (module.name for module in pkgutil.iter_modules([str(FOLDER)]))
    return sorted(n for n in found if not n.startswith("_") and n not in NOT_BENCHMARKS)


def run_alone(name: str) -> dict[str, Any]:
    """Run one benchmark in its own process; its result, or {"name", "error"} if it failed."""
    command = [sys.executable, "-m", f"{__package__}.{name}", "--json"]
    done = subprocess.run(
        command, cwd=FOLDER.parent, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        return {"name": name, "error": f"exit code {done.returncode}"}
    try:
        found = json.loads(done.stdout)
    except ValueError:
        return {"name": name, "error": "printed something else than one JSON object"}
    missing = [key for key in KEYS if key not in found]
    return {"name": name, "error": f"result lacks {missing}"} if missing else found


def run_all(chosen: Sequence[str], as_json: bool) -> int:
    """Run benchmarks one after another and print a table, or a JSON list; 1 if any failed."""
    from rich.console import Console
    from rich.table import Table

    results = []
    for name in chosen:
        print(f"benchmark {name} ...", file=sys.stderr, flush=True)
        results.append(run_alone(name))
    failed = int(any("error" in one for one in results))
    if as_json:
        print(json.dumps(results, indent=1))
        return failed
    table = Table("benchmark", "peer", "ours", "theirs", "ratio", "spread", "unit", box=None)
    for one in results:
        if "error" in one:
            table.add_row(one["name"], f"[red]{one['error']}[/]")
            continue
        low, high = one["spread"]
        table.add_row(
            one["name"],
            f"{one['peer']} {one['peer_version']}",
            f"{one['ours']:g}",
            f"{one['theirs']:g}",
            f"[bold]{one['ratio']:g} x[/]",
            f"{low:g}-{high:g} ({one['repeats']})",
            one["unit"],
        )
    Console(highlight=False).print(table)
    return failed
