"""Bad input is one clear line that names the block; nothing is half done or silently used."""

from __future__ import annotations

import sys
import types
import warnings

import numpy as np
import pytest
import tifffile
import zarr
from made_cells import PLAIN, SPACING, Boxes, Broken, as_array, of_whole, random_volume

from brodmann.core import BrodmannError, DataError, ModelError, RecipeError, Volume
from brodmann.inference.engines import Engine
from brodmann.io import write_volume
from brodmann.pipeline.cells import detect, open_brain
from brodmann.pipeline.cells.detect import facts_of
from brodmann.pipeline.cells.slurm import read_slurm, slurm_cluster
from brodmann.problems.cells import Contrast, LaplacianOfGaussian

BLOCK = (4, 10, 10)


@pytest.fixture
def volume():
    return random_volume((8, 20, 30), 6, 200, np.uint16)


def planes(folder, values, **options):
    folder.mkdir()
    for z, plane in enumerate(values):
        tifffile.imwrite(folder / f"brain_{z:04d}.tif", plane, **options)
    return folder


def test_zeros_hold_no_tissue_and_no_cells(tmp_path):
    zeros = Volume(np.zeros((9, 20, 20), np.uint16), "zyx", SPACING)
    cells = detect(zeros, Boxes(), tmp_path / "a", tissue=True)
    assert len(cells) == 0 and cells.axes == "zyx"
    facts = facts_of(tmp_path / "a")
    assert facts["tissue_share"] == 0 and facts["blocks_searched"] == 0
    assert (tmp_path / "a/cells.csv").read_text() == "z,y,x,score\n"
    assert len(detect(zeros, Boxes(), tmp_path / "a", tissue=True)) == 0, "and it is kept"
    assert len(detect(zeros, Boxes(), tmp_path / "b")) == 0
    log = LaplacianOfGaussian(SPACING, (4.0, 4.0, 4.0), (1, 2, 2), 3.0, Contrast(scale="volume"))
    assert len(detect(zeros, log, tmp_path / "c")) == 0


def test_another_spacing_is_refused_and_says_what_to_do(tmp_path, volume):
    detector = Boxes(spacing=(5.0, 2.0, 2.0))
    with pytest.raises(RecipeError, match=r"made at 5 x 2 x 2 um.*found 4 x 2 x 2.*--resample"):
        detect(volume, detector, tmp_path)
    with pytest.raises(RecipeError, match="for 2 dimensions"):
        detect(volume, Boxes((1, 1), (1, 1), 0.0, (1, 1), (2.0, 2.0)), tmp_path, resample=True)
    assert not list(tmp_path.iterdir())


def test_a_stack_with_a_missing_or_odd_plane(tmp_path, volume):
    folder = planes(tmp_path / "p", volume.data)
    lost = (folder / "brain_0003.tif").read_bytes()
    (folder / "brain_0003.tif").unlink()
    with pytest.raises(DataError, match=r"missing: 1 of 8.*brain_0002\.tif, then brain_0004"):
        open_brain(folder, spacing=SPACING)
    tifffile.imwrite(folder / "brain_0003.tif", volume.data[3, :-1])
    with pytest.raises(DataError, match=r"differ in shape.*brain_0003\.tif.*\(19, 30\)"):
        open_brain(folder, spacing=SPACING)
    (folder / "brain_0003.tif").write_bytes(lost)
    with pytest.raises(DataError, match="--spacing"):
        open_brain(folder)
    # Damaged once the work has begun: the block is named, and its repair is gone on with.
    brain = open_brain(folder, spacing=SPACING)
    (folder / "brain_0006.tif").write_bytes(lost[:300])
    with pytest.raises(DataError, match=r"brain_0006\.tif; cells, block 6 \(z 4:8, y 0:10, x 0:10"):
        detect(brain, Boxes((0, 0, 0), (0, 0, 0)), tmp_path / "d", block=BLOCK, intensity=PLAIN)
    assert len(list(tmp_path.glob("d/work/blocks-*/marks/0/*.json"))) == 6
    tifffile.imwrite(folder / "brain_0006.tif", volume.data[6])
    cells = detect(brain, Boxes((0, 0, 0), (0, 0, 0)), tmp_path / "d", block=BLOCK, intensity=PLAIN)
    assert np.array_equal(as_array(cells), of_whole(Boxes((0, 0, 0), (0, 0, 0)), volume))


def test_corrupt_and_missing_chunks(tmp_path, volume):
    write_volume(tmp_path / "b.zarr", volume)
    (file,) = [
        p for p in (tmp_path / "b.zarr/0").rglob("*") if p.is_file() and p.name != "zarr.json"
    ]
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 4
    file.write_bytes(damaged)
    brain = open_brain(tmp_path / "b.zarr")
    with pytest.raises(DataError, match=r"a chunk is damaged .*; cells, block 0"):
        detect(brain, Boxes(), tmp_path / "d", block=BLOCK, intensity=PLAIN)
    file.unlink()
    with pytest.raises(DataError, match=r"a chunk is missing .*; cells, block 0"):
        detect(brain, Boxes(), tmp_path / "d", block=BLOCK, intensity=PLAIN)
    file.write_bytes(whole)
    cells = detect(brain, Boxes(), tmp_path / "d", block=BLOCK, intensity=PLAIN)
    assert np.array_equal(as_array(cells), of_whole(Boxes(), volume))
    # Others leave out empty chunks: that is counted.
    other = zarr.create_array(
        tmp_path / "o.zarr", shape=(8, 20, 30), chunks=(8, 10, 10), dtype="u2"
    )
    other[:, :10, :10] = volume.data[:, :10, :10]
    detect(open_brain(tmp_path / "o.zarr", spacing=SPACING), Boxes(), tmp_path / "e", block=BLOCK,
           intensity=PLAIN)  # fmt: skip
    assert facts_of(tmp_path / "e")["missing_chunks"] == 5


def test_voxels_and_heat_that_are_no_numbers(tmp_path, volume):
    bad = Volume(volume.data.astype(np.float32), "zyx", SPACING)
    bad.data[6, 3, 25] = np.nan
    with pytest.raises(DataError, match=r"NaN or infinite \(z 6, y 3, x 25; cells, block"):
        detect(bad, Boxes(), tmp_path / "a", block=BLOCK, intensity=PLAIN)
    volume.data[1, 15, 25] = 255
    for detector, kind, words in (
        (Broken(), DataError, r"heat map holds NaN \(boxes; cells, block"),
        (Broken(shape=True), ModelError, "heat has another shape"),
    ):
        with pytest.raises(kind, match=words):
            detect(volume, detector, tmp_path / "b", block=BLOCK, intensity=PLAIN)


def test_channels(tmp_path, volume):
    pair = Volume(np.stack([volume.data * 0, volume.data]), "czyx", SPACING, ("NeuN", "cFos"))
    write_volume(tmp_path / "two.zarr", pair)
    with pytest.raises(
        RecipeError, match=r"1 channel.*found 2: NeuN, cFos; choose one with --channel"
    ):
        detect(open_brain(tmp_path / "two.zarr"), Boxes(), tmp_path / "d")
    for channel in ("cFos", "1"):
        brain = open_brain(tmp_path / "two.zarr", channel=channel)
        cells = detect(brain, Boxes(), tmp_path / f"d{channel}", block=BLOCK, intensity=PLAIN)
        assert np.array_equal(as_array(cells), of_whole(Boxes(), volume))
    with pytest.raises(DataError, match="did you mean 'cFos'"):
        open_brain(tmp_path / "two.zarr", channel="cfos")


def test_a_scale_of_each_window_is_refused(tmp_path, volume):
    log = LaplacianOfGaussian(SPACING, (4.0, 4.0, 4.0), (1, 2, 2), 3.0, Contrast(scale="patch"))
    with pytest.raises(ModelError, match="scales each window by itself"):
        detect(volume, log, tmp_path)


def test_planes_compressed_whole_are_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr("brodmann.pipeline.cells.source.SMALL", 400 * 500)
    values = random_volume((3, 400, 500), 1).data
    striped = planes(tmp_path / "s", values, compression="zlib", rowsperstrip=400)
    free = planes(tmp_path / "f", values)
    with pytest.warns(UserWarning, match=r"pieces of 1 x 400 x 500 voxels.*--to-zarr"):
        detect(open_brain(striped, spacing=SPACING), Boxes(threshold=9e9), tmp_path / "a",
               block=(3, 60, 60), intensity=PLAIN)  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detect(open_brain(free, spacing=SPACING), Boxes(threshold=9e9), tmp_path / "b",
               block=(3, 60, 60), intensity=PLAIN)  # fmt: skip


def test_bad_layouts_are_refused(tmp_path, volume):
    for block in ((4, 4), (0, 4, 4)):
        with pytest.raises(BrodmannError):
            detect(volume, Boxes(), tmp_path, block=block, intensity=PLAIN)


def test_recipes_of_jobs(tmp_path):
    path = tmp_path / "slurm.yaml"
    for text, words in (
        ("jobs: 2\ncores: 4\nmemory: 8GB\nqeue: long", r"qeue.*did you mean 'queue'"),
        ("jobs: 0\ncores: 4\nmemory: 8GB", "jobs: .*greater"),
        ("cores: 4\nmemory: 8GB", "jobs: "),
        ("- a", "is a mapping"),
        ("{", "cannot read"),
    ):
        path.write_text(text)
        with pytest.raises(RecipeError, match=words):
            read_slurm(path)
    with pytest.raises(RecipeError, match="cannot read"):
        read_slurm(tmp_path / "none.yaml")


def test_jobs_are_asked_of_dask_jobqueue(tmp_path, monkeypatch, volume):
    """With the cluster of this machine in place of SLURM's."""
    import distributed

    path = tmp_path / "slurm.yaml"
    path.write_text("{jobs: 1, cores: 2, memory: 8GB, queue: long, job_extra_directives: [--nice], "
                    "job_script_prologue: [module load python]}")  # fmt: skip
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    monkeypatch.setattr("brodmann.pipeline.cells.slurm.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="pip install dask-jobqueue"):
        slurm_cluster(path)
    asked = {}

    class Cluster(distributed.LocalCluster):
        def __init__(self, **options):
            asked.update(options)
            super().__init__(n_workers=0, threads_per_worker=1, processes=False,
                             dashboard_address=None)  # fmt: skip

        def scale(self, jobs=None, n=None):
            asked.setdefault("jobs", jobs)  # closing asks for none
            super().scale(n or jobs * asked["processes"])

    fake = types.ModuleType("dask_jobqueue")
    fake.SLURMCluster = Cluster
    monkeypatch.setitem(sys.modules, "dask_jobqueue", fake)
    monkeypatch.setattr("brodmann.pipeline.cells.slurm.find_spec", lambda name: fake)
    cells = detect(volume, Boxes(), tmp_path / "d", block=BLOCK, intensity=PLAIN,
                   cluster=slurm_cluster(path))  # fmt: skip
    assert np.array_equal(as_array(cells), of_whole(Boxes(), volume))
    prologue = asked.pop("job_script_prologue")
    assert "export MALLOC_MMAP_MAX_=0" in prologue and prologue[-1] == "module load python"
    assert asked == {"jobs": 1, "cores": 2, "memory": "8GB", "processes": 2, "queue": "long",
                     "job_extra_directives": ["--nice"]}  # fmt: skip

    class Refused:
        """As a cluster whose jobs SLURM did not take, which it tells nobody."""

        _correct_state = None

        def __init__(self, **options):
            self.workers = {}

        def scale(self, jobs):
            self.workers["a"] = types.SimpleNamespace(job_id=None)

        def sync(self, work):
            pass

        def close(self):
            asked["closed"] = True
            raise AssertionError("it was never begun")

    fake.SLURMCluster = Refused
    with (
        Engine(cluster=slurm_cluster(path)) as engine,
        pytest.raises(RecipeError, match=r"cannot be handed in .*1 of 1 jobs.*sbatch must"),
    ):
        engine.client()
    assert asked["closed"]
    with pytest.raises(RecipeError, match="either a scheduler"):
        Engine("auto", 1, "tcp://a:1", lambda: None)
