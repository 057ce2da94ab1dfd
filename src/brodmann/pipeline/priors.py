"""The prior stage: every section gets the labels that registration carries to it, as channels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from brodmann.core import DataError, Dataset, Sample, Volume, keyed_rng
from brodmann.datasets.folder import write_folder
from brodmann.pipeline.recipe import PriorSection, SplitSection
from brodmann.preprocess import PRIOR, PRIOR_SCALE
from brodmann.preprocess.propagate import LOOKS, Carrier, random_bend


def write_priors(
    dataset: Dataset,
    section: PriorSection,
    split: SplitSection,
    seed: int,
    out: Path,
    advance: Callable[[int, int], None],
) -> Path:
    """Write a dataset whose samples carry a prior channel for each region.

    A series is all samples of one subject, in the order of `meta["position"]`; samples
    without labels help registration and are left out of what is written. A training section
    is written `copies` times: each copy does as if labels lay farther away than they do (a
    gap drawn from `gaps`) and registration were worse than it is (a random bend), so that a
    net learns to mend what it will meet between labelled sections. Its own labels never enter
    its prior. Test sections get the prior from all training sections.

    Returns
    -------
    Path
        A dataset folder with the same splits; copies are named NAME-priorN.

    Raises
    ------
    DataError
        If a sample has no position, or a series no labelled section to carry from.
    """
    train, test = dataset.split(split.train).names, dataset.split(split.test).names
    makers: dict[str, Callable[[], Sample]] = {}
    made: dict[str, list[str]] = {split.train: [], split.test: []}
    subjects: dict[str, str] = {}
    regions = dataset.label_map.class_names[1:]
    series: dict[str, list[str]] = defaultdict(list)
    for name in dataset.names:
        series[dataset.subjects[name]].append(name)
    for subject, members in series.items():
        samples = sorted((dataset[name] for name in members), key=_position)
        order = [sample.name for sample in samples]
        labelled = {
            order.index(s.name): dataset.label_map.to_classes(s.labels.numpy(), s.name)
            for s in samples
            if s.name in train
        }
        views = [s.image.read().astype(np.float32).mean(0) for s in samples]
        carrier = Carrier(views, labelled, dataset.label_map.num_classes)
        for index, sample in enumerate(samples):
            if sample.name in train:
                for copy in range(section.copies):
                    name = f"{sample.name}-prior{copy}"
                    makers[name] = partial(
                        _copy, carrier, regions, sample, index, name, section, seed, copy
                    )
                    made[split.train].append(name)
                    subjects[name] = subject
            elif sample.name in test:
                makers[sample.name] = partial(
                    _with_prior, carrier, regions, sample, index, sample.name
                )
                made[split.test].append(sample.name)
                subjects[sample.name] = subject
    done = 0

    def load(name: str) -> Sample:
        nonlocal done
        sample = makers[name]()
        done += 1
        advance(done, len(makers))
        return sample

    derived = Dataset(
        f"{dataset.name}-prior", list(makers), load, dataset.label_map, subjects, made,
        dataset.licence, dataset.citation, dataset.description,
    )  # fmt: skip
    return write_folder(derived, out)


def _position(sample: Sample) -> float:
    position = sample.meta.get("position")
    if position is None:
        raise DataError(
            "a series needs the position of every section",
            sample.name,
            fix='write {"position": number} into meta/NAME.json, in the order of cutting',
        )
    return float(position)


def _copy(
    carrier: Carrier,
    regions: list[str],
    sample: Sample,
    index: int,
    name: str,
    section: PriorSection,
    seed: int,
    copy: int,
) -> Sample:
    rng = keyed_rng(seed, "prior", sample.name, copy)
    gaps = [gap for gap in section.gaps if carrier.sources(index, gap)]
    if not gaps:
        raise DataError(
            "no other labelled section to carry from",
            sample.name,
            fix="label a second section, or lower prior.gaps",
        )
    gap = gaps[rng.integers(len(gaps))]
    knot_um = section.bend_knots_um[rng.integers(len(section.bend_knots_um))]
    pixel_um = sample.image.spacing[0]
    deviation_um = section.bend_um * rng.uniform()
    bend = random_bend(carrier.shape, deviation_um / pixel_um, knot_um / pixel_um, rng)
    look = int(rng.integers(len(LOOKS)))
    return _with_prior(carrier, regions, sample, index, name, gap, bend, [look])


def _with_prior(
    carrier: Carrier,
    regions: list[str],
    sample: Sample,
    index: int,
    name: str,
    gap: int = 1,
    bend: np.ndarray | None = None,
    looks: Sequence[int] = range(len(LOOKS)),
) -> Sample:
    prior = carrier.prior(index, gap, bend, looks)[1:] * PRIOR_SCALE
    image = sample.image.read()
    dtype = np.result_type(image.dtype, np.uint16)
    stacked = np.concatenate([image.astype(dtype), np.rint(prior).astype(dtype)])
    channels = (*sample.image.channels, *(PRIOR + region for region in regions))
    return sample.with_(name=name, image=Volume(stacked, "cyx", sample.image.spacing, channels))
