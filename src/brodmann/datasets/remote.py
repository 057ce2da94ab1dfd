"""What lies at an address: files to fetch, and the checksums that vouch for them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

from brodmann.core import DataError, RecipeError
from brodmann.datasets.download import MAX_TEXT_BYTES, read_text
from brodmann.datasets.unpack import is_archive, safe_name
from brodmann.io import suffix_of

SUMS = "SHA256SUMS"
TABLES = (".csv", ".json", ".yaml", ".yml", ".txt", ".md")
MAX_PAGES = 1000


@dataclass(frozen=True)
class RemoteFile:
    """A file on the site: its address, its path below the base, its checksum if known."""

    url: str
    path: str
    sha256: str | None = None


def plan(base: str, given: str | dict[str, str] | None) -> tuple[str, list[RemoteFile]]:
    """Who vouches ("given", "published" or "recorded": nobody yet), and what is to be fetched.

    Parameters
    ----------
    base : str
        As `as_folder` makes it: a folder, or one file.
    given : str or dict, optional
        The SHA-256 of the one file, or name -> SHA-256.

    Raises
    ------
    DataError
        If the site cannot be reached, or no data are found.
    RecipeError
        If one checksum is given for several files.
    """
    one = None if base.endswith("/") else RemoteFile(base, safe_name(_name_of(base), base))
    folder = urljoin(base, ".")
    if isinstance(given, dict):
        kind, sums = "given", given
    elif given is not None:
        files = [one] if one else _linked(folder)
        if len(files) != 1:
            found = ", ".join(file.path for file in files[:4])
            raise RecipeError(
                "one checksum is for one file",
                "--sha256",
                f"{len(files)} files: {found}",
                "give its address as --url, or a file of checksums",
            )
        return "given", [RemoteFile(files[0].url, files[0].path, given)]
    else:
        page = read_text(urljoin(folder, SUMS))
        # Some sites answer every address with a page of theirs.
        text = page[0] if page and not page[0].lstrip().startswith("<") else ""
        kind, sums = "published", _sums(text, urljoin(folder, SUMS)) if text else {}
    if one and one.path in sums:
        return kind, [RemoteFile(one.url, one.path, sums[one.path])]
    if one and kind == "given":
        raise DataError("no checksum for this file", base, fix="name it in the checksums")
    if sums and not one:
        return kind, [RemoteFile(urljoin(folder, quote(p)), p, s) for p, s in sorted(sums.items())]
    return "recorded", [one] if one else _linked(folder)


def read_given(sha256: str | Path) -> str | dict[str, str]:
    """64 digits, or a file of them with names."""
    if re.fullmatch("[0-9a-fA-F]{64}", str(sha256)):
        return str(sha256).lower()
    file = Path(sha256)
    try:
        if file.stat().st_size > MAX_TEXT_BYTES:
            raise RecipeError("this file of checksums is too long", file)
        sums = _sums(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            "no such checksum",
            "--sha256",
            repr(str(sha256)),
            "give 64 hexadecimal digits or a file of lines: SHA256  NAME",
        ) from error
    if not sums:
        raise RecipeError("this file holds no checksums", file)
    return sums


def _sums(text: str, where: str) -> dict[str, str]:
    """Name -> SHA-256, from what sha256sum writes."""
    sums = {}
    for i, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([0-9a-fA-F]{64})[ \t]+\*?(.+)", line.rstrip())
        if match is None:
            raise DataError("not a line of checksums", f"{where} line {i}", repr(line[:80]))
        name = safe_name(match[2], where)
        if name != SUMS:
            sums[name] = match[1].lower()
    return sums


def as_folder(url: str) -> str:
    """The address of a page ends in "/", that of a file in its name.

    >>> as_folder("https://example.org/set"), as_folder("https://example.org/set/a.zip")
    ('https://example.org/set/', 'https://example.org/set/a.zip')
    """
    url = urlsplit(url)._replace(fragment="").geturl()
    if url.endswith("/") or _is_data(_name_of(url)):
        return url
    if _name_of(url).endswith((".html", ".htm")):
        return urljoin(url, ".")
    return url + "/"


def _name_of(url: str) -> str:
    return unquote(urlsplit(url).path.rsplit("/", 1)[-1])


def _is_data(name: str) -> bool:
    return is_archive(name) or bool(suffix_of(name)) or name.lower().endswith(TABLES)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for key, value in attrs if tag == "a" and key == "href" and value]


def _linked(base: str) -> list[RemoteFile]:
    """Data files that a page and the folders below it link to; nothing above or elsewhere."""
    pages, seen, files, elsewhere = [base], set(), {}, []
    while pages:
        page = pages.pop(0)
        if page in seen:
            continue
        if len(seen) == MAX_PAGES:
            raise DataError("this site has too many folders", base, f"more than {MAX_PAGES}")
        seen.add(page)
        text, address = read_text(page) or ("", "")
        if not address and page == base:
            raise DataError(
                "there is no such page, or it is not for everyone",
                base,
                fix="give another address as --url",
            )
        if page == base:
            # Where a redirect leads to, links are relative to.
            base = urljoin(address, ".")
        links = _Links()
        links.feed(text)
        for href in links.found:
            link = urlsplit(urljoin(address, href))._replace(fragment="")
            url, within = link.geturl(), not link.query and link.geturl().startswith(base)
            if within and url.endswith("/") and len(url) > len(address):
                pages.append(url)
            elif within and _is_data(_name_of(url)):
                path = safe_name(unquote(url[len(base) :]), page)
                files[path] = RemoteFile(url, path)
            elif link.scheme in ("http", "https") and is_archive(link.path):
                elsewhere.append(url)
    if not files:
        raise DataError(
            "this page links to no data beside it",
            base,
            "archives elsewhere: " + ", ".join(elsewhere[:4]) if elsewhere else None,
            "give the address of the archive or folder as --url",
        )
    return [files[path] for path in sorted(files)]
