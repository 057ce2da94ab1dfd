"""Augmentations in words: what each does, and its options with defaults and meaning."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

from brodmann.augment.base import AUGMENTATIONS, Augmentation


def describe_method(name: str) -> dict[str, Any]:
    """What a method does, and its options, told by its dataclass and docstring.

    Returns
    -------
    dict
        `name`, `summary`, and `options`: a list of `name`, `default` (as JSON would hold it)
        and `meaning`, the first sentence of its description.

    Raises
    ------
    RecipeError
        If there is no such method; names the nearest.

    Example
    -------
    >>> told = describe_method("cutmix")
    >>> [option["name"] for option in told["options"]]
    ['opening_um', 'match_stain', 'alpha']
    >>> told["options"][-1]["default"]
    1.0
    """
    kind: type[Augmentation] = AUGMENTATIONS[name]
    meanings: dict[str, str] = {}
    for parent in reversed(kind.__mro__):
        meanings |= _meanings(parent.__dict__.get("__doc__") or "")
    options = [
        {
            "name": field.name,
            "default": _plain(field.default),
            "meaning": meanings.get(field.name, ""),
        }
        for field in dataclasses.fields(kind)
        if not field.name.startswith("_")
    ]
    summary = (inspect.getdoc(kind) or "").split("\n\n")[0]
    return {"name": name, "summary": " ".join(summary.split()), "options": options}


def describe_methods() -> list[dict[str, Any]]:
    """Every method that can be asked for, plug-ins included, by name."""
    return [describe_method(name) for name in AUGMENTATIONS]


def _meanings(doc: str) -> dict[str, str]:
    """Parameter -> first sentence (or its type), of a numpy docstring's section Parameters.

    Several names that share a line share what stands below it.
    """
    _, _, section = inspect.cleandoc(doc).partition("Parameters\n----------\n")
    meanings: dict[str, list[str]] = {}
    names: list[str] = []
    kinds: dict[str, str] = {}
    for line in section.splitlines():
        head = re.fullmatch(r"([a-z]\w*(?:, [a-z]\w*)*)(?: : (.*))?", line)
        if head:
            names = head[1].split(", ")
            kinds |= dict.fromkeys(names, head[2] or "")
            meanings |= {name: [] for name in names}
        elif line and not line.startswith(" "):
            break  # At the margin the next section begins, or a paragraph.
        elif line.strip():
            for name in names:
                meanings[name].append(line.strip())
    return {
        name: _first_sentence(" ".join(lines)) or kinds[name] for name, lines in meanings.items()
    }


def _first_sentence(text: str) -> str:
    return text.split(". ")[0].rstrip(".")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
