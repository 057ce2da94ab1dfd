"""Pictures: sizes, colours and downsampling against plain loops."""

import base64
import io

import numpy as np
import pytest
from report_views import section, tree

from brodmann.core import Label, LabelMap, Volume
from brodmann.report import MappedSection, figures
from brodmann.report.figures import color_labels, composite, labels_uri, planes_of
from brodmann.report.panels import chosen, letters_of, region_paths, scale_bar


def opened(uri):
    from PIL import Image

    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def made(image, labels, axes="yx", spacing=(10.0, 10.0), channels=(), truth=None):
    return MappedSection(
        "s",
        "m",
        Volume(image, "c" + axes, spacing, channels),
        Volume(labels, axes, spacing),
        truth if truth is None else Volume(truth, axes, spacing),
    )


@pytest.mark.parametrize("strip", [1, 1 << 23])
@pytest.mark.parametrize("shape", [(50, 70), (47, 101)])
def test_downsampling_against_a_loop(shape, strip, monkeypatch):
    monkeypatch.setattr(figures, "STRIP_VOXELS", strip)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (3, *shape), np.uint8)
    labels = rng.integers(0, 4, shape)
    (plane,) = planes_of(made(image, labels, channels=("Red", "Green", "Blue")), 20)
    step = -(-max(shape) // 20)
    rows, columns = -(-shape[0] // step), -(-shape[1] // step)
    assert plane.prediction.shape == (rows, columns)
    assert plane.pixel_um == (10.0 * step, 10.0 * step)
    for y in range(rows):
        for x in range(columns):
            block = np.s_[y * step : (y + 1) * step, x * step : (x + 1) * step]
            mean = image[(slice(None), *block)].mean(axis=(1, 2))
            assert np.abs(plane.image[y, x] - mean).max() <= 0.5001
            centre = [min(i * step + step // 2, n - 1) for i, n in zip((y, x), shape)]
            assert plane.prediction[y, x] == labels[tuple(centre)]


def test_middle_slices_of_a_volume():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (6, 8, 10))
    planes = planes_of(made(rng.random((1, 6, 8, 10)), labels, "zyx", (30.0, 20.0, 10.0)))
    assert [p.caption for p in planes] == ["z = 3 of 6", "y = 4 of 8", "x = 5 of 10"]
    for plane, middle in zip(planes, (labels[3], labels[:, 4], labels[:, :, 5])):
        assert np.array_equal(plane.prediction, middle)
        assert plane.image.shape == (*middle.shape, 3)
    assert [p.pixel_um for p in planes] == [(20.0, 10.0), (30.0, 10.0), (30.0, 20.0)]


def test_slices_of_a_sparsely_annotated_volume_are_annotated():
    labels = np.zeros((6, 8, 10), np.uint8)
    truth = np.full(labels.shape, 255, np.uint8)
    truth[1], truth[2, :2] = 1, 1
    section = made(labels[None].astype(float), labels, "zyx", (30, 20, 10), truth=truth)
    planes = planes_of(section, ignore=255)
    assert [p.caption for p in planes] == ["z = 1 of 6", "y = 4 of 8", "x = 5 of 10"]
    assert (planes[0].truth == 1).all()
    assert planes_of(section)[0].caption == "z = 3 of 6"


def test_composites():
    ramp = np.linspace(0, 1, 100).reshape(1, 10, 10)
    grey = composite(ramp)
    assert (grey[..., 0] == grey[..., 2]).all() and grey.max() == 255 and grey.min() == 0
    two = composite(np.concatenate([ramp, 1 - ramp]))
    assert two[0, 0].tolist() == [0, 255, 0] and two[-1, -1].tolist() == [255, 0, 255]
    odd = composite(np.array([[[np.nan, np.inf], [2.0, 3.0]]]))
    assert odd[0].max() == 0 and odd[1, 1].tolist() == [255] * 3
    assert composite(np.full((1, 2, 2), 7)).max() == 0
    brown = np.array([[[200]], [[150]], [[90]]], np.uint8)
    assert composite(brown, ("red", "green", "blue"))[0, 0].tolist() == [200, 150, 90]


@pytest.mark.parametrize("count", [3, 600])
def test_label_pictures_have_the_label_maps_colours(count):
    labels = np.arange(count).reshape(1, -1)
    many = LabelMap(
        [Label(i, f"r{i}", f"r{i}", None, f"{i * 7919 % 2**24:06X}") for i in range(1, count)]
    )
    picture = np.asarray(opened(labels_uri(labels, many)).convert("RGB"))
    assert picture[0].tolist() == [[0, 0, 0], *(list(label.rgb) for label in many)]
    indices, palette = color_labels(labels, many)
    assert np.array_equal(palette[indices], picture)


def test_differences_are_clear_where_right_and_tinted_where_wrong():
    one = section(0)
    kinds = figures.differences(one.prediction.numpy(), one.truth.numpy(), 9)
    picture = np.asarray(opened(figures.differences_uri(kinds)).convert("RGBA"))
    colors = np.array([color for _, color in figures.DIFFERENCES], np.uint8)
    assert set(np.unique(kinds)) == {0, 1, 2, 3, 4}
    assert np.array_equal(picture, colors[kinds])


def test_paths_close_over_the_region_and_letters_stand_inside_it():
    labels = np.zeros((40, 60), int)
    labels[5:35, 4:30] = 1
    labels[5:35, 30:56] = 3
    labels[0, 0] = 9
    (first, second) = region_paths(labels, tree())
    assert first.path == "M4 5h26v30h-26z" and first.color == "#70FF71"
    assert (second.id, second.acronym) == (3, "TH")
    for letter in letters_of(labels, tree(), (1.0, 1.0), 4.0):
        assert tree()[labels[int(letter.y), int(letter.x)]].acronym == letter.text
    assert len(letters_of(labels, tree(), (1.0, 1.0), 4.0)) == 2
    assert letters_of(labels, tree(), (1.0, 1.0), 40.0) == []
    unknown = labels.astype(np.uint8)
    unknown[0] = 255
    assert len(letters_of(unknown, LabelMap(list(tree()), ignore=255), (1.0, 1.0), 4.0)) == 2


def test_scale_bars_are_round_and_fit():
    for width in np.geomspace(3, 300_000, 50):
        length, text = scale_bar(width)
        assert 0.08 * width <= length <= 0.2001 * width
        value, unit = text.split()
        assert float(value) * {"mm": 1000, "µm": 1}[unit] == pytest.approx(length)


def test_sections_shown_span_best_to_worst():
    names = [f"s{i}" for i in range(30)]
    dice = {name: ((7 * i) % 30) / 30 for i, name in enumerate(names)}
    shown = chosen(names, dice)
    assert len(shown) == len(set(shown)) == 12
    assert dice[shown[0]] == max(dice.values()) and dice[shown[-1]] == min(dice.values())
    assert chosen(names[:3], {}) == names[:3]
