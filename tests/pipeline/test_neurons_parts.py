"""Membranes from affinities, the table over seeds, and its words."""

import csv
import io

import numpy as np
import pytest
from scipy import ndimage

from brodmann.core import Affinities, Dataset, Sample, Volume
from brodmann.pipeline.neurons.membranes import inside, membrane_scores
from brodmann.pipeline.neurons.table import neuron_table
from brodmann.pipeline.neurons.training import compact_ids
from brodmann.problems.neurons import Neurons
from brodmann.problems.semantic.plan import Plan
from brodmann.report.neurons import MEASURES, membranes, neurons_csv, neurons_markdown

PLAN = Plan((1, 8, 8), 1, (4,), ((1, 1, 1),), ((1, 3, 3),), (0.05, 0.004, 0.004))


def bordered(seed, shape=(3, 40, 40)):
    """Nearest-seed cells in each section, between borders of 0."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 40, (12, 2))
    grid = np.stack(np.meshgrid(*map(np.arange, shape[1:]), indexing="ij"), -1)
    plane = 1 + ((grid[..., None, :] - points) ** 2).sum(-1).argmin(-1)
    plane[ndimage.morphological_gradient(plane, size=3) > 0] = 0
    return np.stack([plane] * shape[0]).astype(np.uint32)


@pytest.fixture
def parts():
    samples = {}
    for seed, name in enumerate(("tune", "test")):
        ids = bordered(seed)
        image = Volume(ids.astype(np.uint8), "zyx", PLAN.spacing)
        samples[name] = Sample(name, image, image.like(ids))
    data = Dataset("d", list(samples), samples.__getitem__, splits={n: [n] for n in samples})
    return data.split("tune"), data.split("test")


def test_perfect_affinities_draw_every_membrane(parts):
    problem = Neurons(None, PLAN, "in-plane", widen=0)
    affinities = {
        sample.name: Affinities(
            Volume(problem.targets(sample), "czyx", PLAN.spacing), problem.convention
        )
        for part in parts
        for sample in part
    }
    truth = parts[1][0].labels.numpy()
    lone = np.zeros_like(truth, bool)  # a pixel between membranes has no neighbour to be joined to
    for z, plane in enumerate(truth):
        for id_ in np.unique(plane[plane > 0]):
            pieces, _ = ndimage.label(plane == id_)
            sizes = np.bincount(pieces.ravel())
            lone[z] |= (sizes[pieces] == 1) & (pieces > 0)
    np.testing.assert_array_equal(inside(affinities["test"]) == 0, (truth == 0) | lone)
    found = membrane_scores(affinities, *parts)
    assert found["recall"] == 1 and found["f1"] > 0.99 and 0 < found["cut"] < 1


def test_the_cut_is_chosen_on_the_tuning_part(parts):
    problem = Neurons(None, PLAN, "in-plane", widen=0)
    affinities = {}
    for part, weak in zip(parts, (90, 140)):
        values = problem.targets(part[0])
        values[values == 0] = weak
        affinities[part[0].name] = Affinities(
            Volume(values, "czyx", PLAN.spacing), problem.convention
        )
    found = membrane_scores(affinities, *parts)
    assert 90 / 255 < found["cut"] <= 140 / 255 and found["recall"] == 0


def outcome(shift):
    scores = {key: value + shift for value, key in enumerate(MEASURES)}
    settings = {"method": "mean", "threshold": 0.5, "tuned": {"vi": 1.0}}
    return {
        "methods": {"mean": {**settings, "test": scores},
                    "multicut": {"beta": 0.2, "tuned": {"vi": 1.0},
                                 "test": {k: v + 1 for k, v in scores.items()}}},
        "trivial": {"one segment": scores},
        "membranes": {"cut": 0.5, "f1": 0.8 + shift / 10, "precision": 0.7, "recall": 0.9},
    }  # fmt: skip


def test_means_and_deviations_over_seeds():
    table = neuron_table({0: outcome(0.0), 4: outcome(0.2)})
    assert table["best"] == "mean" and [row["n"] for row in table["rows"]] == [2, 2]
    assert table["rows"][1]["mean"]["vi"] == pytest.approx(1.1)
    assert table["rows"][1]["std"]["vi"] == pytest.approx(0.2 / 2**0.5)
    assert [one["seed"] for one in table["rows"][0]["seeds"]] == [0, 4]
    assert table["membranes"]["mean"]["f1"] == pytest.approx(0.81)
    alone = neuron_table({0: {k: v for k, v in outcome(0).items() if k != "membranes"}})
    assert alone["membranes"] is None and alone["rows"][0]["std"]["vi"] is None


def test_words_and_columns():
    result = {
        "title": "A run",
        "seeds": [0, 4],
        "notes": ["Mind the gap."],
        "command": "brodmann run x",
        "published": {"waterz": {"vi": 1.623, "arand": 0.209}},
        "recipe": {"segment": {"choose_by": "both"}},
        **neuron_table({0: outcome(0.0), 4: outcome(0.2)}),
    }
    text = neurons_markdown(result)
    assert "| mean | 0.100 ± 0.141 |" in text and "| published: waterz | 1.623 | – |" in text
    assert "Mind the gap." in text and "    brodmann run x" in text
    assert "F1 0.810 ± 0.014" in membranes(result) and membranes(result) in text
    rows = list(csv.DictReader(io.StringIO(neurons_csv(result))))
    assert [row["kind"] for row in rows] == ["method", "method", "trivial"]
    assert float(rows[1]["vi_std"]) == pytest.approx(0.14142)


def test_ids_of_any_size_become_small_ones():
    ids = np.array([[0, 2**63, 5], [5, 2**64 - 1, 0]], np.uint64)
    assert compact_ids(ids).tolist() == [[0, 2, 1], [1, 3, 0]]
    assert compact_ids(np.array([-1, 3, 0])).tolist() == [-1, 1, 0]
