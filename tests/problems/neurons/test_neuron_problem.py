"""Affinities from ids, their loss, and mirrored answers: against the definitions, voxel by voxel."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from brodmann.core import RecipeError, Sample, Volume
from brodmann.core.affinities import LONG_RANGE, NEAREST
from brodmann.problems.base import PROBLEMS
from brodmann.problems.neurons import Neurons
from brodmann.problems.neurons.forward import forward
from brodmann.problems.neurons.loss import affinity_loss
from brodmann.problems.neurons.targets import affinity_targets, widened
from brodmann.problems.semantic.plan import Plan

THIN = Plan((4, 8, 8), 1, (4,), ((1, 1, 1),), ((3, 3, 3),), (0.03, 0.004, 0.004))
CUBES = Plan((8, 8, 8), 1, (4,), ((1, 1, 1),), ((3, 3, 3),), (0.01, 0.01, 0.01))


def ids_of(seed, shape=(3, 5, 6), low=-1, high=3):
    return np.random.default_rng(seed).integers(low, high + 1, shape)


offsets = st.tuples(*[st.integers(-4, 4)] * 3).filter(any)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999), st.lists(offsets, min_size=1, max_size=4))
def test_targets_follow_the_definition(seed, some):
    ids = ids_of(seed)
    same, known = affinity_targets(torch.from_numpy(ids)[None], some)
    for channel, offset in enumerate(some):
        for v in np.ndindex(*ids.shape):
            u = tuple(a + b for a, b in zip(v, offset))
            inside = all(0 <= a < n for a, n in zip(u, ids.shape))
            sure = inside and ids[v] != -1 and ids[u] != -1
            assert bool(known[(0, channel, *v)]) == sure
            if sure:
                assert bool(same[(0, channel, *v)]) == (ids[v] == ids[u] and ids[v] > 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.sampled_from([(0, 1, 2), (1, 2)]))
def test_a_border_is_where_a_neighbour_differs(seed, axes):
    ids = ids_of(seed)
    found = widened(torch.from_numpy(ids)[None], 1, axes)[0].numpy()
    for v in np.ndindex(*ids.shape):
        near = [
            tuple(n + d * (axis == i) for i, n in enumerate(v)) for axis in axes for d in (-1, 1)
        ]
        near = [u for u in near if all(0 <= a < n for a, n in zip(u, ids.shape))]
        border = ids[v] != -1 and any(ids[u] not in (-1, ids[v]) for u in near)
        assert found[v] == (0 if border else ids[v])


def test_widening_goes_as_deep_as_asked_and_leaves_unknown():
    ids = torch.tensor([1] * 6 + [2] * 6 + [-1] * 2)[None, None, None]
    assert widened(ids, 0).tolist() == ids.tolist()
    assert widened(ids, 2)[0, 0, 0].tolist() == [1] * 4 + [0] * 4 + [2] * 4 + [-1] * 2


def test_thick_sections_get_borders_in_the_plane_alone():
    ids = np.ones((2, 4, 4), np.int64)
    ids[1] = 2
    sample = Sample(
        "s", Volume(np.zeros(ids.shape), "zyx", (1, 1, 1)), Volume(ids, "zyx", (1, 1, 1))
    )
    thick = Neurons(None, THIN).targets(sample)
    assert thick[1, :, 1:].all() and thick[2, :, :, 1:].all() and not thick[0, 1].any()
    assert not Neurons(None, CUBES).targets(sample).any()


def test_cross_entropy_is_torchs_and_skips_the_unknown():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, 5, generator=generator, requires_grad=True)
    same = torch.rand(logits.shape, generator=generator) > 0.4
    everywhere = torch.ones_like(same)
    ours = affinity_loss(logits, same, everywhere, dice=0)
    assert torch.allclose(ours, F.binary_cross_entropy_with_logits(logits, same.float()))
    known = torch.rand(logits.shape, generator=generator) > 0.5
    affinity_loss(logits, same, known).backward()
    assert (logits.grad[~known] == 0).all() and (logits.grad[known] != 0).all()
    assert affinity_loss(logits, same, torch.zeros_like(known)) == 0


def test_dice_is_of_the_pairs_that_are_apart():
    same = torch.ones(1, 1, 1, 1, 8, dtype=torch.bool)
    same[..., :2] = False
    logits = torch.full(same.shape, 50.0)
    logits[..., 1:4] = -50.0  # one hit, one missed, two false
    known = torch.ones_like(same)
    dice = affinity_loss(logits, same, known, 1.0) - affinity_loss(logits, same, known, 0.0)
    assert float(dice) == pytest.approx(1 - 2 / (2 + 3), abs=1e-4)


class Oracle(nn.Module):
    """Says of ids, given as the image, what is the same; of pairs beyond the patch nonsense."""

    def __init__(self, offsets):
        super().__init__()
        self.offsets = offsets

    def forward(self, image):
        same, known = affinity_targets(image[:, 0].round().long(), self.offsets)
        return torch.where(known, torch.where(same, 6.0, -6.0), 1e3)


@pytest.mark.parametrize("some", [NEAREST, LONG_RANGE[:6], ((0, -1, 2), (-1, 0, 0))])
@pytest.mark.parametrize("mirror", [(1,), (0, 2), (0, 1, 2)])
def test_mirrored_answers_lie_where_their_pairs_do(some, mirror):
    ids = torch.from_numpy(ids_of(1, (1, 1, 5, 8, 9), low=0)).float()
    plain = Oracle(some)(ids)
    turned = forward(Oracle(some), some, mirror)(ids)
    _, known = affinity_targets(ids[:, 0].long(), some)
    assert torch.equal(turned[known], plain[known])


def test_a_mirrored_answer_is_not_the_plain_one_of_an_uneven_net():
    torch.manual_seed(0)
    net = nn.Conv3d(1, 3, 3, padding=1)
    x = torch.rand(1, 1, 4, 6, 6)
    answers = [forward(net, NEAREST, mirror)(x) for mirror in ((), (2,))]
    assert not torch.allclose(*answers)
    # Twice mirrored is once not: averaging over the two orders of one flip gives one answer.
    again = forward(net, NEAREST, (2,))(x.flip(4)).flip(4)
    x_pairs = answers[1][:, 2, ..., 1:], again[:, 2, ..., :-1]
    assert torch.allclose(*x_pairs, atol=1e-6)
    assert torch.allclose(answers[1][:, :2], again[:, :2], atol=1e-6)


def test_evidence_counts_pairs_and_becomes_f1():
    problem = Neurons(None, CUBES, widen=0)
    ids = torch.from_numpy(ids_of(3, (1, 4, 5, 6), low=0))
    batch = {"image": ids[:, None].float(), "labels": ids}
    evidence = problem.validate(Oracle(NEAREST), batch)
    assert evidence.sum() == affinity_targets(ids, NEAREST)[1].sum()
    assert problem.summarise(evidence + evidence) == {"val_border_f1": 1.0}
    wrong = problem.validate(lambda image: -Oracle(NEAREST)(image), batch)
    assert problem.summarise(wrong)["val_border_f1"] == 0


def test_options_that_cannot_be_are_refused():
    with pytest.raises(RecipeError, match="nearest"):
        Neurons(None, CUBES, "nearst")
    assert PROBLEMS["neurons"] is Neurons
    assert Neurons(None, CUBES, [[0, 0, 1]]).offsets == ((0, 0, -1),)
    assert Neurons(None, CUBES, "long-range").outputs == 12


def test_every_net_output_gets_a_gradient_of_the_loss():
    problem = Neurons(None, CUBES)
    torch.manual_seed(1)
    net = nn.Conv3d(1, problem.outputs, 1)
    ids = torch.from_numpy(
        np.stack([np.kron(np.arange(1, 9).reshape(2, 2, 2), np.ones((4, 4, 4)))])
    )
    batch = {"image": torch.rand(1, 1, 8, 8, 8), "labels": ids.long()}
    problem.step(net, batch)["loss"].backward()
    assert all(net.bias.grad[i] != 0 for i in range(3))
    assert list(itertools.chain(problem.border_axes)) == [0, 1, 2]
