"""Hard-sample mining against a loop over pairs and regions."""

import numpy as np
import pytest
from mixtures import TREE, pool

from brodmann.augment import make_augmentation
from brodmann.augment.prmix.mining import (
    draw_partners,
    easy_and_hard,
    mask_overlap,
    pair_scores,
    thumbnails,
)
from brodmann.augment.regions import Regions
from brodmann.core import keyed_rng


def test_scores_equal_a_loop_over_pairs_and_regions():
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 5, (7, 23, 31)).astype(np.uint8)
    maps[2][maps[2] == 3] = 0  # A region that one map lacks.
    scores = mask_overlap(maps, 4)
    for i in range(7):
        for j in range(7):
            dice = [
                2 * ((maps[i] == r) & (maps[j] == r)).sum()
                / ((maps[i] == r).sum() + (maps[j] == r).sum())
                for r in range(1, 5)
                if (maps[i] == r).any() and (maps[j] == r).any()
            ]  # fmt: skip
            assert scores[i, j] == pytest.approx(np.mean(dice))
    nothing = np.zeros((2, 4, 4), np.uint8)
    assert mask_overlap(nothing, 3).tolist() == [[0, 0], [0, 0]]


def test_chunks_do_not_matter(monkeypatch):
    maps = np.random.default_rng(1).integers(0, 4, (5, 40, 50)).astype(np.uint8)
    whole = mask_overlap(maps, 3)
    monkeypatch.setattr("brodmann.augment.prmix.mining.CHUNK", 37)
    np.testing.assert_allclose(mask_overlap(maps, 3), whole)


def test_thumbnails_keep_sizes_apart_and_centres_together():
    data = pool(2, shapes=[(400, 600), (200, 300)])
    big, small = thumbnails(data, Regions(TREE))
    assert big.shape == (342, 512)
    assert 0.15 < (small > 0).sum() / (big > 0).sum() < 0.35
    rows = [np.flatnonzero((m > 0).any(1)) for m in (big, small)]
    centres = [(r[0] + r[-1]) / 2 for r in rows]
    assert abs(centres[0] - centres[1]) < 30


def test_ranks_are_kept_by_content_and_found_again(tmp_path, monkeypatch):
    data = pool(2, count=5)
    first = pair_scores(data, tmp_path)
    (file,) = tmp_path.glob("overlap-*.npy")
    monkeypatch.setattr("brodmann.augment.prmix.mining.mask_overlap", None)
    assert (pair_scores(data, tmp_path) == first).all()
    monkeypatch.undo()
    file.write_bytes(b"torn")
    assert (pair_scores(data, tmp_path) == first).all()
    pair_scores(pool(2, count=4), tmp_path)
    assert len(list(tmp_path.glob("overlap-*.npy"))) == 2


def test_hard_and_easy_are_drawn_as_asked():
    rng = np.random.default_rng(2)
    scores = rng.random((21, 21))
    scores = (scores + scores.T) / 2
    easy, hard = easy_and_hard(scores, 3)
    assert len(easy) == 4 and len(hard) == 16 and 3 not in easy + hard
    assert min(scores[3][easy]) >= max(scores[3][hard])
    for fraction in (0.0, 0.2, 0.8, 1.0):
        picks = [
            draw_partners(keyed_rng(0, "hsm", k), scores, 3, 1, fraction)[0] for k in range(600)
        ]
        share = np.mean([p in hard for p in picks])
        assert share == pytest.approx(fraction, abs=0.06)
    assert sorted(draw_partners(keyed_rng(0), scores, 3, 30, 0.8)) == sorted(easy + hard)


def test_prmix_draws_by_rank(tmp_path):
    data = pool(2, count=7, shapes=[(40, 60)] * 7)
    scores = pair_scores(data)
    easy, _ = easy_and_hard(scores, 0)
    method = make_augmentation("prmix", {"hard_fraction": 0.0, "sources": 2})
    fitted = method.fitted(data, tmp_path)
    for k in range(6):
        params = fitted.draw(keyed_rng(k, "draw"), data["s0"], data)
        assert data.names.index(params["sources"][0]) in easy
        assert params == method.draw(keyed_rng(k, "draw"), data["s0"], data)
    assert fitted == method and fitted.options() == method.options()
