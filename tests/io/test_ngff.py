"""OME-Zarr written by us: structure, pyramids, outputs that go on after a stop."""

import json
from collections import Counter

import numpy as np
import pytest
import zarr

from brodmann.core import OutputError, Volume
from brodmann.io import add_pyramid, open_output, read_volume, write_volume


def test_metadata_is_ome_05(tmp_path):
    path = write_volume(
        tmp_path / "brain.ome.zarr",
        Volume(np.zeros((2, 20, 600, 300), np.uint16), "czyx", (5, 2, 2), ("DAPI", "cFos")),
    )
    ome = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]
    assert ome["version"] == "0.5"
    image = ome["multiscales"][0]
    assert [axis["name"] for axis in image["axes"]] == list("czyx")
    assert {axis.get("unit") for axis in image["axes"][1:]} == {"micrometer"}
    assert [channel["label"] for channel in ome["omero"]["channels"]] == ["DAPI", "cFos"]
    scales = [part["coordinateTransformations"][0]["scale"] for part in image["datasets"]]
    # z is more than twice as coarse as y and x until they have caught up.
    assert scales == [[1, 5, 2, 2], [1, 5, 4, 4], [1, 10, 8, 8]]
    assert image["datasets"][1]["coordinateTransformations"][1]["translation"] == [0, 0, 1, 1]
    assert image["name"] == "brain"
    arrays = [zarr.open_array(str(path), path=part["path"]) for part in image["datasets"]]
    assert [array.shape[-1] for array in arrays] == [300, 150, 75]


def means(array, step):
    shape = [-(-n // f) for n, f in zip(array.shape, step)]
    out = np.zeros(shape)
    for index in np.ndindex(*shape):
        out[index] = array[tuple(slice(i * f, i * f + f) for i, f in zip(index, step))].mean()
    return out


def test_image_pyramid_is_the_mean(tmp_path):
    values = np.random.default_rng(0).integers(0, 60000, (300, 280)).astype(np.uint16)
    path = write_volume(tmp_path / "a.zarr", Volume(values, "yx", (2, 2)))
    assert np.array_equal(read_volume(path, level=1).numpy(), np.rint(means(values, (2, 2))))


def test_label_pyramid_holds_a_most_frequent_id_and_never_a_new_one(tmp_path):
    values = np.random.default_rng(0).choice([0, 3, 1000], (300, 262)).astype(np.uint16)
    path = write_volume(tmp_path / "a.zarr", Volume(values, "yx", (2, 2)), labels=True)
    coarse = read_volume(path, level=1).numpy()
    assert coarse.shape == (150, 131)
    for (y, x), id_ in np.ndenumerate(coarse):
        counts = Counter(values[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel().tolist())
        assert counts[int(id_)] == max(counts.values())


def test_output_goes_on_after_a_stop_and_refuses_another(tmp_path):
    path = tmp_path / "labels.zarr"
    first = open_output(path, (600, 530), "uint16", "yx", (25, 25))
    first[:512] = 7
    again = open_output(path, (600, 530), "uint16", "yx", (25, 25))
    again[512:] = 9
    assert add_pyramid(path, labels=True) == 3
    opened = read_volume(path, level=1)
    assert opened.spacing == (50.0, 50.0)
    assert np.array_equal(np.unique(opened.numpy()), [7, 9])
    with pytest.raises(OutputError, match="another image is in the way"):
        open_output(path, (600, 531), "uint16", "yx", (25, 25))


def test_chunks_of_background_are_written_too(tmp_path):
    path = tmp_path / "labels.zarr"
    array = open_output(path, (40, 60), "uint16", "yx", (25, 25), chunks=(20, 20))
    array[:20] = 0
    assert len([file for file in (path / "0" / "c").rglob("*") if file.is_file()]) == 3
    again = open_output(path, (40, 60), "uint16", "yx", (25, 25))
    again[20:] = 0
    assert len([file for file in (path / "0" / "c").rglob("*") if file.is_file()]) == 6


def test_shards(tmp_path):
    path = tmp_path / "a.zarr"
    array = open_output(path, (40, 60), "uint16", "yx", (1, 1), chunks=(10, 10), shards=(20, 30))
    array[:] = np.arange(2400, dtype=np.uint16).reshape(40, 60)
    assert len([file for file in (path / "0" / "c").rglob("*") if file.is_file()]) == 4
    assert np.array_equal(read_volume(path).numpy().ravel(), np.arange(2400))
