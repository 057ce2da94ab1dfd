"""Targets, loss, batches and the choice of settings, each beside its plain definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from brodmann.core import DataError, Points, RecipeError, Sample, Volume
from brodmann.metrics.points import score_points
from brodmann.postprocess.maxima import find_maxima
from brodmann.problems.base import PROBLEMS
from brodmann.problems.cells import Contrast, Intensity, measure_intensity
from brodmann.problems.cells.batches import CellBatches, CellCase, Target, Turns, overlaid
from brodmann.problems.cells.box_filter import box_mean
from brodmann.problems.cells.loss import focal_loss
from brodmann.problems.cells.targets import ball_target, gaussian_target
from brodmann.problems.cells.tuning import choose, counts_by_threshold

SPACING = (5.0, 2.0, 1.0)
SHAPE = (7, 12, 15)


def squared_um(points, shape, spacing):
    grid = np.indices(shape).reshape(len(shape), -1).T
    apart = (grid[:, None] - np.asarray(points)[None]) * np.asarray(spacing)
    return (apart**2).sum(2)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(1.0, 9.0))
def test_targets_are_their_definition(seed, n, size):
    rng = np.random.default_rng(seed)
    points = rng.random((n, 3)) * np.subtract(SHAPE, 1)
    near = squared_um(points, SHAPE, SPACING).min(1).reshape(SHAPE)
    centres = tuple(np.rint(points).astype(int).T)
    ball = near <= size**2
    ball[centres] = True
    assert np.array_equal(ball_target(points, SHAPE, size, SPACING), ball)
    heat = np.exp(-near / (2 * size**2))
    heat[centres] = 1
    mine = gaussian_target(points, SHAPE, size, SPACING)
    # It ends after four deviations, at 0.0003.
    assert np.abs(mine - heat).max() < 4e-4


def test_no_points_and_no_size():
    assert not ball_target(np.zeros((0, 3)), SHAPE, 3.0, SPACING).any()
    with pytest.raises(RecipeError, match="above 0 um"):
        gaussian_target(np.zeros((1, 3)), SHAPE, 0.0, SPACING)


def test_focal_loss_is_its_definition():
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 3, 4, 5)
    hard = (torch.rand_like(logits) > 0.7).float()
    p = logits.sigmoid()
    right = torch.where(hard > 0, p, 1 - p)
    plain = (-((1 - right) ** 2) * right.log()).sum() / hard.sum()
    assert focal_loss(logits, hard) == pytest.approx(float(plain), rel=1e-5)
    entropy = F.binary_cross_entropy_with_logits(logits, hard, reduction="sum") / hard.sum()
    assert focal_loss(logits, hard, 0.0) == pytest.approx(float(entropy), rel=1e-5)
    # Least where the probability is the soft target.
    soft = torch.full((1,), 0.3)
    at = torch.tensor([0.3]).logit().requires_grad_()
    focal_loss(at, soft).backward()
    assert abs(float(at.grad)) < 1e-6
    assert focal_loss(at, soft) < focal_loss(at + 0.3, soft)
    known = torch.zeros_like(hard, dtype=torch.bool)
    assert focal_loss(logits, hard, known=known) == 0


def test_box_mean_is_the_mean_of_the_box():
    values = np.random.default_rng(0).random((6, 9, 11)).astype(np.float32)
    padded = np.pad(values, [(1, 1), (2, 2), (0, 0)], mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 5, 1))
    assert np.allclose(box_mean(values, (3, 5, 1)), windows.mean((3, 4, 5)), atol=1e-6)


def test_scales_of_contrast():
    rng = np.random.default_rng(2)
    raw = rng.normal(1000, 50, (1, 9, 21, 21))
    intensity = Intensity(1000.0, 40.0)
    box = (15.0, 10.0, 5.0)
    ground = box_mean(raw[0].astype(np.float32), (3, 5, 5))[None]
    for scale, unit in {
        "fixed": 2.0,
        "volume": 2.0 * 40,
        "root": 2.0 * np.sqrt(ground),
        "background": 2.0 * ground,
    }.items():
        look = Contrast(box, scale, 2.0, compress=False)
        assert np.allclose(look.apply(raw, SPACING, intensity), (raw - ground) / unit, atol=1e-3)
        pressed = look.with_(compress=True).apply(raw, SPACING, intensity)
        assert np.allclose(pressed, np.arcsinh((raw - ground) / unit), atol=1e-3)
        assert look.exact
    patch = Contrast((), "patch", 1.0, compress=False)
    made = patch.apply(raw, SPACING, intensity)
    assert abs(made.mean()) < 1e-4 and made.std() == pytest.approx(1, abs=1e-4)
    assert not patch.exact
    whole = Contrast((), "volume", 1.0, compress=False).apply(raw, SPACING, intensity)
    assert np.allclose(whole, (raw - 1000) / 40, atol=1e-3)
    assert Contrast(box).halo(SPACING) == (1, 2, 2)


def test_bad_contrasts_are_refused():
    for options in (
        {"scale": "fixd"},
        {"scale": "root"},
        {"unit": 0.0},
        {"background_um": (-1.0, 2.0, 2.0)},
        {"floor": float("nan")},
    ):
        with pytest.raises(RecipeError):
            Contrast(**options)
    with pytest.raises(RecipeError, match="3 sides"):
        Contrast((5.0, 5.0)).halo(SPACING)


def test_intensity_is_of_the_tissue():
    """Neither empty space, nor shading, nor cells change the texture that is measured."""
    rng = np.random.default_rng(4)
    noise = rng.normal(0, 30, (40, 80, 80))
    flat = measure_intensity(Volume(1000 + noise, "zyx", (4.0, 2.0, 2.0)))
    assert flat.level == pytest.approx(1000, rel=0.01) and flat.deviation == pytest.approx(
        30, rel=0.03
    )
    hard = 1000 + noise + 300 * np.sin(np.arange(80) / 25)
    hard[rng.random(hard.shape) < 0.001] += 4000
    hard[:, :30] = rng.normal(100, 5, (40, 30, 80))
    other = measure_intensity(Volume(hard, "zyx", (4.0, 2.0, 2.0)))
    assert other.deviation == pytest.approx(flat.deviation, rel=0.35)
    pieces = [Volume(part, "zyx", (4.0, 2.0, 2.0)) for part in np.split(1000 + noise, 2, 1)]
    assert measure_intensity(pieces).deviation == pytest.approx(flat.deviation, rel=0.03)


def test_intensity_of_a_large_volume_is_near_that_of_all_its_voxels():
    reads = []

    class Counted:
        shape, dtype = (400, 500, 600), np.dtype(np.float32)

        def __getitem__(self, window):
            z = np.arange(400, dtype=np.float32)[window[0]]
            shape = [len(range(*s.indices(n))) for s, n in zip(window, self.shape)]
            reads.append(np.prod(shape))
            return np.broadcast_to(z[:, None, None] + 1000, shape)

    found = measure_intensity(Volume(Counted(), "zyx", (4.0, 2.0, 2.0)))
    assert found.level == pytest.approx(1199.5, abs=15)
    assert sum(reads) <= 1 << 24


def test_empty_and_broken_volumes():
    zeros = Volume(np.zeros((8, 9, 10), np.uint16), "zyx", SPACING)
    assert measure_intensity(zeros) == Intensity(0.0, 0.0)
    look = Contrast((), "volume")
    assert not look.apply(zeros.read(), SPACING, Intensity(0.0, 0.0)).any()
    with pytest.raises(DataError, match="NaN"):
        measure_intensity(Volume(np.full((4, 4, 4), np.nan), "zyx", SPACING))


def sample(seed=0, name="a", subject="m1", n=5, shape=(10, 20, 24)):
    import pandas as pd

    rng = np.random.default_rng(seed)
    points = rng.random((n, 3)) * np.subtract(shape, 1)
    image = rng.normal(500, 20, shape)
    labels = np.zeros(shape, np.uint8)
    labels[tuple(np.rint(points).astype(int).T)] = 1
    table = pd.DataFrame(points, columns=list("zyx"))
    return Sample(
        name,
        Volume(image.astype(np.uint16), "zyx", (4.0, 2.0, 2.0)),
        labels=Volume(labels, "zyx", (4.0, 2.0, 2.0)),
        points=Points(table),
        subject=subject,
    )


def cases(target=None):
    samples = [sample(0, "a", "m1"), sample(1, "b", "m1", 0), sample(2, "c", "m2", 30)]
    look, intensity = Contrast((), "fixed", 20.0), Intensity(500, 20)
    return [CellCase.of(s, look, intensity, target or Target(), (8, 16, 16)) for s in samples]


def test_batches_depend_on_seed_and_step_alone():
    one, two = (CellBatches(cases(), (8, 16, 16), 4, Turns(), 7) for _ in range(2))
    two[5], two[0]
    for step in (0, 3):
        assert all(torch.equal(one[step][key], two[step][key]) for key in ("image", "target"))
    assert not torch.equal(one[0]["image"], one[1]["image"])
    assert one[0]["image"].shape == one[0]["target"].shape == (4, 1, 8, 16, 16)


def test_brains_have_equal_shares_and_crops_hold_cells():
    made = cases(Target("mask"))
    for case in made:
        case.image[:] = {"a": 1, "b": 2, "c": 3}[case.name]
    plain = Turns("", False, 0, 0, 0)
    batches = CellBatches(made, (8, 16, 16), 2, plain, 0, centred=1.0)
    seen = [batches.item(step, item) for step in range(40) for item in range(2)]
    names = [float(image.max()) for image, _ in seen]
    assert names.count(3.0) == 40 and names.count(1.0) == 40
    # All of a crop's cell must not be in it, since crops are shifted, but most are.
    assert np.mean([target.max() for _, target in seen]) > 0.7


def test_image_and_target_turn_together():
    target = np.random.default_rng(0).random((4, 6, 6), np.float32)
    seen = set()
    for seed in range(60):
        turned, aim = Turns(gain=0, noise=0).apply(
            np.random.default_rng(seed), target[None], target
        )
        assert np.array_equal(turned[0], aim)
        seen.add(aim.tobytes())
    assert len(seen) == 16  # z mirrored or not, and the eight of the square
    still = Turns("", False, 0, 0, 0).apply(np.random.default_rng(0), target[None], target)
    assert np.array_equal(still[1], target)


def test_cells_of_other_crops_are_added_as_light():
    made = cases()
    plain = Turns("", False, 0, 0, 0)
    alone = CellBatches(made, (8, 16, 16), 2, plain, 0, overlays=0)
    crowded = CellBatches(made, (8, 16, 16), 2, plain, 0, overlays=3)
    cells = [[float(b.item(s, 0)[1].sum()) for s in range(20)] for b in (alone, crowded)]
    assert np.mean(cells[1]) > 1.5 * np.mean(cells[0])
    below = np.array([[0.3, 2.0, 1.0]]), np.array([0.0, 0.2, 0.0])
    above = np.array([[0.5, 1.0, 4.0]]), np.array([1.0, 0.0, 0.0])
    image, target = overlaid(below, above, pressed=True)
    assert np.allclose(np.sinh(image), [[np.sinh(0.3) + np.sinh(0.5), np.sinh(2), np.sinh(1)]])
    assert target.tolist() == [1.0, 0.2, 0.0]


def test_samples_that_teach_nothing_are_refused():
    with pytest.raises(DataError, match="holds a cell"):
        CellBatches([cases()[1]], (8, 16, 16), 2, Turns(), 0)
    bare = sample().with_(points=None, labels=None)
    for target in (Target(), Target("mask")):
        with pytest.raises(DataError):
            target.of(bare)
    with pytest.raises(RecipeError):
        Target("balls")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 30), st.integers(0, 12))
def test_counts_at_every_threshold_are_the_scorers(seed, n, m):
    rng = np.random.default_rng(seed)
    cells = rng.choice(12**3, n, replace=False)
    spots = np.stack(np.unravel_index(np.sort(cells), (12, 12, 12)), 1)
    scores, truth = rng.random(n).astype(np.float32), rng.integers(0, 24, (m, 3)) / 2
    truth = np.unique(truth, axis=0)
    thresholds = np.linspace(0.05, 0.9, 7)
    counts = counts_by_threshold(spots, scores, truth, 4.0, thresholds)
    for t, (tp, fp, fn) in zip(thresholds, counts):
        expected = score_points(spots[scores > t], truth, 4.0)
        assert (tp, fp, fn) == (expected.tp, expected.fp, expected.fn)


def test_the_choice_is_the_best_there_is():
    rng = np.random.default_rng(0)
    truths = [rng.integers(3, 27, (6, 3)).astype(float) for _ in range(3)]
    heats = [
        0.3 * gaussian_target(rng.integers(3, 27, (20, 3)), (30,) * 3, 1.0, (1, 1, 1))
        for _ in truths
    ]
    heats = [
        np.maximum(heat, gaussian_target(truth, (30,) * 3, 1.0, (1, 1, 1)))
        for heat, truth in zip(heats, truths)
    ]
    found = choose(heats, truths, "aab", [(1, 1, 1), (2, 2, 2)], 2.0)
    assert 0.3 < found.threshold < 1 and found.f1 > 0.95
    totals = np.sum(
        [
            counts_by_threshold(
                *find_maxima(heat, found.radius, 0), truth, 2.0, np.array([found.threshold])
            )[0]
            for heat, truth in zip(heats, truths)
        ],
        0,
    )
    tp, fp, fn = totals
    assert 2 * tp / (2 * tp + fp + fn) == pytest.approx(found.f1, abs=0.02)
    with pytest.raises(DataError, match="no cell"):
        choose(heats, [np.zeros((0, 3))] * 3, "aab", [(1, 1, 1)], 2.0)


def test_a_net_learns_a_step_of_the_problem():
    from brodmann.problems.cells.net_detector import build_net

    torch.manual_seed(0)
    problem = PROBLEMS["cells"](None, None)
    net = build_net({"kind": "convmixer", "features": [8], "strides": [[2, 4, 4]], "depth": 1}, 1)
    batch = CellBatches(cases(), (8, 16, 16), 2, Turns(), 0)[0]
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.02)
    losses = []
    for _ in range(15):
        loss = problem.step(net, batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    evidence = problem.validate(net, batch) + problem.validate(net, batch)
    assert problem.summarise(evidence)["val_loss"] == pytest.approx(
        float(problem.step(net, batch)["loss"].detach()), rel=0.2
    )
    assert problem.targets(sample()).max() == 1
