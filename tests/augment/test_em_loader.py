"""EM in a loader and on real tissue."""

import numpy as np
import pytest
import tifffile

from brodmann.augment.em import EM
from brodmann.core import keyed_rng
from brodmann.preprocess import Statistics
from brodmann.problems.semantic.cases import Case
from brodmann.problems.semantic.patches import Batches

OFF = {name: 0.0 for name in EM().options() if name.endswith("_p")}
SECTIONS, CUBES = (0.04, 0.004, 0.004), (0.008, 0.008, 0.008)


def only(*names, **options):
    return EM(**OFF | {f"{name}_p": 1.0 for name in names} | options)


@pytest.mark.parametrize(("depth", "spacing"), [(1, SECTIONS), (6, SECTIONS), (24, CUBES)])
def test_a_loader_gives_whole_patches_and_keeps_ids_with_their_tissue(depth, spacing):
    """The image holds the parity of its ids; nothing is ignored well inside the volume."""
    rng = np.random.default_rng(0)
    ids = np.kron(rng.integers(1, 5000, (8, 16, 16)), np.ones((8, 16, 16), int)).astype(np.int32)
    arrays = {"image": (ids % 2)[None].astype(np.float32), "labels": ids}
    case = Case("a", (1, *ids.shape), Statistics((0.0,), (1.0,)), 1, (), (0,), None, arrays)
    method = only("slip", "translation", "rotation", "scale", "elastic", "transpose",
                  flip_p=0.5, isotropic_sections=1.0, misalignment_px=(1.0, 4.0))  # fmt: skip
    shape = (depth, 32, 32) if spacing == SECTIONS else (24, 24, 24)
    batches = Batches([case], shape, 2, method, 0, foreground=0, spacing=spacing)
    for step in range(5):
        batch = batches[step]
        image, labels = batch["image"].numpy()[:, 0], batch["labels"].numpy()
        assert image.shape == labels.shape == (2, *shape)
        known = labels != -1
        away = known & (np.abs(image - 0.5) > 0.45)
        assert away.mean() > 0.3
        np.testing.assert_array_equal(labels[away] % 2, image[away] > 0.5)
        again = batches[step]
        assert again["image"].numpy().tobytes() == batch["image"].numpy().tobytes()


@pytest.mark.real
def test_real_membranes_stay_on_borders_of_neurons(real_data):
    """FIB-25: in every augmented patch borders between ids are darker than the rest."""
    image = tifffile.imread(real_data / "em/fib25/image.tif").astype(np.float32)
    image = (image - image.mean()) / image.std()
    ids = tifffile.imread(real_data / "em/fib25/neurons.tif")
    shape, method = (24, 96, 96), EM(missing_p=0.0, cutout_p=0.0, blur_p=0.0)
    for item in range(12):
        params = method.draw_patch(keyed_rng(9, item), shape, 1, CUBES)
        window = method.source_shape(params, shape)
        part = tuple(slice((n - w) // 2, (n - w) // 2 + w) for n, w in zip(ids.shape, window))
        got, labels = method.apply_patch(params, image[part][None], ids[part], shape)
        assert got.shape == (1, *shape) and labels.dtype == np.uint32
        assert set(np.unique(labels)) <= set(np.unique(ids[part]))
        border = np.zeros(shape, bool)
        border[:, :, 1:] = labels[:, :, 1:] != labels[:, :, :-1]
        assert got[0][border].mean() < got[0][~border].mean() - 0.3
