import numpy as np
import pytest
import torch

from brodmann.augment.base import make_augmentation
from brodmann.core import Dataset, Label, LabelMap, ModelError, Sample, Volume, keyed_rng
from brodmann.nets.unet import plain_unet
from brodmann.pipeline.model import seeded_net
from brodmann.preprocess import Normalisation
from brodmann.problems.learner import Divergence, Schedule, fit
from brodmann.problems.semantic.cases import prepare_cases
from brodmann.problems.semantic.patches import Batches
from brodmann.problems.semantic.plan import Plan
from brodmann.problems.semantic.problem import Semantic

TREE = LabelMap([Label(1, "left", "L"), Label(2, "right", "R")])
PLAN = Plan((16, 16), 2, (4, 8), ((1, 1), (2, 2)), ((3, 3), (3, 3)), (1.0, 1.0))


def halves(name):
    rng = keyed_rng(1, name)
    labels = np.zeros((24, 32), np.uint8)
    cut = int(rng.integers(12, 20))
    labels[4:20, 3:cut], labels[4:20, cut:29] = 1, 2
    image = labels * 40 + rng.normal(0, 8, labels.shape)
    return Sample(
        name, Volume(image.astype(np.float32), "yx", (1, 1)), Volume(labels, "yx", (1, 1))
    )


@pytest.fixture
def parts(tmp_path):
    data = Dataset("d", ["a", "b", "c"], halves, TREE)
    cases = prepare_cases(data, Normalisation(), 0, tmp_path / "cases")
    return cases, Semantic(TREE, PLAN)


def train(parts, folder, steps=12, stop=None, validation=False, schedule=None, **options):
    cases, problem = parts
    folder.mkdir(exist_ok=True)
    net = seeded_net(
        0, lambda: plain_unet(1, 3, PLAN.features, PLAN.strides, PLAN.kernels, dropout=0.2)
    )

    def on_step(step, loss):
        if step == stop:
            raise RuntimeError("stopped here")

    make = make_augmentation("classical", {"rotation_p": 0.5})
    return fit(
        net, problem, Batches(cases, PLAN.patch, 2, make, 0),
        schedule or Schedule(steps=steps, lr=0.01, checkpoint_every=4, log_every=4, ema=0.8, validate_every=6 if validation else 0, validate_batches=2),
        0, folder, on_step=on_step,
        validation=Batches(cases, PLAN.patch, 2, make_augmentation("none"), 1) if validation else None,
        **options,
    )  # fmt: skip


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


def test_a_stopped_training_goes_on_and_ends_with_the_same_bytes(parts, tmp_path):
    """Dropout, augmentation, momentum and the running mean are all part of it."""
    whole, curve = train(parts, tmp_path / "whole")
    for stop in (6, 11):
        with pytest.raises(RuntimeError, match="stopped here"):
            train(parts, tmp_path / "parts", stop=stop)
    again, curve_again = train(parts, tmp_path / "parts")
    assert same(whole, again)
    assert [r["loss"] for r in curve] == [r["loss"] for r in curve_again]
    assert [r["step"] for r in curve] == [4, 8, 12]


def test_validation_and_workers_change_no_byte(parts, tmp_path):
    whole, _ = train(parts, tmp_path / "a")
    watched, curve = train(parts, tmp_path / "b", validation=True)
    helped, _ = train(parts, tmp_path / "c", workers=1)
    assert same(whole, watched) and same(whole, helped)
    assert [0 <= row["val_dice"] <= 1 for row in curve if row["step"] in (6, 12)] == [True, True]


def test_it_learns(parts, tmp_path):
    _, curve = train(
        parts, tmp_path / "a", schedule=Schedule(steps=80, optimizer="adamw", lr=0.01, log_every=10)
    )
    assert curve[-1]["loss"] < 0.7 * curve[0]["loss"]


def test_the_learning_rate_warms_up_and_falls():
    schedule = Schedule(steps=100, lr=0.1, warmup_steps=10)
    assert schedule.lr_at(0) == pytest.approx(0.01)
    assert schedule.lr_at(50) == pytest.approx(0.1 * 0.5**0.9)
    assert Schedule(steps=10, lr=1).lr_at(0) == 1


def test_a_loss_that_is_no_number_stops_with_advice(parts, tmp_path):
    cases, _ = parts

    class Broken(Semantic):
        def step(self, net, batch):
            return {"loss": super().step(net, batch)["loss"] * float("nan")}

    with pytest.raises(Divergence, match=r"lower train\.lr"):
        train((cases, Broken(TREE, PLAN)), tmp_path / "a")


def test_a_checkpoint_of_another_net_is_refused(parts, tmp_path):
    train(parts, tmp_path / "a", steps=4)
    state = torch.load(tmp_path / "a" / "checkpoint.pt", weights_only=True)
    state["net"] = {"other": torch.zeros(1)}
    torch.save(state, tmp_path / "a" / "checkpoint.pt")
    with pytest.raises(ModelError, match="does not fit"):
        train(parts, tmp_path / "a", steps=8)
    (tmp_path / "a" / "checkpoint.pt").write_bytes(b"PK damaged")
    with pytest.raises(ModelError):
        train(parts, tmp_path / "a", steps=8)
