"""Public data sets by name: fetched, checked, unpacked, and vouched for afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brodmann.core import DataError, OutputError, RecipeError, nearest
from brodmann.core.files import make_folder, write_json
from brodmann.datasets.convert.parts import read_object
from brodmann.datasets.download import download, sha256_of
from brodmann.datasets.remote import SUMS, RemoteFile, as_folder, plan, read_given
from brodmann.datasets.unpack import is_archive, safe_name, unpack

RECORD = "fetched.json"
WORK = ".fetch"
"""Where parts lie until they are whole."""
SHOWN = 4
"""Checksums of so many files are said in words."""
Report = Callable[[str, int, int, str], None]
VOUCHED = {
    "given": "checked against the checksums given",
    "kept": "checked against the checksums kept in this package",
    "published": f"checked against the site's {SUMS}",
    "recorded": f"the site gives no checksums (SHA-256): those of this download are in {RECORD} "
    "and hold from now on",
    "verified": f"nothing fetched; every file is as {RECORD} says",
}


@dataclass(frozen=True)
class Source:
    """Where a public set lies, and what a reader should know before fetching it.

    `files` names them where the site has no list of its own.
    """

    title: str
    url: str
    licence: str
    citation: str
    size: str
    files: tuple[RemoteFile, ...] = ()


SOURCES = {
    "dmbm": Source(
        "102 parasagittal sections of 96 mice, SAP102 and PSD95, 118 subregions by hand",
        "https://git-pages.ecdf.ed.ac.uk/dmbm-datasets-5c13cd/",
        "see the data's page (the article is CC BY)",
        "Yuan et al. 2026, NeuroImage 331, 121881",
        "16 GB of pixels at 8 bits, 33 GB at 16, before compression",
    ),
    "ac34": Source(
        "AC3 and AC4, mouse cortex in serial sections, 6 x 6 x 29 nm, dense neuron ids",
        "https://lichtman.rc.fas.harvard.edu/vast/",
        "public download, see the page",
        "Kasthuri et al. 2015, Cell 162, 648",
        "not stated; 356 slices of 1024 x 1024 and their labels",
        (
            RemoteFile(
                "https://lichtman.rc.fas.harvard.edu/vast/AC3AC4Package.zip", "AC3AC4Package.zip"
            ),
        ),
    ),
    "snemi3d": Source(
        "SNEMI3D, mouse cortex in serial sections, 6 x 6 x 30 nm, 100 labelled slices",
        "https://zenodo.org/records/7142003/",
        "CC BY 4.0",
        "Kasthuri et al. 2015, Cell 162, 648; doi:10.5281/zenodo.7142003",
        "195 MB",
        (RemoteFile("https://zenodo.org/records/7142003/files/snemi.zip", "snemi.zip"),),
    ),
    "canvas": Source(
        "CANVAS, whole mouse brains in light-sheet microscopy, six markers, 45,745 cell centres",
        "https://canvas.lightsheetdata.com/",
        "see LICENSE.md of the data",
        "CANVAS, arXiv:2603.29842",
        "65 to 140 GB a brain",
    ),
    "cellfinder": Source(
        "cellfinder's example, a part of a mouse brain, signal and background, 5 x 2 x 2 um",
        "https://gin.g-node.org/BrainGlobe/test-data/",
        "BSD-3 (cellfinder)",
        "Tyson et al. 2021, PLoS Comput Biol 17:e1009074",
        "not stated",
        (
            RemoteFile(
                "https://gin.g-node.org/BrainGlobe/test-data/raw/master/cellfinder/"
                "cellfinder-test-data.zip",
                "cellfinder-test-data.zip",
                # As other programs that fetch this file keep it.
                "b0ef53b1530e4fa3128fcc0a752d0751909eab129d701f384fc0ea5f138c5914",
            ),
        ),
    ),
    "cremi": Source(
        "CREMI A, B and C, adult fly brain in serial sections, 4 x 4 x 40 nm, dense neuron ids",
        "https://cremi.org/data/",
        "see the page (for research)",
        "Funke, Saalfeld, Bock, Turaga and Perlman 2016, CREMI, cremi.org",
        "0.5 GB",
        tuple(
            RemoteFile(
                f"https://cremi.org/static/data/sample_{letter}_20160501.hdf",
                f"sample_{letter}_20160501.hdf",
                digits,
            )
            # As other programs that fetch these files keep them.
            for letter, digits in (
                ("A", "4c563d1b78acb2bcfb3ea958b6fe1533422f7f4a19f3e05b600bfa11430b510d"),
                ("B", "887e85521e00deead18c94a21ad71f278d88a5214c7edeed943130a1f4bb48b8"),
                ("C", "2874496f224d222ebc29d0e4753e8c458093e1d37bc53acd1b69b19ed1ae7052"),
            )
        ),
    ),
}
"""Name, which is also the `data.kind` that opens the set -> where it lies."""


def sources() -> list[dict[str, str]]:
    """Every set that can be fetched: name, title, url, licence, citation, size.

    >>> [source["name"] for source in sources()]
    ['ac34', 'canvas', 'cellfinder', 'cremi', 'dmbm', 'snemi3d']
    """
    shown = ("title", "url", "licence", "citation", "size")
    return [
        {"name": name, **{key: getattr(source, key) for key in shown}}
        for name, source in sorted(SOURCES.items())
    ]


def fetch(
    name: str,
    out: str | Path,
    url: str | None = None,
    sha256: str | Path | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Fetch a public set into a folder; stopped work goes on where it was.

    What to fetch is the set's list of files if this package keeps one, else told by a
    ``SHA256SUMS`` beside the data, else by the links of the page (and of folders below it) to
    archives, images and tables on the same site. Archives are
    unpacked and removed. `fetched.json` keeps where each file came from and its SHA-256.
    Where that says the set is complete, nothing is fetched and every file is checked.

    Parameters
    ----------
    name : str
        One of `SOURCES`.
    out : str or Path
        Empty, new, or where the same set was fetched to before.
    url : str, optional
        A page, a folder or one file, instead of the address known for the set; an earlier
        fetch into `out` is gone on with from where it came.
    sha256 : str or Path, optional
        A file of lines "SHA256  NAME", or the 64 digits of the one file to be fetched.
    report : callable, optional
        Called as (what, done, total, note), in MB.

    Returns
    -------
    dict
        name, path, url, files (their number), bytes, fetched (files and archives fetched
        now), checksums ("given", "kept", "published", "recorded" or "verified") and vouched
        (the same in words), licence, citation.

    Raises
    ------
    DataError
        If the site cannot be reached or has no data, a checksum is wrong, an archive is
        damaged or not safe, or a file is not as it was fetched.
    RecipeError
        On an unknown name or a wrong `sha256`.
    OutputError
        If the folder holds something else, cannot be written or is too full.

    Example
    -------
    >>> fetch("dmbm", "data/dmbm")["vouched"]  # doctest: +SKIP
    "checked against the site's SHA256SUMS"
    """
    if name not in SOURCES:
        raise RecipeError("no such public set", found=repr(name), fix=nearest(name, SOURCES))
    given = None if sha256 is None else read_given(sha256)
    out = make_folder(Path(out))
    record = _record(out, name, as_folder(url) if url else None)
    base = record["url"]
    whole = record["complete"] and _check(out, record, report)
    fetched, kind = 0, "verified"
    if given is not None or not whole:
        kind, files = _plan(name, base, given)
        record |= {"complete": False, "checksums": kind}
        meter = _Meter(report, len(files))
        for file in files:
            fetched += _get(file, out, record, meter, report)
        record["complete"] = True
        write_json(out / RECORD, record)
        shutil.rmtree(out / WORK, ignore_errors=True)
    kept = [file for source in record["sources"].values() for file in source["files"].values()]
    return {
        "name": name,
        "path": str(out),
        "url": base,
        "files": len(kept),
        "bytes": sum(file["size"] for file in kept),
        "fetched": fetched,
        "checksums": kind,
        "vouched": VOUCHED[kind] + (_digests(record) if kind == "recorded" else ""),
        "licence": SOURCES[name].licence,
        "citation": SOURCES[name].citation,
    }


def _digests(record: dict[str, Any]) -> str:
    """The checksums of a few files, to be compared with what others have."""
    sources = record["sources"]
    if len(sources) > SHOWN:
        return ""
    return "".join(f"; {path} {source['sha256']}" for path, source in sources.items())


def _plan(name: str, base: str, given: str | dict[str, str] | None) -> tuple[str, list[RemoteFile]]:
    """Who vouches for which files: those this package lists, or what the address leads to."""
    listed = SOURCES[name].files
    if not listed or base != SOURCES[name].url:
        return plan(base, given)
    if isinstance(given, str):
        if len(listed) > 1:
            raise RecipeError(
                "one checksum is for one file",
                "--sha256",
                f"{len(listed)} files: {', '.join(file.path for file in listed)}",
                "give a file of checksums",
            )
        given = {listed[0].path: given}
    if given is not None:
        lost = [file.path for file in listed if file.path not in given]
        if lost:
            raise DataError("no checksum for this file", lost[0], fix="name it in the checksums")
        return "given", [replace(file, sha256=given[file.path]) for file in listed]
    return "kept" if all(file.sha256 for file in listed) else "recorded", list(listed)


def _get(file: RemoteFile, out: Path, record: dict, meter: _Meter, report: Report | None) -> bool:
    """Bring one file of the site into the folder, unless it is there; whether it was fetched."""
    known = record["sources"].get(file.path)
    expected = file.sha256 or (known and known["sha256"])
    if known and known["sha256"] != expected:
        raise DataError(
            "the checksum is not that of the file fetched before",
            file.url,
            known["sha256"],
            f"expected {expected}; fetch into another folder",
        )
    if known and all(_there(out / path, kept) for path, kept in known["files"].items()):
        meter.finish(0)
        return False
    here = out / WORK / file.path
    here.parent.mkdir(parents=True, exist_ok=True)
    # It has its name only if it is whole: stopped while it was unpacked, it is not fetched again.
    found = sha256_of(here) if here.exists() else ""
    if not found or (expected or found) != found:
        found = download(file.url, here, expected, lambda a, b: meter.tick(file.path, a, b))
    size = here.stat().st_size
    meter.finish(size)
    folder, below = here.parent, {here.name: {"size": size, "sha256": found}}
    if is_archive(here.name):
        folder = here.with_name(here.name + ".unpacked")

        def tick(done: int, total: int) -> None:
            if report is not None:
                all_mb = max(total, size, done) // 10**6
                report("MB unpacked", done // 10**6, max(all_mb, 1), here.name)

        below = unpack(here, folder, tick=tick)
    place = Path(file.path).parent
    files = {(place / path).as_posix(): kept for path, kept in below.items()}
    for path, kept in files.items():
        _place(folder / Path(path).relative_to(place), out / path, path, kept["sha256"])
    if is_archive(here.name):
        here.unlink()
    record["sources"][file.path] = {"url": file.url, "sha256": found, "files": files}
    write_json(out / RECORD, record)
    return True


def _place(source: Path, target: Path, path: str, sha256: str) -> None:
    """Move a whole file to its place; another one that is there already stays."""
    if path == RECORD or path.split("/")[0] == WORK:
        raise DataError("a file of the set has a name kept for other use", target)
    if target.exists() and (not target.is_file() or sha256_of(target) != sha256):
        raise OutputError("another file is in the way", target, fix="remove it or choose elsewhere")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
    except OSError as error:
        raise OutputError("cannot write", target, error.strerror or error) from error


def _there(file: Path, kept: dict) -> bool:
    return file.is_file() and file.stat().st_size == kept["size"]


class _Meter:
    """Megabytes over all files; those to come are taken to be as long as those before."""

    def __init__(self, report: Report | None, files: int) -> None:
        self.report, self.left, self.done, self.seen = report, files, 0, 0

    def tick(self, name: str, have: int, total: int) -> None:
        if self.report is not None:
            now = self.done + max(total, have)
            whole = now + (self.left - 1) * (now // (self.seen + 1))
            mb = 10**6
            self.report("MB fetched", (self.done + have) // mb, max(whole // mb, 1), name)

    def finish(self, size: int) -> None:
        self.left -= 1
        self.done += size
        self.seen += size > 0


def _record(out: Path, name: str, base: str | None) -> dict[str, Any]:
    """What fetched.json says of this folder; a new record where the folder is empty."""
    if not (out / RECORD).exists():
        others = sorted(file.name for file in out.iterdir() if file.name != WORK)
        if others:
            raise OutputError(
                "this folder holds other files",
                out,
                ", ".join(others[:5]),
                "choose an empty folder",
            )
        base = base or SOURCES[name].url
        return {"name": name, "url": base, "complete": False, "checksums": "", "sources": {}}
    record = read_object(out / RECORD)
    try:
        known = record["name"], record["url"], record["complete"], record["checksums"]
        for source in record["sources"].values():
            _ = (
                source["sha256"],
                [
                    (safe_name(path, out / RECORD), kept["size"] + 0, kept["sha256"] + "")
                    for path, kept in source["files"].items()
                ],
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError("this record is damaged", out / RECORD, fix="fetch elsewhere") from error
    if known[:2] != (name, base or known[1]):
        raise OutputError(
            "this folder holds another set",
            out,
            f"{known[0]} from {known[1]}",
            "choose another folder",
        )
    return record


def _check(out: Path, record: dict[str, Any], report: Report | None) -> bool:
    """Whether every file is there; one that is there but changed is a DataError."""
    files = {
        p: kept for source in record["sources"].values() for p, kept in source["files"].items()
    }
    whole = True
    for i, (path, kept) in enumerate(files.items(), start=1):
        if not (out / path).exists():
            whole = False
        elif not _there(out / path, kept) or sha256_of(out / path) != kept["sha256"]:
            raise DataError(
                "this file is not as it was fetched",
                out / path,
                fix="remove it, and the same command fetches it again",
            )
        if report is not None:
            report("files checked", i, len(files), path)
    return whole
