"""What a result was made on."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from brodmann.core.files import write_text

PACKAGES = (
    "brodmann", "numpy", "torch", "lightning", "dynamic-network-architectures", "numba", "scipy",
    "scikit-image", "zarr", "dask", "tifffile", "nibabel", "h5py",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Installed versions of what Brodmann stands on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def peak_memory_mb() -> float:
    """Most memory that this process has held, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def commit() -> str | None:
    """The commit of the checkout that this package runs from; None for an installed one."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def data_folder() -> Path | None:
    """Where real data lie: $BRODMANN_DATA, or a folder shared/data beside the checkout."""
    named = os.environ.get("BRODMANN_DATA")
    for folder in ([Path(named)] if named else []) + [Path("../shared/data")]:
        if folder.is_dir():
            return folder
    return None


def describe_machine() -> dict[str, Any]:
    """Processor, memory, accelerator, versions and data, as plain values."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    data = data_folder()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(memory / 1e9, 1),
        "disk_free_gb": round(shutil.disk_usage(".").free / 1e9, 1),
        "gpu": ", ".join(gpus) or "none",
        "data": str(data) if data else "none found; set BRODMANN_DATA",
        "versions": versions(),
    }


def facts_of_run(recipe: Any, command: str, began: float) -> dict[str, Any]:
    """What every study's `result.json` tells of its recipe and of the machine.

    Parameters
    ----------
    recipe : Section
        With name, title, problem, seeds, notes and `dump()`.
    command : str
    began : float
        By `time.monotonic()`.
    """
    return {
        "name": recipe.name,
        "title": recipe.title or recipe.name,
        "problem": recipe.problem,
        "seeds": recipe.seeds,
        "notes": recipe.notes,
        **facts_of_call(recipe, command, began),
    }


def facts_of_call(recipe: Any, command: str, began: float) -> dict[str, Any]:
    """With which recipe, by which code, on which machine and at what cost a result was made."""
    return {
        "recipe": recipe.dump(),
        "command": command,
        "commit": commit(),
        "environment": versions(),
        "seconds": round(time.monotonic() - began, 1),
        "peak_memory_mb": round(peak_memory_mb(), 1),
    }


def write_recipe(recipe: Any, folder: Path) -> Path:
    """Write `recipe.yaml`, every default spelled out."""
    import yaml

    text = yaml.safe_dump(recipe.dump(), sort_keys=False, allow_unicode=True)
    return write_text(folder / "recipe.yaml", text)
