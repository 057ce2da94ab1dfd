"""Methods that answer together."""

import numpy as np
import pytest
from test_methods import QUICK, striped

from brodmann.bench.methods.committee import FLOOR
from brodmann.bench.run import make_method
from brodmann.core import RecipeError

NET = {key: value for key, value in QUICK.items() if key != "stem"} | {
    "net": "texture", "weight_decay": 0.01, "crop": 1.0, "coarse": 2, "turned": False,
}  # fmt: skip


def test_members_learn_by_themselves_and_answer_together(tmp_path):
    made = make_method(
        "committee",
        {
            "members": [
                {"method": "supervised", "options": NET, "times": 2},
                {"method": "texture", "weight": 2},
            ]
        },
    )
    made.fit(striped(24, 0), None, seed=0, folder=tmp_path)
    first, second, _ = made.members
    images = np.stack([sample.image.numpy()[None] for sample in striped(10, 1)])
    assert not np.allclose(first.encoder.encode(images), second.encoder.encode(images))
    shares = [member.probabilities(images) for member in made.members]
    for found in shares:
        assert found.shape == (10, 2) and np.allclose(found.sum(1), 1)
    logs = [np.log(found + FLOOR) for found in shares]
    told = ((logs[0] + logs[1]) / 2 + 2 * logs[2]).argmax(1)
    answers = [made.predict(sample.with_(category=None)) for sample in striped(10, 1)]
    assert answers == [made.names[k] for k in told]
    assert np.mean([a == s.category for a, s in zip(answers, striped(10, 1))]) >= 0.9


def test_a_saved_texture_net_answers_alike(tmp_path):
    method = make_method("supervised", NET | {"smoothing": 0.1, "steps": 5})
    method.fit(striped(8, 0), None, seed=0, folder=tmp_path)
    again = make_method("supervised", NET | {"smoothing": 0.1})
    again.load(tmp_path)
    images = np.stack([sample.image.numpy()[None] for sample in striped(4, 1)])
    assert np.allclose(method.encoder.logits(images), again.encoder.logits(images), atol=1e-5)


def test_a_turned_answer_does_not_depend_on_how_an_image_lies(tmp_path):
    method = make_method("supervised", NET | {"turned": True})
    method.fit(striped(24, 0), None, seed=0, folder=tmp_path)
    images = np.stack([sample.image.numpy()[None] for sample in striped(4, 1)])
    turned = np.rot90(images, axes=(2, 3))
    assert np.allclose(method.encoder.logits(images), method.encoder.logits(turned), atol=1e-4)
    method.encoder.turned = False
    assert not np.allclose(method.encoder.logits(images), method.encoder.logits(turned), atol=0.1)


def test_a_committee_answers_no_attributes(tmp_path):
    made = make_method("committee", {"members": [{"method": "texture", "times": 2}]})
    with pytest.raises(RecipeError, match="categories only"):
        made.fit(striped(6, 0, "attributes"), None, seed=0, folder=tmp_path)


@pytest.mark.parametrize(
    "members, told",
    [
        ([{"method": "texture"}], "two members"),
        ([{"method": "texture", "times": 0}], "whole number"),
        ([{"method": "texture", "weight": 0}, {"method": "texture"}], "above 0"),
        ([{"method": "constant"}, {"method": "texture"}], "no probabilities"),
        ([{"metod": "texture"}, {"method": "texture"}], "metod"),
    ],
)
def test_wrong_members_are_named(members, told):
    with pytest.raises(RecipeError, match=told):
        make_method("committee", {"members": members})


def test_wrong_nets_are_named():
    for key, value in (("net", "resnet19"), ("coarse", 0), ("smoothing", 1.5)):
        with pytest.raises(RecipeError, match=key):
            make_method("supervised", {key: value})
