"""The region graph against a loop over voxels; blocks add up to the whole; files."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brodmann.core import DataError, OutputError
from brodmann.core.affinities import LONG_RANGE, NEAREST
from brodmann.postprocess import RegionGraph, merge_graphs, region_graph
from brodmann.postprocess import graph as module


def volume(seed, shape, ids, offsets=NEAREST, dtype=np.uint32):
    rng = np.random.default_rng(seed)
    fragments = rng.integers(0, ids + 1, shape).astype(dtype)
    # Runs, as real fragments have them.
    fragments = np.repeat(fragments, 2, axis=2)
    values = rng.integers(0, 256, (len(offsets), *fragments.shape)).astype(np.uint8)
    return fragments, values


def slow(fragments, values, offsets):
    """(u, v) -> list of affinities."""
    found = defaultdict(list)
    for channel, offset in zip(values, offsets):
        for place in np.ndindex(fragments.shape):
            other = tuple(np.add(place, offset))
            if min(other) < 0 or any(a >= b for a, b in zip(other, fragments.shape)):
                continue
            u, v = sorted((int(fragments[place]), int(fragments[other])))
            if 0 < u < v:
                found[u, v].append(int(channel[place]))
    return found


def same(a, b):
    assert a.edges.dtype == b.edges.dtype == np.uint64
    assert (a.edges == b.edges).all() and a.edges.shape == b.edges.shape
    assert (a.sizes == b.sizes).all() and (a.sums == b.sums).all()
    assert (a.histograms is None) == (b.histograms is None)
    if a.histograms is not None:
        for left, right in zip(vars(a.histograms).values(), vars(b.histograms).values()):
            assert left.dtype == right.dtype and np.array_equal(left, right)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.uint64, np.int64])
@pytest.mark.parametrize("offsets", [NEAREST, LONG_RANGE, ((1, 0, 0), (0, 2, -1))])
def test_a_slow_loop_gives_the_same(dtype, offsets):
    fragments, values = volume(3, (4, 5, 5), 9, offsets, dtype)
    if dtype in (np.uint64, np.int64):
        fragments[fragments > 4] += 2**40
    graph = region_graph(fragments, values, offsets, histogram=True)
    expected = slow(fragments, values, offsets)
    assert graph.edges.tolist() == [list(pair) for pair in sorted(expected)]
    lists = [expected[pair] for pair in sorted(expected)]
    assert graph.sizes.tolist() == [len(one) for one in lists]
    assert graph.sums.tolist() == [sum(one) for one in lists]
    dense = graph.histograms.dense()
    assert (dense == [np.bincount(one, minlength=256) for one in lists]).all()
    assert (graph.histograms.counts > 0).all()
    np.testing.assert_allclose(graph.means, [np.mean(one) / 255 for one in lists])
    plain = region_graph(fragments, values, offsets)
    assert plain.histograms is None and (plain.sums == graph.sums).all()


cuts = st.lists(st.integers(1, 5), max_size=2, unique=True).map(sorted)


@settings(max_examples=25, deadline=None)
@given(cuts, cuts, cuts, st.randoms(use_true_random=False), st.integers(0, 99), st.booleans())
def test_blocks_with_a_halo_add_up_to_the_whole(zs, ys, xs, order, seed, histogram):
    fragments, values = volume(seed, (6, 6, 3), 12, LONG_RANGE[:9])
    offsets = LONG_RANGE[:9]
    whole = region_graph(fragments, values, offsets, histogram=histogram)
    reach = np.abs(offsets).max(axis=0)
    blocks = []
    spans = [list(zip([0, *cut], [*cut, 6])) for cut in (zs, ys, xs)]
    for span in [(a, b, c) for a in spans[0] for b in spans[1] for c in spans[2]]:
        halo = tuple(slice(max(0, a - r), b) for (a, b), r in zip(span, reach))
        owned = tuple(slice(a - h.start, b - h.start) for (a, b), h in zip(span, halo))
        part = (fragments[halo], values[(slice(None), *halo)])
        blocks.append(region_graph(*part, offsets, owned=owned, histogram=histogram))
    order.shuffle(blocks)
    same(merge_graphs(blocks), whole)
    half = len(blocks) // 2
    nested = merge_graphs(
        [merge_graphs(blocks[half:], histogram=histogram),
         merge_graphs(blocks[:half], histogram=histogram)]
    )  # fmt: skip
    same(nested, whole)


def test_chunks_and_threads_change_nothing(monkeypatch):
    fragments, values = volume(0, (7, 8, 8), 40)
    whole = region_graph(fragments, values, NEAREST, histogram=True)
    monkeypatch.setattr(module, "CHUNK_VOXELS", 256)
    same(region_graph(fragments, values, NEAREST, histogram=True, workers=3), whole)


def test_many_edges_outgrow_the_first_tables():
    fragments = np.arange(1, 20 * 20 * 20 + 1, dtype=np.uint32).reshape(20, 20, 20)
    values = np.full((3, 20, 20, 20), 7, np.uint8)
    graph = region_graph(fragments, values, NEAREST, histogram=True)
    assert len(graph) == 3 * 19 * 20 * 20
    assert (graph.sizes == 1).all() and (graph.sums == 7).all()
    assert (graph.histograms.bins == 7).all() and len(graph.histograms.bins) == len(graph)


def test_what_has_no_edges():
    fragments, values = np.ones((2, 3, 4), np.uint32), np.zeros((3, 2, 3, 4), np.uint8)
    for histogram in (False, True):
        graph = region_graph(fragments, values, NEAREST, histogram=histogram)
        assert len(graph) == 0 and graph.edges.shape == (0, 2)
        nothing = region_graph(
            fragments, values, NEAREST, owned=(slice(0, 0),) * 3, histogram=histogram
        )
        same(nothing, graph)
        same(merge_graphs([nothing, graph, nothing]), graph)
    same(merge_graphs([]), region_graph(fragments, values, NEAREST))
    far = region_graph(np.arange(24, dtype=np.uint32).reshape(2, 3, 4),
                       np.zeros((1, 2, 3, 4), np.uint8), [(0, 0, -9)])  # fmt: skip
    assert len(far) == 0


@pytest.mark.parametrize("histogram", [False, True])
def test_a_file_gives_back_the_same(tmp_path, histogram):
    graph = region_graph(*volume(1, (3, 4, 4), 9), NEAREST, histogram=histogram)
    graph.save(tmp_path / "graph.npz")
    same(RegionGraph.load(tmp_path / "graph.npz"), graph)
    assert [path.name for path in tmp_path.iterdir()] == ["graph.npz"]


def test_damaged_and_foreign_files_are_refused(tmp_path):
    graph = region_graph(*volume(1, (3, 4, 4), 9), NEAREST)
    path = tmp_path / "graph.npz"
    graph.save(path)
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"no graph", whole[:200] + b"xx" + whole[202:]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"graph.npz"):
            RegionGraph.load(path)
    with pytest.raises(DataError):
        RegionGraph.load(tmp_path / "missing.npz")
    np.savez(path, edges=np.array([object()]), sizes=0, sums=0)
    with pytest.raises(DataError):
        RegionGraph.load(path)
    parts = {"edges": graph.edges[::-1], "sizes": graph.sizes, "sums": graph.sums}
    np.savez(path, **parts)
    with pytest.raises(DataError, match="sorted"):
        RegionGraph.load(path)
    np.savez(path, **parts | {"edges": graph.edges.astype(np.int32)})
    with pytest.raises(DataError, match="no region graph"):
        RegionGraph.load(path)
    with pytest.raises(OutputError):
        graph.save(tmp_path / "no folder" / "graph.npz")


def test_bad_input_is_refused():
    fragments, values = volume(1, (3, 4, 4), 9)
    with pytest.raises(DataError, match="3 offsets"):
        region_graph(fragments, values[:2], NEAREST)
    with pytest.raises(DataError, match="uint8"):
        region_graph(fragments, values.astype(np.float32), NEAREST)
    with pytest.raises(DataError, match="whole numbers"):
        region_graph(fragments.astype(np.float32), values, NEAREST)
    with pytest.raises(DataError, match="0 or more"):
        region_graph(fragments.astype(np.int32) - 5, values, NEAREST)
    both = [region_graph(fragments, values, NEAREST, histogram=h) for h in (False, True)]
    with pytest.raises(DataError, match="histograms"):
        merge_graphs(both)
