"""Pictures of expansions: what is on them, where, and that it is there to be seen."""

import json

import numpy as np
import pytest
from PIL import Image

from brodmann.augment.base import make_augmentation
from brodmann.augment.expand import expand
from brodmann.core import DataError, Label, LabelMap, OutputError, Volume
from brodmann.datasets.phantoms.sections import phantom_sections
from brodmann.report.compare import zoom_of
from brodmann.report.contact import Shown, choose, pasted, save_contact
from brodmann.report.disagreements import disagreements, save_disagreements
from brodmann.report.expansion import Expansion, words_of
from brodmann.report.placement import placed_region, save_placement
from brodmann.report.sheet import SOURCES, Cell, Sheet, composites, viewed

TREE = LabelMap(
    [Label(1, "One", "A", None, "FF0000"), Label(2, "Two", "B", None, "00FF00")], ignore=9
)


@pytest.fixture(scope="module")
def source():
    return phantom_sections(5, 1, (64, 128), 2, subregions=8, primary=3)


@pytest.fixture(scope="module")
def prmix(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("x") / "prmix"
    return Expansion.read(expand(source, make_augmentation("prmix"), out, factor=3, seed=4))


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


class TestContactSheet:
    def test_has_the_stated_size_and_something_in_every_cell(self, prmix, tmp_path):
        told = save_contact(prmix, tmp_path / "contact.png", rows=2, copies=2)
        picture = pixels(told["path"])
        assert picture.shape[:2] == (told["height"], told["width"])
        shown = [name for target, copies in told["samples"].items() for name in (target, *copies)]
        assert sorted(told["cells"]) == sorted(shown) and len(shown) == 6
        areas = []
        for x, y, width, height in told["cells"].values():
            cell = picture[y : y + height, x : x + width]
            assert cell.var(axis=(0, 1)).min() > 0
            assert width == pytest.approx(2 * height, abs=2)
            areas.append((x, y, x + width, y + height))
        for i, a in enumerate(areas):
            for b in areas[:i]:
                assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]

    def test_shows_the_images_themselves(self, prmix, tmp_path):
        told = save_contact(prmix, tmp_path / "contact.png", rows=1, copies=1)
        (target, _), *_ = told["samples"].items()
        x, y, width, height = told["cells"][target]
        grey = pixels(told["path"])[y : y + height, x : x + width].mean(-1)
        raw = prmix.image(target).numpy().mean(0)
        places = [np.minimum(((np.arange(n) + 0.5) * m / n).astype(int), m - 1)
                  for n, m in zip(grey.shape, raw.shape)]  # fmt: skip
        likeness = np.corrcoef(grey.ravel(), raw[np.ix_(*places)].ravel())[0, 1]
        assert likeness > 0.7

    def test_is_drawn_by_seed_and_spread(self, prmix):
        assert choose(prmix, 3, 2) == choose(prmix, 3, 2)
        every = choose(prmix, 99, 99)
        assert list(every) == prmix.request["targets"]
        assert sum(map(len, every.values())) == len(prmix.made) == 12
        picked = choose(prmix, 2, 1)
        places = [prmix.request["targets"].index(target) for target in picked]
        assert places[0] < 2 <= places[1]

    def test_other_formats_and_refusals(self, prmix, tmp_path):
        save_contact(prmix, tmp_path / "a.svg", rows=1, copies=1)
        assert "<svg" in (tmp_path / "a.svg").read_text()[:2000]
        with pytest.raises(OutputError, match="unknown kind of picture"):
            save_contact(prmix, tmp_path / "a.doc")
        with pytest.raises(DataError, match="cannot read the expansion"):
            Expansion.read(tmp_path)


class TestPasted:
    def test_a_box_is_where_the_parameters_say(self):
        raw = np.zeros((1, 40, 60))
        shown = Shown("a", raw, None)
        record = {"params": {"shape": [80, 120], "sources": ["b"], "box": [[20, 40], [60, 100]]}}
        ((mask, number),) = pasted(record, shown, shown, None)
        assert number == 0
        expected = np.zeros((40, 60), bool)
        expected[10:20, 30:50] = True
        np.testing.assert_array_equal(mask, expected)

    def test_regions_are_told_apart_by_source(self):
        before = np.zeros((1, 40, 60))
        after, ids = before.copy(), np.zeros((40, 60), int)
        after[0, 5:15, 5:25], ids[5:15, 5:25] = 3, 1
        after[0, 20:35, 30:50], ids[20:35, 30:50] = 4, 2
        regions = [{"id": 2, "source": "x"}, {"id": 1, "source": "y"}]
        record = {"params": {"sources": ["x", "y"], "regions": regions}}
        found = pasted(record, Shown("t", before, ids), Shown("m", after, ids), TREE)
        assert [number for _, number in found] == [0, 1]
        np.testing.assert_array_equal(found[0][0], ids == 2)
        np.testing.assert_array_equal(found[1][0], ids == 1)

    def test_a_whole_frame_has_no_outline(self):
        shown = Shown("a", np.ones((1, 8, 8)), None)
        assert pasted({"params": {"sources": ["b"], "weight": 0.5}}, shown, shown, TREE) == []

    def test_of_prmix_holds_every_pixel_that_a_source_gave(self, prmix, source):
        """On the copies as they are, against what `apply` pasted."""
        for name in list(prmix.made)[:3]:
            record = prmix.records[name]
            target = record["target"]
            views = [
                Shown(n, viewed(prmix.image(n), 999), viewed(prmix.labels(n), 999)[0])
                for n in (target, name)
            ]
            masks = pasted(record, *views, prmix.label_map)
            union = np.any([mask for mask, _ in masks], axis=0)
            changed = np.any(views[0].raw != views[1].raw, axis=0)
            annotated = ~np.isin(views[1].labels, (0, prmix.label_map.ignore))
            missed = changed & annotated & ~union
            assert missed.sum() < 0.02 * changed.sum()

    def test_words(self):
        params = {
            "sources": ["x", "y"],
            "regions": [{"id": 2, "source": "y"}, {"id": 1, "source": "x"}],
        }
        assert words_of({"params": params}, TREE) == [("x", "A"), ("y", "B")]
        box = {"sources": ["x"], "box": [[0, 5], [0, 10]], "shape": [10, 10]}
        assert words_of({"params": box}, None) == [("x", "a box, 50 % of the frame")]
        assert words_of({"params": {}}, None) == []


def test_placement_counts_what_the_draw_counted(prmix, source, tmp_path):
    """Rebuilt from pixels, the overlap of every region is the one in the provenance."""
    checked = 0
    for name, record in list(prmix.made.items())[:4]:
        for region in record["params"]["regions"]:
            acronym = source.label_map[region["id"]].acronym
            told = placed_region(record, source, acronym).told
            assert told["overlap_before"] == region["overlap_before"], name
            assert told["overlap_after"] == region["overlap_after"]
            assert told["area"] == region["area"]
            checked += 1
    assert checked >= 6
    told = save_placement(record, source, tmp_path / "p.png")
    gains = {r["id"]: r["overlap_before"] - r["overlap_after"] for r in record["params"]["regions"]}
    assert told["region"] == source.label_map[max(gains, key=gains.get)].acronym
    assert pixels(tmp_path / "p.png").std() > 20
    with pytest.raises(DataError, match="was not pasted"):
        save_placement(record, source, tmp_path / "p.png", region="XX")
    with pytest.raises(DataError, match="made by prmix"):
        save_placement({"method": "mixup", "params": {}}, source, tmp_path / "p.png")


class TestDisagreements:
    @pytest.fixture
    def maps(self):
        rng = np.random.default_rng(0)
        truth = np.ones((120, 200), np.uint8)
        truth[60:] = 2
        speckle = [np.where(rng.random(truth.shape) < 0.01, 3 - truth, truth) for _ in range(3)]
        return truth, dict(zip("abc", speckle))

    def test_boxes_are_where_a_difference_was_planted(self, maps):
        truth, predictions = maps
        predictions["b"][80:95, 150:170] = 0
        predictions["c"][10:20, 30:40] = 0
        first, second, third = disagreements(truth, predictions, size=(20, 26))
        assert first.y0 <= 80 and first.y1 >= 95 and first.x0 <= 150 and first.x1 >= 170
        assert second.y0 <= 10 and second.y1 >= 20 and second.x0 <= 30 and second.x1 >= 40
        assert first.score > second.score > third.score > 0
        for a, b in ((first, second), (first, third), (second, third)):
            assert a.y1 <= b.y0 or b.y1 <= a.y0 or a.x1 <= b.x0 or b.x1 <= a.x0

    def test_score_is_the_share_of_pairs_that_differ(self, maps):
        truth, predictions = maps
        (box,) = disagreements(truth, predictions, count=1, size=(16, 16))
        one, two, three = (p[box.window] for p in predictions.values())
        pairs = [(one != two).mean(), (one != three).mean(), (two != three).mean()]
        assert box.score == pytest.approx(np.mean(pairs))

    def test_ignored_pixels_do_not_count(self, maps):
        truth, _ = maps
        clean = {name: truth.copy() for name in "ab"}
        clean["a"][5:15, 5:15] = 0
        assert len(disagreements(truth, clean, count=1)) == 1
        truth[5:15, 5:15] = 9
        assert disagreements(truth, clean, ignore=9) == []

    def test_one_method_is_held_against_the_truth(self, maps):
        truth, _ = maps
        wrong = truth.copy()
        wrong[100:110, 100:110] = 0
        (box,) = disagreements(truth, {"a": wrong}, count=1, size=(10, 10))
        assert (box.y0, box.x0, box.score) == (100, 100, 1.0)
        for truth_, given in ((None, {"a": wrong}), (truth, {"a": wrong[:-1]})):
            with pytest.raises(DataError):
                disagreements(truth_, given)

    def test_the_picture_has_boxes_and_scores(self, maps, tmp_path):
        truth, predictions = maps
        predictions["b"][80:95, 150:170] = 0
        grid = Volume(truth * 100.0, "yx", (10.0, 10.0))
        volumes = {name: grid.like(one) for name, one in predictions.items()}
        told = save_disagreements(tmp_path / "d.png", grid, grid.like(truth), volumes, TREE)
        picture = pixels(told["path"])
        assert picture.shape[:2] == (told["height"], told["width"])
        first = told["boxes"][0]
        window = tuple(slice(*first[axis]) for axis in "yx")
        for name, one in predictions.items():
            right = (one == truth)[window].mean()
            assert first["right"][name] == pytest.approx(right)
        yellow = np.array([255, 210, 63])
        assert (np.abs(picture - yellow).max(-1) < 12).sum() > 300
        with pytest.raises(DataError, match="agree everywhere"):
            save_disagreements(
                tmp_path / "d.png", grid, None, {n: volumes["a"] for n in "ab"}, TREE
            )
        json.dumps(told)


class TestSheet:
    def test_words_are_cut_to_their_width(self, tmp_path):
        sheet = Sheet(300, 100)
        end = sheet.text(10, 20, "a very long name of a section that goes on", 14, width=120)
        assert 90 < end <= 130
        assert sheet.axes.texts[-1].get_text().endswith("…")
        sheet.text(10, 60, "$brain_{0}$ & <b>", 14)
        assert pixels(sheet.save(tmp_path / "s.png")).shape == (100, 300, 3)

    def test_an_outline_lies_on_the_mask_border(self, tmp_path):
        sheet, mask = Sheet(200, 100), np.zeros((10, 20), bool)
        mask[2:8, 5:15] = True
        sheet.picture(np.zeros((10, 20, 3), np.uint8), Cell(0, 0, 200, 100))
        sheet.strong(mask, Cell(0, 0, 200, 100), SOURCES[0], 2.0)
        picture = pixels(sheet.save(tmp_path / "s.png"))
        rows, cols = np.nonzero(np.abs(picture - (255, 210, 63)).max(-1) < 40)
        assert abs(rows.min() - 20) <= 1 and abs(rows.max() - 79) <= 1
        assert abs(cols.min() - 50) <= 1 and abs(cols.max() - 149) <= 1

    def test_views_are_stretched_alike(self):
        dark, bright = composites([np.full((1, 4, 4), 1.0), np.full((1, 2, 8), 3.0)])
        assert dark.shape == (4, 4, 3) and bright.shape == (2, 8, 3)
        assert dark.max() == 0 and bright.min() == 255


def test_zoom_frames_the_largest_piece():
    mask = np.zeros((100, 200), bool)
    mask[10:20, 150:180] = True
    mask[80:83, 10:13] = True
    top, low, left, right = zoom_of([(mask, 0)])
    assert top <= 0.1 and low >= 0.2 and left <= 0.75 and right >= 0.9
    assert low - top == pytest.approx(right - left)
    assert min(top, left) >= 0 and max(low, right) <= 1
