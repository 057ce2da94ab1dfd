"""Result files: round trips, and what comes from strangers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brodmann.bench import results as room
from brodmann.bench.results import Evidence, Result, parse_result, read_result, write_result
from brodmann.core import DataError


def result(**changes):
    fields = {
        "task": "toy/roi@v2",
        "method": "grey",
        "seed": 3,
        "scores": {"accuracy": 0.5, "recall:ZI": None},
        "per_split": {"slices": {"accuracy": 0.5, "recall:ZI": None}},
        "raw": {"slices": Evidence(pairs={"a": ("CTX", "CTX"), "b": ("CTX", "ZI")})},
        "configuration": {"method": "grey", "options": {"noise": 1}},
        "commit": "a" * 40,
        "data_hash": "0" * 32,
        "environment": {"python": "3.11", "cores": 2},
        "seconds": 1.5,
        "peak_memory_mb": 100.0,
    }
    return Result(**(fields | changes))


evidence = st.one_of(
    st.builds(
        lambda names: Evidence(pairs={n: ("CTX", "ZI") for n in names}, clusters={n: "c" for n in names}),
        st.lists(st.text(min_size=1, max_size=9), min_size=1, unique=True).filter(
            lambda names: all(n.encode("utf-8", "ignore").decode() == n for n in names)
        ),
    ),
    st.builds(lambda n: Evidence(table=((n, 0), (1, n))), st.integers(0, 2**62)),
    st.builds(
        lambda x: Evidence(values={"a": ((x, None), (0.5, x))}),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(evidence, st.floats(-1e6, 1, allow_nan=False), st.integers(0, 2**63 - 1))
def test_a_result_comes_back_as_it_was(raw, score, seed):
    one = result(raw={"slices": raw}, scores={"accuracy": score}, seed=seed)
    text = one.to_json()
    assert parse_result(text) == one and parse_result(text).to_json() == text


def test_a_file_has_its_name_and_is_whole(tmp_path):
    file = write_result(result(), tmp_path / "out")
    assert file.name == "toy__roi__v2__grey__seed3.json"
    assert read_result(file) == result()
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def changed(**changes):
    return json.dumps(json.loads(result().to_json()) | changes)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no JSON"),
        ("[1]", "one JSON object"),
        ("[" * 100_000, "no JSON"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, "no JSON"),
        ('{"task": 1, "task": 2}', "twice"),
        ('{"seconds": NaN}', "NaN is no number"),
        ('{"seconds": -Infinity}', "no number"),
        ("9" * 6000, "no JSON"),
        (changed(seconds=1).replace('"seconds": 1', '"seconds": 1e999'), "no JSON|finite"),
        (changed(evil=1), r"unknown key.*'evil'"),
        (changed(task="../../etc/passwd"), "task"),
        (changed(task="toy/roi@v2\n"), "task"),
        (changed(method="../x"), "method"),
        (changed(method="a|b"), "method"),
        (changed(method="<script>"), "method"),
        (changed(method="x" * 500), "method"),
        (changed(seed=-1), "seed"),
        (changed(seed=True), "seed"),
        (changed(seed="3"), "seed"),
        (changed(seed=10**30), "seed"),
        (changed(scores={}), "scores"),
        (changed(scores={"a`b": 1.0}), "scores"),
        (changed(scores={f"s{i}": 0.0 for i in range(501)}), "scores"),
        (changed(scores={"accuracy": "0.5"}), "scores"),
        (changed(raw={"slices": {}}), "evidence is"),
        (changed(raw={"slices": {"table": [[1, 2]]}}), "square"),
        (changed(raw={"slices": {"table": [[-1]]}}), "raw"),
        (changed(raw={"slices": {"pairs": {"a": ["CTX"]}}}), "raw"),
        (changed(raw={"slices": {"pairs": {"a": ["C", "C"]}, "clusters": {"b": "x"}}}), "clusters"),
        (changed(raw={"other": {"table": [[1]]}}), "different splits"),
        (changed(configuration={"a": "x" * 200_000}), "too large"),
        (changed(commit="HEAD; rm -rf /"), "commit"),
        (changed(data_hash="x"), "data_hash"),
        (changed(environment={"a": {"b": 1}}), "environment"),
        (changed(format="brodmann-result-2"), "format"),
        (changed(method="\ud800"), "no JSON|invalid|method"),
    ],
)
def test_malicious_and_broken_results_are_refused_in_one_line(text, told):
    with pytest.raises(DataError, match=told) as caught:
        parse_result(text)
    assert len(str(caught.value)) < 600


def test_huge_files_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "LARGEST_BYTES", 1000)
    file = tmp_path / "big.json"
    file.write_text(result().to_json() + " " * 1000, encoding="utf-8")
    with pytest.raises(DataError, match=r"too large.*1,000 bytes"):
        read_result(file)
    file.write_bytes(b"\xff\xfe{}")
    with pytest.raises(DataError, match="no JSON"):
        read_result(file)
    with pytest.raises(DataError, match="cannot read"):
        read_result(tmp_path / "none.json")


def test_nothing_in_a_result_is_executed(tmp_path):
    trap = tmp_path / "trap"
    word = f"__import__('pathlib').Path({str(trap)!r}).touch()"
    configuration = {"method": "!!python/object/apply:os.system [x]", "options": {"a": word}}
    assert parse_result(changed(configuration=configuration)).configuration == configuration
    assert not trap.exists()
