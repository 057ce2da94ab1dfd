"""Multicut, GASP, mutex watershed and components against brute force and naive loops."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from made_neurites import neurites, noisy, perfect, same_partition
from skimage.measure import label as components_of

from brodmann.core import Affinities, Convention, DataError, RecipeError, Volume
from brodmann.core.affinities import IN_PLANE, LONG_RANGE, NEAREST
from brodmann.postprocess import RegionGraph, make_fragments, region_graph
from brodmann.postprocess.components import component_partitions, component_segments
from brodmann.postprocess.gasp import gasp
from brodmann.postprocess.multicut import cut_costs, edge_costs, multicut
from brodmann.postprocess.mutex import mutex_segments


def random_graph(seed, nodes, share=0.6):
    rng = np.random.default_rng(seed)
    pairs = [p for p in itertools.combinations(range(1, nodes + 1), 2) if rng.random() < share]
    sizes = rng.integers(1, 20, len(pairs))
    sums = (sizes * 255 * rng.random(len(pairs))).astype(np.int64)
    edges = np.array(pairs, np.uint64).reshape(-1, 2)
    return RegionGraph(edges, sizes.astype(np.int64), sums)


def all_partitions(n):
    """Every way to part nodes 1..n: tuples with 0 in front."""

    def grow(head, used):
        if len(head) == n + 1:
            yield head
            return
        for name in range(1, used + 2):
            yield from grow((*head, name), max(used, name))

    return grow((0,), 0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.25, 0.5, 0.7]))
def test_multicut_is_the_best_of_all_partitions_or_near(seed, beta):
    """Never better than the best, never worse than greedy, greedy never worse than none."""
    graph = random_graph(seed, 6)
    costs = edge_costs(graph, beta)
    best = min(cut_costs(graph, costs, np.array(p)) for p in all_partitions(6))
    lin = cut_costs(graph, costs, multicut(graph, 6, [beta])[0])
    greedy = cut_costs(graph, costs, multicut(graph, 6, [beta], kernighan_lin=False)[0])
    apart = cut_costs(graph, costs, np.arange(7))
    assert best - 1e-9 <= lin <= greedy + 1e-9
    assert greedy <= apart + 1e-9


def test_multicut_is_the_best_most_of_the_time():
    found = []
    for seed in range(30):
        graph = random_graph(seed, 6)
        costs = edge_costs(graph, 0.5)
        best = min(cut_costs(graph, costs, np.array(p)) for p in all_partitions(6))
        found.append(cut_costs(graph, costs, multicut(graph, 6, [0.5])[0]) <= best + 1e-9)
    assert np.mean(found) >= 0.9


def test_kernighan_lin_improves_on_greedy_somewhere():
    better = 0
    for seed in range(10):
        graph = random_graph(seed, 40, share=0.3)
        costs = edge_costs(graph, 0.5)
        lin = cut_costs(graph, costs, multicut(graph, 40, [0.5])[0])
        greedy = cut_costs(graph, costs, multicut(graph, 40, [0.5], kernighan_lin=False)[0])
        assert lin <= greedy + 1e-9
        better += lin < greedy - 1e-9
    assert better > 0


def test_costs_are_log_odds_weighted_by_size():
    graph = RegionGraph(
        np.array([[1, 2], [2, 3]], np.uint64), np.array([30, 10]), np.array([30 * 204, 10 * 51])
    )
    boundary = 0.001 + 0.998 * np.array([0.2, 0.8])
    odds = np.log((1 - boundary) / boundary) + np.log(3)
    np.testing.assert_allclose(edge_costs(graph, 0.25), odds * [1.5, 0.5])
    assert multicut(graph, 4, [0.05, 0.5, 0.999]).tolist() == [
        [0, 1, 1, 1, 2],
        [0, 1, 1, 2, 3],
        [0, 1, 2, 3, 4],
    ]


def naive_average(graph, num_nodes, bias):
    """Signed merging: the edge of largest |weight| first; a negative one parts nothing for good."""
    weight = {
        frozenset(map(int, edge)): [mean - bias, int(size)]
        for edge, mean, size in zip(graph.edges, graph.means, graph.sizes)
    }
    segment = list(range(num_nodes + 1))
    while weight:
        pair = max(
            (p for p in weight if weight[p][0] > 0), key=lambda p: weight[p][0], default=None
        )
        if pair is None:
            break
        a, b = sorted(pair)
        del weight[pair]
        segment = [a if s == b else s for s in segment]
        for other in [p for p in weight if b in p]:
            (end,) = other - {b}
            value, size = weight.pop(other)
            merged = frozenset((a, end))
            if merged in weight:
                w, n = weight[merged]
                weight[merged] = [(w * n + value * size) / (n + size), n + size]
            else:
                weight[merged] = [value, size]
    return np.array(segment)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.2, 0.8))
def test_gasp_average_is_signed_merging(seed, bias):
    """Without cannot-link constraints it is what the mean gives, strongest first."""
    graph = random_graph(seed, 9)
    assume(len(np.unique(graph.means)) == len(graph.means))  # of two alike either may be first
    found = gasp(graph, 9, [bias])[0]
    assert same_partition(found[1:], naive_average(graph, 9, bias)[1:])


def test_gasp_by_the_strongest_edge_forbids():
    """1-2 and 2-3 attract, 1-3 repels more than 2-3 attracts: 3 stays outside."""
    graph = RegionGraph(
        np.array([[1, 2], [1, 3], [2, 3]], np.uint64),
        np.array([10, 10, 10]),
        np.array([10, 10, 10]) * np.array([250, 20, 200]),
    )
    assert gasp(graph, 3, [0.5], "abs-max").tolist() == [[0, 1, 1, 2]]
    assert gasp(graph, 3, [0.9], "abs-max").tolist() == [[0, 1, 1, 2]]
    assert gasp(graph, 3, [0.0]).tolist() == [[0, 1, 1, 1]]


def naive_mutex(values, offsets, near, strides):
    """Kruskal with forbidden pairs, on distinct weights."""
    shape = values.shape[1:]
    order = []
    for c, offset in enumerate(offsets):
        for place in np.ndindex(shape):
            other = tuple(np.add(place, offset))
            if min(other) < 0 or any(a >= b for a, b in zip(other, shape)):
                continue
            if c >= near and any(p % s for p, s in zip(place, strides)):
                continue
            weight = values[(c, *place)] if c < near else 255 - values[(c, *place)]
            order.append((int(weight), c < near, place, other))
    segment = {place: place for place in np.ndindex(shape)}
    forbidden = set()
    for _, attracts, p, q in sorted(order, key=lambda one: -one[0]):
        a, b = segment[p], segment[q]
        if a == b:
            continue
        if not attracts:
            forbidden.add(frozenset((a, b)))
        elif frozenset((a, b)) not in forbidden:
            segment = {place: a if s == b else s for place, s in segment.items()}
            forbidden = {frozenset(a if s == b else s for s in pair) for pair in forbidden}
    names = {}
    return np.array([names.setdefault(s, len(names)) for s in segment.values()]).reshape(shape)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 1, 1), (1, 2, 1)]))
def test_mutex_watershed_is_the_naive_one(seed, strides):
    offsets = (*NEAREST, (0, -2, 0), (0, 0, -2))
    rng = np.random.default_rng(seed)
    shape = (2, 4, 4)
    values = np.full((5, *shape), 128, np.uint8)
    # No weight twice, attractive or forbidding, among the pairs within the volume.
    weights = list(rng.permutation(255))
    for c, offset in enumerate(offsets):
        for place in np.ndindex(shape):
            if min(np.add(place, offset)) >= 0:
                weight = weights.pop()
                values[(c, *place)] = weight if c < 3 else 255 - weight
    affinities = Affinities(Volume(values, "czyx", (1.0,) * 3), Convention(offsets))
    ((_, found),) = mutex_segments(affinities, strides=strides)
    assert same_partition(found, naive_mutex(values, offsets, 3, strides))


def test_a_larger_bias_merges_more():
    affinities = noisy(neurites((2, 30, 30), 5), LONG_RANGE)
    counts = [int(labels.max()) for _, labels in mutex_segments(affinities, [-0.4, 0.0, 0.4])]
    assert counts[0] > counts[1] > counts[2]


def test_components_of_voxels_are_those_of_scikit_image():
    """With perfect affinities, of labels; one slice and all."""
    rng = np.random.default_rng(0)
    truth = rng.integers(1, 4, (3, 12, 12)).astype(np.uint32)
    for offsets in (NEAREST, IN_PLANE):
        ((_, found),) = component_segments(perfect(truth, offsets), [0.5])
        if offsets == NEAREST:
            expected = components_of(truth, connectivity=1)
        else:
            parts = [components_of(part, connectivity=1) for part in truth]
            starts = np.cumsum([0, *(part.max() for part in parts)])
            expected = np.stack([part + start for part, start in zip(parts, starts)])
        assert same_partition(found, expected)
        assert np.unique(found).tolist() == list(range(1, found.max() + 1))


def test_components_pass_over_thresholds_once_and_right():
    affinities = noisy(neurites((3, 20, 20), 5))
    thresholds = [0.5, 0.05, 0.2, 1.0, 0.0]
    for threshold, labels in component_segments(affinities, thresholds):
        ((_, alone),) = component_segments(affinities, [threshold])
        assert (labels == alone).all()
        if threshold == 0:
            assert labels.max() == labels.size
    values = np.array([0, 50, 51, 52], np.uint8)
    row = np.zeros((2, 1, 2, 4), np.uint8)
    row[1, 0, 1] = values
    affinities = Affinities(Volume(row, "czyx", (1.0,) * 3), Convention(IN_PLANE))
    ((_, found),) = component_segments(affinities, [0.8])  # 1 - 51/255 is 0.8, and not below
    assert found[0, 1, 2] != found[0, 1, 1] and found[0, 1, 3] == found[0, 1, 2]


def test_components_of_fragments_join_every_strong_edge():
    graph = random_graph(0, 9)
    found = component_partitions(graph, 9, [0.3])[0]
    network = {tuple(map(int, e)) for e, m in zip(graph.edges, graph.means) if 1 - m < 0.3}
    segment = list(range(10))
    for _ in range(9):
        for u, v in network:
            least = min(segment[u], segment[v])
            segment[u] = segment[v] = least
    assert same_partition(found[1:], np.array(segment)[1:])


def test_bad_input_is_refused():
    graph = random_graph(0, 6)
    for beta in (0, 1, -0.1, float("nan")):
        with pytest.raises(RecipeError, match="beta"):
            multicut(graph, 6, [beta])
    with pytest.raises(RecipeError, match=r"0\.\.1"):
        gasp(graph, 6, [1.5])
    with pytest.raises(RecipeError, match="did you mean 'average'"):
        gasp(graph, 6, [0.5], "averag")
    for run in (multicut, gasp, component_partitions):
        with pytest.raises(DataError, match="other ids"):
            run(graph, 3, [0.5])
    affinities = noisy(neurites((2, 12, 12), 3), LONG_RANGE)
    with pytest.raises(RecipeError, match=r"-1\.\.1"):
        next(mutex_segments(affinities, [2.0]))
    with pytest.raises(RecipeError, match="strides"):
        next(mutex_segments(affinities, strides=(0, 1, 1)))


def test_graphs_without_edges():
    empty = RegionGraph(np.empty((0, 2), np.uint64), np.empty(0, np.int64), np.empty(0, np.int64))
    for run in (multicut, gasp, component_partitions):
        assert run(empty, 3, [0.5]).tolist() == [[0, 1, 2, 3]]


def test_partitions_do_not_depend_on_who_made_the_graph():
    affinities = noisy(neurites((3, 40, 40), 8))
    fragments = make_fragments(affinities)
    graph = region_graph(fragments, affinities.volume.data, NEAREST)
    for run in (multicut, gasp):
        a = run(graph, int(fragments.max()), [0.4, 0.6])
        b = run(graph, int(fragments.max()), [0.4, 0.6])
        assert (a == b).all()
