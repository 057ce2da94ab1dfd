"""Frozen records, made of plain data with errors that name the key at fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from brodmann.core import BrodmannError, RecipeError, nearest


class Record(BaseModel):
    """Frozen; refuses keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


R = TypeVar("R", bound=Record)


def build(record: type[R], tree: Any, where: str, error: type[BrodmannError] = RecipeError) -> R:
    """The record that plain data stand for.

    Raises
    ------
    RecipeError (or `error`)
        Names the key at fault, and the nearest right one.

    Example
    -------
    >>> from brodmann.bench.records import Box
    >>> build(Box, {"cube": "ctx-A", "zz": [0, 4]}, "task.yaml")
    Traceback (most recent call last):
    ...
    brodmann.core.errors.RecipeError: unknown key (task.yaml: zz): found 'zz'; did you mean 'z'?
    """
    if not isinstance(tree, Mapping):
        raise error("keys and values are needed", where, type(tree).__name__)
    try:
        return record.model_validate(tree)
    except ValidationError as failure:
        raise explained(failure, record, where, error) from None


def explained(
    failure: ValidationError,
    record: type[BaseModel],
    where: str,
    error: type[BrodmannError] = RecipeError,
) -> BrodmannError:
    """One line for what pydantic found; a misspelt key before one that is missing for it."""
    errors = sorted(failure.errors(include_url=False), key=_rank)
    first = errors[0]
    path = [str(part) for part in first["loc"] if not str(part).startswith("tuple[")]
    place = f"{where}: {'.'.join(path)}" if path else where
    if first["type"] == "extra_forbidden":
        known = _inner(record, path[:-1]).model_fields
        return error("unknown key", place, repr(path[-1])[:80], nearest(path[-1], known))
    if first["type"] == "missing":
        return error("a key is missing", place)
    message = first["msg"].removeprefix("Value error, ")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    found = repr(first.get("input"))[:80] if path else None
    return error(message[:1].lower() + message[1:] + more, place, found)


def _rank(found: Any) -> tuple[bool, int]:
    return found["type"] != "extra_forbidden", -len(found["loc"])


def _inner(record: type[BaseModel], path: Sequence[str]) -> type[BaseModel]:
    """The record that a path of keys leads to; keys of dicts and numbers lead nowhere."""
    for part in path:
        field = record.model_fields.get(part)
        found = _records(field.annotation) if field is not None else []
        record = found[0] if found else record
    return record


def _records(kind: Any) -> list[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [inner for part in get_args(kind) for inner in _records(part)]
