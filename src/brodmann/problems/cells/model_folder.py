"""A model as a folder: a description in YAML, weights that nothing unpickles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from brodmann.core import ModelError


def read_description(folder: Path, name: str, what: str, form: int, source: str) -> dict[str, Any]:
    """The description `name` of a folder that holds a `what`.

    `form` is the version that is understood; `source` says where such a folder comes from.

    Raises
    ------
    ModelError
        If there is none, or another one.
    """
    path = folder / name
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(f"this is no {what}", folder, f"no {name}", source) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(f"cannot read the {what}", path, error) from error
    if not isinstance(tree, dict) or tree.get("format") != form:
        raise ModelError(f"no {what} of format {form}", path)
    return tree


def read_weights(path: Path) -> dict[str, Tensor]:
    """Name -> tensor.

    Raises
    ------
    ModelError
        If the file is missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise unfit(path, error) from error


def unfit(path: Path, error: Exception) -> ModelError:
    """Of weights that are damaged, or another net's."""
    return ModelError(
        "the weights cannot be read",
        path,
        str(error).split("\n")[0],
        "copy the folder again, or train anew",
    )
