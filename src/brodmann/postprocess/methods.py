"""Every way from affinities to segments, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from brodmann.core import Affinities, RecipeError, nearest
from brodmann.core.affinities import NEAREST
from brodmann.postprocess.agglomerate import agglomerate
from brodmann.postprocess.components import component_partitions, component_segments
from brodmann.postprocess.fragments import USUAL, FragmentOptions, checked, make_fragments
from brodmann.postprocess.gasp import gasp
from brodmann.postprocess.graph import RegionGraph, region_graph
from brodmann.postprocess.multicut import multicut
from brodmann.postprocess.mutex import mutex_segments
from brodmann.postprocess.relabel import apply_lookup
from brodmann.postprocess.waterz import waterz_segments

Segments = Iterator[tuple[float, np.ndarray]]
THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
BIASES = (-0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4)


@dataclass(frozen=True)
class Method:
    """A way to segments.

    Attributes
    ----------
    name, summary : str
    parameter : str
        What its one number is: "threshold", "beta" or "bias".
    values : tuple of float
        A grid of it to search, ascending.
    default : float
        Where nobody has tuned it.
    on_graph : callable, optional
        (graph, num_nodes, values) -> (len(values), num_nodes + 1) uint32. Such a method needs
        the region graph alone, and so runs out of core.
    on_voxels : callable, optional
        (affinities, values) -> segments; needs the whole affinities in memory.
    on_both : callable, optional
        (affinities, fragments, values) -> segments; the same, on fragments.
    histogram : bool
        Whether the region graph needs histograms.
    """

    name: str
    summary: str
    parameter: str
    default: float
    values: tuple[float, ...]
    on_graph: Callable[[RegionGraph, int, Sequence[float]], np.ndarray] | None = None
    on_voxels: Callable[[Affinities, Sequence[float]], Segments] | None = None
    on_both: Callable[[Affinities, np.ndarray, Sequence[float]], Segments] | None = None
    histogram: bool = False

    @property
    def in_core_only(self) -> bool:
        """Whether it needs the whole affinities in memory."""
        return self.on_graph is None

    @property
    def uses_fragments(self) -> bool:
        return self.on_voxels is None


def _graph(
    name: str, summary: str, parameter: str, default: float, run: Any, **more: Any
) -> Method:
    return Method(name, summary, parameter, default, THRESHOLDS, on_graph=run, **more)


def _quantile(percent: int, largest: str = "") -> Method:
    name = f"quantile{percent}{largest}"
    first = ", edges starting with their largest" if largest else ""
    summary = f"merge by the {percent} % quantile of affinities{first}"
    run = partial(agglomerate, score=name)
    return _graph(name, summary, "threshold", 0.3, run, histogram=True)


def _waterz(score: str) -> Method:
    def run(affinities: Affinities, fragments: np.ndarray, values: Sequence[float]) -> Segments:
        return waterz_segments(affinities, fragments, values, score)

    name, summary = f"waterz-{score}", f"the waterz library, {score}"
    return Method(name, summary, "threshold", 0.3, THRESHOLDS, on_both=run)


_ALL = (
    _graph("mean", "merge by the mean affinity", "threshold", 0.5, agglomerate),
    _quantile(50),
    _quantile(75),
    _quantile(50, "-max"),
    _quantile(75, "-max"),
    _waterz("mean"),
    _waterz("quantile50"),
    _waterz("quantile75"),
    _waterz("quantile50-max"),
    _graph("multicut", "multicut by Kernighan-Lin, begun by GAEC", "beta", 0.25, multicut),
    _graph(
        "gaec",
        "multicut by greedy additive edge contraction",
        "beta",
        0.25,
        partial(multicut, kernighan_lin=False),
    ),
    _graph("gasp", "signed agglomeration, average linkage", "bias", 0.5, gasp),
    _graph(
        "gasp-abs-max",
        "signed agglomeration, the strongest edge decides",
        "bias",
        0.5,
        partial(gasp, linkage="abs-max"),
    ),
    _graph(
        "components",
        "join fragments across every strong edge",
        "threshold",
        0.3,
        component_partitions,
    ),
    Method(
        "mutex",
        "mutex watershed on voxels, with long-range affinities",
        "bias",
        0.0,
        BIASES,
        on_voxels=mutex_segments,
    ),
    Method(
        "voxels",
        "connected components of voxels",
        "threshold",
        0.1,
        THRESHOLDS,
        on_voxels=component_segments,
    ),
)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}


def find_method(name: str) -> Method:
    """The method of a name.

    Raises
    ------
    RecipeError
        Names the nearest one.

    Example
    -------
    >>> find_method("multicut").parameter
    'beta'
    """
    if name not in METHODS:
        raise RecipeError("unknown method", found=repr(name), fix=nearest(name, METHODS))
    return METHODS[name]


def partitions(
    graph: RegionGraph, num_nodes: int, method: str, values: Sequence[float]
) -> np.ndarray:
    """What a method makes of a region graph, for many values of its parameter.

    Returns
    -------
    ndarray (len(values), num_nodes + 1) uint32
        Fragment -> segment in the order of the values, 0 -> 0.

    Raises
    ------
    RecipeError
        If there is no such method, or it needs the whole affinities.
    DataError
        If the graph lacks histograms or has other nodes.
    """
    found = find_method(method)
    if found.on_graph is None:
        able = ", ".join(name for name, m in METHODS.items() if not m.in_core_only)
        raise RecipeError(
            "this method needs the whole affinities in memory",
            found=repr(method),
            fix=f"choose one of {able}",
        )
    return found.on_graph(graph, num_nodes, values)


@dataclass
class Parts:
    """Fragments and region graph of some affinities, made once, when first asked for."""

    affinities: Affinities
    options: FragmentOptions = USUAL
    workers: int = 1
    _fragments: np.ndarray | None = field(default=None, repr=False)
    _graph: RegionGraph | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.affinities = checked(self.affinities)

    @property
    def fragments(self) -> np.ndarray:
        if self._fragments is None:
            self._fragments = make_fragments(self.affinities, self.options, workers=self.workers)
        return self._fragments

    def graph(self, histogram: bool = False) -> RegionGraph:
        if self._graph is None or (histogram and self._graph.histograms is None):
            convention = self.affinities.convention
            channels = convention.channels_of(NEAREST)
            values = self.affinities.volume.data
            if channels != list(range(len(values))):
                values = values[channels]
            self._graph = region_graph(
                self.fragments,
                values,
                [convention.offsets[channel] for channel in channels],
                histogram=histogram,
                workers=self.workers,
            )
        return self._graph

    def segments(self, method: str, values: Sequence[float] | None = None) -> Segments:
        """As `segment` gives them."""
        found = find_method(method)
        values = found.values if values is None else values
        if found.on_voxels is not None:
            yield from found.on_voxels(self.affinities, values)
        elif found.on_both is not None:
            yield from found.on_both(self.affinities, self.fragments, values)
        else:
            count = int(self.fragments.max())
            lookup = partitions(self.graph(found.histogram), count, method, values)
            for value, row in zip(values, lookup):
                yield float(value), apply_lookup(self.fragments, row, workers=self.workers)


def segment(
    affinities: Affinities,
    method: str = "mean",
    values: Sequence[float] | None = None,
    fragment_options: FragmentOptions = USUAL,
    *,
    workers: int = 1,
) -> Segments:
    """Segments of affinities in memory, for many values of a method's parameter.

    Fragments and region graph are made once, and most methods pass over all values at once.

    Parameters
    ----------
    affinities : Affinities
        With in-plane offsets only every slice is segmented alone.
    method : str
        One of METHODS.
    values : sequence of float, optional
        Of its parameter; its own grid by default.
    fragment_options : FragmentOptions
    workers : int
        Threads for fragments, graph and relabelling.

    Yields
    ------
    (value, labels (z, y, x) uint32)
        One for each value, each in memory of its own. waterz and "voxels" give them in
        ascending order, the others as asked for.

    Raises
    ------
    DataError, RecipeError
        On affinities that cannot be segmented; on an unknown method or a value out of range.

    Example
    -------
    >>> from brodmann.core import Convention, Volume
    >>> values = np.full((2, 1, 8, 12), 255, np.uint8)
    >>> values[:, :, :, 6] = 0
    >>> in_plane = Convention(((0, -1, 0), (0, 0, -1)))
    >>> affinities = Affinities(Volume(values, "czyx", (0.04, 0.004, 0.004)), in_plane)
    >>> [(value, int(labels.max())) for value, labels in segment(affinities, "mean", [0.5, 1.0])]
    [(0.5, 2), (1.0, 2)]
    """
    find_method(method)
    return Parts(affinities, fragment_options, workers).segments(method, values)
