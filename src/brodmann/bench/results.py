"""Result: what one method scored on one task with one seed, and the evidence; as one JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, ValidationError, model_validator

from brodmann.bench.building import Record, explained
from brodmann.bench.records import TASK_ID, Name
from brodmann.core import DataError
from brodmann.core.files import make_folder, write_text

FORMAT = "brodmann-result-1"
LARGEST_BYTES = 8 << 20
"""Of a result file."""
LARGEST_CONFIGURATION = 100_000
"""Letters of a configuration or an environment, as JSON."""
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9 _:.+()/-]{1,100}$")]
Text = Annotated[str, Field(max_length=300)]
Scores = dict[Key, FiniteFloat | None]
Count = Annotated[int, Field(ge=0, le=2**62)]


class Evidence(Record):
    """What the scores of one split follow from; one of three.

    `pairs`: sample -> (true, predicted) category. `table`: pixels by (true, predicted) class.
    `values`: sample -> (true, predicted) attributes in the task's order; None is unknown.
    `clusters`: sample -> its subject; samples of one are not independent.
    """

    pairs: dict[Text, tuple[Text, Text]] = Field(default_factory=dict)
    table: tuple[tuple[Count, ...], ...] = ()
    values: dict[Text, tuple[tuple[FiniteFloat | None, ...], tuple[FiniteFloat | None, ...]]] = (
        Field(default_factory=dict)
    )

    clusters: dict[Text, Text] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one(self) -> Evidence:
        if sum(map(bool, (self.pairs, self.table, self.values))) != 1:
            raise ValueError("evidence is pairs, or a table, or values")
        if any(len(row) != len(self.table) for row in self.table):
            raise ValueError("a table is square")
        if not self.clusters.keys() <= (self.pairs.keys() | self.values.keys()):
            raise ValueError("clusters name samples without an answer")
        return self


class Result(Record):
    """One method on one task with one seed.

    `method` is the name of its row; `configuration` names the method and its options. `scores`
    are the means over the splits, `per_split` those of each, `raw` their evidence. `data_hash`
    is of every image and every true answer that was read.
    """

    format: Literal["brodmann-result-1"] = FORMAT
    task: str = Field(pattern=TASK_ID.pattern, max_length=200)
    method: Name
    seed: int = Field(ge=0, lt=2**63)
    scores: Scores = Field(min_length=1, max_length=500)
    per_split: dict[Name, Scores] = Field(min_length=1, max_length=50)
    raw: dict[Name, Evidence] = Field(min_length=1, max_length=50)
    configuration: dict[str, Any]
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")] | None = None
    data_hash: str = Field(pattern=r"^[0-9a-f]{8,64}$")
    environment: dict[Text, Text | int | FiniteFloat | None] = Field(max_length=100)
    seconds: FiniteFloat = Field(ge=0)
    peak_memory_mb: FiniteFloat = Field(ge=0)

    @model_validator(mode="after")
    def _fits_together(self) -> Result:
        if set(self.per_split) != set(self.raw):
            raise ValueError("per_split and raw name different splits")
        if len(json.dumps(self.configuration)) > LARGEST_CONFIGURATION:
            raise ValueError("this configuration is too large")
        return self

    @property
    def file_name(self) -> str:
        """Such as "mtneuro__roi-c1__v2__constant__seed0.json"."""
        benchmark, rest = self.task.split("/")
        task, version = rest.split("@")
        return f"{benchmark}__{task}__{version}__{self.method}__seed{self.seed}.json"

    def to_json(self) -> str:
        """The text of its file; the same result gives the same bytes."""
        tree = self.model_dump(mode="json")
        tree["raw"] = {
            split: {key: value for key, value in evidence.items() if value}
            for split, evidence in tree["raw"].items()
        }
        return json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_result(result: Result, folder: Path) -> Path:
    """Write a result into a folder under its own name, whole or not at all."""
    return write_text(make_folder(folder) / result.file_name, result.to_json())


def read_result(file: Path) -> Result:
    """Read a result file, which may come from anybody.

    Raises
    ------
    DataError
        If it is too large, is no JSON (or too deep a one), holds NaN or a key twice, or is no result.
    """
    file = Path(file)
    try:
        with file.open("rb") as stream:
            content = stream.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise DataError("cannot read the result", file, error.strerror or error) from error
    if len(content) > LARGEST_BYTES:
        raise DataError("this result is too large", file, f"more than {LARGEST_BYTES:,} bytes")
    return parse_result(content, str(file))


def parse_result(content: bytes | str, where: str = "result") -> Result:
    """The result that a JSON text stands for; nothing in it is executed.

    Raises
    ------
    DataError
        Names what is wrong and the key.

    Example
    -------
    >>> parse_result("[NaN]")
    Traceback (most recent call last):
    ...
    brodmann.core.errors.DataError: this is no JSON (result): found NaN is no number
    """
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        tree = json.loads(text, parse_constant=_refuse, object_pairs_hook=_once)
        text = json.dumps(tree)
    except (ValueError, RecursionError) as error:
        raise DataError("this is no JSON", where, str(error)[:120]) from None
    if not isinstance(tree, dict):
        raise DataError("a result is one JSON object", where, type(tree).__name__)
    try:
        return Result.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise explained(error, Result, where, DataError) from None


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found
