"""The readers on the real volumes."""

import numpy as np
import pytest
import tifffile

from brodmann.datasets.em.fib25 import fib25
from brodmann.datasets.em.isbi2012 import isbi2012
from brodmann.datasets.em.layouts import label_order
from brodmann.datasets.em.vnc import vnc
from brodmann.datasets.leaks import leaks

pytestmark = pytest.mark.real


def test_fib25(real_data):
    raw = {
        name: tifffile.imread(real_data / "em" / "fib25" / f"{name}.tif")
        for name in ("image", "neurons")
    }
    data = fib25(real_data)
    for split, window in {"train": (0, 103), "tune": (107, 126), "test": (130, 149)}.items():
        sample = data[f"fib25-{split}"]
        part = slice(window[0], window[1] + 1)
        assert np.array_equal(sample.image.numpy(), raw["image"][part])
        assert np.array_equal(sample.labels.numpy(), raw["neurons"][part])
        assert sample.image.spacing == (0.01, 0.01, 0.01) and sample.labels.dtype == np.uint32
        assert sample.subject == "fly"
        assert (sample.labels.numpy() > 0).mean() > 0.999
    small = fib25(real_data, ratio=4)["fib25-train"].image.shape
    assert np.prod(small) / (104 * 250 * 250) == pytest.approx(0.04, rel=0.02)
    assert label_order(raw["image"], raw["neurons"]) == "same"
    assert label_order(raw["image"], raw["neurons"][::-1]) == "reversed"


def test_isbi2012(real_data):
    from skimage.measure import label

    folder = real_data / "em" / "isbi2012"
    interior = tifffile.imread(folder / "interior.tif") > 0
    image = tifffile.imread(folder / "image.tif")
    assert image[~interior].mean() < image[interior].mean() - 40
    data = isbi2012(real_data)
    seen: set[int] = set()
    for split, (a, b) in {"train": (0, 12), "tune": (12, 15), "test": (16, 20)}.items():
        labels = data[f"isbi2012-{split}"].labels.numpy()
        assert labels.shape == (b - a, 512, 512)
        for ids, mask in zip(labels, interior[a:b]):
            reference = label(mask, connectivity=1)
            pairs = np.unique(np.stack([ids[mask], reference[mask]]), axis=1)
            # One to one.
            assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
            here = set(np.unique(ids).tolist()) - {0}
            assert not here & seen
            seen |= here


def test_connectivity_hardly_matters_in_isbi2012(real_data):
    from skimage.measure import label

    interior = tifffile.imread(real_data / "em" / "isbi2012" / "interior.tif") > 0
    four, eight = (sum(label(s, connectivity=n).max() for s in interior) for n in (1, 2))
    assert (four, four - eight) == (2350, 10)


def test_vnc(real_data):
    data = vnc(real_data)
    membrane, mitochondrion, other = [], [], []
    for name in ("vnc-00", "vnc-08", "vnc-12"):
        sample = data[name]
        image, labels = sample.image.numpy(), sample.labels.numpy()
        assert image.shape == (1024, 1024) and np.unique(labels).tolist() == [0, 1, 2]
        for group, value in ((membrane, 1), (mitochondrion, 2), (other, 0)):
            group.append(image[labels == value].mean())
    assert max(membrane) < min(mitochondrion) < min(other)
    assert not {"vnc-09"} & set(data.names)
    found = [finding.what for finding in leaks(data)]
    assert not [what for what in found if "nearly the same" in what]


def test_the_membrane_wins_as_in_the_sets_own_map(real_data):
    folder = real_data / "em" / "vnc"
    classes, membranes, mitochondria = (
        tifffile.imread(folder / f"{name}.tif") for name in ("labels", "membranes", "mitochondria")
    )
    both = (membranes > 0) & (mitochondria > 0)
    assert both.any() and (classes[both] != 191).all()  # 191 is mitochondrion there
    assert (vnc(real_data)["vnc-00"].labels.numpy()[both[0]] == 1).all()
