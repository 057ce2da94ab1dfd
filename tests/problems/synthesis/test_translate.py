"""Translation: what is learned, what is kept, and that nothing depends on stops or tiles."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy import ndimage

from brodmann.augment.base import make_augmentation
from brodmann.augment.expand import expand, replay
from brodmann.core import (
    DataError,
    Dataset,
    ModelError,
    RecipeError,
    Sample,
    Volume,
    keyed_rng,
)
from brodmann.datasets.phantoms.sections import phantom_sections
from brodmann.nets.translation import Generator, PatchCritic
from brodmann.preprocess import Normalisation, Statistics
from brodmann.problems.synthesis.translate import Translate, training
from brodmann.problems.synthesis.translate.fitted import Fitted
from brodmann.problems.synthesis.translate.losses import (
    contrast,
    critic_loss,
    generator_losses,
    translated,
)
from brodmann.problems.synthesis.translate.pool import Batches, survey

TINY = {"steps": 6, "batch": 2, "patch": 16, "features": 8, "blocks": 1, "content_size": 4}
STAINS = {"a": 1.0, "b": 0.55, "c": 0.8}


def tissue(name, shape=(40, 56), channels=2, spacing=None):
    """Blobs of tissue; every image has its own brightness, every channel its own regions."""
    rng = keyed_rng(7, name)
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), [n / 10 for n in shape])
    labels = np.digitize(smooth, np.quantile(smooth, [0.4, 0.6, 0.8])).astype(np.uint8)
    signal = np.stack(
        [np.roll([0, 2000, 4000, 6000], k)[labels] * (labels > 0) for k in range(channels)]
    )
    image = signal * STAINS.get(name, 0.7) + 300 + rng.normal(0, 40, signal.shape)
    grid = spacing or (10.0,) * len(shape)
    axes = "zyx"[-len(shape) :]
    return Sample(
        name,
        Volume(image.clip(0).astype(np.uint16), "c" + axes, grid),
        Volume(labels, axes, grid),
    )


def pool_of(load=tissue, names="abc"):
    return Dataset("tiny", list(names), load)


def bytes_of(sample):
    return sample.image.numpy().tobytes() + sample.labels.numpy().tobytes()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Translate(**TINY).fitted(pool_of(), tmp_path_factory.mktemp("tiny"), seed=3)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Trained long enough to be judged, on phantoms of which some are stained half as strongly."""
    plain = phantom_sections(6, 1, (64, 64), 2, subregions=11)
    samples = {}
    for i, name in enumerate(plain.names):
        image = plain[name].image
        values = image.numpy().astype(float) * (0.5 if i % 2 else 1.0)
        samples[name] = plain[name].with_(image=image.like(values.astype(image.dtype)))
    pool = Dataset("stains", plain.names, samples.__getitem__, plain.label_map)
    method = Translate(steps=300, batch=2, patch=32, features=16, blocks=1, lr=3e-3)
    return method.fitted(pool, tmp_path_factory.mktemp("learned")), pool


def restyled(method, target, source):
    known = method._fitted
    params = {"generator": known.key, "sources": [source], "style": known.styles[source]}
    return method.apply(params, target)


def test_images_come_back_in_their_own_style(learned):
    method, pool = learned
    images = [sample.image.numpy().astype(float) for sample in pool]
    mean = np.mean(images, axis=0)
    again = [restyled(method, s, s.name).image.numpy().astype(float) for s in pool]
    errors = [np.abs(a - b).mean() for a, b in zip(again, images)]
    assert np.mean(errors) < 0.75 * np.mean([np.abs(mean - image).mean() for image in images])


def test_style_changes_intensity_and_keeps_structure(learned):
    method, pool = learned
    for target, source in ((0, 1), (1, 0), (2, 5), (5, 2)):
        sample, style = pool[target], pool[source]
        made = restyled(method, sample, style.name)
        np.testing.assert_array_equal(made.labels.numpy(), sample.labels.numpy())
        before, after, wanted = (s.image.numpy().astype(float) for s in (sample, made, style))
        for k in range(2):
            moved = after[k].mean() - before[k].mean()
            gap = wanted[k].mean() - before[k].mean()
            assert 0.3 < moved / gap < 1.5
            edges = [
                ndimage.gaussian_gradient_magnitude(image[k], 1).ravel()
                for image in (before, after)
            ]
            assert np.corrcoef(edges)[0, 1] > 0.88


def test_the_same_bytes_after_a_stop_and_in_threads(tmp_path, monkeypatch, tiny):
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 2)
    sample = tissue("a")

    def stop(what, done, total, note):
        if what == "train" and done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Translate(**TINY).fitted(pool_of(), tmp_path, seed=3, progress=stop)
    (checkpoint,) = tmp_path.rglob("checkpoint.pt")
    assert torch.load(checkpoint, weights_only=True)["step"] == 4
    seen = []
    resumed = Translate(**TINY).fitted(
        pool_of(), tmp_path, seed=3, progress=lambda *call: seen.append(call)
    )
    assert [call[1] for call in seen if call[0] == "train"] == [5, 6]
    assert not list(tmp_path.rglob("checkpoint.pt")) and not list(tmp_path.rglob("*.npy"))
    whole, again = tiny._fitted, resumed._fitted
    assert again.styles == whole.styles
    for a, b in zip(whole.generator.parameters(), again.generator.parameters()):
        assert torch.equal(a, b)
    params = tiny.draw(np.random.default_rng(0), sample, pool_of())
    expected = bytes_of(tiny.apply(params, sample))
    with ThreadPoolExecutor(2) as threads:
        made = list(threads.map(lambda _: resumed.apply(params, sample), range(2)))
    assert [bytes_of(one) for one in made] == [expected] * 2
    other = Translate(**TINY).fitted(pool_of(), tmp_path / "other", seed=4)
    assert other._fitted.styles != whole.styles


def test_a_generator_is_kept_for_its_pool_and_options(tmp_path):
    steps = []
    fit = lambda method, pool: method.fitted(  # noqa: E731
        pool, tmp_path, progress=lambda what, *_: steps.append(what)
    )
    first = fit(Translate(**TINY), pool_of())
    assert steps.count("train") == 6
    steps.clear()
    kept = fit(Translate(**TINY, style="prior"), pool_of())
    assert "train" not in steps and kept._fitted.key == first._fitted.key
    without_labels = pool_of(lambda name: tissue(name).with_(labels=None))
    assert fit(Translate(**TINY), without_labels)._fitted.key == first._fitted.key
    assert "train" not in steps

    def brighter(name):
        sample = tissue(name)
        return sample.with_(image=sample.image.like(sample.image.numpy() + np.uint16(1)))

    anew = fit(Translate(**TINY), pool_of(brighter))
    assert "train" in steps and anew._fitted.key != first._fitted.key
    params = first.draw(np.random.default_rng(0), tissue("a"), pool_of())
    with pytest.raises(ModelError, match="another generator"):
        anew.apply(params, tissue("a"))
    steps.clear()
    fit(Translate(**TINY), pool_of())
    assert "train" not in steps


@pytest.mark.parametrize("shape", [(90, 75), (13, 30, 27)])
def test_tiles_have_no_seams(shape):
    torch.manual_seed(0)
    net = Generator(2, len(shape), features=8, content=4, style=3, blocks=1).eval()
    known = Fitted(net, Statistics((2000.0, 2000.0), (1500.0, 1500.0)), {}, "key")
    image = tissue("a", shape).image
    image = image.like(image.numpy().astype(np.float32))
    codes = [[0.5, -1.0, 0.2], [1.0, 0.3, -0.4]]
    whole = known.translate(image, codes, "a", tile=128)
    tiled = known.translate(image, codes, "a", tile=16)
    assert whole.std() > 100
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=0.05)
    # A margin that is too narrow would show.
    type(net).radius, kept = property(lambda self: 2), type(net).radius
    try:
        seams = np.abs(known.translate(image, codes, "a", tile=16) - whole)
    finally:
        type(net).radius = kept
    assert seams.max() > 1


def test_parameters_are_plain_and_replay(tmp_path):
    out = expand(pool_of(), Translate(**TINY, style="both"), tmp_path / "x", factor=2, seed=1)
    seen = set()
    for file in sorted((out / "provenance").glob("*.json")):
        record = json.loads(file.read_text())
        assert len(record["params"]["style"]) == 2
        again, twice = replay(file, pool_of()), replay(file, pool_of())
        assert bytes_of(again) == bytes_of(twice)
        assert again.image.dtype == np.uint16 and again.image.shape == (2, 40, 56)
        seen.add(again.image.numpy().tobytes())
        assert record["target"] not in list(record["sources"])[1:]
    assert len(seen) == 6


def test_labels_and_points_stay_as_they_are(tiny):
    sample = tissue("a")
    params = tiny.draw(np.random.default_rng(0), sample, pool_of())
    made = tiny.apply(params, sample)
    assert made.labels is sample.labels and made.points is sample.points


def test_gradients_go_only_where_they_should():
    torch.manual_seed(0)
    net, critic = Generator(2, 2, features=8, blocks=1), PatchCritic(2, 2, features=8)
    images = [tissue(name).image.numpy() for name in "ab"]
    batch = Batches(images, Statistics((2e3, 2e3), (2e3, 2e3)), (16, 16), 2, 8, 0)[0]
    made = translated(net, batch)
    critic_loss(critic, made, batch).backward()
    assert all(p.grad is None for p in net.parameters())
    assert all(p.grad is not None for p in critic.parameters())
    critic.zero_grad(set_to_none=True)
    critic.requires_grad_(False)
    sum(generator_losses(net, critic, made, batch).values()).backward()
    assert all(p.grad is None for p in critic.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_contrast_knows_a_place_from_the_others():
    torch.manual_seed(0)
    content = torch.randn(2, 8, 6, 6)
    places = torch.stack([torch.randperm(36)[:20] for _ in range(2)])
    flat = [c.flatten(1)[:, p] / c.flatten(1)[:, p].norm(dim=0) for c, p in zip(content, places)]
    logits = torch.stack([f.T @ f for f in flat]) / 0.07
    expected = -torch.stack([torch.log_softmax(m, 1).diagonal() for m in logits]).mean()
    assert torch.isclose(contrast(content, content, places), expected, atol=1e-5)
    assert contrast(content, content.flip(0), places) > expected + 1


def test_one_channel_volumes_and_priors(tmp_path):
    def thin(name):
        return tissue(name, (6, 20, 24), 1, (30.0, 10.0, 10.0))

    options = TINY | {"patch": 8, "steps": 2}
    method = Translate(**options, style="prior").fitted(pool_of(thin), tmp_path / "3d")
    sample = thin("a")
    params = method.draw(np.random.default_rng(0), sample, pool_of(thin))
    assert params["sources"] == []
    made = method.apply(params, sample)
    assert made.image.shape == (1, 6, 20, 24) and made.image.dtype == np.uint16
    assert (made.image.numpy() != sample.image.numpy()).any()

    def with_prior(name):
        plain = tissue(name)
        data = np.concatenate([plain.image.numpy(), np.full((1, 40, 56), 500, np.uint16)])
        channels = (*plain.image.channels, "prior X")
        return plain.with_(image=Volume(data, "cyx", (10, 10), channels))

    method = Translate(**options).fitted(pool_of(with_prior), tmp_path / "prior")
    sample = with_prior("b")
    made = method.apply(method.draw(np.random.default_rng(0), sample, pool_of(with_prior)), sample)
    assert len(method._fitted.styles["a"]) == 2 and (made.image.numpy()[2] == 500).all()


def test_pools_that_cannot_be_learned_from(tmp_path):
    method = Translate(**TINY)
    with pytest.raises(DataError, match=r"other images.*a pool of 1"):
        method.fitted(pool_of(names="a"), tmp_path)

    def broken(name):
        sample = tissue(name)
        data = sample.image.numpy().astype(np.float32)
        data[0, 3, 4] = np.nan if name == "b" else 1
        return sample.with_(image=sample.image.like(data))

    with pytest.raises(DataError, match=r"NaN.*\(b\)"):
        method.fitted(pool_of(broken), tmp_path)
    with pytest.raises(DataError, match=r"differ in channels.*\(c\).*1 channels"):
        method.fitted(pool_of(lambda n: tissue(n, channels=1 if n == "c" else 2)), tmp_path)
    with pytest.raises(DataError, match="same everywhere"):
        flat = np.zeros((2, 40, 56), np.uint8)
        method.fitted(pool_of(lambda n: Sample(n, Volume(flat, "cyx", (1, 1)))), tmp_path)
    assert survey(pool_of(), lambda *_: None).statistics.mean == pytest.approx(
        np.mean([tissue(n).image.numpy() for n in "abc"], axis=(0, 2, 3))
    )


def test_clear_words(tiny, tmp_path):
    sample = tissue("a")
    bare = make_augmentation("translate", {"steps": 6})
    assert type(bare) is Translate
    with pytest.raises(ModelError, match="no generator yet"):
        bare.draw(np.random.default_rng(0), sample, pool_of())
    params = tiny.draw(np.random.default_rng(0), sample, pool_of())
    with pytest.raises(ModelError, match="no generator yet"):
        bare.apply(params, sample)
    with pytest.raises(DataError, match=r"for 2 channels in 2D.*found 1 in 2D"):
        tiny.apply(params, tissue("a", channels=1))
    with pytest.raises(DataError, match="no other sample"):
        tiny.draw(np.random.default_rng(0), sample, pool_of(names="a"))
    with pytest.raises(DataError, match="style of no other image"):
        tiny.draw(np.random.default_rng(0), sample, pool_of(names="xy"))
    data = sample.image.numpy().astype(np.float32)
    data[1, 2, 2] = np.inf
    with pytest.raises(DataError, match="NaN or infinite"):
        tiny.apply(params, sample.with_(image=sample.image.like(data)))
    for options, words in (
        ({"style": "pol"}, "kind of style"),
        ({"steps": 0}, "steps"),
        ({"steps": 1.5}, "whole number"),
        ({"patch": 17}, "even"),
        ({"lr": float("nan")}, "lr"),
        ({"cycle": -1}, "cycle"),
        ({"content": 4}, "content_size"),
    ):
        with pytest.raises(RecipeError, match=words):
            make_augmentation("translate", options)
    method = Translate(**TINY)
    known = method.fitted(pool_of(), tmp_path)._fitted
    (weights,) = tmp_path.rglob("generator.safetensors")
    weights.write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot be read"):
        method.fitted(pool_of(), tmp_path)
    assert known.key in str(weights)


def test_views_are_normalised_and_batches_keyed():
    images = [tissue(name).image.numpy() for name in "ab"]
    statistics = Statistics((2e3, 2e3), (2e3, 1e3))
    batches = Batches(images, statistics, (16, 24), 3, 5, 0)
    first, again, second = batches[4], batches[4], batches[5]
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["image"], second["image"])
    assert first["other"].shape == (3, 2, 32, 48) and first["latent"].shape == (3, 5)
    wide = batches.view(0, (64, 64), np.random.default_rng(0))
    whole = Normalisation.apply(images[0], statistics)
    np.testing.assert_array_equal(wide[:, :40, :56], whole)
    np.testing.assert_array_equal(wide[:, 40, :56], whole[:, 39])
