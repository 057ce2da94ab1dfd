"""The nouns of Brodmann: every other room speaks in these."""

from brodmann.core.affinities import Affinities, Convention
from brodmann.core.errors import (
    BrodmannError,
    DataError,
    ModelError,
    OutputError,
    RecipeError,
    nearest,
)
from brodmann.core.labels import BACKGROUND, IGNORE_CLASS, Label, LabelMap
from brodmann.core.points import Points
from brodmann.core.registry import Registry
from brodmann.core.sample import Dataset, Sample
from brodmann.core.seeds import key_seed, keyed_rng
from brodmann.core.volume import Volume, check_same_grid

__all__ = [
    "BACKGROUND",
    "IGNORE_CLASS",
    "Affinities",
    "BrodmannError",
    "Convention",
    "DataError",
    "Dataset",
    "Label",
    "LabelMap",
    "ModelError",
    "OutputError",
    "Points",
    "RecipeError",
    "Registry",
    "Sample",
    "Volume",
    "check_same_grid",
    "key_seed",
    "keyed_rng",
    "nearest",
]
