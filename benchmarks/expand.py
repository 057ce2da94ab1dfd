"""Expansion: full-size images made a minute by every mixing method, beside public formulations.

Sections of 2 x 6383 x 12531 uint16 with 118 subregions, in memory; one thread. The peers are
CarveMix and CutMix as they were published: the same draw, then two distance transforms of the
whole frame (CarveMix) and masks multiplied with whole images. `ours` and `theirs` are CarveMix;
the other figures stand beside. Ours also opens the label map, the public formulations do not.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import scipy
from scipy import ndimage

from benchmarks import harness
from brodmann.augment import make_augmentation
from brodmann.augment.mixing import as_box
from brodmann.augment.regions import Regions
from brodmann.core import Dataset, Sample, keyed_rng
from brodmann.datasets.phantoms.sections import phantom_sections

SHAPE = (6383, 12531)
METHODS = ("mixup", "cutmix", "carvemix", "prmix")


def mixed_by_mask(target: Sample, source: Sample, mask: np.ndarray) -> None:
    """X_s M + X_t (1 - M), for the image and for the labels, over whole frames."""
    mask = mask.astype(np.float32)
    for a, b in (
        (source.image.numpy(), target.image.numpy()),
        (source.labels.numpy(), target.labels.numpy()),
    ):
        (a * mask + b * (1 - mask)).astype(b.dtype)


def public_carvemix(target: Sample, source: Sample, region: np.ndarray, level_um: float) -> None:
    """Signed distance over the whole frame, then the mask of all that is within the level."""
    step = target.image.spacing
    signed = ndimage.distance_transform_edt(~region, sampling=step).astype(np.float32)
    signed -= ndimage.distance_transform_edt(region, sampling=step).astype(np.float32)
    mixed_by_mask(target, source, signed <= level_um)


def public_cutmix(target: Sample, source: Sample, box: list[list[int]]) -> None:
    """A mask of ones with a box."""
    mask = np.zeros(SHAPE, bool)
    mask[as_box(box)] = True
    mixed_by_mask(target, source, mask)


def run(repeats: int) -> dict[str, Any]:
    """Seconds an image of ours and of the peers, and images a minute of every method."""
    lazy = phantom_sections(3, 1, SHAPE, 2, planes=(0.4, 0.6), test_subjects=0)
    held = {name: lazy[name] for name in lazy.names}
    pool: Dataset = lazy.with_load(held.__getitem__)
    target = pool[0]
    regions = Regions(pool.label_map)
    methods = {name: make_augmentation(name) for name in METHODS}
    methods["prmix"] = make_augmentation("prmix", {"hard_fraction": None})
    state = {"round": 0}

    def make(name: str) -> dict[str, Any]:
        state["round"] += 1
        params = methods[name].draw(keyed_rng(state["round"], "bench"), target, pool)
        methods[name].apply(params, target, pool)
        return params

    for name in METHODS:  # Compiles, and warms the caches.
        make(name)
        print(f"expand: {name} is warm", file=sys.stderr)

    def peer_of(name: str) -> tuple[list[float], list[float]]:
        params: dict[str, Any] = {}

        def ours() -> None:
            params.update(make(name))

        def theirs() -> None:
            source = pool[params["sources"][0]]
            if name == "cutmix":
                public_cutmix(target, source, params["box"])
            else:
                own = regions.of(source.labels.numpy()) == regions.number(params["region"])
                public_carvemix(target, source, own, params["level_um"])

        return harness.alternate(ours, theirs, repeats, ours_each=1)

    carve_ours, carve_theirs = peer_of("carvemix")
    cut_ours, cut_theirs = peer_of("cutmix")
    each = {"carvemix": carve_ours, "cutmix": cut_ours}
    for name in ("mixup", "prmix"):
        each[name] = [harness.seconds(lambda name=name: make(name)) for _ in range(repeats)]
    return harness.result(
        "expand",
        "CarveMix, public formulation",
        f"scipy {scipy.__version__}",
        carve_ours,
        carve_theirs,
        "s an image",
        shape=[2, *SHAPE],
        images_per_minute={
            name: float(f"{60 / np.median(times):.3g}") for name, times in each.items()
        },
        public_images_per_minute={
            "carvemix": float(f"{60 / np.median(carve_theirs):.3g}"),
            "cutmix": float(f"{60 / np.median(cut_theirs):.3g}"),
        },
        cutmix_ratio=float(f"{np.median([b / a for a, b in zip(cut_ours, cut_theirs)]):.3g}"),
    )


if __name__ == "__main__":
    harness.main(run, __doc__)
