"""XML of untrusted files: read as a stream, with line numbers, without entities of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.parsers import expat

from brodmann.core import DataError, OutputError
from brodmann.io.raw import check_file

MAX_TEXT = 2**12
"""Characters that one element may hold."""
MAX_DEPTH = 32
Start = Callable[[list[str], dict[str, str], int], None]
End = Callable[[list[str], str, int], None]


def read_xml(path: Path, root: str, what: str, start: Start, end: End) -> None:
    """Call `start(tags, attributes, line)` and `end(tags, text, line)` for each element.

    `tags` are the names from the root to the element. A document type is refused, so that
    there are no entities to expand or to fetch.

    Raises
    ------
    DataError
        If it is not well-formed, has another root, is too deep, or an element is too long.
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True
    tags: list[str] = []
    text: list[str] = []
    length = 0

    def fault(what: str, found: object = None) -> DataError:
        return DataError(what, f"{path} line {parser.CurrentLineNumber}", found)

    def begin(tag: str, attributes: dict[str, str]) -> None:
        nonlocal length
        if not tags and tag != root:
            raise fault(f"this is no {what}", f"<{tag}>, not <{root}>")
        if len(tags) >= MAX_DEPTH:
            raise fault("elements are nested too deeply", tag)
        tags.append(tag)
        text.clear()
        length = 0
        start(tags, attributes, parser.CurrentLineNumber)

    def finish(tag: str) -> None:
        end(tags, "".join(text), parser.CurrentLineNumber)
        tags.pop()
        text.clear()

    def hold(data: str) -> None:
        nonlocal length
        length += len(data)
        if length > MAX_TEXT and data.strip():
            raise fault("an element is too long", tags[-1] if tags else None)
        if length <= MAX_TEXT:
            text.append(data)

    def refuse(name: str, *_: object) -> None:
        raise fault("a document type is not allowed here", f"<!DOCTYPE {name[:40]}")

    parser.StartElementHandler = begin
    parser.EndElementHandler = finish
    parser.CharacterDataHandler = hold
    parser.StartDoctypeDeclHandler = refuse
    try:
        with check_file(path).open("rb") as file:
            parser.ParseFile(file)
    except expat.ExpatError as error:
        raise DataError(
            f"the {what} is damaged or cut short",
            f"{path} line {error.lineno}",
            expat.ErrorString(error.code),
            "export it again",
        ) from None
    except OSError as error:
        raise DataError("cannot read", path, error.strerror or error) from None


def check_text(text: str, where: Path) -> str:
    """Text that XML can hold."""
    for letter in text:
        code = ord(letter)
        if (
            (code < 32 and letter not in "\t\n\r")
            or 0xD800 <= code < 0xE000
            or code & 0xFFFE == 0xFFFE
        ):
            raise OutputError("XML cannot hold this character", where, repr(text)[:60])
    return text
