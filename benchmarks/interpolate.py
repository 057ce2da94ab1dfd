"""Filling a gap between two annotated sections: ours against signed distances by scipy.

The peer is what shape-based interpolation of many labels is usually written as: scipy's
`distance_transform_edt` of every label, inside and outside, in both sections, all kept; then
for each section between, the label of the largest blend. Ours are "recursive" and "distance";
peak memory is each one's own, in a process of its own. The sections have as many pixels as a
quarter of the plane of MTNeuro's annotation (854 x 4750) and as many regions.

`held_out_on_atlas(folder)` scores all methods on the Allen CCFv3, for docs/annotate.md:

    python -c "from benchmarks.interpolate import *; held_out_on_atlas('../shared/data/atlas')"
"""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import harness
from brodmann.core import Volume, keyed_rng
from brodmann.postprocess.interpolate import held_out_scores, interpolate_between

SHAPE = (427, 2375)
LABELS = 9
STEPS = 25
SHIFT = 25.0
"""Mean displacement of regions from one section to the other, in pixels."""
MAJOR = (315, 698, 1089, 703, 477, 803, 549, 1097, 313, 771, 354, 512, 1009, 73)
"""Isocortex to cerebellum, fibre tracts, ventricles: the atlas in 14 regions."""


def sections(shape: tuple[int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Two label images (y, x) uint8 of nearest-seed regions; the second's seeds have moved."""
    from scipy.spatial import cKDTree

    rng = keyed_rng(0, "sections")
    seeds = rng.uniform(0, 1, (4 * LABELS, 2)) * shape
    owner = rng.permutation(np.arange(len(seeds)) % LABELS).astype(np.uint8)
    moved = seeds + rng.normal(size=seeds.shape) * SHIFT
    y, x = np.meshgrid(*(np.arange(n) + 0.5 for n in shape), indexing="ij")
    points = np.stack([y, x], -1)
    before, after = (owner[cKDTree(at).query(points)[1]] for at in (seeds, moved))
    return before, after


def ours(before: np.ndarray, after: np.ndarray, method: str) -> np.ndarray:
    """All sections between."""
    return interpolate_between(before, after, STEPS, method=method).slices(STEPS)


def theirs(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The same by scipy."""
    from scipy.ndimage import distance_transform_edt

    labels = np.union1d(before, after)
    signed = np.stack(
        [
            [
                distance_transform_edt(image == label) - distance_transform_edt(image != label)
                for label in labels
            ]
            for image in (before, after)
        ]
    )
    out = np.empty((STEPS - 1, *before.shape), before.dtype)
    for step in range(1, STEPS):
        t = step / STEPS
        out[step - 1] = labels[np.argmax((1 - t) * signed[0] + t * signed[1], 0)]
    return out


def peak_mb(name: str) -> float:
    """Memory that one way takes above what its process held before, in MB."""
    code = f"from benchmarks import interpolate as i; i.tell_peak({name!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def tell_peak(name: str) -> None:
    """Print by how much one way raises the peak of this process; Linux counts it anew."""
    work = theirs if name == "theirs" else lambda a, b: ours(a, b, name)
    pair = sections()
    work(*sections((40, 60)))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _high_water_mb()
    work(*pair)
    print(_high_water_mb() - before)


def _high_water_mb() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(peak) * 1024 / 1e6


def run(repeats: int = 3) -> dict:
    """The whole comparison, about half a minute at three repeats on a quiet machine."""
    pair = sections()
    for method in ("recursive", "distance"):
        ours(*sections((40, 60)), method)  # compiles
    same = float((theirs(*pair) == ours(*pair, "distance")).mean())
    if same < 0.99:
        raise RuntimeError(f"the two do not agree: {same:.4f} of the pixels")
    mine, other = harness.alternate(lambda: ours(*pair, "distance"), lambda: theirs(*pair), repeats)
    again, _ = harness.alternate(lambda: ours(*pair, "recursive"), lambda: None, repeats)
    names = ("distance", "recursive", "theirs") if Path("/proc/self/clear_refs").exists() else ()
    memory = {name: float(f"{peak_mb(name):.3g}") for name in names}
    return harness.result(
        "interpolate",
        "scipy distance_transform_edt, argmax",
        version("scipy"),
        mine,
        other,
        "s",
        shape=list(SHAPE),
        labels=LABELS,
        sections=STEPS - 1,
        agreement=float(f"{same:.5g}"),
        recursive_s=float(f"{np.median(again):.4g}"),
        memory_mb=memory,
    )


def read_atlas(folder: str | Path, major: bool = False) -> Volume:
    """The annotation (AP, DV, LR) as numbers of structures, or of 14 major regions."""
    raw = (Path(folder) / "ccfv3_annotation_25um.nrrd").read_bytes()
    grid = np.frombuffer(gzip.decompress(raw[raw.index(b"\n\n") + 2 :]), "<u4")
    grid = grid.reshape(456, 320, 528).transpose(2, 1, 0)
    numbers, ids = pd.factorize(grid.reshape(-1), sort=True)
    table = np.arange(len(ids), dtype=np.uint16)
    if major:
        with (Path(folder) / "structures.csv").open(encoding="utf-8") as file:
            paths = {int(row["id"]): row["structure_id_path"] for row in csv.DictReader(file)}
        parts = [[int(i) for i in paths.get(int(id_), "").split("/") if i] for id_ in ids]
        table[:] = [next((MAJOR.index(i) + 1 for i in above if i in MAJOR), 0) for above in parts]
    return Volume(table[numbers].reshape(grid.shape), "zyx", (25.0, 25.0, 25.0))


def held_out_on_atlas(folder: str | Path, places: int = 12) -> None:
    """Print mean Dice and border shift of slices told from neighbours at both sides."""
    for major, apart in ((True, (1, 2, 5, 10, 20)), (False, (1, 2, 5))):
        labels = read_atlas(folder, major)
        for away in apart:
            scores = []
            for middle in np.linspace(60, 460, places).round().astype(int).tolist():
                scores += held_out_scores(labels, (middle - away, middle, middle + away)).scores
            for method in ("recursive", "distance", "nearest"):
                rows = [s for s in scores if s.label is None and s.method == method]
                dice = np.mean([row.dice for row in rows])
                shift = np.mean([row.shift_um for row in rows])
                names = "major" if major else "all"
                line = f"{names:>6} +-{25 * away:>3} um {method:>10} {dice:.4f} {shift:.1f} um"
                print(line, flush=True)


if __name__ == "__main__":
    harness.main(run, __doc__)
