import copy

import pytest
import torch

from brodmann.core import ModelError, RecipeError
from brodmann.nets import NETS
from brodmann.nets.highresnet import FEATURES, highresnet
from brodmann.problems.semantic.plan import plan_unet


def seen(net, ndim=3, side=121):
    """First and last voxel along x that the middle one depends on, for some of many images."""
    net.eval()
    image = torch.randn(64, 1, *(1,) * (ndim - 1), side, requires_grad=True)
    net(image)[..., side // 2].sum().backward()
    touched = torch.nonzero(image.grad.abs().sum(0).flatten()).flatten()
    return int(touched[0]), int(touched[-1])


class TestBesideMonai:
    @pytest.fixture
    def peer(self):
        return pytest.importorskip("monai.networks.nets").HighResNet

    @pytest.mark.parametrize("norm", ["instance", "batch"])
    def test_weights(self, peer, norm):
        ours = highresnet(2, 5, norm=norm)
        theirs = peer(3, 2, 5, norm_type=(norm, {"affine": True}))

        def convolutions(net):
            return sorted(tuple(p.shape) for p in net.parameters() if p.dim() == 5)

        assert convolutions(ours) == convolutions(theirs)
        # Theirs normalises the answer (2 x 5), ours has a bias (5).
        count = [sum(p.numel() for p in net.parameters()) for net in (ours, theirs)]
        assert count[0] == count[1] - 5

    def test_answers_with_the_same_weights(self, peer):
        """Up to the last layer, after which theirs normalises and cuts at zero."""
        ours, theirs = highresnet(1, 4, norm="batch").eval(), peer(3, 1, 4).eval()
        torch.manual_seed(0)
        source = {name: torch.randn_like(p) * 0.1 for name, p in theirs.named_parameters()}
        theirs.load_state_dict(source, strict=False)
        values = list(source.values())[:-2]
        targets = [p for name, p in ours.named_parameters()][:-1]
        assert len(values) == len(targets)
        with torch.no_grad():
            # Both in order of use; their blocks list a norm before its convolution, ours too.
            for target, value in zip(targets[:-1], values[:-1]):
                assert target.shape == value.shape
                target.copy_(value)
            targets[-1].copy_(values[-1])
            ours.layers[-1].bias.zero_()
            image = torch.randn(1, 1, 6, 9, 12)
            expected = theirs.blocks[-1].conv(theirs.blocks[:-1](image))
            assert torch.allclose(ours(image), expected, atol=1e-5)

    def test_how_far_a_voxel_sees(self, peer):
        torch.manual_seed(0)
        first, last = seen(highresnet(1, 4, norm="batch"))
        assert last - first + 1 == 87
        net = peer(3, 1, 4)
        assert seen(net.blocks[:-1]) == (first, last)


def test_every_weight_learns_at_any_size():
    torch.manual_seed(0)
    net = NETS["highresnet"](1, 3, (4, 8, 12), ((1, 1, 1),), dropout=0.1)
    answer = net(torch.randn(2, 1, 5, 9, 7))
    assert answer.shape == (2, 3, 5, 9, 7)
    answer.square().mean().backward()
    for name, weight in net.named_parameters():
        assert weight.grad.isfinite().all() and weight.grad.abs().max() > 0, name


def test_sections_too():
    net = highresnet(2, 3, (4, 8), ((1, 1), (2, 2)), stages=2, norm="batch").eval()
    assert net(torch.zeros(1, 2, 11, 13)).shape == (1, 3, 11, 13)
    # 1 + 2 (first) + 6 convolutions by 1 + 6 by 2, twice one voxel each.
    first, last = seen(highresnet(1, 3, (4, 8), ((1, 1),), stages=2, norm="batch"), 2)
    assert last - first + 1 == 1 + 2 * (1 + 6 + 12)


def test_a_plan_for_eight_slices():
    plan = plan_unet((8, 64, 64), (5.0, 1.0, 1.0), 4, base_features=4, patch=(8, 32, 32), batch=2)
    net = highresnet(1, 4, plan.features, plan.strides, plan.kernels)
    assert net(torch.zeros(1, 1, 8, 32, 32)).shape == (1, 4, 8, 32, 32)
    # Thick slices: the first stage looks within them.
    assert plan.kernels[0] == (1, 3, 3) and net.layers[0].kernel_size == (1, 3, 3)
    assert FEATURES == (16, 32, 64)


def test_dropout_acts_in_training_alone_and_a_copy_is_the_same():
    net, image = highresnet(1, 2, (4, 8, 8), dropout=0.5), torch.randn(1, 1, 4, 8, 8)
    with torch.inference_mode():
        assert not torch.equal(net(image), net(image))
        assert torch.equal(copy.deepcopy(net.eval())(image), net(image))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": 4}, "1 to 3 stages"),
        ({"norm": "btch"}, "did you mean 'batch'"),
        ({"kernels": ((2, 3, 3),) * 3}, "odd"),
        ({"features": (8, 4, 4)}, "never fall"),
        ({"strides": ((1,),)}, "2D or 3D"),
    ],
)
def test_what_it_cannot_do_is_refused(options, message):
    given = {"features": (4, 8, 8), "strides": ((1, 1, 1),)} | options
    with pytest.raises(RecipeError, match=message):
        highresnet(1, 3, **given)


def test_other_images_are_refused():
    with pytest.raises(ModelError, match="takes"):
        highresnet(1, 3, (4, 8, 8))(torch.zeros(1, 2, 8, 8, 8))
