"""EM: options that cannot be, their words, and windows that do not fit."""

import json

import numpy as np
import pytest

from brodmann.augment import AUGMENTATIONS, make_augmentation
from brodmann.augment.em import EM
from brodmann.core import DataError, RecipeError, keyed_rng
from brodmann.report.methods import describe_method

SECTIONS, SHAPE = (0.04, 0.004, 0.004), (8, 40, 40)
SWITCHES = [name for name in EM.__dataclass_fields__ if name.endswith("_p")]
OFF = dict.fromkeys(SWITCHES, 0.0)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"flip_p": 1.5}, "probability"),
        ({"flip_p": True}, "probability"),
        ({"rotation_deg": 200}, "angle"),
        ({"scale": [1.2, 0.8]}, "range"),
        ({"scale": 1.0}, "range"),
        ({"missing_sections": [0, 1]}, "range"),
        ({"missing_sections": [1, 1.5]}, "whole numbers"),
        ({"missing_fill": ["white"]}, "fills"),
        ({"missing_fill": []}, "fills"),
        ({"missing_ignore": 1}, "true or false"),
        ({"elastic_px": [1.0, 10.0]}, "fold"),
        ({"noise_std": [0, float("nan")]}, "range"),
        ({"isotropic_sections": -1}, "probability"),
        ({"slipp_p": 0.5}, "slip_p"),
    ],
)
def test_bad_options_are_refused(options, word):
    with pytest.raises(RecipeError, match=word):
        make_augmentation("em", options)


def test_every_option_says_what_it_does():
    options = describe_method("em")["options"]
    assert {option["name"] for option in options} == set(EM().options())
    assert all(option["meaning"] for option in options)


def test_options_go_round():
    assert "em" in AUGMENTATIONS
    method = EM(slip_p=0.5, missing_fill=("black",), blur_sections=(2, 5))
    assert make_augmentation("em", json.loads(json.dumps(method.options()))) == method


def test_bad_windows_and_labels_are_refused():
    method = EM(**OFF)
    params = method.draw_patch(keyed_rng(0), SHAPE, 1, SECTIONS)
    image, ids = np.zeros((1, *SHAPE), np.float32), np.ones(SHAPE, np.int32)
    with pytest.raises(DataError, match="even number"):
        method.apply_patch(params, image[:, :, :39], None, SHAPE)
    with pytest.raises(DataError, match="whole numbers"):
        method.apply_patch(params, image, ids.astype(float), SHAPE)
    with pytest.raises(DataError, match="does not fit"):
        method.apply_patch(params, image, ids.astype(np.int8), SHAPE, outside_label=999)
    with pytest.raises(DataError, match="axes"):
        method.draw_patch(keyed_rng(0), (4, 8, 8, 8), 1)
