"""Settings for every test: threads that yield, and where real data lie."""

import os
from pathlib import Path

import pytest

# Spinning threads starve each other when a machine has few cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "2")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, or a visible skip."""
    folder = Path(os.environ.get("BRODMANN_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data: set BRODMANN_DATA or put it at ../shared/data")
    return folder
