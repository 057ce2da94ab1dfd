"""Workers as jobs of SLURM, by dask-jobqueue."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from brodmann.core import RecipeError, nearest
from brodmann.inference.engines import KEEP_MEMORY


class SlurmRecipe(BaseModel):
    """What a job is, and how many. All but `jobs` are options of dask_jobqueue.SLURMCluster.

    `job_script_prologue` holds commands that the job's shell runs before the worker.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    jobs: int = Field(ge=1)
    cores: int = Field(ge=1)
    memory: str
    processes: int | None = Field(None, ge=1)
    """Workers in a job, each with its share of the cores; default: one for each core."""
    queue: str | None = None
    account: str | None = None
    walltime: str | None = None
    interface: str | None = None
    python: str | None = None
    local_directory: str | None = None
    log_directory: str | None = None
    job_extra_directives: tuple[str, ...] = ()
    job_script_prologue: tuple[str, ...] = ()
    worker_extra_args: tuple[str, ...] = ()

    def options(self) -> dict[str, Any]:
        """Those of the cluster; what is not given is left to its own configuration."""
        given = self.model_dump(exclude={"jobs"}, exclude_none=True)
        given = {key: list(v) if isinstance(v, tuple) else v for key, v in given.items()}
        return {"processes": self.cores} | {key: v for key, v in given.items() if v != []}

    def prologue(self) -> list[str]:
        """Workers keep memory between blocks, unless the recipe's own commands say otherwise."""
        kept = [f"export {name}={value}" for name, value in KEEP_MEMORY.items()]
        return [*kept, *self.job_script_prologue]


def read_slurm(path: Path) -> SlurmRecipe:
    """Read a recipe of jobs.

    Raises
    ------
    RecipeError
        Names the key that is at fault.

    Example
    -------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "slurm.yaml"
    >>> _ = path.write_text("{jobs: 4, cores: 16, memory: 64GB, queue: long}")
    >>> read_slurm(path).options()
    {'processes': 16, 'cores': 16, 'memory': '64GB', 'queue': 'long'}
    """
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError("cannot read the recipe of jobs", path, str(error)) from error
    if not isinstance(tree, dict):
        raise RecipeError("a recipe of jobs is a mapping", path, fix="jobs, cores and memory")
    try:
        return SlurmRecipe(**{str(key): value for key, value in tree.items()})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        unknown = first["type"] == "extra_forbidden"
        fix = nearest(key, SlurmRecipe.model_fields) if unknown else None
        raise RecipeError(f"{key}: {first['msg']}", path, first.get("input"), fix) from None


def slurm_cluster(path: Path) -> Callable[[], Any]:
    """A function that starts the jobs of a recipe: for `inference.engines.Engine`.

    Raises
    ------
    RecipeError
        If the recipe is at fault, or dask-jobqueue is not installed.
    """
    recipe = read_slurm(path)
    if find_spec("dask_jobqueue") is None:
        raise RecipeError("jobs of SLURM need dask-jobqueue", path, fix="pip install dask-jobqueue")

    def start() -> Any:
        import dask_jobqueue

        cluster = None
        try:
            cluster = dask_jobqueue.SLURMCluster(
                **recipe.options() | {"job_script_prologue": recipe.prologue()}
            )
            cluster.scale(jobs=recipe.jobs)
            # Jobs are handed in by a task of the cluster's own, whose failure it only logs.
            cluster.sync(cluster._correct_state)
            lost = [job for job in cluster.workers.values() if getattr(job, "job_id", "") is None]
            if lost:
                raise RuntimeError(f"{len(lost)} of {recipe.jobs} jobs got no number")
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            if cluster is not None:
                with suppress(Exception):  # jobs that never were cannot be closed
                    cluster.close()
            line = " ".join(str(error).split())[:200]
            raise RecipeError(
                "the jobs cannot be handed in",
                path,
                line,
                "sbatch must be on the PATH of this machine and take such jobs",
            ) from error
        return cluster

    return start
