"""What a trained net answers, mirrored and not, and a whole image mapped by it."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from brodmann.core import Label, LabelMap, Volume, keyed_rng
from brodmann.inference import Headed, sliding_logits
from brodmann.nets.unet import finest_features, plain_unet
from brodmann.preprocess import Normalisation
from brodmann.problems.semantic.plan import Plan
from brodmann.problems.semantic.problem import Semantic, forward

CLASSES = 9


def unet(key=0, ndim=2):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key)
        return plain_unet(2, CLASSES, (4, 8), ((1,) * ndim, (2,) * ndim))


def batch_of(*shape):
    values = keyed_rng(0, "batch").normal(size=(1, 2, *shape)).astype(np.float32)
    return torch.from_numpy(values)


@pytest.mark.parametrize(("shape", "mirror"), [((8, 12), ()), ((8, 12), (1,)), ((4, 8, 6), (0, 2))])
def test_the_mean_of_mirrored_answers(shape, mirror):
    net, batch = unet(ndim=len(shape)), batch_of(*shape)
    answer = forward(net, mirror)
    assert isinstance(answer, Headed) and answer.weight.shape == (CLASSES, 4)
    views = []
    for chosen in itertools.product((False, True), repeat=len(mirror)):
        axes = [axis + 2 for axis, turned in zip(mirror, chosen) if turned]
        with torch.inference_mode():
            views.append(net.eval()(batch.flip(axes))[0].flip(axes))
    assert len(views) == 2 ** len(mirror)
    expected = torch.stack(views).mean(0)
    assert torch.allclose(answer(batch).cpu(), expected, atol=1e-4)
    assert answer.features(batch).shape == (1, 4, *shape)


def test_the_net_stays_fit_for_training():
    net, batch = unet(), batch_of(8, 12)
    before = [tensor.clone() for tensor in net.state_dict().values()]
    forward(net)(batch)
    assert all(torch.equal(a, b) for a, b in zip(before, net.state_dict().values()))
    assert isinstance(net.train()(batch), list), "an answer at every scale"
    finest_features(net, batch).sum().backward()
    assert net.encoder.stages[0][0].convs[0].conv.weight.grad is not None


def test_any_other_net_answers_with_its_logits():
    class Other(nn.Module):
        def __init__(self, scales):
            super().__init__()
            self.conv, self.scales = nn.Conv2d(2, CLASSES, 3, padding=1), scales

        def forward(self, batch):
            logits = self.conv(batch)
            return [logits, logits[..., ::2, ::2]] if self.scales else logits

    batch = batch_of(8, 12)
    for scales in (False, True):
        net = Other(scales)
        answer = forward(net, (0,))
        assert not isinstance(answer, Headed)
        with torch.inference_mode():
            expected = (net.conv(batch) + net.conv(batch.flip(2)).flip(2)) / 2
            assert torch.allclose(answer(batch).cpu(), expected, atol=1e-5)


@pytest.mark.parametrize("folds", [1, 3])
def test_a_mapped_image_is_the_argmax_of_the_mean_logits(folds, tmp_path):
    """With three folds the features are more than the classes."""
    import zarr

    tree = LabelMap([Label(i, f"region {i}", f"R{i}") for i in range(1, CLASSES)])
    plan = Plan((16, 24), 2, (4, 8), ((1, 1), (2, 2)), ((3, 3), (3, 3)), (1.0, 1.0))
    values = keyed_rng(0, "section").normal(700, 90, (2, 50, 61)).astype(np.uint16)
    image, nets = Volume(values, "cyx", (1.0, 1.0)), [unet(key) for key in range(folds)]
    Semantic(tree, plan).assemble(nets, image, Normalisation(), tmp_path, mirror=(1,))
    found = zarr.open_array(tmp_path / "classes.zarr" / "0", mode="r")[:]
    chance = zarr.open_array(tmp_path / "confidence.zarr" / "0", mode="r")[:]
    statistics = Normalisation().of(image)
    logits = sliding_logits(
        [forward(net, (1,)) for net in nets],
        image,
        patch=plan.patch,
        num_classes=CLASSES,
        prepare=lambda raw: Normalisation.apply(raw, statistics),
    )
    assert np.array_equal(found, logits.argmax(0)) and len(np.unique(found)) > 2
    expected = torch.softmax(torch.from_numpy(logits).double(), 0).amax(0).numpy()
    assert np.abs(chance - 255 * expected).max() <= 0.5 + 1e-3
