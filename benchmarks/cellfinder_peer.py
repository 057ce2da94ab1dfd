"""cellfinder's detection, to be run by the Python of an environment that has cellfinder.

    python cellfinder_peer.py serve         one JSON line of {"planes", "points", "settings"} in,
                                            one of {"seconds", "cells"} out, until the end
    python cellfinder_peer.py tune FILES    search settings on .npz of `image` and `cells`

Nothing of brodmann is imported here.
"""

import contextlib
import json
import sys
import time

import numpy as np

VOXEL_UM = (4.0, 1.8, 1.8)
TOLERANCE = 6.0
START = {
    "soma_diameter": 6,
    "ball_xy_size": 6,
    "ball_z_size": 10,
    "ball_overlap_fraction": 0.6,
    "log_sigma_size": 0.2,
    "n_sds_above_mean_thresh": 3,
    "soma_spread_factor": 1.4,
    "tiled_thresh_tile_size": None,
    "n_sds_above_mean_tiled_thresh": 10,
}
TRIED = {
    "soma_diameter": [4, 5, 8, 10, 13, 16],
    "n_sds_above_mean_thresh": [1, 2, 2.5, 3.5, 4, 6, 10],
    "ball_xy_size": [2, 4, 8],
    "ball_z_size": [4, 8, 15],
    "ball_overlap_fraction": [0.4, 0.5, 0.7, 0.8],
    "log_sigma_size": [0.1, 0.3],
    "soma_spread_factor": [1, 2],
    "tiled_thresh_tile_size": [5, 10],
    "n_sds_above_mean_tiled_thresh": [2, 4],
}


def found_in(image, settings):
    """(n, 3) z, y, x of the cells of an array, by all cores."""
    from cellfinder.core.detect.detect import main

    cells = main(image, voxel_sizes=VOXEL_UM, n_free_cpus=0, torch_device="cpu", **settings)
    return np.array([[cell.z, cell.y, cell.x] for cell in cells], float).reshape(-1, 3)


def serve():
    """Detect in folders of planes, as often as asked; only detection with its reading is timed."""
    from brainglobe_utils.IO.image.load import read_with_dask

    answers = sys.stdout
    for line in sys.stdin:
        asked = json.loads(line)
        with contextlib.redirect_stdout(sys.stderr):
            begun = time.perf_counter()
            cells = found_in(read_with_dask(asked["planes"]), asked["settings"])
            seconds = time.perf_counter() - begun
        np.save(asked["points"], cells)
        print(json.dumps({"seconds": seconds, "cells": len(cells)}), file=answers, flush=True)


def pairs(found, truth):
    """Found and true cells nearer than the tolerance, nearest first, each once."""
    from scipy.spatial import cKDTree

    near = cKDTree(found).sparse_distance_matrix(
        cKDTree(truth), np.nextafter(TOLERANCE, 0), output_type="ndarray"
    )
    rows, columns = set(), set()
    for pair in near[np.argsort(near["v"], kind="stable")]:
        if pair["i"] not in rows and pair["j"] not in columns:
            rows.add(pair["i"])
            columns.add(pair["j"])
    return len(rows)


def f1_of(volumes, settings):
    """Of all cells of all volumes together."""
    hits = found = true = 0
    for image, truth in volumes:
        cells = found_in(image, settings)
        hits += pairs(cells, truth) if len(cells) else 0
        found, true = found + len(cells), true + len(truth)
    return 2 * hits / (found + true)


def tune(files, rounds=1):
    """One setting after another, from a start found in the same way; prints what each gives."""
    volumes = []
    for file in files:
        with np.load(file) as parts:
            volumes.append((parts["image"], parts["cells"]))
    best = dict(START)
    high = f1_of(volumes, best)
    print(f"{high:.4f} start", flush=True)
    for _ in range(rounds):
        before = dict(best)
        for key, values in TRIED.items():
            for value in values:
                settings = best | {key: value}
                if settings == best:
                    continue
                f1 = f1_of(volumes, settings)
                print(f"{f1:.4f} {key} {value}", flush=True)
                if f1 > high:
                    high, best = f1, settings
        if best == before:
            break
    print(json.dumps({"f1": high, "settings": best}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["tune"] and len(sys.argv) > 2:
        tune(sys.argv[2:])
    elif sys.argv[1:] == ["serve"]:
        serve()
    else:
        sys.exit(__doc__)
