"""Markers, the tissues that they mark, and how many cells of each there are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brodmann.core import Label, LabelMap, RecipeError, nearest

FLUID = "fluid"
NEUN_SHARE = 0.95
"""Of all neurons, those that carry NeuN."""
GFAP_SHARE = 0.7
"""Of all astrocytes, those that carry GFAP."""
CLASSES = ("neuron", "microglia", "astrocyte", "debris")
"""Debris is bright dirt that no truth tells of."""
APART_UM = {"neuron": 9.0, "microglia": 22.0, "astrocyte": 16.0, "debris": 6.0}
"""Two cells of a class are no nearer to each other."""


@dataclass(frozen=True)
class Marker:
    """How cells of one marker look and lie.

    Attributes
    ----------
    name : str
    cells : "neuron", "microglia" or "astrocyte"
        Whose cells carry it.
    apart_um : float
        Two centres of this marker are no nearer to each other.
    ground, bright : float
        Camera counts: tissue without cells, and the median cell at its centre.
    spread : float
        Deviation of the logarithm of brightness from cell to cell.
    clusters : float
        0 to 1: how far density changes from place to place within a region.
    cluster_um : float
        Over what distance it does.
    grain : float
        Contrast of the tissue's texture, of its mean.
    """

    name: str
    cells: str
    apart_um: float
    ground: float
    bright: float
    spread: float
    clusters: float = 0.0
    cluster_um: float = 150.0
    grain: float = 0.07


MARKERS: dict[str, Marker] = {
    m.name: m
    for m in (
        Marker("NeuN", "neuron", 9.0, 900, 5200, 0.28),
        Marker("cFos", "neuron", 9.0, 2200, 2100, 0.85, clusters=0.9, cluster_um=220),
        Marker("PV", "neuron", 14.0, 1700, 6500, 0.40, clusters=0.3),
        Marker("TH", "neuron", 15.0, 1400, 8000, 0.35, clusters=0.95, cluster_um=110, grain=0.10),
        Marker("Iba1", "microglia", 22.0, 2000, 20000, 0.35, grain=0.11),
        Marker("GFAP", "astrocyte", 16.0, 1500, 5500, 0.40, clusters=0.4, grain=0.10),
    )
}
"""The six markers of the CANVAS paper."""


@dataclass(frozen=True)
class Tissue:
    """Cells per mm3 of each marker, of debris, and how bright the tissue is for each marker.

    Levels multiply a marker's `ground`; those not given are `level`.
    """

    acronym: str
    neun: float
    cfos: float
    pv: float
    th: float
    iba1: float
    gfap: float
    debris: float = 120.0
    level: float = 1.0
    levels: tuple[tuple[str, float], ...] = ()

    def density(self, marker: str) -> float:
        """Cells per mm3 that carry a marker."""
        return float(getattr(self, marker.lower()))

    def brightness(self, marker: str) -> float:
        return dict(self.levels).get(marker, self.level)


TISSUES: dict[str, Tissue] = {
    t.acronym: t
    for t in (
        Tissue("CTX1", 9e3, 300, 150, 0, 6e3, 9e3, 250),
        Tissue("CTX2/4", 105e3, 9e3, 2800, 20, 7e3, 2500),
        Tissue("CTX5/6", 75e3, 5e3, 2300, 30, 7e3, 3500, level=0.95),
        Tissue("Isocortex", 80e3, 6e3, 2400, 25, 7e3, 3500),
        Tissue("OLF", 120e3, 4e3, 600, 4e3, 8e3, 8e3),
        Tissue("CA", 60e3, 2500, 1800, 0, 8500, 13e3, level=0.9),
        Tissue("DG", 175e3, 5e3, 600, 0, 8e3, 11e3, level=0.9),
        Tissue("HPF", 70e3, 3e3, 1600, 0, 8500, 12e3, level=0.9),
        Tissue("STR", 95e3, 3e3, 1200, 20, 8e3, 2500, levels=(("TH", 2.2),)),
        Tissue("TH", 60e3, 1800, 900, 10, 6e3, 1500, level=1.1, levels=(("PV", 1.4),)),
        Tissue("SN", 40e3, 600, 1500, 20e3, 11e3, 5e3, levels=(("TH", 2.0),)),
        Tissue("MB", 40e3, 1200, 1500, 300, 7e3, 4e3, level=1.05),
        Tissue("BS", 35e3, 1200, 900, 250, 6500, 4e3, level=1.1),
        Tissue("CBmo", 8e3, 150, 2500, 0, 5e3, 3e3, levels=(("PV", 1.5),)),
        Tissue("CBgr", 180e3, 2e3, 500, 0, 5e3, 3500, level=1.1),
        Tissue("CB", 90e3, 1000, 1500, 0, 5e3, 3500),
        Tissue("fiber tracts", 3e3, 60, 60, 0, 8e3, 13e3, level=1.2, levels=(("NeuN", 0.8),)),
    )
}
"""By acronym; those of the Allen tree where there is one. Orders of magnitude are those of the
mouse; where a count is not known well it is made up."""
NAMES = (FLUID, *TISSUES)
ELSEWHERE = "BS"
ALLEN = {
    "VS": FLUID,
    "CTXsp": "Isocortex",
    "CNU": "STR",
    "CA1": "CA",
    "CA2": "CA",
    "CA3": "CA",
    "SNc": "SN",
    "SNr": "MB",
    "VTA": "SN",
    "grey": ELSEWHERE,
    "root": ELSEWHERE,
}
"""Further acronyms of the Allen tree and the tissue that each is drawn as."""

REGIONS = LabelMap(
    [
        Label(1, "Brain", "root", None, "FFFFFF"),
        Label(10, "Isocortex", "Isocortex", 1, "70FF71"),
        Label(11, "Isocortex, layer 1", "CTX1", 10, "9CFF9D"),
        Label(12, "Isocortex, layers 2 to 4", "CTX2/4", 10, "70FF71"),
        Label(13, "Isocortex, layers 5 and 6", "CTX5/6", 10, "3FBF40"),
        Label(20, "Olfactory bulb", "OLF", 1, "9AD2BD"),
        Label(30, "Hippocampal formation", "HPF", 1, "7ED04B"),
        Label(31, "Ammon's horn", "CA", 30, "7ED04B"),
        Label(32, "Dentate gyrus, granule cell layer", "DG", 30, "4F8F2A"),
        Label(40, "Striatum", "STR", 1, "98D6F9"),
        Label(50, "Thalamus", "TH", 1, "FF7080"),
        Label(60, "Midbrain", "MB", 1, "FF64FF"),
        Label(61, "Substantia nigra", "SN", 60, "C030C0"),
        Label(70, "Brain stem", "BS", 1, "FF9B88"),
        Label(80, "Cerebellum", "CB", 1, "F0F080"),
        Label(81, "Cerebellum, molecular layer", "CBmo", 80, "FFFC91"),
        Label(82, "Cerebellum, granular layer", "CBgr", 80, "ECE754"),
        Label(90, "Fibre tracts", "fiber tracts", 1, "CCCCCC"),
    ],
    classes=(11, 12, 13, 20, 31, 32, 40, 50, 60, 61, 70, 81, 82, 90),
)
"""Regions of the made-up brain; 0 is outside and ventricles."""


def marker_of(name: str) -> Marker:
    """A marker by its name.

    Raises
    ------
    RecipeError
        On an unknown marker.

    Example
    -------
    >>> marker_of("TH").apart_um
    15.0
    """
    if name not in MARKERS:
        raise RecipeError("no such marker", "markers", repr(name), nearest(str(name), MARKERS))
    return MARKERS[name]


def tissue_table(regions: LabelMap) -> tuple[np.ndarray, np.ndarray]:
    """Sorted region ids and the index in `NAMES` of the tissue that each is drawn as.

    A region is drawn as the tissue of its own acronym or of its nearest ancestor that has
    one, else as brain stem.

    Example
    -------
    >>> ids, tissue = tissue_table(REGIONS)
    >>> NAMES[tissue[ids.tolist().index(32)]]
    'DG'
    """
    ids, tissue = [0], [0]
    for label in sorted(regions, key=lambda label: label.id):
        line = [label.id, *regions.ancestors(label.id)]
        acronyms = (regions[id_].acronym for id_ in line)
        known = (ALLEN.get(a, a) for a in acronyms)
        name = next((a for a in known if a in NAMES), ELSEWHERE)
        ids.append(label.id)
        tissue.append(NAMES.index(name))
    return np.array(ids, np.int64), np.array(tissue, np.int16)


def class_densities(kind: str) -> np.ndarray:
    """Cells per um3 of a class, by index in `NAMES`."""
    of = {
        "neuron": lambda t: t.neun / NEUN_SHARE,
        "microglia": lambda t: t.iba1,
        "astrocyte": lambda t: t.gfap / GFAP_SHARE,
        "debris": lambda t: t.debris,
    }[kind]
    return np.array([0.0, *(of(t) * 1e-9 for t in TISSUES.values())])


def marker_shares(marker: Marker) -> np.ndarray:
    """Which share of its class's cells carry a marker, by index in `NAMES`."""
    cells = class_densities(marker.cells)
    own = np.array([0.0, *(t.density(marker.name) * 1e-9 for t in TISSUES.values())])
    return np.divide(own, cells, out=np.zeros_like(own), where=cells > 0)


def before_thinning(density: np.ndarray, volume: float | np.ndarray) -> np.ndarray:
    """Density of a Poisson process of which `density` is left when, of every two points nearer
    than the radius of a ball of `volume`, the one of lower rank is taken out (Matern, type II).

    >>> float(before_thinning(np.array(0.0), 100.0))
    0.0
    """
    crowded = np.minimum(np.asarray(density) * volume, 0.9)
    return -np.log1p(-crowded) / volume
