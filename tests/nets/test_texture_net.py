"""A net for texture: what it sees of an image, and that it needs little."""

import torch

from brodmann.nets.texture_net import TextureNet


def test_what_a_position_sees():
    net = TextureNet().eval()
    for weights in net.parameters():
        weights.data = weights.data.abs() + 1e-3
    image = torch.ones(1, 1, 129, 129, requires_grad=True)
    net.layers(image)[0, :, 8, 8].sum().backward()
    seen = image.grad[0, 0].abs().sum(0).nonzero()
    assert int(seen.max() - seen.min()) + 1 == 51


def test_size():
    net = TextureNet(2, width=8)
    assert net(torch.rand(3, 2, 40, 24)).shape == (3, net.length) == (3, 32)
    assert sum(p.numel() for p in TextureNet().parameters()) < 0.05 * 11.2e6, "ResNet-18 has 11.2 M"
