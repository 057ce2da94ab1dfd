"""Detectors: blocks equal the whole, and a folder gives back what was saved."""

import itertools

import numpy as np
import pytest
import torch
import yaml

from brodmann.core import ModelError, RecipeError, Volume
from brodmann.inference.tissue import TissueMask
from brodmann.postprocess.maxima import find_maxima
from brodmann.problems.cells import (
    Contrast,
    Intensity,
    LaplacianOfGaussian,
    NetDetector,
    find_cells,
    heat_of,
    load_detector,
    measure_intensity,
)
from brodmann.problems.cells.net_detector import build_net
from brodmann.problems.cells.reach import reach_of, with_batch_norm

SPACING = (4.0, 2.0, 2.0)
MIXER = {"kind": "convmixer", "features": [8], "strides": [[1, 2, 2]], "depth": 2}
SKIPPING = {**MIXER, "depth": 1, "skip": True}
MIXER2D = {"kind": "convmixer", "features": [8], "strides": [[4, 4]], "depth": 2}
UNET = {
    "kind": "plain-unet",
    "features": [4, 8],
    "strides": [[1, 1, 1], [1, 2, 2]],
    "kernels": [[1, 3, 3], [3, 3, 3]],
}
LOCAL = Contrast((12.0, 10.0, 10.0), "volume", 2.0)
BLOBS = LOCAL.with_(blobs_um=((2.0, 2.0, 2.0), (4.0, 3.0, 3.0)))
FLAT = Contrast((), "fixed", 50.0)
ROOT = Contrast((12.0, 10.0, 10.0), "root", 2.0, floor=10.0)


def net_of(options, channels=1, seed=0):
    """A net as after training: its batch statistics are no more those of the beginning."""
    torch.manual_seed(seed)
    net = build_net(options, channels).eval()
    for name, values in net.named_buffers():
        if values.dtype.is_floating_point:
            values.uniform_(0.6, 1.5) if "var" in name else values.uniform_(-0.3, 0.3)
    return net


def detector_of(options, contrast, mirror=(), channels=1, spacing=SPACING, count=1):
    nets = [net_of(options, contrast.channels(channels), seed) for seed in range(count)]
    radius = (1,) * len(spacing)
    return NetDetector(nets, options, spacing, radius, 0.3, contrast, channels, mirror, "made")


DETECTORS = {
    "log": LaplacianOfGaussian(SPACING, (4.0, 3.0, 3.0), (1, 2, 2), 0.1),
    "log, local": LaplacianOfGaussian(
        SPACING, (3.0, 3.0, 3.0), (1, 2, 2), 0.1, LOCAL.with_(compress=False)
    ),
    "mixers": detector_of(MIXER, LOCAL, count=2),
    "mixer of blobs": detector_of(SKIPPING, BLOBS),
    "mixer, mirrored": detector_of(SKIPPING, ROOT, (2,)),
    "unet": detector_of(UNET, FLAT),
}


@pytest.fixture(scope="module")
def volume():
    rng = np.random.default_rng(0)
    values = rng.normal(500, 60, (20, 40, 44)) + 400 * np.linspace(0, 1, 44)
    return Volume(values.clip(0).astype(np.uint16), "zyx", SPACING)


@pytest.mark.parametrize("name", DETECTORS)
def test_the_heat_of_windows_is_that_of_the_whole(name, volume):
    detector = DETECTORS[name]
    intensity = measure_intensity(volume)
    whole = heat_of(detector, volume, intensity)
    assert whole.dtype == np.float32 and whole.shape == volume.shape and whole.std() > 0
    margin = [-(-h // m) * m for h, m in zip(detector.halo, detector.multiple)]
    raw = np.pad(volume.numpy(), [(n, n) for n in margin], mode="symmetric")
    cuts = [
        range(0, size, -(-size // 2 // m) * m) for size, m in zip(volume.shape, detector.multiple)
    ]
    for corner in itertools.product(*cuts):
        cores = [slice(a, min(a + r.step, n)) for a, r, n in zip(corner, cuts, volume.shape)]
        # In the padded array a core begins `margin` later, so that its window begins at `a`.
        window = tuple(slice(c.start, c.stop + 2 * n) for c, n in zip(cores, margin))
        heat = detector.heat(raw[window], intensity)
        inner = tuple(slice(n, n + c.stop - c.start) for c, n in zip(cores, margin))
        assert np.abs(heat[inner] - whole[tuple(cores)]).max() < 1e-5 * max(1, np.abs(whole).max())


@pytest.mark.parametrize("name", DETECTORS)
def test_what_nobody_asks_for_changes_nothing(name):
    detector = DETECTORS[name]
    shape = [2 * h + 3 * m + 5 for h, m in zip(detector.halo, detector.multiple)]
    raw = np.random.default_rng(4).normal(500, 60, shape).astype(np.float32)
    whole = detector.heat(raw, Intensity(500.0, 60.0))
    for share in (0.3, 0.7, 1.0):
        trim = [int(share * h) for h in detector.halo]
        heat = detector.heat(raw, Intensity(500.0, 60.0), trim)
        wanted = whole[tuple(slice(t, n - t) for t, n in zip(trim, shape))]
        assert heat.shape == wanted.shape
        assert np.abs(heat - wanted).max() < 1e-5 * max(1, np.abs(whole).max())


@pytest.mark.parametrize("name", DETECTORS)
def test_no_more_halo_is_asked_for_than_is_needed(name):
    """What lies beyond the halo changes no heat, what lies just within does."""
    detector = DETECTORS[name]
    shape = [2 * (h + 2 * m) for h, m in zip(detector.halo, detector.multiple)]
    raw = np.random.default_rng(1).normal(500, 60, shape).astype(np.float32)
    before = detector.heat(raw, Intensity(500.0, 60.0))
    for axis, (halo, step) in enumerate(zip(detector.halo, detector.multiple)):
        reached = 0
        for phase in range(step):
            changed = raw.copy()
            at = [n // 2 + (phase if i == axis else 0) for i, n in enumerate(shape)]
            changed[tuple(at)] += 3e4
            moved = np.abs(detector.heat(changed, Intensity(500.0, 60.0)) - before) > 0
            where = np.flatnonzero(moved.any(tuple(i for i in range(3) if i != axis)))
            reached = max(reached, np.abs(where - at[axis]).max())
        assert reached <= halo
        # Kernels fade, so that float32 may hide their outermost voxels.
        assert reached >= halo - 3


@pytest.mark.parametrize("name", DETECTORS)
def test_a_folder_gives_back_the_same_heat(name, volume, tmp_path):
    detector = DETECTORS[name]
    detector.save(tmp_path / "one")
    again = load_detector(tmp_path / "one")
    assert type(again) is type(detector)
    assert (again.name, again.radius, again.threshold) == (
        detector.name,
        detector.radius,
        detector.threshold,
    )
    assert (again.halo, again.multiple) == (detector.halo, detector.multiple)
    assert np.array_equal(heat_of(again, volume), heat_of(detector, volume))
    assert "Finds cells" in (tmp_path / "one" / "README.md").read_text()


def test_sections_in_colour():
    detector = detector_of(MIXER2D, Contrast((), "fixed", 50.0), (1,), 3, (1.0, 1.0))
    rng = np.random.default_rng(3)
    picture = Volume(rng.integers(0, 255, (3, 50, 70)).astype(np.uint8), "cyx", (1.0, 1.0))
    detector.threshold = 0.0
    cells = find_cells(detector, picture)
    expected, scores = find_maxima(heat_of(detector, picture), (1, 1), 0.0)
    assert len(expected) > 10 and np.array_equal(cells.coordinates, expected)
    assert cells.table.score.to_numpy() == pytest.approx(scores)


def test_a_blob_is_found_where_it_is():
    grid = np.indices((21, 41, 41)) * np.array(SPACING).reshape(3, 1, 1, 1)
    at = np.array([10, 18, 25])
    squares = sum((g - s * a) ** 2 for g, s, a in zip(grid, SPACING, at))
    raw = 800 + 500 * np.exp(-squares / (2 * 4.0**2))
    detector = LaplacianOfGaussian(SPACING, (4.0, 4.0, 4.0), (2, 4, 4), 20.0)
    cells = find_cells(detector, Volume(raw, "zyx", SPACING))
    assert cells.coordinates.tolist() == [at.tolist()]
    # A Gaussian of deviation s, seen by one of the same scale: 3 / 2 ** 2.5 of its height.
    assert cells.table.score[0] == pytest.approx(500 * 3 / 2**2.5, rel=0.05)


def test_log_is_scipys():
    from scipy.ndimage import gaussian_laplace

    raw = np.random.default_rng(5).random((40, 40, 40))
    cube = (1.0, 1.0, 1.0)
    mine = LaplacianOfGaussian(cube, (2.5,) * 3, (1, 1, 1), 0.0).heat(raw, Intensity(0, 1))
    theirs = -(2.5**2) * gaussian_laplace(raw, 2.5, mode="reflect")
    assert np.corrcoef(mine.ravel(), theirs.ravel())[0, 1] > 0.9999
    assert np.abs(mine - theirs).max() < 0.02 * np.abs(theirs).max()


def test_heat_that_is_no_number_is_refused(volume):
    detector = detector_of(MIXER, FLAT)
    with torch.no_grad():
        detector.nets[0].head.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        heat_of(detector, volume)


def test_bfloat16_is_near(volume):
    detector = detector_of(MIXER, FLAT)
    exact = heat_of(detector, volume)
    detector.bf16 = True
    rough = heat_of(detector, volume)
    assert 0 < np.abs(rough - exact).max() < 0.1


def test_other_volumes_are_refused(volume):
    detector = DETECTORS["mixers"]
    with pytest.raises(ModelError, match="spacing of 4 x 2 x 2 um"):
        heat_of(detector, Volume(volume.data, "zyx", (4.0, 2.0, 2.2)))
    with pytest.raises(ModelError, match="3D"):
        heat_of(detector, Volume(volume.data[0], "yx", (2.0, 2.0)))
    with pytest.raises(ModelError, match="1 channels"):
        heat_of(detector, Volume(np.stack([volume.data] * 2), "czyx", SPACING))


def test_damaged_folders_are_named(tmp_path):
    with pytest.raises(ModelError, match=r"no detector\.yaml"):
        load_detector(tmp_path)
    folder = DETECTORS["mixers"].save(tmp_path / "one")
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="weights cannot be read"):
        load_detector(folder)
    tree = yaml.safe_load((folder / "detector.yaml").read_text())
    for change in ({"kind": "pickle"}, {"format": 99}):
        (folder / "detector.yaml").write_text(yaml.safe_dump(tree | change))
        with pytest.raises(ModelError):
            load_detector(folder)
    del tree["spacing"]
    (folder / "detector.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ModelError):
        load_detector(folder)


def test_nets_without_a_bound_are_refused():
    from brodmann.nets.unet import plain_unet

    net = plain_unet(1, 1, (4, 8), ((1, 1, 1), (2, 2, 2)), deep_supervision=False)
    with pytest.raises(ModelError, match="whole block"):
        reach_of(net)
    assert reach_of(with_batch_norm(net))[1] == (2, 2, 2)
    # One part that hangs at several places stays one: each of its weights learns.
    net(torch.randn(2, 1, 8, 8, 8)).square().mean().backward()
    assert all(weight.grad is not None for weight in net.parameters())
    with pytest.raises(ModelError, match="nobody knows"):
        reach_of(torch.nn.Conv3d(1, 1, 3))
    with pytest.raises(RecipeError):
        LaplacianOfGaussian(SPACING, (2.0, 2.0), (1, 1, 1), 0.0)


def test_a_large_brain_is_measured_where_its_tissue_is():
    # Tissue amid a wide dark rim, as a brain in its chamber: no cube at a corner holds any.
    shape, middle = (320, 330, 340), tuple(slice(96, 224) for _ in range(3))
    values = np.full(shape, 100, np.uint16)
    values[middle] = np.random.default_rng(0).normal(900, 40, (128, 128, 128))
    low = np.zeros((20, 21, 22), bool)
    low[6:14, 6:14, 6:14] = True
    brain = Volume(values, "zyx", SPACING)
    found = measure_intensity(brain, TissueMask(low, (16, 16, 16), shape))
    assert found.level == pytest.approx(900, abs=3) and found.deviation == pytest.approx(40, abs=3)
    again = measure_intensity(brain, TissueMask(low, (16, 16, 16), shape))
    assert again == found
    # Pieces are drawn where the brain has too many to read them all.
    everywhere = measure_intensity(brain, TissueMask(np.ones_like(low), (16, 16, 16), shape))
    assert everywhere.level == 100
