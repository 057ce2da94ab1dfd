"""The phantom's region tree."""

import colorsys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brodmann.core import RecipeError
from brodmann.datasets.phantoms import ZONES, phantom_tree
from brodmann.datasets.phantoms.plan import zone_leaves
from brodmann.datasets.phantoms.tree import apportion


def test_default_is_the_papers_118_in_11():
    tree = phantom_tree()
    assert tree.num_classes == 119 and len(tree.children(None)) == 11
    acronyms = [label.acronym for label in tree]
    names = [label.name for label in tree]
    assert len(set(acronyms)) == len(set(names)) == 129
    expected = {"CB", "TH", "MB", "HB", "Isocortex", "HY", "OLF", "CTXsp", "STR", "PAL", "HPF"}
    assert {tree[i].acronym for i in tree.children(None)} == expected
    assert {"AOB", "RSPv6b"} <= set(acronyms)
    assert max(tree.classes) < 2**16


def test_hue_tells_the_primary_region_and_lightness_the_subregion():
    tree = phantom_tree()

    def hls(id_):
        return colorsys.rgb_to_hls(*(x / 255 for x in tree[id_].rgb))

    for top in tree.children(None):
        hue = hls(top)[0]
        children = tree.children(top)
        assert all(abs((hls(i)[0] - hue + 0.5) % 1 - 0.5) < 0.05 for i in children)
        assert len({tree[i].color for i in children}) == len(children)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 150), st.integers(1, 40))
def test_any_numbers(subregions, primary):
    if primary > subregions:
        with pytest.raises(RecipeError):
            phantom_tree(subregions, primary)
        return
    tree = phantom_tree(subregions, primary)
    assert len(tree.classes) == subregions and len(tree.children(None)) == primary
    # A single root is the brain, not a primary region.
    if primary > 1:
        assert {tree.primary(i) for i in tree.classes} == set(tree.children(None))
    zones = zone_leaves(tree)
    assert all(zones) and len(zones) == len(ZONES)
    assert {i for leaves in zones for i in leaves} == set(range(1, subregions + 1))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0.1, 50), min_size=1, max_size=20), st.integers(0, 300))
def test_apportion_is_whole_and_fair(weights, spare):
    total = len(weights) + spare
    shares = apportion(total, weights)
    assert sum(shares) == total and min(shares) >= 1
    for share, weight in zip(shares, weights):
        assert abs(share - 1 - spare * weight / sum(weights)) <= 1


@pytest.mark.parametrize("bad", [(0, 1), (5, 0), (2.0, 1), (True, 1), (10**6, 3), ("118", 11)])
def test_bad_numbers(bad):
    with pytest.raises(RecipeError):
        phantom_tree(*bad)
