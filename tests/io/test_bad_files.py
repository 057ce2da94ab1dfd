"""A bad file gives one DataError that names it, never a decoder's own error, never fewer pages."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from brodmann.core import DataError, Volume
from brodmann.io import read_volume, write_volume

STACK = np.random.default_rng(0).integers(0, 60000, (3, 64, 80)).astype(np.uint16)


def plain(path):
    tifffile.imwrite(path, STACK, photometric="minisblack")


def compressed(path):
    tifffile.imwrite(path, STACK, photometric="minisblack", compression="zlib", metadata=None)


def chained(path):
    with tifffile.TiffWriter(path) as writer:
        for page in STACK:
            writer.write(page, contiguous=False, metadata=None)


def ours(path):
    write_volume(path, Volume(STACK, "zyx", (1, 1, 1)))


def picture(path):
    Image.fromarray(STACK[0].astype(np.uint8)).save(path)


MAKERS = [
    ("plain.tif", plain),
    ("compressed.tif", compressed),
    ("chained.tif", chained),
    ("ours.tif", ours),
    ("ours.ome.tif", ours),
    ("ours.nii", ours),
    ("ours.nii.gz", ours),
    ("ours.h5", ours),
    ("picture.png", picture),
    ("picture.jpg", picture),
]


@pytest.mark.parametrize(("name", "make"), MAKERS, ids=[name for name, _ in MAKERS])
@pytest.mark.parametrize("share", [0.0, 0.002, 0.3, 0.7, 0.97])
def test_a_file_cut_short_is_refused(tmp_path, name, make, share):
    path = tmp_path / name
    make(path)
    whole = path.read_bytes()
    assert read_volume(path, spacing="unit").numpy().shape[-2:] == (64, 80)
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=name):
        read_volume(path, spacing="unit").numpy()


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg", "a.nii", "a.nii.gz", "a.h5", "a.zarr"])
def test_something_else_under_that_name(tmp_path, name):
    path = tmp_path / name
    path.write_text("this is a letter, not a picture\n" * 40)
    with pytest.raises(DataError, match=name):
        read_volume(path, spacing="unit").numpy()


def test_missing_files_folders_and_unknown_kinds(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_volume(tmp_path / "a.tif")
    (tmp_path / "b.tif").mkdir()
    with pytest.raises(DataError, match="a folder"):
        read_volume(tmp_path / "b.tif")
    with pytest.raises(DataError, match=r"found \.czi; use .*\.tif"):
        read_volume(tmp_path / "c.czi")
    (tmp_path / "d.zarr").mkdir()
    with pytest.raises(DataError, match=r"d\.zarr"):
        read_volume(tmp_path / "d.zarr")


def test_a_zarr_chunk_with_a_flipped_bit_is_noticed(tmp_path):
    path = write_volume(tmp_path / "a.zarr", Volume(STACK, "zyx", (1, 1, 1)))
    chunk = max(
        (file for file in path.rglob("*") if file.is_file()), key=lambda f: f.stat().st_size
    )
    data = bytearray(chunk.read_bytes())
    data[len(data) // 3] ^= 1
    chunk.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"a\.zarr"):
        read_volume(path).numpy()
