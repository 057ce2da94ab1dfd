"""BYOL and MYOW: the target stands by itself, mining looks away, and learning learns."""

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from brodmann.core import BrodmannError
from brodmann.nets.resnet import resnet18
from brodmann.problems.learner import Schedule, fit
from brodmann.problems.patches import Stack, Views
from brodmann.problems.representations.encoders import NetEncoder
from brodmann.problems.representations.mining import mine
from brodmann.problems.representations.problem import TwinBatches, TwinProblem, disagreement
from brodmann.problems.representations.twins import METHODS, Twins, decay_at


def stack(n=10, side=12, seed=0):
    images = np.random.default_rng(seed).integers(0, 255, (n, 1, side, side)).astype(np.uint8)
    return Stack(images, np.arange(n) % 2, ("a", "b"), ("s",) * n, 127.0, 73.0)


def twins(method="byol"):
    torch.manual_seed(0)
    return Twins(resnet18(), method, hidden=16, size=8)


@pytest.mark.parametrize("method", METHODS)
def test_the_target_has_storage_of_its_own(method):
    net = twins(method)
    own = {t.data_ptr() for t in (*net.target.parameters(), *net.target.buffers()) if t.numel()}
    online = {t.data_ptr() for t in (*net.online.parameters(), *net.online.buffers())}
    assert own and not own & online
    before = copy.deepcopy(net.target.state_dict())
    with torch.no_grad():
        for parameter in net.online.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(before[k], v) for k, v in net.target.state_dict().items())
    assert not any(parameter.requires_grad for parameter in net.target.parameters())


def test_the_target_moves_by_the_running_mean_exactly():
    net = twins("myow")
    with torch.no_grad():
        for parameter in net.online.parameters():
            parameter.add_(torch.randn_like(parameter))
    online = [p.clone() for p in net.online.parameters()]
    target = [p.clone() for p in net.target.parameters()]
    net.follow(0.9)
    for new, old, seen in zip(net.target.parameters(), target, online):
        assert torch.equal(new, old * 0.9 + seen * (1 - 0.9)) or torch.allclose(
            new, old * 0.9 + seen * (1 - 0.9), rtol=1e-6, atol=1e-7
        )
    for kept, seen in zip(net.online.parameters(), online):
        assert torch.equal(kept, seen)


def test_the_decay_follows_a_cosine():
    values = [decay_at(step, 100, 0.99) for step in range(101)]
    assert values[0] == pytest.approx(0.99) and values[-1] == 1.0
    assert all(a <= b for a, b in itertools.pairwise(values))


def test_training_moves_the_target_once_a_step(tmp_path):
    """The target after two steps is what its rule makes of the online nets seen in between."""
    net = twins()
    wanted = [p.clone() for p in net.target.parameters()]
    problem = TwinProblem(steps=2, decay=0.5)

    class Watched(TwinProblem):
        def after_step(self, net, step):
            nonlocal wanted
            decay = decay_at(step, 2, 0.5)
            wanted = [
                decay * w + (1 - decay) * p.detach()
                for w, p in zip(wanted, net.online.parameters())
            ]
            super().after_step(net, step)

    trained, _ = fit(
        net, Watched(steps=2, decay=0.5), TwinBatches(stack(), Views(), 4, 0),
        Schedule(steps=2, lr=0.01, precision="32"), 0, tmp_path,
    )  # fmt: skip
    assert problem.steps == 2
    for found, want in zip(trained.target.parameters(), wanted):
        assert torch.allclose(found, want, atol=1e-6)


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_a_mined_view_is_never_of_the_own_image(seed, k):
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 8)), int(rng.integers(1, 10))
    anchors, pool = (torch.from_numpy(rng.normal(size=(c, 3))) for c in (n, m))
    anchor_of, pool_of = (torch.from_numpy(rng.integers(0, 4, c)) for c in (n, m))
    k = min(k, m)
    pick = torch.from_numpy(rng.integers(0, k, n))
    chosen = mine(anchors, pool, anchor_of, pool_of, k, pick)
    near = torch.cosine_similarity(anchors[:, None], pool[None], dim=2)
    for i in range(n):
        strangers = [j for j in range(m) if pool_of[j] != anchor_of[i]]
        if not strangers:
            assert chosen[i] == -1
            continue
        order = sorted(strangers, key=lambda j: -near[i, j])
        assert int(pool_of[chosen[i]]) != int(anchor_of[i])
        assert int(chosen[i]) == order[min(int(pick[i]), len(order) - 1)]


def test_views_and_pool_of_a_batch_are_keyed():
    batches = TwinBatches(stack(), Views(0.5), 6, 0, pool=5, neighbours=2)
    one, two = batches[3], TwinBatches(stack(), Views(0.5), 6, 0, pool=5, neighbours=2)[3]
    assert set(one) == {"view1", "view2", "index", "step", "pool", "pool_index", "pick"}
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert one["pool"].shape == (5, 1, 6, 6) and int(one["pick"].max()) < 2
    assert not torch.equal(one["view1"], one["view2"])
    assert len({view.numpy().tobytes() for view in one["view1"]}) == 6


def test_losses_are_those_of_the_papers():
    net = twins("byol").eval()
    batch = TwinBatches(stack(), Views(), 4, 0)[0]
    loss = TwinProblem(10).step(net, batch)["loss"]
    with torch.no_grad():
        total = 0.0
        for a, b in (("view1", "view2"), ("view2", "view1")):
            said = net.predictor(net.online.projector(net.online.encoder(batch[a])))
            wanted = net.target.projector(net.target.encoder(batch[b]))
            said, wanted = (x / x.norm(dim=1, keepdim=True) for x in (said, wanted))
            total += float(((said - wanted) ** 2).sum(1).mean())
    assert float(loss.detach()) == pytest.approx(total, rel=1e-4)
    same = torch.randn(3, 5)
    assert float(disagreement(same, 2 * same)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("method", ["myow", "myow-m"])
def test_mining_ramps_up_and_uses_its_own_heads(method):
    net = twins(method)
    assert (net.mining_predictor is None) == (method == "myow-m")
    batch = TwinBatches(stack(), Views(), 4, 0, pool=6)[0]
    problem = TwinProblem(100, mining_weight=0.1, mining_ramp=10)
    found = problem.step(net, batch)
    assert float(found["loss"]) == pytest.approx(
        float(found["augmented"] + 0.1 * 0.1 * found["mined"]), rel=1e-5
    )
    found["loss"].backward()
    heads = net.mining_predictor if method == "myow" else net.predictor
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for p in heads.parameters() if p.dim() > 1
    )
    assert all(p.grad is None for p in net.target.parameters())


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    made = stack()
    options = {"steps": 4, "batch": 4, "lr": 0.5, "hidden": 16, "size": 8, "warmup": 0.25,
               "precision": "32", "stem": "large"}  # fmt: skip

    class Stop(Exception):
        pass

    def stop(done, loss):
        if done == 3:
            raise Stop

    whole = NetEncoder("myow", **options)
    whole.fit(made, 1, tmp_path / "whole", lambda *a: None)
    import brodmann.problems.representations.encoders as module

    original = module.Schedule
    module.Schedule = lambda **given: original(**given, checkpoint_every=1)
    try:
        broken = NetEncoder("myow", **options)
        with pytest.raises(Stop):
            broken.fit(made, 1, tmp_path / "broken", stop)
        again = NetEncoder("myow", **options)
        again.fit(made, 1, tmp_path / "broken", lambda *a: None)
    finally:
        module.Schedule = original
    assert np.array_equal(whole.encode(made.images), again.encode(made.images))


def test_encoding_changes_nothing_in_the_net(tmp_path):
    encoder = NetEncoder("random", stem="large")
    encoder.fit(stack(), 0, tmp_path, lambda *a: None)
    encoder.trained.train()
    before = copy.deepcopy(encoder.trained.state_dict())
    first = encoder.encode(stack().images)
    alone = encoder.encode(stack().images[:1])
    assert np.allclose(first[:1], alone, atol=1e-5), "features depend on the rest of the batch"
    assert all(torch.equal(before[k], v) for k, v in encoder.trained.state_dict().items())
    assert (tmp_path / "encoder.safetensors").exists()


def test_whole_images_and_corners_are_two_ways_to_see(tmp_path):
    made = stack(side=16)
    seen = {}
    for whole in (False, True):
        encoder = NetEncoder("random", stem="large", whole=whole)
        encoder.fit(made, 0, tmp_path / str(whole), lambda *a: None)
        seen[whole] = encoder.encode(made.images)
    assert seen[True].shape == seen[False].shape == (10, 512)
    assert not np.allclose(seen[True], seen[False])


def test_bad_options_are_refused():
    with pytest.raises(BrodmannError):
        NetEncoder("simclr")
    with pytest.raises(BrodmannError):
        NetEncoder("random", projected=True)
    with pytest.raises(BrodmannError):
        TwinBatches(stack(), Views(), 1, 0)
    with pytest.raises(BrodmannError):
        TwinBatches(stack(1), Views(), 2, 0, pool=2)
    with pytest.raises(BrodmannError):
        TwinBatches(stack(), Views(), 2, 0, pool=2, neighbours=3)
