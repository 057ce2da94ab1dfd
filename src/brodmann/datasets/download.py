"""One file over HTTP: gone on with where it broke off, checked, whole or not there."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from brodmann.core import DataError, OutputError
from brodmann.core.files import write_json

TRIES = 4
"""Failures in a row, none of which brought the file further, before giving up."""
WAIT_S = 1.0
"""Pause after the first of them; it doubles with each, up to half a minute."""
TIMEOUT_S = 30.0
SPARE_BYTES = 64 * 2**20
"""Free space that is never filled."""
MAX_TEXT_BYTES = 16 * 2**20
BLOCK = 2**20
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers that another try may better."""
Tick = Callable[[int, int], None]
"""Called as (bytes here, bytes in all, 0 if not known)."""
T = TypeVar("T")


class _BrokenOff(Exception):
    """Worth another try; its text says what was met."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str):
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after not in ("http", "https") or (before == "https" and after == "http"):
            raise DataError("the site leads to an address that is not safe", req.full_url, newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS alone: file: and ftp: addresses are never followed."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def download(
    url: str, target: str | Path, sha256: str | None = None, tick: Tick | None = None
) -> str:
    """Fetch one file; what is there of an earlier try is gone on with where the site can.

    The bytes gather in a hidden file beside `target` and take its name once they are all
    there and have the checksum. An earlier part is used only if the site vouches that the
    file is still the same (ETag, Last-Modified), or if `sha256` will tell.

    Parameters
    ----------
    url : str
        http or https.
    target : str or Path
        Replaced if it is there; its folder must exist.
    sha256 : str, optional
        64 hexadecimal digits that the file must have.
    tick : callable, optional
        Told of each MiB.

    Returns
    -------
    str
        The file's SHA-256.

    Raises
    ------
    DataError
        If the site cannot be reached, refuses, keeps breaking off, or the checksum is wrong.
    OutputError
        If the disk is full or cannot be written.

    Source: RFC 9110, sections 13.1.5 (If-Range) and 14 (ranges).

    Example
    -------
    >>> download("https://example.org/a.zip", "a.zip")  # doctest: +SKIP
    '0f343b0931126a20f133d67c2b018a3b...'
    """
    target = Path(target)
    part = target.with_name(f".{target.name}.part")
    resumed = _size(part) > 0
    while True:
        _persist(lambda: _attempt(url, part, sha256, tick), lambda: _size(part), url)
        found = sha256_of(part)
        if sha256 is None or found == sha256.lower():
            break
        _forget(part)
        if not resumed:
            raise DataError(
                "wrong checksum; the file is not kept",
                url,
                f"SHA-256 {found}",
                f"expected {sha256.lower()}",
            )
        # An old part may be of another file: once more from the beginning.
        resumed = False
    try:
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        raise OutputError("cannot write", target, error.strerror or error) from error
    _forget(part)
    return found


def _attempt(url: str, part: Path, sha256: str | None, tick: Tick | None) -> None:
    note = _note(part)
    have, validator = _size(part), note.get("validator")
    if note.get("url") != url or not (validator or sha256):
        have = 0
    if have and have == note.get("total"):
        return
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and validator:
        headers["If-Range"] = str(validator)
    try:
        answer = _open(url, headers)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            _forget(part)
            raise _BrokenOff("the file on the site has changed") from error
        raise
    with answer:
        total = _length(answer)
        if answer.status == 206:
            given = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers["Content-Range"] or "")
            if not given or int(given[1]) != have:
                _forget(part)
                raise _BrokenOff("the site answered with another part of the file")
            total = int(given[2])
        else:
            have = 0
        if total is None and answer.headers.get("Transfer-Encoding") != "chunked":
            raise DataError(
                "the site does not say how long this file is, so that half of it would pass "
                "for all",
                url,
                fix="fetch it with a browser and compare its checksum",
            )
        need_space(part.parent, (total or 0) - have)
        tag, day = answer.headers.get("ETag", ""), answer.headers.get("Last-Modified")
        strong = tag if tag and not tag.startswith("W/") else day
        write_json(_note_file(part), {"url": url, "validator": strong, "total": total})
        with _writing(part, have) as file:
            while block := _block(answer):
                try:
                    file.write(block)
                except OSError as error:
                    raise OutputError(
                        "cannot write", part, error.strerror or error, "free some space"
                    ) from error
                have += len(block)
                if tick is not None:
                    tick(have, total or 0)
    if total is not None and have != total:
        if have > total:
            _forget(part)
        raise _BrokenOff(f"the answer ends after {have:,} of {total:,} bytes")
    write_json(_note_file(part), {"url": url, "validator": strong, "total": have})


def read_text(url: str) -> tuple[str, str] | None:
    """A page of at most 16 MiB and the address it came from in the end; None if there is none.

    A site that gives no listing says "forbidden" where nothing is, so that counts as none.

    Raises
    ------
    DataError
        If the site cannot be reached, refuses, keeps breaking off, or the page is too long.
    """

    def attempt() -> tuple[str, str]:
        with _open(url, {}) as answer:
            length, blocks, have = _length(answer), [], 0
            while block := _block(answer):
                blocks.append(block)
                have += len(block)
                if have > MAX_TEXT_BYTES:
                    raise DataError("this page is too long", url, f"more than {have:,} bytes")
            if length is not None and have != length:
                raise _BrokenOff(f"the answer ends after {have:,} of {length:,} bytes")
            return b"".join(blocks).decode("utf-8", "replace"), answer.url

    try:
        return _persist(attempt, lambda: 0, url)
    except DataError as error:
        cause = error.__cause__
        if isinstance(cause, urllib.error.HTTPError) and cause.code in (403, 404, 410):
            return None
        raise


def _persist(attempt: Callable[[], T], reached: Callable[[], int], url: str) -> T:
    """Try again, at growing intervals, until the last tries have all brought nothing more."""
    best, failed = reached(), 0
    while True:
        try:
            return attempt()
        except urllib.error.HTTPError as error:
            fault: Exception = error
            words = f"HTTP {error.code} {error.reason}"
            if error.code not in PASSING:
                raise DataError("the site does not give this file", url, words) from error
        except urllib.error.URLError as error:
            fault, words = error, str(error.reason)
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise DataError("the site cannot prove that it is itself", url, words) from error
        except (http.client.HTTPException, ConnectionError, TimeoutError, _BrokenOff) as error:
            fault, words = error, str(error) or type(error).__name__
        failed = 0 if reached() > best else failed + 1
        best = max(best, reached())
        if failed >= TRIES:
            if best:
                what, fix = "the download keeps breaking off", "the same command goes on from here"
            else:
                what, fix = (
                    "cannot get an answer from the site",
                    "check the address and the network",
                )
            raise DataError(what, url, words, fix) from fault
        time.sleep(min(WAIT_S * 2 ** max(failed - 1, 0), 30))


def _open(url: str, headers: dict[str, str]) -> Any:
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise DataError("this is not an http or https address", found=repr(url))
    headers = {"User-Agent": "brodmann", "Accept-Encoding": "identity", **headers}
    try:
        request = urllib.request.Request(url, headers=headers)
        return _opener().open(request, timeout=TIMEOUT_S)
    except (http.client.InvalidURL, ValueError) as error:
        raise DataError("this is not an address", found=repr(url)) from error


def _block(answer: Any) -> bytes:
    try:
        return answer.read(BLOCK)
    except OSError as error:
        raise _BrokenOff(str(error) or type(error).__name__) from error


def _length(answer: Any) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _writing(part: Path, have: int) -> Any:
    try:
        file = part.open("r+b" if have else "wb")
        file.seek(have)
        file.truncate()
        return file
    except OSError as error:
        raise OutputError("cannot write", part, error.strerror or error) from error


def _note_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _note(part: Path) -> dict[str, Any]:
    try:
        note = json.loads(_note_file(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_file(part).unlink(missing_ok=True)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def need_space(folder: Path, size: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises
    ------
    OutputError
        If fewer than `size` bytes and 64 MiB are free.
    """
    free = shutil.disk_usage(folder).free
    if size + SPARE_BYTES > free:
        raise OutputError(
            "the disk is too full",
            folder,
            f"{free / 1e9:.1f} GB free, {(size + SPARE_BYTES) / 1e9:.1f} GB needed",
            "free some space or choose another place",
        )
