"""Merging against a naive loop, and against the waterz library."""

import numpy as np
import pytest
import waterz
from hypothesis import given, settings
from hypothesis import strategies as st
from made_neurites import neurites, noisy, same_partition

from brodmann.core import Affinities, DataError, RecipeError, Volume
from brodmann.core.affinities import NEAREST, pair_windows
from brodmann.postprocess import (
    RegionGraph,
    agglomerate,
    apply_lookup,
    make_fragments,
    region_graph,
    waterz_segments,
)
from brodmann.postprocess.agglomerate import SCORES, parse_score
from brodmann.postprocess.waterz import is_compiled, silenced


def naive(graph, num_nodes, thresholds, score):
    """Look at every edge before each merge; O(n^2) and plain."""
    quantile, from_largest = parse_score(score)
    ends = {i: set(map(int, edge)) for i, edge in enumerate(graph.edges)}
    sizes, sums = graph.sizes.tolist(), graph.sums.tolist()
    histograms = graph.histograms.dense()
    if from_largest:
        largest = [np.flatnonzero(row)[-1] for row in histograms]
        histograms = np.eye(256, dtype=np.int64)[largest]

    def badness(i):
        if quantile < 0:
            return 1 - sums[i] / (255 * sizes[i])
        values = np.repeat(np.arange(256), histograms[i])
        return 1 - (values[quantile * len(values) // 100] + 0.5) / 256

    segment = list(range(num_nodes + 1))
    out = np.zeros((len(thresholds), num_nodes + 1), int)
    for t in np.argsort(thresholds, kind="stable"):
        while ends:
            least, i = min((badness(i), i) for i in ends)
            if least >= thresholds[t]:
                break
            a, b = sorted(ends.pop(i))
            segment = [a if s == b else s for s in segment]
            seen = {}
            for j in sorted(ends):
                ends[j] = frozenset(a if end == b else end for end in ends[j])
                first = seen.setdefault(ends[j], j)
                if first != j:
                    sizes[first] += sizes[j]
                    sums[first] += sums[j]
                    histograms[first] += histograms[j]
                    del ends[j]
        names = {0: 0}
        out[t] = [names.setdefault(s, len(names)) for s in segment]
    return out


def random_graph(seed, nodes, coarse=False, shape=(3, 6, 6)):
    rng = np.random.default_rng(seed)
    fragments = rng.integers(0, nodes + 1, shape).astype(np.uint32)
    values = rng.integers(0, 256, (3, *shape)).astype(np.uint8)
    if coarse:  # many ties
        values = values // 64 * 64
    return region_graph(fragments, values, NEAREST, histogram=True)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 25),
    st.booleans(),
    st.lists(st.floats(0, 1), min_size=1, max_size=5),
    st.sampled_from((*SCORES, "quantile0", "quantile99")),
)
def test_a_naive_loop_gives_the_same(seed, nodes, coarse, thresholds, score):
    graph = random_graph(seed, nodes, coarse)
    found = agglomerate(graph, nodes, thresholds, score)
    assert found.dtype == np.uint32
    assert (found == naive(graph, nodes, thresholds, score)).all()


def test_a_large_graph_outgrows_the_tables():
    """A long chain, and a star: its centre takes in thousands, one after another."""
    n = 5000
    chain = np.stack([np.arange(1, n), np.arange(2, n + 1)], 1).astype(np.uint64)
    rng = np.random.default_rng(0)
    sums = rng.integers(0, 256, n - 1)
    graph = RegionGraph(chain, np.ones(n - 1, np.int64), sums)
    found = agglomerate(graph, n, [0.5])[0]
    cut = 1 - sums / 255 >= 0.5
    assert found[1:].tolist() == (1 + np.concatenate([[0], np.cumsum(cut)])).tolist()
    star = np.concatenate([
        np.stack([np.ones(n - 1), np.arange(2, n + 1)], 1),
        np.stack([np.arange(2, n), np.arange(3, n + 1)], 1),
    ]).astype(np.uint64)  # fmt: skip
    star = star[np.lexsort(star.T[::-1])]
    spokes = star[:, 0] == 1
    sums = np.where(spokes, 200, 10)
    graph = RegionGraph(star, np.ones(len(star), np.int64), sums)
    # Each spoke that meets a weak edge falls to a mean of 105 or less.
    weak = agglomerate(graph, n, [0.3])[0]
    assert 1000 < weak.max() < n
    assert agglomerate(graph, n, [1.0])[0].max() == 1


def test_thresholds_come_in_any_order_and_nest():
    graph = random_graph(5, 30)
    thresholds = [0.7, 0.2, 0.5, 0.2]
    found = agglomerate(graph, 30, thresholds)
    for row, threshold in zip(found, thresholds):
        assert (row == agglomerate(graph, 30, [threshold])[0]).all()
    # A segment at a lower threshold lies in one segment at a higher.
    for fine, coarse in ((1, 2), (2, 0)):
        pairs = np.unique(found[[fine, coarse]], axis=1)
        assert pairs.shape[1] == found[fine].max() + 1


def test_nothing_merges_at_0_and_all_that_touches_at_1():
    graph = random_graph(1, 12)
    assert agglomerate(graph, 12, [0.0])[0].tolist() == list(range(13))
    lonely = RegionGraph(np.empty((0, 2), np.uint64), np.empty(0, np.int64), np.empty(0, np.int64))
    assert agglomerate(lonely, 3, [1.0])[0].tolist() == [0, 1, 2, 3]
    assert agglomerate(lonely, 0, [1.0]).tolist() == [[0]]


def test_the_graph_is_left_as_it_was():
    graph = random_graph(2, 12)
    before = [a.copy() for a in (graph.edges, graph.sizes, graph.sums, graph.histograms.counts)]
    for score in SCORES:
        agglomerate(graph, 12, [0.9], score)
    after = (graph.edges, graph.sizes, graph.sums, graph.histograms.counts)
    assert all((a == b).all() for a, b in zip(before, after))


def test_every_usual_score_is_compiled_into_waterz():
    assert all(is_compiled(score) for score in SCORES)
    assert not is_compiled("quantile33")


THRESHOLDS = [0.1, 0.2, 0.3, 0.5, 0.7, 0.9]


@pytest.mark.parametrize("seed", range(4))
def test_waterz_merges_to_the_same_partition_by_the_mean(seed):
    """Affinities as fine as float32 holds, so that no two edges tie: the same to the last voxel."""
    rng = np.random.default_rng(seed)
    affinities = noisy(neurites((5, 60, 60), 20, seed), seed=seed)
    fragments = make_fragments(affinities)
    fine = 1000
    values = affinities.volume.data * np.int64(700) + rng.integers(1, 70000, (3, 5, 60, 60))
    graph = region_graph(fragments, affinities.volume.data, NEAREST)
    sums = dict.fromkeys(map(tuple, graph.edges.tolist()), 0)
    for channel, offset in zip(values, NEAREST):
        here, there = pair_windows(fragments.shape, offset)
        a, b, value = (part.ravel() for part in (fragments[here], fragments[there], channel[here]))
        apart = a != b
        for u, v, one in zip(np.minimum(a, b)[apart], np.maximum(a, b)[apart], value[apart]):
            sums[int(u), int(v)] += int(one)
    # Sizes and sums in thousandths of a voxel pair.
    graph = RegionGraph(graph.edges, graph.sizes * fine, np.array(list(sums.values())))
    lookup = agglomerate(graph, int(fragments.max()), THRESHOLDS)
    whole = (values / (255 * fine)).astype(np.float32)
    counts = set()
    with silenced():
        runs = waterz.agglomerate(whole, THRESHOLDS, fragments=fragments.astype(np.uint64))
        for labels, row, threshold in zip(runs, lookup, THRESHOLDS, strict=True):
            assert same_partition(apply_lookup(fragments, row), labels), threshold
            counts.add(len(np.unique(labels)))
    assert len(counts) > 2


@settings(max_examples=40, deadline=None)
@given(
    st.permutations(list(range(2, 254, 14))),
    st.sampled_from(["quantile50", "quantile75", "quantile50-max"]),
)
def test_waterz_merges_to_the_same_partition_by_quantiles_without_ties(values, score):
    """A row of fragments, each edge of one value of its own: quantiles tie nowhere."""
    n = len(values)
    fragments = np.repeat(np.arange(1, n + 2, dtype=np.uint32), 2)[None, None].repeat(2, 1)
    channels = np.full((3, *fragments.shape), 255, np.uint8)
    channels[2][..., 2::2] = values
    affinities = Affinities(Volume(channels, "czyx", (1.0, 1.0, 1.0)))
    graph = region_graph(fragments, channels, NEAREST, histogram=True)
    lookup = agglomerate(graph, n + 1, THRESHOLDS, score)
    for (_, labels), row in zip(waterz_segments(affinities, fragments, THRESHOLDS, score), lookup):
        assert same_partition(apply_lookup(fragments, row), labels)


@pytest.mark.parametrize("score", ["quantile50", "quantile75"])
def test_waterz_is_near_by_quantiles_with_ties(score):
    """256 bins tie often, and then the order is the queue's. VI of the two, in bits."""
    for seed in range(3):
        affinities = noisy(neurites((4, 40, 40), 9, seed), seed=seed)
        fragments = make_fragments(affinities)
        graph = region_graph(fragments, affinities.volume.data, NEAREST, histogram=True)
        lookup = agglomerate(graph, int(fragments.max()), [0.3], score)
        ((_, labels),) = waterz_segments(affinities, fragments, [0.3], score)
        ours = apply_lookup(fragments, lookup[0])
        joint = np.unique(np.stack([ours.ravel(), labels.ravel()]), axis=1, return_counts=True)[1]
        entropies = [
            -sum(p * np.log2(p) for p in counts[counts > 0] / ours.size)
            for counts in (joint, np.bincount(ours.ravel()), np.bincount(labels.ravel()))
        ]
        assert 2 * entropies[0] - entropies[1] - entropies[2] < 0.5


def test_waterz_says_nothing_and_keeps_the_fragments(capfd):
    affinities = noisy(neurites((2, 20, 20), 4))
    fragments = make_fragments(affinities)
    before = fragments.copy()
    found = list(waterz_segments(affinities, fragments, [0.2, 0.8]))
    assert [value for value, _ in found] == [0.2, 0.8]
    assert found[0][1].max() > found[1][1].max()  # each has memory of its own
    assert (fragments == before).all()
    print("heard")
    assert capfd.readouterr().out == "heard\n"


def test_bad_input_is_refused():
    graph = random_graph(2, 12)
    for thresholds in ([1.2], [-0.1], [float("nan")], []):
        with pytest.raises(RecipeError, match=r"0\.\.1"):
            agglomerate(graph, 12, thresholds)
    with pytest.raises(RecipeError, match="did you mean 'quantile50"):
        agglomerate(graph, 12, [0.5], "quantil50")
    with pytest.raises(DataError, match="other ids"):
        agglomerate(graph, 5, [0.5])
    with pytest.raises(DataError, match="uint32"):
        agglomerate(graph, 2**33, [0.5])
    plain = RegionGraph(graph.edges, graph.sizes, graph.sums)
    with pytest.raises(DataError, match="histograms"):
        agglomerate(plain, 12, [0.5], "quantile50")
    affinities = noisy(neurites((2, 20, 20), 4))
    fragments = make_fragments(affinities)
    with pytest.raises(DataError, match="not compiled"):
        next(waterz_segments(affinities, fragments, [0.5], "quantile33"))
    with pytest.raises(DataError, match="shape"):
        next(waterz_segments(affinities, fragments[:1], [0.5]))
