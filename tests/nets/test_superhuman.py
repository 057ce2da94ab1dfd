import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from brodmann.core import ModelError, RecipeError
from brodmann.nets import NETS
from brodmann.nets.superhuman import FEATURES, KERNELS, STRIDES, in_plane, superhuman
from brodmann.pipeline.model import build_net
from brodmann.problems.semantic.plan import Plan

SHAPE = ((4, 6, 8), ((1, 1, 1), (1, 2, 2), (2, 2, 2)))


def tiny(seed=0, **options):
    torch.manual_seed(seed)
    return superhuman(2, 3, *SHAPE, **options)


def image(shape=(6, 8, 12), n=1):
    return torch.randn(n, 2, *shape, generator=torch.Generator().manual_seed(1))


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def test_it_has_the_published_size():
    with torch.device("meta"):
        net = superhuman(1, 3, FEATURES, STRIDES, KERNELS)
    assert abs(parameters(net) / 1.56e6 - 1) < 0.1


def test_published_settings_are_the_default_and_map_any_depth():
    with torch.device("meta"):
        net = NETS["superhuman"](1, 3, FEATURES, STRIDES, KERNELS)
        assert net(torch.zeros(2, 1, 5, 32, 48)).shape == (2, 3, 5, 32, 48)
        assert parameters(net) == parameters(superhuman())


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_every_weight_learns(norm):
    net = tiny(norm=norm)
    net(image(n=2)).square().sum().backward()
    for name, weight in net.named_parameters():
        assert weight.grad.abs().max() > 1e-4, name


def test_a_seed_makes_a_net():
    a, b, c = (tiny(seed).eval()(image()) for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_weights_survive_a_file(tmp_path):
    net, other = tiny(norm="batch"), tiny(1, norm="batch")
    net(image(n=2))
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, tmp_path / "net")
    other.load_state_dict(load_file(tmp_path / "net"))
    assert_close(net.eval()(image()), other.eval()(image()))


def test_deep_supervision_answers_at_every_scale_but_the_coarsest_in_training():
    net = tiny(deep_supervision=True)
    fine, coarse = net(image())
    assert fine.shape[2:] == (6, 8, 12)
    assert coarse.shape[2:] == (6, 4, 6)
    assert net.eval()(image()).shape == fine.shape
    assert copy.deepcopy(net)(image()).shape == fine.shape


def test_dropout_acts_in_training_alone():
    net = tiny(dropout=0.5)
    assert not torch.equal(net(image()), net(image()))
    assert torch.equal(net.eval()(image()), net(image()))


def test_more_convolutions_make_longer_modules():
    sizes = [parameters(tiny(convs_per_stage=n)) for n in (2, 3, 4)]
    assert sizes[0] < sizes[1] < sizes[2]
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0]


def test_modules_begin_in_the_plane_where_pooling_leaves_z_alone():
    assert in_plane(STRIDES) == (True,) * 5
    assert in_plane(((1, 1, 1), (2, 2, 2))) == (False, False)
    kernels = [stage.first[0].kernel_size for stage in tiny().encoder]
    assert kernels == [(1, 3, 3), (3, 3, 3), (3, 3, 3)]
    even = superhuman(1, 1, (4, 4), ((1, 1, 1), (2, 2, 2)))
    assert even.embed[0].kernel_size == (5, 5, 5)


def test_flat_kernels_keep_slices_apart():
    torch.manual_seed(0)
    flat = [(1, 3, 3)] * 2
    net = superhuman(1, 1, (4, 4), ((1, 1, 1), (1, 2, 2)), flat, norm="none").eval()
    a = torch.randn(1, 1, 4, 8, 8)
    b = a.clone()
    b[:, :, 2] += 1
    same = (net(a) == net(b)).flatten(3).all(3).flatten().tolist()
    assert same == [True, True, False, True]


def test_it_sees_both_its_skips_and_what_lies_beneath():
    net = tiny(norm="none").eval()
    place = image((2, 32, 32)).requires_grad_()
    net(place)[0, 0, 0, 16, 16].backward()
    seen = place.grad[0].abs().sum((0, 1)) > 0
    assert seen[16].sum() > 24


def test_it_learns_an_affinity():
    torch.manual_seed(0)
    net = superhuman(1, 1, (8, 12), ((1, 1, 1), (1, 2, 2)))
    values = torch.randn(1, 1, 4, 16, 16)
    truth = (values[..., 1:] * values[..., :-1] > 0).float()
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        logits = net(values)[..., 1:]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 8, 8), r"multiples of \[2, 4, 4\]"),
        ((6, 8, 10), "multiples"),
        ((0, 8, 8), "multiples"),
        ((2, 4, 4), "single voxel"),
    ],
)
def test_patches_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(ModelError, match=message):
        tiny()(image(shape))


def test_without_instance_norm_a_single_coarse_voxel_is_enough():
    assert tiny(norm="none")(image((2, 4, 4))).shape == (1, 3, 2, 4, 4)


def test_other_channels_are_refused():
    with pytest.raises(ModelError, match="takes"):
        tiny()(image()[:, :1])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (((4, 8), ((1, 1), (2, 2))), {}, "use plain-unet"),
        (((4, 8), ((1, 1, 1),)), {}, "stride"),
        (((4, 8), ((1, 2, 2), (1, 2, 2))), {}, "first stride"),
        ((*SHAPE, ((3, 3, 3),)), {}, "one kernel"),
        ((*SHAPE, ((2, 3, 3),) * 3), {}, "odd"),
        (SHAPE, {"convs_per_stage": 1}, "2 convolutions"),
        (SHAPE, {"norm": "batches"}, "did you mean 'batch'"),
    ],
)
def test_what_cannot_be_built_is_refused(arguments, options, message):
    with pytest.raises(RecipeError, match=message):
        superhuman(1, 1, *arguments, **options)


@pytest.mark.parametrize("kind", ["superhuman", "segmamba"])
def test_a_recipe_builds_it_with_its_options(kind):
    plan = Plan((6, 8, 8), 1, *SHAPE, ((1, 3, 3), (3, 3, 3), (3, 3, 3)), (0.03, 0.008, 0.008))
    options = {"kind": kind, "convs_per_stage": 2, "dropout": 0.1, "deep_supervision": True}
    assert len(build_net(options, plan, 2, 3)(image())) == 2
