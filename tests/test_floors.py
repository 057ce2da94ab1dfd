"""A file imports from its own floor or from one below, never from above."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "brodmann"
FLOORS = {
    "core": 0,
    **dict.fromkeys(
        (
            "io",
            "datasets",
            "atlas",
            "preprocess",
            "metrics",
            "postprocess",
            "inference",
            "nets",
            "augment",
        ),
        1,
    ),
    "problems": 2,
    **dict.fromkeys(("bench", "report", "pipeline"), 3),
    **dict.fromkeys(("web", "cli"), 4),
}
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE)


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "brodmann" and len(parts) > 1 else None


def imported(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            found.add(node.module)
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(file):
    own = file.relative_to(PACKAGE).parts[0]
    assert own in FLOORS, f"{own} stands on no floor"
    for module in imported(ast.parse(file.read_text(encoding="utf-8"))):
        target = room(module)
        if target in FLOORS:
            assert FLOORS[target] <= FLOORS[own], f"{file} imports {module} from a floor above"


def test_a_wrong_import_would_be_seen():
    tree = ast.parse("def f():\n    from brodmann.pipeline import run\n")
    (module,) = imported(tree)
    assert FLOORS[room(module)] > FLOORS["core"]


@pytest.mark.parametrize(
    "module",
    ["brodmann.core", "brodmann.nets.unet", "brodmann.problems.semantic.problem",
     "brodmann.problems.semantic.patches", "brodmann.problems.learner", "brodmann.augment.classical"],
)  # fmt: skip
def test_training_needs_no_zarr_dask_or_monai(module):
    code = (
        f"import sys, {module}; "
        "print([m for m in ('zarr', 'dask', 'monai', 'distributed', 'nibabel', 'h5py') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
