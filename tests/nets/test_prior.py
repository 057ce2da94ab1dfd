import pytest
import torch

from brodmann.nets.prior import PriorUNet

SHAPE = ((4, 8, 8), ((1, 1), (2, 2), (1, 2)))


def case():
    prior = torch.rand(2, 4, 16, 16, generator=torch.Generator().manual_seed(0)).softmax(1)
    image = torch.randn(2, 1, 16, 16)
    return prior, torch.cat([image, prior[:, 1:]], 1)


def test_untrained_it_answers_with_the_prior_at_every_scale():
    prior, image = case()
    net = PriorUNet(4, 4, *SHAPE)
    assert (net.eval()(image).argmax(1) == prior.argmax(1)).all()
    fine, middle = net.train()(image)
    assert torch.allclose(fine.softmax(1), (prior + 0.02) / 1.08, atol=1e-5)
    assert middle.shape == (2, 4, 8, 8)
    pooled = torch.nn.functional.avg_pool2d(prior, 2)
    assert torch.allclose(middle.softmax(1), (pooled + 0.02) / 1.08, atol=1e-5)


def test_trust_scales_the_correction_outside_training_only():
    _, image = case()
    torch.manual_seed(0)
    nets = [PriorUNet(4, 4, *SHAPE, trust=t) for t in (0.0, 0.5, 1.0)]
    head = torch.randn_like(nets[0].unet.decoder.seg_layers[-1].weight)
    for net in nets:
        net.load_state_dict(nets[0].state_dict())
        with torch.no_grad():
            net.unet.decoder.seg_layers[-1].weight.copy_(head)
    none, half, whole = (net.eval()(image) for net in nets)
    assert torch.allclose(half, (none + whole) / 2, atol=1e-5)
    assert torch.allclose(nets[0].train()(image)[0], whole, atol=1e-5)


@pytest.mark.parametrize("strides", [((1, 1, 1), (2, 2, 2)), ((1, 1, 1), (1, 2, 2))])
def test_volumes_too(strides):
    net = PriorUNet(3, 3, (4, 8), strides)
    assert net.eval()(torch.rand(1, 3, 8, 8, 8)).shape == (1, 3, 8, 8, 8)
