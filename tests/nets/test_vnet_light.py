import copy

import pytest
import torch
from torch import nn

from brodmann.core import ModelError, RecipeError
from brodmann.nets import NETS
from brodmann.nets.vnet_light import FEATURES, STRIDES, vnet_light
from brodmann.problems.semantic.plan import plan_unet

SMALL = (4, 8, 16)
SHALLOW = ((1, 1, 1), (2, 2, 2), (1, 2, 2))


def made(**options):
    torch.manual_seed(0)
    return NETS["vnet-light"](1, 3, SMALL, SHALLOW, **options)


def test_every_weight_learns_and_the_shape_is_kept():
    net = made()
    answer = net(torch.randn(2, 1, 8, 16, 24))
    assert answer.shape == (2, 3, 8, 16, 24)
    answer.square().mean().backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all(), name
    # A bias before a normalisation has no effect; all else has.
    moved = [n for n, p in net.named_parameters() if p.grad.abs().max() > 1e-9 or "bias" in n]
    assert len(moved) == len([*net.parameters()])


def parameters(features, inputs, classes, kernel):
    """By hand: convolutions of 1, 2, 3, 3 ... down, twice the width up."""
    volume = kernel**3

    def convs(width, count):
        return count * (volume * width * width + width) + count * 2 * width

    total = volume * inputs * features[0] + features[0] + 2 * features[0]
    for level in range(1, len(features)):
        fine, coarse = features[level - 1], features[level]
        total += 8 * fine * coarse + coarse + 2 * coarse + convs(coarse, min(level, 3))
    below = features[-1]
    for level in reversed(range(len(features) - 1)):
        fine = features[level]
        total += 8 * below * fine + fine + 2 * fine
        below = 2 * fine
        total += convs(below, min(max(level, 1), 3))
    return total + below * classes + classes


def test_the_weights_are_those_of_the_description():
    with torch.device("meta"):
        net = vnet_light(2, 4)
    assert FEATURES == (16, 32, 64, 128) and STRIDES[1:] == ((2, 2, 2),) * 3
    found = sum(p.numel() for p in net.parameters())
    assert found == parameters(FEATURES, 2, 4, 5)
    # Light beside a V-Net of five stages, 256 channels at the bottom.
    assert found < parameters((*FEATURES, 256), 2, 4, 5) / 3


def test_a_plan_for_eight_slices_keeps_two_of_them():
    plan = plan_unet(
        (8, 128, 128), (1.17, 1.17, 1.17), 4, base_features=4, patch=(8, 64, 64), batch=2
    )
    net = vnet_light(1, 4, plan.features, plan.strides, plan.kernels)
    depth = []
    for stage in net.encoder:
        stage.register_forward_hook(lambda module, args, answer: depth.append(answer.shape[2]))
    assert net(torch.randn(1, 1, 8, 64, 64)).shape == (1, 4, 8, 64, 64)
    assert min(depth) == 4 and depth[0] == 4


def test_thick_slices_get_flat_kernels():
    net = vnet_light(1, 3, SMALL, SHALLOW, ((1, 3, 3), (1, 3, 3), (3, 3, 3)))
    sides = [tuple(m.kernel_size) for m in net.encoder.modules() if isinstance(m, nn.Conv3d)]
    assert sides == [(1, 5, 5), (5, 5, 5), (5, 5, 5)]
    # One slice says nothing of the next but one where no kernel reaches it.
    flat = vnet_light(
        1, 2, SMALL, ((1, 1, 1), (1, 2, 2), (1, 2, 2)), ((1, 3, 3),) * 3, norm="batch"
    ).eval()
    image = torch.randn(1, 1, 5, 16, 16, requires_grad=True)
    flat(image)[:, :, 2].sum().backward()
    touched = image.grad.abs().amax((0, 1, 3, 4)) > 0
    assert touched.tolist() == [False, False, True, False, False]


def test_the_input_is_copied_to_every_feature():
    net = vnet_light(2, 3, SMALL, SHALLOW)
    for module in net.embed.modules():
        for weight in module.parameters(recurse=False):
            nn.init.zeros_(weight)
    seen = []
    net.enter.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    image = torch.randn(1, 2, 8, 16, 16)
    net(image)
    assert torch.equal(seen[0], image.repeat(1, 2, 1, 1, 1))


def test_dropout_acts_in_training_alone_and_a_copy_is_the_same():
    net, image = made(dropout=0.5), torch.randn(1, 1, 8, 16, 16)
    with torch.inference_mode():
        assert not torch.equal(net(image), net(image))
        assert torch.equal(copy.deepcopy(net.eval())(image), net(image))


@pytest.mark.parametrize("shape", [(1, 1, 7, 16, 16), (1, 2, 8, 16, 16), (1, 1, 2, 4, 4)])
def test_patches_that_do_not_fit_are_refused(shape):
    with pytest.raises(ModelError):
        made()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("features", "strides", "options", "message"),
    [
        ((4, 8), ((1, 1), (2, 2)), {}, "takes volumes"),
        ((4,), ((1, 1, 1),), {}, "two stages"),
        (SMALL, SHALLOW, {"kernel": 4}, "odd"),
        (SMALL, SHALLOW, {"norm": "instnce"}, "did you mean 'instance'"),
    ],
)
def test_what_it_cannot_do_is_refused(features, strides, options, message):
    with pytest.raises(RecipeError, match=message):
        vnet_light(1, 3, features, strides, **options)
