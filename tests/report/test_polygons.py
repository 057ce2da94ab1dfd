"""GeoJSON: what QuPath reads, with areas and confidence that agree with the pixels."""

import json
import os
import uuid
from pathlib import Path

import numpy as np
import pytest
from report_views import section, tree

from brodmann.core import DataError, Label, LabelMap, OutputError, Volume
from brodmann.report import measure_areas, region_features, write_polygons


def drawn(features, shape):
    """Rasterise by PIL at four times the size, and look at the pixel centres."""
    from PIL import Image, ImageDraw

    out = np.zeros(shape, np.int64)
    for feature in features:
        geometry = feature["geometry"]
        single = geometry["type"] == "Polygon"
        polygons = [geometry["coordinates"]] if single else geometry["coordinates"]
        for outer, *holes in polygons:
            picture = Image.new("1", (4 * shape[1] + 1, 4 * shape[0] + 1))
            draw = ImageDraw.Draw(picture)
            for ring, value in [(outer, 1), *((hole, 0) for hole in holes)]:
                assert ring[0] == ring[-1], "rings are closed"
                draw.polygon([(4 * x, 4 * y) for x, y in ring], fill=value)
            inside = np.asarray(picture)[2::4, 2::4]
            out[inside] = feature["properties"]["id"]
    return out


def test_layout_is_quPaths_and_the_pixels_come_back(tmp_path):
    one = section(0)
    path = write_polygons(
        tmp_path / "a.geojson", one.prediction, tree(), name=one.name, confidence=one.confidence
    )
    collection = json.loads(path.read_text("utf-8"))
    assert collection["type"] == "FeatureCollection"
    labels, sure = one.prediction.numpy(), one.confidence.numpy()
    assert np.array_equal(drawn(collection["features"], labels.shape), labels)
    for feature in collection["features"]:
        properties = feature["properties"]
        label, mask = tree()[properties["id"]], labels == properties["id"]
        assert feature["type"] == "Feature"
        assert str(uuid.UUID(feature["id"])) == feature["id"]
        assert properties["objectType"] == "annotation"
        assert properties["classification"] == {"name": label.acronym, "color": list(label.rgb)}
        assert properties["name"] == label.name
        assert properties["area_mm2"] == pytest.approx(mask.sum() * 0.0025)
        assert properties["mean_confidence"] == pytest.approx(sure[mask].mean() / 255, abs=1e-4)
        assert properties["measurements"] == {
            "Area mm^2": properties["area_mm2"],
            "Mean confidence": properties["mean_confidence"],
        }
    assert [f["properties"]["primary"] for f in collection["features"]] == ["CH", "CH", "BS"]


def test_ids_of_features_are_the_same_every_time_and_differ_between_sections():
    labels = section(0).prediction
    ids = [[f["id"] for f in region_features(labels, tree(), name=name)] for name in "aab"]
    assert ids[0] == ids[1]
    assert not set(ids[0]) & set(ids[2])


def test_ignore_and_background_have_no_polygon_and_an_unknown_id_is_grey():
    labels = Volume(np.array([[0, 9, 77]]), "yx", (1.0, 1.0))
    (feature,) = region_features(labels, tree())
    assert feature["properties"]["classification"] == {"name": "id 77", "color": [128] * 3}
    assert feature["properties"]["mean_confidence"] is None


def test_a_volume_gets_planes():
    volume = section(0, (3, 20, 30)).prediction
    features = region_features(volume, tree())
    for z in range(3):
        plane = [f for f in features if f["geometry"]["plane"] == {"c": -1, "z": z, "t": 0}]
        assert np.array_equal(drawn(plane, (20, 30)), volume.numpy()[z])


def test_areas_agree_with_the_polygons_on_unequal_spacing():
    labels = Volume(section(1).prediction.numpy(), "yx", (20.0, 5.0))
    areas = {row["id"]: row["area_mm2"] for row in measure_areas(labels, tree())}
    features = region_features(labels, tree())
    assert areas == {f["properties"]["id"]: f["properties"]["area_mm2"] for f in features}


def test_bad_input_and_bad_place(tmp_path):
    one = section(0)
    with pytest.raises(DataError, match="without channels"):
        region_features(one.image, tree())
    with pytest.raises(DataError, match="differ in shape"):
        region_features(one.prediction, tree(), confidence=section(0, (8, 9)).confidence)
    with pytest.raises(OutputError, match="cannot write"):
        write_polygons(tmp_path / "missing" / "a.geojson", one.prediction, tree())


@pytest.mark.real
def test_atlas_ids_of_a_real_section():
    root = Path(os.environ.get("BRODMANN_DATA", Path(__file__).parents[3] / "shared/data"))
    path = root / "sections/brain_100um/labels.tif"
    if not path.exists():
        pytest.skip(f"no real data at {root}")
    import tifffile

    labels = np.ascontiguousarray(tifffile.imread(path)[:, :, 50])
    ids = [int(id_) for id_ in np.unique(labels) if id_]
    section = Volume(labels, "yx", (100.0, 100.0))
    atlas = LabelMap([Label(id_, f"structure {id_}", str(id_)) for id_ in ids])
    features = region_features(section, atlas)
    assert max(ids) > 2**16 and len(features) == len(ids) > 100
    assert np.array_equal(drawn(features, labels.shape), labels)
    total = sum(feature["properties"]["area_mm2"] for feature in features)
    assert total == pytest.approx((labels > 0).sum() * 0.01)
