"""Archives from elsewhere, unpacked without trusting them."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from brodmann.core import DataError, OutputError
from brodmann.datasets.download import BLOCK, need_space

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MAX_BYTES = 2**40
"""No archive may unpack to more than 1 TiB."""
MAX_FILES = 200_000
JUNK = ("__MACOSX", ".DS_Store")
"""What macOS adds to archives; left aside."""
FAULTS = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)

Entry = tuple[str, int, Callable[[], IO[bytes]]]


def is_archive(name: str) -> bool:
    """Whether a file is one that `unpack` opens, by its name.

    >>> is_archive("DMBM.tar.gz"), is_archive("labels.nii.gz")
    (True, False)
    """
    return name.lower().endswith(ARCHIVES)


def safe_name(name: str, where: str | Path) -> str:
    """A relative path of plain names, or a DataError: no "..", no root, no drive, no backslash.

    >>> safe_name("images/a.tif", "set.zip")
    'images/a.tif'
    """
    parts = name.rstrip("/").split("/")
    parts = [part for part in parts if part != "."]
    plain = all(part and part != ".." and part.isprintable() for part in parts)
    if not parts or not plain or set(name) & set('\\:\0*?"<>|'):
        raise DataError(
            "a file name that is not safe", where, repr(name), "nothing was unpacked; do not use it"
        )
    return "/".join(parts)


def unpack(
    archive: str | Path,
    folder: str | Path,
    max_bytes: int = MAX_BYTES,
    tick: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Unpack a zip or tar archive into a folder of its own: all of it, or nothing stays.

    Only files and folders are taken. Names that lead out of the folder, links, devices,
    encrypted files, two files of one name and an archive that grows beyond `max_bytes` or
    the free disk space are refused as a whole.

    Parameters
    ----------
    archive : str or Path
    folder : str or Path
        Made anew; what was there is removed.
    max_bytes : int
        Bytes of all files together.
    tick : callable, optional
        Called as (bytes written, bytes in all, 0 if not known).

    Returns
    -------
    dict
        Path within the folder -> {"size": bytes, "sha256": 64 hexadecimal digits}.

    Raises
    ------
    DataError
        If the archive is damaged, or not safe as above.
    OutputError
        If the disk is full or cannot be written.

    Example
    -------
    >>> unpack("sections.zip", "sections")  # doctest: +SKIP
    {'images/a.tif': {'size': 13, 'sha256': '...'}}
    """
    archive, folder = Path(archive), Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        written = _unpack(archive, folder, max_bytes, tick)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        # gzip and bz2 tell of damage by an OSError that the system did not raise.
        broken = isinstance(error, OSError) and error.errno is None
        if isinstance(error, FAULTS) or broken:
            raise DataError("the archive is damaged", archive, error, "fetch it again") from error
        if isinstance(error, (NotImplementedError, RuntimeError)):
            raise DataError("this archive cannot be unpacked", archive, error) from error
        if isinstance(error, OSError):
            raise OutputError("cannot unpack", archive, error.strerror or error) from error
        raise
    return written


def _unpack(
    archive: Path, folder: Path, max_bytes: int, tick: Callable[[int, int], None] | None
) -> dict[str, dict[str, Any]]:
    folder.mkdir(parents=True)
    written: dict[str, dict[str, Any]] = {}
    lower: set[str] = set()
    done = 0
    with _opened(archive) as opened:
        total = sum(info.file_size for info in opened.infolist()) if _is_zip(opened) else 0
        _bounded(total, max_bytes, archive)
        need_space(folder, total)
        for given, size, open_ in _entries(opened, archive):
            name = safe_name(given, archive)
            if set(name.split("/")) & set(JUNK):
                continue
            if name.lower() in lower or len(lower) >= MAX_FILES:
                what = "two files of one name" if name.lower() in lower else "too many files"
                raise DataError(f"{what} in an archive", archive, repr(name))
            lower.add(name.lower())
            _bounded(done + size, max_bytes, archive)
            need_space(folder, size)
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            digest, here = hashlib.sha256(), 0
            with open_() as source, target.open("xb") as file:
                while block := source.read(BLOCK):
                    here += len(block)
                    if here > size:
                        raise DataError("a file is longer than the archive says", archive, name)
                    digest.update(block)
                    file.write(block)
                    if tick is not None:
                        tick(done + here, total)
            if here != size:
                raise DataError("a file is shorter than the archive says", archive, name)
            done += here
            written[name] = {"size": here, "sha256": digest.hexdigest()}
    return written


def _opened(archive: Path) -> Any:
    if archive.name.lower().endswith(".zip"):
        return zipfile.ZipFile(archive)
    return tarfile.open(archive, "r:*")


def _is_zip(opened: Any) -> bool:
    return isinstance(opened, zipfile.ZipFile)


def _entries(opened: Any, archive: Path) -> Iterator[Entry]:
    """Every file: its name, its size, and how to open it; anything but a file is refused."""
    if _is_zip(opened):
        infos = opened.infolist()
        for info in infos:
            # Before the first file is written, since a zip lists them all.
            safe_name(info.filename, archive)
            if stat.S_ISLNK(info.external_attr >> 16):
                raise DataError("a link in an archive", archive, info.filename, "do not use it")
            if info.flag_bits & 1:
                raise DataError("the archive is encrypted", archive, info.filename)
        for info in infos:
            if not info.is_dir():
                yield info.filename, info.file_size, lambda info=info: opened.open(info)
        return
    for member in opened:
        if member.isdir():
            continue
        if not member.isreg():
            raise DataError("a link or device in an archive", archive, member.name, "do not use it")
        yield member.name, member.size, lambda member=member: opened.extractfile(member)
    # The checksum of a compressed stream stands behind what tar reads of it.
    while opened.fileobj.read(BLOCK):
        pass


def _bounded(size: int, max_bytes: int, archive: Path) -> None:
    if size > max_bytes:
        raise DataError(
            "the archive unpacks to more than is allowed",
            archive,
            f"{size:,} bytes or more",
            f"at most {max_bytes:,}",
        )
