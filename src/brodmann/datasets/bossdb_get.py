"""`brodmann data get` for BossDB volumes: MTNeuro by name, any other by its description."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from brodmann.datasets.bossdb_client import HOST
from brodmann.datasets.bossdb_fetch import Report, fetch_cubes
from brodmann.datasets.bossdb_store import RECORD
from brodmann.datasets.bossdb_volume import read_boss_volume
from brodmann.datasets.mtneuro import fetch_mtneuro, mtneuro_volume

MTNEURO = "mtneuro"
SIZE = "16 cubes of 360 x 256 x 256 voxels with annotations, about 0.5 GB on disk"


def boss_sources() -> list[dict[str, str]]:
    """What can be fetched by name, as `datasets.fetch.sources` lists the other sets.

    >>> [source["name"] for source in boss_sources()]
    ['mtneuro']
    """
    volume = mtneuro_volume()
    return [
        {
            "name": MTNEURO,
            "title": volume.title,
            "url": HOST,
            "licence": volume.licence,
            "citation": volume.citation,
            "size": SIZE,
        }
    ]


def is_boss(name: str) -> bool:
    """Whether `get_boss` is to fetch it: MTNeuro, or a YAML file.

    >>> is_boss("mtneuro"), is_boss("mine.yaml"), is_boss("dmbm")
    (True, True, False)
    """
    return name == MTNEURO or name.endswith((".yaml", ".yml"))


def get_boss(
    name: str, out: str | Path, host: str | None = None, report: Report | None = None
) -> dict[str, Any]:
    """Fetch the cubes of a BossDB volume into a folder.

    Parameters
    ----------
    name : str
        "mtneuro", or the path of a description (see `read_boss_volume`).
    out : str or Path
    host : str, optional
        Another server than api.bossdb.io.
    report : callable, optional

    Returns
    -------
    dict
        As of `datasets.fetch.fetch`: name, path, url, files (arrays), bytes (on disk), fetched,
        checksums, vouched, licence, citation; and notes.

    Raises
    ------
    BrodmannError
        As of `fetch_mtneuro` and `fetch_cubes`.

    Example
    -------
    >>> get_boss("mtneuro", "data/mtneuro")["files"]  # doctest: +SKIP
    36
    """
    where = host or HOST
    if name == MTNEURO:
        result = fetch_mtneuro(out, report, where)
    else:
        result = fetch_cubes(read_boss_volume(name), out, host=where, report=report)
    new = bool(result["fetched"])
    vouched = (
        f"the server gives no checksums: those of this download are in {RECORD} and hold from now on"
        if new
        else f"nothing fetched; every voxel is as {RECORD} says"
    )
    return {
        "name": result["name"],
        "path": result["path"],
        "url": where,
        "files": result["arrays"],
        "bytes": sum(file.stat().st_size for file in Path(out).rglob("*") if file.is_file()),
        "fetched": result["fetched"],
        "checksums": "recorded" if new else "verified",
        "vouched": "; ".join([vouched, *result["notes"]]),
        "licence": result["licence"],
        "citation": result["citation"],
        "notes": result["notes"],
    }
