"""Points as tests of their formats need them."""

import numpy as np
import pandas as pd
import pytest

from brodmann.core import DataError, Points
from brodmann.io.points import read_points

SPACING = (4.0, 1.8, 1.8)
SHAPE = (100, 200, 300)


def made(count, seed=0, **columns):
    """So many within the shape, with scores, regions and markers."""
    rng = np.random.default_rng(seed)
    at = rng.random((count, 3)) * (np.array(SHAPE) - 1)
    table = pd.DataFrame(at, columns=list("zyx"))
    table["score"] = rng.random(count)
    table["region"] = rng.choice(["CTX", "NA", "", 'a "b", c'], count)
    table["marker"] = rng.choice(["NeuN", "cFos"], count)
    for name, values in columns.items():
        table[name] = values
    return Points(table)


def faults(path, text, **options):
    """What is said, in one line, of a file of this text."""
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_points(path, **options)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message
