"""Small annotations and folders of the layouts that other programs write."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import tifffile

from brodmann.atlas import Annotation
from brodmann.core import Label, LabelMap, Points, Volume


def random_tree(rng, count=9):
    """A tree of so many structures with large ids, in random order."""
    ids = (1 + np.arange(count) * 60_000_007 + rng.integers(0, 1000, count)).tolist()
    labels = [
        Label(id_, f"structure {i}", f"S{i}", ids[int(rng.integers(0, i))] if i else None)
        for i, id_ in enumerate(ids)
    ]
    return LabelMap([labels[i] for i in rng.permutation(count)])


def random_annotation(rng, shape=(5, 6, 7), orientation="asr", spacing=(20.0, 10.0, 10.0), **more):
    """Boxes of random structures on background."""
    tree = random_tree(rng)
    ids = np.zeros(shape, np.uint32)
    known = [label.id for label in tree]
    for _ in range(8):
        low = [int(rng.integers(0, n)) for n in shape]
        box = tuple(slice(a, a + int(rng.integers(1, 5))) for a in low)
        ids[box] = known[int(rng.integers(0, len(known)))]
    return Annotation(Volume(ids, "zyx", spacing), tree, orientation, **more)


def points_of(array):
    return Points(pd.DataFrame(np.asarray(array, float).reshape(-1, 3), columns=["z", "y", "x"]))


def voxel_of(point):
    """The voxel [i - 0.5, i + 0.5) on each axis."""
    return tuple(int(np.floor(value + 0.5)) for value in point)


def write_brainreg(
    folder, shape, fields=None, atlas=None, sides=None, orientation="psl",
    voxel_sizes=("5", "2", "2"), name="allen_mouse_25um", geometry="full",
):  # fmt: skip
    """A folder as brainreg 1.0 leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "image_paths": "raw", "brainreg_directory": "out", "atlas": name, "backend": "niftyreg",
        "orientation": orientation, "voxel_sizes": list(voxel_sizes), "brain_geometry": geometry,
    }  # fmt: skip
    (folder / "brainreg.json").write_text(json.dumps(facts))
    for axis in range(3 if fields is not None else 0):
        assert fields[axis].shape == shape
        tifffile.imwrite(
            folder / f"deformation_field_{axis}.tiff", fields[axis].astype(np.float32),
            photometric="minisblack", metadata={"axes": "ZYX"},
        )  # fmt: skip
    for file, data in (("registered_atlas", atlas), ("registered_hemispheres", sides)):
        if data is not None:
            assert data.shape == shape
            tifffile.imwrite(
                folder / f"{file}.tiff", data, photometric="minisblack", metadata={"axes": "ZYX"}
            )
    return folder
