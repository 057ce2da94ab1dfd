"""Detection in blocks gives the peaks of the whole, whatever the blocks, workers and formats."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from made_cells import PLAIN, SPACING, Boxes, as_array, of_whole, random_volume

from brodmann.core import Volume
from brodmann.inference.engines import Engine
from brodmann.inference.tissue import TissueMask
from brodmann.io import read_volume, write_volume
from brodmann.io.points import read_points
from brodmann.pipeline.cells import detect as detect_cells
from brodmann.pipeline.cells import find_tissue, open_brain
from brodmann.pipeline.cells.detect import facts_of
from brodmann.pipeline.cells.layout import Layout, usual_block
from brodmann.preprocess.resample import at_spacing
from brodmann.problems.cells import LaplacianOfGaussian, measure_intensity
from brodmann.problems.cells.detector import find_cells


def detect(volume, detector, out, **more):
    return detect_cells(volume, detector, out, **({"intensity": PLAIN} | more))


@st.composite
def cases(draw):
    ndim = draw(st.sampled_from([2, 3, 3, 3]))
    sizes = st.integers(1, 24)
    shape = tuple(draw(sizes) for _ in range(ndim))
    detector = Boxes(
        reach=tuple(draw(st.integers(0, 3)) for _ in range(ndim)),
        radius=tuple(draw(st.integers(0, 3)) for _ in range(ndim)),
        threshold=float(draw(st.sampled_from([-500, 0, 20]))),
        pool=tuple(draw(st.sampled_from([1, 1, 2, 3])) for _ in range(ndim)),
        spacing=SPACING[-ndim:],
    )
    volume = random_volume(shape, draw(st.integers(0, 999)), draw(st.sampled_from([1, 2, 4, 200])))
    # Not more blocks than take a moment.
    block = tuple(draw(st.integers(max(1, -(-n // 3)), n)) for n in shape)
    return volume, detector, block


@settings(deadline=None, max_examples=30)
@given(cases(), st.data())
def test_peaks_of_blocks_are_those_of_the_whole(tmp_path_factory, case, data):
    volume, detector, block = case
    out = tmp_path_factory.mktemp("d")
    random = np.random.default_rng(0)
    cells = detect(
        volume, detector, out, block=block,
        engine=data.draw(st.sampled_from(["serial", "threads"])),
        workers=data.draw(st.integers(1, 4)),
        order=lambda numbers: random.permutation(numbers).tolist(),
    )  # fmt: skip
    expected = of_whole(detector, volume)
    assert np.array_equal(as_array(cells), expected)
    if len(expected):
        assert np.array_equal(as_array(read_points(out / "cells.csv")), expected)
    assert facts_of(out)["cells"] == len(expected) and not (out / "work").exists()


@pytest.mark.parametrize(
    "lie", [{"said_halo": (0, 0, 0)}, {"radius": (0, 0, 0)}, {"said_multiple": (1, 1, 1)}]
)
def test_without_halo_window_or_multiple_they_are_not(tmp_path, lie, monkeypatch):
    """So the test above can fail."""
    volume = random_volume((20, 22, 24), 1, 200)
    detector = Boxes(pool=(2, 2, 2))
    expected = of_whole(detector, volume)
    if "radius" in lie:
        monkeypatch.setattr(Layout, "window", lambda self, block: block.window)
        cells = detect(volume, detector, tmp_path, block=(6, 6, 6))
        assert len(cells) > len(expected)
    else:
        from dataclasses import replace

        liar = replace(detector, **lie)
        cells = detect(volume, liar, tmp_path, block=(7, 7, 7))
    assert not np.array_equal(as_array(cells), expected)


@pytest.fixture(scope="module")
def two_workers():
    with Engine("dask", 2) as engine:
        yield engine


def test_worker_processes_and_every_format_write_the_same_bytes(tmp_path, two_workers, monkeypatch):
    volume = random_volume((21, 40, 50), 2, 200, np.uint16)
    detector = LaplacianOfGaussian(SPACING, (4.0, 3.0, 3.0), (1, 2, 2), 20.0)
    expected = find_cells(detector, volume, PLAIN)
    assert len(expected) > 100
    write_volume(tmp_path / "brain.zarr", volume)
    write_volume(tmp_path / "brain.h5", volume)
    (tmp_path / "planes").mkdir()
    for z, plane in enumerate(volume.data):
        tifffile.imwrite(tmp_path / f"planes/z{z:03d}.tif", plane)
    detect(volume, detector, tmp_path / "memory", block=(9, 50, 17))
    bytes_ = (tmp_path / "memory/cells.csv").read_bytes()
    for name in ("brain.zarr", "brain.h5", "planes"):
        brain = open_brain(tmp_path / name, spacing=SPACING)
        cells = detect(brain, detector, tmp_path / f"out-{name}", block=(8, 16, 16),
                       engine="dask", scheduler=two_workers.client().scheduler.address)  # fmt: skip
        assert (tmp_path / f"out-{name}/cells.csv").read_bytes() == bytes_
        assert cells.coordinates.tolist() == expected.coordinates.tolist()
    assert np.allclose(cells.table["score"], expected.table["score"], rtol=1e-6)


def test_first_and_last_planes_are_searched(tmp_path):
    data = np.zeros((6, 9, 9), np.uint8)
    data[0, 0, 0] = data[5, 8, 8] = data[0, 4, 8] = 100
    cells = detect(Volume(data, "zyx", SPACING), Boxes(), tmp_path, block=(2, 4, 4))
    assert cells.coordinates.tolist() == [[0, 0, 0], [0, 4, 8], [5, 8, 8]]


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 99), st.data())
def test_tissue_leaves_out_blocks_and_never_changes_with_them(tmp_path_factory, seed, data):
    volume = random_volume((12, 20, 22), seed, 200)
    low = np.random.default_rng(seed).random((3, 3, 4)) < data.draw(
        st.sampled_from([0.0, 0.2, 0.7])
    )
    mask = TissueMask(low, (4, 7, 6), volume.spatial_shape)
    every = of_whole(Boxes(), volume)
    at = every[:, :3].astype(int)
    expected = every[mask.window((slice(None),) * 3)[tuple(at.T)]]
    block = tuple(data.draw(st.integers(4, n)) for n in volume.spatial_shape)
    out = tmp_path_factory.mktemp("d")
    cells = detect(volume, Boxes(), out, block=block, tissue=mask)
    assert np.array_equal(as_array(cells), expected)
    searched = facts_of(out)["blocks_searched"]
    assert searched == sum(mask.any(b.window) for b in Layout(
        volume.spatial_shape, block, (1, 2, 2), (1, 2, 2), (1, 1, 1)).grid)  # fmt: skip


def phantom(shape=(30, 120, 100), spacing=(8.0, 4.0, 4.0)):
    """A dim brain with a bright nucleus in a dark volume, and where it is."""
    z, y, x = (np.linspace(-1, 1, n) for n in shape)
    r = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2
    brain = r < 0.5
    image = 100 + np.random.default_rng(0).normal(0, 3, shape) + 40 * brain
    image[r < 0.01] += 4000
    return Volume(image.astype(np.uint16), "zyx", spacing), brain


def test_tissue_of_a_dim_brain_with_bright_spots():
    volume, brain = phantom()
    found = find_tissue(volume).window((slice(None),) * 3)
    assert found[brain].all() and found.mean() < 1.5 * brain.mean()
    for piece in (volume.data[10:20, 40:80, 30:70], volume.data[10:20, :60, 30:70]):
        mask = find_tissue(Volume(piece, "zyx", volume.spacing))
        assert mask.low.all(), "a piece without a rim is all tissue"
    zeros = Volume(np.zeros((9, 9, 9), np.uint8), "zyx", SPACING)
    assert not find_tissue(zeros).low.any()


def test_tissue_by_a_coarser_level(tmp_path):
    volume, brain = phantom((24, 270, 100))
    write_volume(tmp_path / "a.zarr", volume)
    coarse = read_volume(tmp_path / "a.zarr", level=1)
    assert coarse.spatial_shape != volume.spatial_shape
    mask = find_tissue(volume, coarse)
    assert mask.shape == volume.spatial_shape
    found = mask.window((slice(None),) * 3)
    assert found[brain].all() and found.mean() < 1.5 * brain.mean()
    # What is found is kept with the work, and tells the blocks to be left out.
    cells = detect(volume, Boxes(threshold=500.0, spacing=volume.spacing), tmp_path / "d", block=(10, 60, 60), tissue=True, coarse=coarse)  # fmt: skip
    facts = facts_of(tmp_path / "d")
    assert 0 < facts["blocks_searched"] < facts["blocks"]
    assert facts["tissue_share"] == pytest.approx(mask.low.mean())
    assert len(cells) == facts["cells"] > 0


def test_another_spacing_is_read_at_the_detectors(tmp_path):
    fine = Volume(np.zeros((16, 40, 40), np.uint16), "zyx", (2.0, 1.0, 1.0))
    fine.data[7:9, 19:21, 9:11] = fine.data[7:9, 4:6, 30:32] = 900
    detector = Boxes(threshold=100.0)
    cells = detect(fine, detector, tmp_path / "d", resample=True, block=(3, 8, 8))
    assert np.allclose(cells.coordinates, [[7.5, 4.5, 30.5], [7.5, 19.5, 9.5]], atol=1)
    resampled = at_spacing(fine, SPACING)
    expected = of_whole(detector, Volume(resampled.numpy()[0], "zyx", SPACING))
    assert np.array_equal((cells.coordinates + 0.5) / 2 - 0.5, expected[:, :3])
    assert facts_of(tmp_path / "d")["resampled_um"] == list(SPACING)


def test_done_work_is_kept_and_other_cells_are_in_the_way(tmp_path):
    from brodmann.core import OutputError

    volume = random_volume((8, 20, 20), 3, 200)
    said = []
    first = detect(volume, Boxes(), tmp_path, block=(4, 9, 9),
                   report=lambda *what: said.append(what))  # fmt: skip
    assert {what for what, *_ in said} == {"cells"} and said[-1][1:3] == (18, 18)
    assert said[-1][3].endswith(f"MVox/s, {len(first):,} cells")
    stamp = (tmp_path / "cells.csv").stat().st_mtime_ns
    again = detect(volume, Boxes(), tmp_path, block=(8, 8, 8))
    assert np.array_equal(as_array(again), as_array(first))
    assert (tmp_path / "cells.csv").stat().st_mtime_ns == stamp
    assert not (tmp_path / "work").exists()
    for change in ({"threshold": 7.0}, {"detector": Boxes(radius=(2, 2, 2))},
                   {"volume": random_volume((8, 20, 20), 4, 200)}):  # fmt: skip
        with pytest.raises(OutputError, match="in the way"):
            detect(**({"volume": volume, "detector": Boxes(), "out": tmp_path} | change))
    (tmp_path / "cells.csv").write_text("z,y,x\n1,1,1\n")
    with pytest.raises(OutputError, match="were changed"):
        detect(volume, Boxes(), tmp_path)


def test_what_is_said_of_a_run(tmp_path):
    volume = random_volume((8, 20, 20), 3, 200)
    detect_cells(volume, Boxes(), tmp_path, points="cells.nml", threshold=50.0)
    facts = json.loads((tmp_path / "detection.json").read_text())
    assert facts["intensity"] == asdict(measure_intensity(volume))
    assert facts["threshold"] == 50 and facts["spacing_um"] == list(SPACING)
    expected = of_whole(Boxes(), volume, 50)
    assert np.array_equal(read_points(tmp_path / "cells.nml").coordinates, expected[:, :3])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 300), min_size=3, max_size=3), st.lists(st.integers(0, 30), min_size=3, max_size=3), st.integers(1, 10**6))  # fmt: skip
def test_usual_blocks_fit(shape, margin, voxels):
    block = usual_block(shape, margin, voxels)
    assert all(1 <= b <= n for b, n in zip(block, shape))
    assert np.prod(block) <= voxels
