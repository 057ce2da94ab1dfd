"""NRRD volumes, as atlases come in them, read by window."""

from __future__ import annotations

import bz2
import re
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from brodmann.core import DataError
from brodmann.io.raw import LazyArray, check_file, in_um, reading

TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long",
           "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}  # fmt: skip
KINDS = {name: kind for kind, names in TYPES.items() for name in names}
MAX_HEADER = 1 << 20
CHUNK = 1 << 22


def read_nrrd(path: str | Path) -> tuple[LazyArray, tuple[float, ...] | None]:
    """Open a 3D NRRD: its array, and its spacing in micrometres where the header has one.

    Axes stand in the order of the header's sizes, so CCFv3 at 25 um is (528, 320, 456). The
    first runs fastest in the file. Compressed data (gzip, bzip2) are unpacked once into a
    temporary file that has no name and goes when the array does; raw data are mapped where
    they lie.

    Source: the NRRD format, version 5. Lengths without a unit are taken for micrometres, as
    in the Allen Institute's files.

    Raises
    ------
    DataError
        If the file is damaged, not 3D, of several parts, or in an encoding that is not read.
    """
    path = check_file(Path(path))
    with reading(path), path.open("rb") as file:
        header, start = _header(file, path)
        shape, kind = _layout(header, path)
        encoding = header.get("encoding", "").lower()
        detached = header.get("data file") or header.get("datafile")
        source = path
        if detached:
            if re.search(r"%|^LIST|\s\d+\s", detached):
                raise DataError("NRRD data in several files are not read", path, detached)
            source, start = check_file(path.parent / detached), 0
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if encoding == "raw":
            if source.stat().st_size < start + size:
                raise DataError("the file is cut short", source, f"{source.stat().st_size} bytes")
            place: Any = source
        elif encoding in ("gzip", "gz", "bzip2", "bz2"):
            # Kept open by the array; the system frees it when nobody holds it any more.
            place = tempfile.TemporaryFile()  # noqa: SIM115
            _unpack(source, start, encoding, place, size)
            start = 0
        else:
            raise DataError("this NRRD encoding is not read", path, encoding, "use raw or gzip")

    def opened() -> np.ndarray:
        return np.memmap(place, kind, "r", start, shape[::-1])

    array = LazyArray(opened, path, shape[::-1], kind, (2, 1, 0), keep_open=False)
    return array, _spacing(header)


def _header(file: IO[bytes], path: Path) -> tuple[dict[str, str], int]:
    """Fields in lower case, and where the data begin."""
    if not re.match(rb"NRRD000\d\s", file.readline(64)):
        raise DataError("this is no NRRD file", path)
    fields: dict[str, str] = {}
    while True:
        line = file.readline(MAX_HEADER)
        if file.tell() > MAX_HEADER:
            raise DataError("the NRRD header does not end", path)
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if not text:
            return fields, file.tell()
        if text.startswith("#") or ":=" in text or ": " not in text:
            continue
        key, value = text.split(": ", 1)
        fields[key.strip().lower()] = value.strip()


def _layout(header: dict[str, str], path: Path) -> tuple[tuple[int, ...], np.dtype]:
    kind = KINDS.get(header.get("type", "").lower())
    if kind is None:
        raise DataError("pixels of this type are not read", path, header.get("type"))
    shape = tuple(int(size) for size in header.get("sizes", "").split())
    if len(shape) != 3 or min(shape) < 1:
        raise DataError("an annotation has three dimensions", path, f"sizes {shape}")
    order = ">" if header.get("endian", "little").lower() == "big" else "<"
    for key in ("line skip", "lineskip", "byte skip", "byteskip"):
        if header.get(key, "0") != "0":
            raise DataError("an NRRD that skips bytes is not read", path, f"{key} {header[key]}")
    return shape, np.dtype(order + kind)


def _spacing(header: dict[str, str]) -> tuple[float, ...] | None:
    """Micrometres along each axis of the header, None where it is silent."""
    steps: list[float] = []
    if "space directions" in header:
        vectors = re.findall(r"\(([^)]*)\)", header["space directions"])
        steps = [
            float(np.linalg.norm([float(part) for part in vector.split(",")])) for vector in vectors
        ]
        units = re.findall(r'"([^"]*)"', header.get("space units", ""))
    else:
        try:
            steps = [float(part) for part in header.get("spacings", "").split()]
        except ValueError:
            return None
        units = re.findall(r'"([^"]*)"', header.get("units", ""))
    if len(steps) != 3:
        return None
    units = units if len(units) == 3 else ["um"] * 3
    lengths = [in_um(step, unit or "um") for step, unit in zip(steps, units)]
    return None if None in lengths else tuple(lengths)  # type: ignore[arg-type]


def _unpack(path: Path, start: int, encoding: str, target: IO[bytes], size: int) -> None:
    """Decompress into a file, and stop when there is more than there should be."""
    written = 0
    for part in _parts(path, start, encoding):
        written += len(part)
        if written > size:
            raise DataError("the file holds more data than its header says", path)
        target.write(part)
    if written < size:
        raise DataError("the file is cut short", path, f"{written} of {size} bytes")
    target.flush()


def _parts(path: Path, start: int, encoding: str) -> Iterator[bytes]:
    bzip = encoding in ("bzip2", "bz2")
    with path.open("rb") as file:
        file.seek(start)
        decoder: Any = bz2.BZ2Decompressor() if bzip else zlib.decompressobj(31)
        while chunk := file.read(CHUNK):
            # A few bytes may unpack to gigabytes, so they are taken a part at a time.
            while chunk:
                if decoder.eof:
                    decoder = bz2.BZ2Decompressor() if bzip else zlib.decompressobj(31)
                if bzip:
                    yield decoder.decompress(chunk, CHUNK)
                    while not decoder.eof and not decoder.needs_input:
                        yield decoder.decompress(b"", CHUNK)
                    chunk = decoder.unused_data if decoder.eof else b""
                else:
                    yield decoder.decompress(chunk, CHUNK)
                    chunk = decoder.unconsumed_tail or decoder.unused_data
        if not decoder.eof:
            raise DataError("the compressed data are cut short", path)
