import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from brodmann.core import ModelError, RecipeError
from brodmann.nets import NETS
from brodmann.nets.segmamba import FEATURES, STRIDES, segmamba, surer

SHAPE = ((4, 6, 8), ((1, 1, 1), (1, 2, 2), (2, 2, 2)))
KINDS = pytest.mark.parametrize("recurrence", ["mamba2", "mamba1"])


def tiny(seed=0, **options):
    torch.manual_seed(seed)
    options = {"depth": 1, "state": 3, "head_dim": 4} | options
    return segmamba(2, 3, *SHAPE, **options)


def image(shape=(4, 8, 12), n=1):
    return torch.randn(n, 2, *shape, generator=torch.Generator().manual_seed(1))


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def test_published_settings_take_the_published_crop():
    with torch.device("meta"):
        net = NETS["segmamba"](1, 3, FEATURES, STRIDES, recurrence="mamba1")
    widths = [stage.scan_norms[0].normalized_shape[0] for stage in net.stages]
    assert widths == [48, 96, 192, 384]
    assert [len(stage.mixers) for stage in net.stages] == [2, 2, 2, 2]
    assert 60e6 < parameters(net) < 75e6


@KINDS
@pytest.mark.parametrize("uncertainty", [True, False])
def test_every_weight_learns(recurrence, uncertainty):
    net = tiny(recurrence=recurrence, uncertainty=uncertainty)
    answer = net(image(n=2))
    assert answer.shape == (2, 3, 4, 8, 12)
    answer.square().sum().backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None and weight.grad.abs().max() > 1e-6, name


def test_a_seed_makes_a_net_and_weights_survive_a_file(tmp_path):
    net, same, other = tiny(), tiny(), tiny(1)
    a = net.eval()(image())
    assert torch.equal(a, same.eval()(image()))
    assert not torch.equal(a, other.eval()(image()))
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, tmp_path / "net")
    other.load_state_dict(load_file(tmp_path / "net"))
    assert_close(other(image()), a)


def test_far_corners_see_one_another():
    net = tiny().eval()
    # Instance norm lets every voxel see every other, so it is taken out.
    for name, module in list(net.named_modules()):
        if isinstance(module, torch.nn.InstanceNorm3d):
            net.set_submodule(name, torch.nn.Identity())
    values = image((2, 64, 64)).requires_grad_()
    net(values)[0, 0, 0, 0, 0].backward()
    assert values.grad[0, :, -1, -4:, -4:].abs().max() > 0


def test_three_orders_are_scanned():
    net = tiny().eval()
    mixer = net.stages[0].mixers[0]
    expected = net(image())
    for i in range(3):
        kept = mixer.directions[i].D.data.clone()
        mixer.directions[i].D.data += 1
        assert not torch.allclose(net(image()), expected, atol=1e-5)
        mixer.directions[i].D.data = kept


def test_sure_features_weigh_more():
    values = torch.randn(1, 5, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    p = values.mean(1, keepdim=True).sigmoid()
    assert_close(surer(values), values + values * (1 + p * p.log()))
    assert not torch.equal(tiny()(image()), tiny(uncertainty=False)(image()))


def test_deep_supervision_and_dropout():
    net = tiny(deep_supervision=True, dropout=0.5)
    fine, coarse = net(image())
    assert (fine.shape[2:], coarse.shape[2:]) == ((4, 8, 12), (4, 4, 6))
    assert not torch.equal(net(image())[0], fine)
    assert torch.equal(net.eval()(image()), net(image()))


def test_depth_and_convolutions_can_be_chosen():
    base = parameters(tiny())
    assert parameters(tiny(depth=(1, 2))) > base
    assert parameters(tiny(convs_per_stage=3)) > base > parameters(tiny(convs_per_stage=1))


def test_it_learns():
    torch.manual_seed(0)
    net = segmamba(1, 1, (6, 8), ((1, 1, 1), (1, 2, 2)), depth=1)
    values = torch.randn(1, 1, 4, 8, 8)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            net(values), (values > 0).float()
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (((4,), ((1, 1, 1),)), {}, "two stages"),
        (((4, 8), ((1, 1), (2, 2))), {}, "volumes"),
        (SHAPE, {"depth": (1, 2, 3)}, "depth"),
        (SHAPE, {"depth": 0}, "depth"),
        (SHAPE, {"convs_per_stage": 0}, "convolution"),
        (SHAPE, {"recurrence": "mamba3"}, "recurrence"),
    ],
)
def test_what_cannot_be_built_is_refused(arguments, options, message):
    with pytest.raises(RecipeError, match=message):
        segmamba(1, 1, *arguments, **options)


def test_patches_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="multiples"):
        tiny()(image((3, 8, 8)))
