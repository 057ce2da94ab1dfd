import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceLoss

from brodmann.problems.semantic.loss import (
    deep_loss,
    dice_cross_entropy,
    scale_weights,
    shrink_labels,
    soft_dice,
)


def random_case(seed, classes=5, shape=(2, 9, 11)):
    make = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape[0], classes, *shape[1:], generator=make, dtype=torch.float64)
    labels = torch.randint(0, classes, shape, generator=make)
    return logits, labels


@given(st.integers(0, 1000), st.sampled_from([(2, 9, 11), (1, 4, 5, 6)]))
@settings(deadline=None, max_examples=20)
def test_dice_is_monais_batch_dice_without_background(seed, shape):
    logits, labels = random_case(seed, shape=shape)
    peer = DiceLoss(
        include_background=False,
        to_onehot_y=True,
        softmax=True,
        batch=True,
        smooth_nr=1e-5,
        smooth_dr=1e-5,
    )
    theirs = 1 - peer(logits.float(), labels[:, None])
    assert torch.allclose(soft_dice(logits, labels), theirs, atol=1e-5)


def test_ignored_pixels_change_nothing():
    logits, labels = random_case(3)
    hidden = labels.clone()
    hidden[:, 4:] = -1
    other = logits.clone()
    other[:, :, 4:] = torch.randn_like(other[:, :, 4:]) * 50
    assert torch.allclose(dice_cross_entropy(logits, hidden), dice_cross_entropy(other, hidden))
    cropped = dice_cross_entropy(logits[:, :, :4], labels[:, :4])
    assert torch.allclose(dice_cross_entropy(logits, hidden), cropped)


def test_nothing_annotated_gives_zero_loss_and_zero_gradient():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = dice_cross_entropy(logits, torch.full((1, 4, 4), -1))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_the_gradient_is_that_of_finite_differences():
    logits, labels = random_case(1, classes=3, shape=(1, 3, 3))
    labels[0, 0, 0] = -1

    def loss(x):  # in float64 throughout
        p = x.softmax(1)
        known = labels != -1
        ce = -(p.log().gather(1, labels.clamp_min(0)[:, None])[:, 0][known]).mean()
        onehot = torch.nn.functional.one_hot(labels.clamp_min(0), 3).movedim(-1, 1) * known[:, None]
        p = p * known[:, None]
        dice = (2 * (p * onehot).sum((0, 2, 3)) + 1e-5) / ((p + onehot).sum((0, 2, 3)) + 1e-5)
        return ce - dice[1:].mean()

    a, b = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss(a).backward()
    dice_cross_entropy(b, labels).backward()
    assert torch.allclose(a.grad, b.grad, atol=1e-6)


def test_weights_halve_and_the_coarsest_is_left_out():
    assert scale_weights(1) == [1.0]
    assert np.allclose(scale_weights(4), np.array([4, 2, 1, 0]) / 7)


def test_coarse_labels_are_labels_that_were_there():
    labels = torch.tensor([[[0, 7, -1, 3], [7, 7, -1, -1], [2, 2, 5, 5], [2, 2, 5, 5]]])
    small = shrink_labels(labels, (2, 2))
    assert set(small.flatten().tolist()) <= set(labels.flatten().tolist())
    assert small[0, 1].tolist() == [2, 5]


def test_deep_loss_is_the_weighted_sum():
    logits, labels = random_case(5, shape=(1, 8, 8))
    half = torch.randn(1, 5, 4, 4)
    quarter = torch.randn(1, 5, 2, 2)
    expected = 2 / 3 * dice_cross_entropy(logits, labels) + 1 / 3 * dice_cross_entropy(
        half, shrink_labels(labels, (4, 4))
    )
    assert torch.allclose(deep_loss([logits, half, quarter], labels), expected.float())


def mixed_case(seed, classes=5, shape=(3, 8, 12)):
    """Logits, two label maps that ignore different pixels, and a weight for each item."""
    logits, labels = random_case(seed, classes, shape)
    make = torch.Generator().manual_seed(seed + 1)
    labels2 = torch.randint(0, classes, shape, generator=make)
    for truth in (labels, labels2):
        truth[torch.rand(shape, generator=make) < 0.2] = -1
    return logits, labels, labels2, torch.rand(shape[0], generator=make)


def dense(logits, labels, labels2, weight):
    """The loss by the book, in float64: a soft truth of one plane a class."""
    classes = logits.shape[1]
    truth = torch.zeros_like(logits)
    for i, share in enumerate(weight.double()):
        for class_ in range(classes):
            truth[i, class_] = share * (labels[i] == class_) + (1 - share) * (labels2[i] == class_)
    axes = (0, *range(2, logits.dim()))
    p = logits.softmax(1)
    entropy = -(truth * p.log()).sum() / truth.sum()
    seen = p * truth.sum(1, keepdim=True)
    dice = (2 * (p * truth).sum(axes) + 1e-5) / (seen.sum(axes) + truth.sum(axes) + 1e-5)
    return entropy - dice[1:].mean()


@given(st.integers(0, 1000), st.sampled_from([(3, 8, 12), (2, 4, 6, 5)]))
@settings(deadline=None, max_examples=20)
def test_two_label_maps_are_a_soft_truth(seed, shape):
    logits, *truth = mixed_case(seed, shape=shape)
    a, b = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    expected, found = dense(a, *truth), dice_cross_entropy(b, *truth)
    assert torch.allclose(found, expected.float(), atol=1e-5)
    expected.backward()
    found.backward()
    assert torch.allclose(a.grad, b.grad, atol=1e-6)


def test_every_scale_has_its_soft_truth():
    logits, *truth = mixed_case(4)
    half, quarter = torch.randn(3, 5, 4, 6).double(), torch.randn(3, 5, 2, 3).double()
    # The nearest pixel of a coarser grid: the second of each two, as shrink_labels takes it.
    coarse = [labels[:, 1::2, 1::2] for labels in truth[:2]]
    expected = 2 / 3 * dense(logits, *truth) + 1 / 3 * dense(half, *coarse, truth[2])
    found = deep_loss([logits, half, quarter], *truth)
    assert torch.allclose(found, expected.float(), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_without_mixture_the_loss_is_the_plain_one(seed):
    logits, labels, labels2, weight = mixed_case(seed)
    outputs = [logits, torch.randn(3, 5, 4, 6)]
    plain, other = deep_loss(outputs, labels), deep_loss(outputs, labels2)
    assert torch.allclose(deep_loss(outputs, labels, labels, weight), plain, atol=1e-6)
    assert torch.allclose(deep_loss(outputs, labels, labels2, torch.ones(3)), plain, atol=1e-6)
    assert torch.allclose(deep_loss(outputs, labels, labels2, torch.zeros(3)), other, atol=1e-6)
    assert abs(plain - other) > 1e-3


def test_a_map_that_is_not_looked_at_may_ignore_everything():
    logits, labels, _, _ = mixed_case(2)
    nothing = torch.full_like(labels, -1)
    found = dice_cross_entropy(logits, labels, nothing, torch.tensor([0.3, 0.3, 0.3]))
    assert torch.allclose(found, dice_cross_entropy(logits, labels), atol=1e-6)
    assert dice_cross_entropy(logits, nothing, labels, torch.ones(3)) == 0


def test_a_soft_truth_holds_no_more_planes_than_a_hard_one():
    logits, labels, labels2, weight = mixed_case(6, classes=9)
    logits = logits.float().requires_grad_()

    def held(*truth):
        planes = set()

        def note(tensor):
            if tensor.numel() >= logits.numel():
                planes.add(tensor.untyped_storage().data_ptr())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = dice_cross_entropy(logits, *truth)
        return len(planes), loss

    hard, kept = held(labels)
    soft, kept_too = held(labels, labels2, weight)
    assert soft == hard and torch.isfinite(kept + kept_too)
