"""Small pools for the tests of mixing: sections and volumes with primary regions."""

import numpy as np

from brodmann.core import Dataset, Label, LabelMap, Sample, Volume

TREE = LabelMap(
    [
        Label(1, "Cortex", "CTX"),
        Label(2, "Striatum", "STR"),
        Label(3, "Thalamus", "TH"),
        Label(11, "Layer 1", "L1", 1),
        Label(12, "Layer 2", "L2", 1),
        Label(21, "Caudate", "CP", 2),
        Label(31, "Ventral", "VP", 3),
        Label(32, "Reticular", "RT", 3),
    ]
)
PRIMARY = {11: 1, 12: 1, 21: 2, 31: 3, 32: 3}


def brain(name, shape, seed, channels=2, dtype=np.uint16, spacing=None, without=()):
    """Layers around two lumps, moved and scaled by the seed; each label has its own grey."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    centre, size = rng.uniform(-0.1, 0.1, len(shape)), rng.uniform(0.75, 0.95)
    r = np.sqrt(sum(((g - c) / size) ** 2 for g, c in zip(grid, centre)))
    labels = np.zeros(shape, np.uint16)
    labels[r < 1], labels[r < 0.85], labels[r < 0.7] = 11, 12, 0
    for ids, place in (((21, 21), -0.35), ((31, 32), 0.3)):
        d = np.sqrt(
            sum(g**2 for g in grid[:-1]) + (grid[-1] - place - rng.uniform(-0.05, 0.05)) ** 2
        )
        labels[d < 0.28], labels[d < 0.14] = ids
    for id_ in without:
        labels[labels == id_] = 0
    grey = {0: 20, 11: 60, 12: 90, 21: 120, 31: 150, 32: 180}
    image = np.zeros((channels, *shape))
    for id_, value in grey.items():
        image[:, labels == id_] = value
    image += rng.normal(0, 4, image.shape) + 10 * seed
    top = 255 if dtype == np.uint8 else 4000
    image = image.clip(0, top).astype(dtype)
    axes = "yx" if len(shape) == 2 else "zyx"
    step = spacing or (25.0,) * len(shape)
    return Sample(name, Volume(image, "c" + axes, step), Volume(labels, axes, step))


def pool(ndim=2, count=4, channels=2, dtype=np.uint16, tree=TREE, shapes=None, **options):
    shape = (40, 60) if ndim == 2 else (12, 16, 20)
    shapes = shapes or [shape] * count
    made = {f"s{i}": brain(f"s{i}", s, i, channels, dtype, **options) for i, s in enumerate(shapes)}
    return Dataset("pool", list(made), made.__getitem__, tree, splits={"train": list(made)})
