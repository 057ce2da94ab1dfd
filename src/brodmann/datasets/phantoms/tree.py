"""The region tree of the phantom brains: 118 subregions in 11 primary regions, or any other."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from brodmann.core import Label, LabelMap, RecipeError

MAX_SUBREGIONS = 2000
"""More would be smaller than the pixels of a small section."""

_LAYERED = {
    "MOs": ("Secondary motor area", ("1", "2/3", "5", "6a", "6b")),
    "MOp": ("Primary motor area", ("1", "2/3", "5", "6a", "6b")),
    "SSp": ("Primary somatosensory area", ("1", "2/3", "4", "5", "6a", "6b")),
    "VISp": ("Primary visual area", ("1", "2/3", "4", "5", "6a", "6b")),
    "RSPd": ("Retrosplenial area, dorsal part", ("1", "2/3", "5", "6a", "6b")),
    "RSPv": ("Retrosplenial area, ventral part", ("1", "2/3", "5", "6a", "6b")),
}
_LOBULES = {
    "CUL": "Culmen",
    "DEC": "Declive",
    "FOTU": "Folium-tuber vermis",
    "PYR": "Pyramus",
    "UVU": "Uvula",
}
_NAMES = {
    "OLF": {
        "MOBgl": "Main olfactory bulb, glomerular layer",
        "MOBopl": "Main olfactory bulb, outer plexiform layer",
        "MOBmi": "Main olfactory bulb, mitral layer",
        "MOBipl": "Main olfactory bulb, inner plexiform layer",
        "MOBgr": "Main olfactory bulb, granule layer",
        "AOB": "Accessory olfactory bulb",
        "AON": "Anterior olfactory nucleus",
        "TT": "Taenia tecta",
        "DP": "Dorsal peduncular area",
        "PIR": "Piriform area",
    },
    "Isocortex": {
        area + layer: f"{name}, layer {layer}"
        for area, (name, layers) in _LAYERED.items()
        for layer in layers
    },
    "CTXsp": {
        "CLA": "Claustrum",
        "EPd": "Endopiriform nucleus, dorsal part",
        "EPv": "Endopiriform nucleus, ventral part",
        "BLA": "Basolateral amygdalar nucleus",
    },
    "STR": {
        "CP": "Caudoputamen",
        "ACB": "Nucleus accumbens",
        "OT": "Olfactory tubercle",
        "LSr": "Lateral septal nucleus, rostral part",
        "LSc": "Lateral septal nucleus, caudal part",
        "FS": "Fundus of striatum",
    },
    "PAL": {
        "GPe": "Globus pallidus, external segment",
        "SI": "Substantia innominata",
        "MA": "Magnocellular nucleus",
        "BST": "Bed nuclei of the stria terminalis",
    },
    "HPF": {
        "CA1": "Field CA1",
        "CA2": "Field CA2",
        "CA3": "Field CA3",
        "DG-mo": "Dentate gyrus, molecular layer",
        "DG-po": "Dentate gyrus, polymorph layer",
        "DG-sg": "Dentate gyrus, granule cell layer",
        "ProS": "Prosubiculum",
        "SUB": "Subiculum",
        "POST": "Postsubiculum",
        "PRE": "Presubiculum",
    },
    "TH": {
        "RT": "Reticular nucleus of the thalamus",
        "AV": "Anteroventral nucleus of thalamus",
        "AM": "Anteromedial nucleus",
        "LD": "Lateral dorsal nucleus of thalamus",
        "MD": "Mediodorsal nucleus of thalamus",
        "VAL": "Ventral anterior-lateral complex of the thalamus",
        "VM": "Ventral medial nucleus of the thalamus",
        "VPL": "Ventral posterolateral nucleus of the thalamus",
        "VPM": "Ventral posteromedial nucleus of the thalamus",
        "PO": "Posterior complex of the thalamus",
        "LP": "Lateral posterior nucleus of the thalamus",
        "PF": "Parafascicular nucleus",
    },
    "HY": {
        "LPO": "Lateral preoptic area",
        "AHN": "Anterior hypothalamic nucleus",
        "LHA": "Lateral hypothalamic area",
        "VMH": "Ventromedial hypothalamic nucleus",
        "ZI": "Zona incerta",
        "STN": "Subthalamic nucleus",
        "PH": "Posterior hypothalamic nucleus",
        "MM": "Medial mammillary nucleus",
    },
    "MB": {
        "SCs": "Superior colliculus, sensory related",
        "SCm": "Superior colliculus, motor related",
        "IC": "Inferior colliculus",
        "APN": "Anterior pretectal nucleus",
        "PAG": "Periaqueductal gray",
        "MRN": "Midbrain reticular nucleus",
        "RN": "Red nucleus",
        "SNr": "Substantia nigra, reticular part",
        "VTA": "Ventral tegmental area",
        "CUN": "Cuneiform nucleus",
    },
    "CB": {
        **{
            acronym + layer: f"{name}, {what} layer"
            for acronym, name in _LOBULES.items()
            for layer, what in (("mo", "molecular"), ("gr", "granular"))
        },
        "IP": "Interposed nucleus",
        "FN": "Fastigial nucleus",
    },
    "HB": {
        "PG": "Pontine gray",
        "TRN": "Tegmental reticular nucleus",
        "PRNr": "Pontine reticular nucleus",
        "PRNc": "Pontine reticular nucleus, caudal part",
        "VII": "Facial motor nucleus",
        "MV": "Medial vestibular nucleus",
        "GRN": "Gigantocellular reticular nucleus",
        "IO": "Inferior olivary complex",
        "SPVI": "Spinal nucleus of the trigeminal, interpolar part",
        "MDRN": "Medullary reticular nucleus",
    },
}
_PRIMARY = {
    "OLF": ("Olfactory areas", "9AD2BD"),
    "Isocortex": ("Isocortex", "70FF71"),
    "CTXsp": ("Cortical subplate", "8ADA87"),
    "STR": ("Striatum", "98D6F9"),
    "PAL": ("Pallidum", "8599CC"),
    "HPF": ("Hippocampal formation", "7ED04B"),
    "TH": ("Thalamus", "FF7080"),
    "HY": ("Hypothalamus", "E64438"),
    "MB": ("Midbrain", "FF64FF"),
    "CB": ("Cerebellum", "F0F080"),
    "HB": ("Hindbrain", "FF9B88"),
}
ZONES = tuple(_PRIMARY)
"""Acronyms of the eleven primary regions that are drawn, front to back."""
NAMED = {zone: tuple(_NAMES[zone]) for zone in ZONES}
"""Acronyms of the subregions that the default tree has in each of them: 118 in all."""


def shade(color: str, index: int, count: int) -> str:
    """The colour of subregion `index` of `count`: the primary's hue, its own lightness.

    >>> shade("FF7080", 0, 1)
    'ff7080'
    """
    if count == 1:
        return color.lower()
    hue, light, saturation = colorsys.rgb_to_hls(
        *(int(color[i : i + 2], 16) / 255 for i in (0, 2, 4))
    )
    # A golden-ratio walk, so that regions side by side in the tree differ most.
    step = (index * 0.618034 + 0.31) % 1.0
    light = min(0.9, max(0.25, light + 0.34 * (step - 0.5)))
    hue = (hue + 0.03 * (index / (count - 1) - 0.5)) % 1.0
    return "".join(f"{round(255 * x):02x}" for x in colorsys.hls_to_rgb(hue, light, saturation))


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Share `total` whole things by weight, at least one each (largest remainders).

    >>> apportion(10, [1, 1, 6])
    [2, 2, 6]
    """
    count = len(weights)
    spare = total - count
    exact = [spare * weight / sum(weights) for weight in weights]
    shares = [int(x) for x in exact]
    by_rest = sorted(range(count), key=lambda i: (shares[i] - exact[i], i))
    for i in by_rest[: spare - sum(shares)]:
        shares[i] += 1
    return [1 + share for share in shares]


def phantom_tree(subregions: int = 118, primary: int = 11) -> LabelMap:
    """The regions of a phantom brain: `subregions` leaves under `primary` regions.

    Parameters
    ----------
    subregions : int
        Leaves: the classes of a net. 118 in 11 (the tree of PRMix, Fig. 5) have the names of
        mouse brain regions; any other number has numbered ones.
    primary : int
        Regions above them; 11 have names.

    Returns
    -------
    LabelMap
        Leaves are ids 1..subregions, primary regions follow. Hue goes by primary region and
        lightness by subregion, as in the Allen Mouse Brain Atlas.

    Raises
    ------
    RecipeError
        If a number is below 1, or there are more primary regions than subregions.

    Example
    -------
    >>> tree = phantom_tree()
    >>> tree.num_classes, [tree[i].acronym for i in tree.children(None)][:3]
    (119, ['OLF', 'Isocortex', 'CTXsp'])
    >>> [label.name for label in phantom_tree(3, 2)]
    ['Region 1.1', 'Region 1.2', 'Region 2.1', 'Region 1', 'Region 2']
    """
    for what, value in (("subregions", subregions), ("primary", primary)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise RecipeError(f"{what} must be a whole number from 1", found=repr(value))
    if not primary <= subregions <= MAX_SUBREGIONS:
        raise RecipeError(
            f"a tree needs primary <= subregions <= {MAX_SUBREGIONS}",
            found=f"{subregions} subregions in {primary} primary regions",
        )
    if primary == len(ZONES):
        tops = [(zone, *_PRIMARY[zone]) for zone in ZONES]
        shares = apportion(subregions, [len(NAMED[zone]) for zone in ZONES])
    else:
        hues = [(0.33 + 0.618034 * i) % 1.0 for i in range(primary)]
        colors = [
            "".join(f"{round(255 * x):02x}" for x in colorsys.hls_to_rgb(h, 0.62, 0.75))
            for h in hues
        ]
        tops = [(f"R{i + 1}", f"Region {i + 1}", colors[i]) for i in range(primary)]
        shares = apportion(subregions, [1.0] * primary)
    named = subregions == 118 and primary == len(ZONES)
    leaves: list[Label] = []
    parents: list[Label] = []
    for top, ((acronym, name, color), share) in enumerate(zip(tops, shares)):
        parent = subregions + 1 + top
        parents.append(Label(parent, name, acronym, None, color.lower()))
        if named:
            children = list(_NAMES[acronym].items())
        else:
            children = [
                (f"{acronym}.{i + 1}", f"{name}{'.' if acronym[0] == 'R' else ' '}{i + 1}")
                for i in range(share)
            ]
        for i, (short, long) in enumerate(children):
            leaves.append(Label(len(leaves) + 1, long, short, parent, shade(color, i, share)))
    return LabelMap([*leaves, *parents])
