"""Views and batches of whole images: what moves, what is mixed, what never depends on luck."""

import itertools

import numpy as np
import pytest
import torch

from brodmann.core import BrodmannError, Dataset, Sample, Volume
from brodmann.nets.resnet import Classifier, resnet18
from brodmann.problems.learner import Schedule, fit
from brodmann.problems.patches import Batches, Patches, Stack, Views, corners, stack_of
from brodmann.problems.patches.problem import dealt


def pictures(n=12, side=16, seed=0):
    """Images of two kinds: stripes along x, or along y."""
    rng = np.random.default_rng(seed)
    waves = np.where(np.arange(side) % 4 < 2, 200, 50)
    images = np.empty((n, 1, side, side), np.uint8)
    for k in range(n):
        plane = np.broadcast_to(waves if k % 2 else waves[:, None], (side, side))
        images[k, 0] = np.clip(plane + rng.normal(0, 10, (side, side)), 0, 255)
    return images


def made_stack(n=12, side=16):
    images = pictures(n, side)
    groups = tuple(f"g{k // 2}" for k in range(n))
    return Stack(images, np.arange(n) % 2, ("rows", "columns"), groups, images.mean(), images.std())


def dataset(images, categories):
    samples = {
        f"s{k}": Sample(f"s{k}", Volume(image[0], "yx", (1, 1)), category=category)
        for k, (image, category) in enumerate(zip(images, categories))
    }
    return Dataset("made", list(samples), samples.__getitem__)


def test_a_stack_holds_what_the_dataset_holds():
    images = pictures(4)
    stack = stack_of(dataset(images, ["b", "a", "b", "a"]))
    assert stack.names == ("a", "b") and stack.categories.tolist() == [1, 0, 1, 0]
    assert (stack.images == images).all()
    assert stack.mean == pytest.approx(images.mean()) and stack.deviation == pytest.approx(
        images.std()
    )
    normal = stack.normalised(images)
    assert normal.dtype == np.float32 and abs(normal.mean()) < 1e-5


def test_bad_images_are_refused():
    images = pictures(2)
    with pytest.raises(BrodmannError, match="not among"):
        stack_of(dataset(images, ["a", "z"]), ["a"])
    mixed = dataset([images[0], images[1][:, :8]], ["a", "a"])
    with pytest.raises(BrodmannError, match="one size"):
        stack_of(mixed)
    with pytest.raises(BrodmannError, match="one value"):
        stack_of(dataset(np.zeros((2, 1, 4, 4), np.uint8), ["a", "a"]))
    with pytest.raises(BrodmannError, match="no images"):
        stack_of(dataset([], []))


@pytest.mark.parametrize("options", [{}, {"mirror": True, "turn": True}])
def test_every_view_is_a_window_of_its_image(options):
    stack = made_stack(6, 12)
    which = np.array([0, 3, 3, 5])
    views = Views(crop=0.5, **options).cut(stack, which, np.random.default_rng(1))
    for image, view in zip(stack.normalised(stack.images[which])[:, 0], views[:, 0]):
        windows = np.lib.stride_tricks.sliding_window_view(image, (6, 6)).reshape(-1, 6, 6)
        ways = [view]
        if options:
            ways = [np.rot90(w, k) for w in (view, view.T) for k in range(4)]
        assert any(np.isclose(windows, way).all((1, 2)).any() for way in ways)


def test_crops_differ_inside_a_batch():
    stack = made_stack(2, 32)
    views = Views(crop=0.5).cut(stack, np.zeros(16, int), np.random.default_rng(0))
    assert len({view.tobytes() for view in views}) > 12


def test_shading_changes_each_view_by_itself():
    stack = made_stack(4, 8)
    flat = Stack(
        np.full((4, 1, 8, 8), 128, np.uint8), stack.categories[:4], *("",) * 2, 28.0, 100.0
    )
    views = Views(crop=1.0, gain=0.3, offset=0.3).cut(flat, np.arange(4), np.random.default_rng(0))
    assert np.ptp(views, (1, 2, 3)).max() < 1e-6
    assert len(np.unique(views[:, 0, 0, 0])) == 4
    noisy = Views(crop=1.0, noise=1.0).cut(flat, np.arange(4), np.random.default_rng(0))
    assert noisy.std((1, 2, 3)).min() > 0


def test_bad_views_are_refused():
    for options in ({"crop": 0}, {"crop": 1.5}, {"noise": -1}):
        with pytest.raises(BrodmannError):
            Views(**options)
    oblong = Stack(np.zeros((2, 1, 8, 16), np.uint8), np.zeros(2, int), ("a",), ("s",) * 2, 0, 1)
    with pytest.raises(BrodmannError, match="square"):
        Batches(oblong, Views(turn=True), 2, 0)


def test_corners_are_the_four_corners():
    values = np.arange(36).reshape(1, 1, 6, 6)
    found = corners(values, (2, 2))
    assert [int(corner[0, 0, 0, 0]) for corner in found] == [0, 4, 24, 28]
    assert len(corners(values, (6, 6))) == 1


def test_dealing_shows_each_image_once_a_round():
    seen = np.concatenate([dealt(7, 3, step, seed=1) for step in range(7)])
    for round_ in range(3):
        assert sorted(seen[round_ * 7 : (round_ + 1) * 7]) == list(range(7))
    assert not np.array_equal(seen[:7], seen[7:14])


def test_a_batch_depends_on_seed_and_step_alone():
    stack = made_stack()
    make = lambda seed: Batches(stack, Views(mirror=True), 4, seed, mixup=0.5)  # noqa: E731
    first, again, other = make(0), make(0), make(1)
    again[3]
    for key, value in first[5].items():
        assert torch.equal(value, again[5][key])
    assert not torch.equal(first[5]["image"], other[5]["image"])


def test_balanced_batches_show_rare_categories_alike():
    stack = made_stack(20)
    rare = Stack(stack.images, np.array([0] * 18 + [1] * 2), *("ab", stack.groups), 0, 1)
    batches = Batches(rare, Views(), 50, 0, balanced=True)
    share = np.mean([batches[s]["category"].float().mean() for s in range(10)])
    assert 0.4 < share < 0.6


def test_mixed_images_and_labels_share_their_weight():
    stack = made_stack(8, 8)
    mixed = Batches(stack, Views(crop=1.0), 6, 3, mixup=1.0)[0]
    plain = Batches(stack, Views(crop=1.0), 6, 3)[0]
    images, weight = plain["image"], mixed["weight"]
    assert weight.min() > 0 and weight.max() < 1
    for k in range(6):
        candidates = weight[k] * images[k] + (1 - weight[k]) * images
        match = [j for j in range(6) if torch.allclose(candidates[j], mixed["image"][k], atol=1e-5)]
        assert match and int(mixed["category2"][k]) in {int(plain["category"][j]) for j in match}


def test_the_loss_of_a_mixture_is_the_mixture_of_losses():
    net = Classifier(resnet18(), 3).eval()
    image = torch.randn(4, 1, 8, 8)
    first, second = torch.tensor([0, 1, 2, 0]), torch.tensor([2, 2, 1, 0])
    weight = torch.tensor([0.2, 1.0, 0.5, 0.7])
    batch = {"image": image, "category": first, "category2": second, "weight": weight}
    loss = Patches(3).step(net, batch)["loss"]
    probability = net(image).softmax(1)
    rows = torch.arange(4)
    byhand = -(
        weight * probability[rows, first].log() + (1 - weight) * probability[rows, second].log()
    )
    assert float(loss.detach()) == pytest.approx(float(byhand.mean().detach()), rel=1e-5)


def test_smoothed_labels_leave_a_share_for_every_class():
    net = Classifier(resnet18(stem="large"), 3).eval()
    batch = {"image": torch.randn(4, 1, 32, 32), "category": torch.tensor([0, 1, 2, 0])}
    logs = net(batch["image"]).log_softmax(1)
    target = 0.7 * torch.nn.functional.one_hot(batch["category"], 3) + 0.3 / 3
    loss = Patches(3, smoothing=0.3).step(net, batch)["loss"]
    assert float(loss.detach()) == pytest.approx(float(-(target * logs).sum(1).mean()), rel=1e-5)


def test_the_stem_keeps_resolution():
    net = resnet18(2)
    shapes = {}
    net.layer1.register_forward_hook(lambda m, i, o: shapes.update(small=o.shape[-1]))
    net(torch.zeros(2, 2, 24, 24))
    large = resnet18(2, stem="large")
    large.layer1.register_forward_hook(lambda m, i, o: shapes.update(large=o.shape[-1]))
    large(torch.zeros(2, 2, 24, 24))
    assert shapes == {"small": 24, "large": 6}
    with pytest.raises(ValueError, match="stem"):
        resnet18(stem="none")


def test_a_net_learns_stripes(tmp_path):
    stack = made_stack()
    torch.manual_seed(0)
    schedule = Schedule(steps=40, optimizer="adamw", lr=1e-3, decay="cosine", warmup_steps=2)
    net, rows = fit(
        Classifier(resnet18(), 2),
        Patches(2),
        Batches(stack, Views(0.5), 8, 0),
        schedule,
        0,
        tmp_path,
    )
    images = torch.from_numpy(stack.normalised(pictures(10, seed=9)))
    with torch.inference_mode():
        guess = net(images).argmax(1)
    assert (guess.numpy() == np.arange(10) % 2).mean() >= 0.9
    assert rows[-1]["lr"] < rows[0]["lr"]
    table = Patches(2).validate(net, {"image": images, "category": torch.arange(10) % 2})
    assert table.sum() == 10
    assert Patches(2).summarise(table)["val_balanced_accuracy"] >= 0.9


def test_the_cosine_begins_after_the_rise_and_ends_at_zero():
    schedule = Schedule(steps=110, lr=2.0, warmup_steps=10, decay="cosine")
    rates = [schedule.lr_at(step) for step in range(111)]
    assert rates[0] == pytest.approx(0.2) and rates[9] == pytest.approx(2.0)
    assert rates[60] == pytest.approx(1.0) and rates[110] == pytest.approx(0.0, abs=1e-12)
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))
