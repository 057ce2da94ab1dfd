"""The page of a benchmark: what stands in which table, and that nothing else does."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from report_views import EVIL, section, tree
from sklearn.metrics import confusion_matrix

from brodmann.core import DataError, Volume, keyed_rng
from brodmann.report.bench import Extras, Picture, write_bench_report
from brodmann.report.bench_charts import seeds_svg
from brodmann.report.bench_results import report_results
from brodmann.report.bench_rows import (
    BenchRow,
    TaskText,
    best_of,
    confusion_of,
    standings,
    values_of,
)

REGIONS = ("CTX", "STR", "VP")
ROI1, ROI2, MICRO, ATTRIBUTES = (
    "toy/roi@v1", "toy/roi@v2", "toy/micro@v2", "toy/attributes@v2",
)  # fmt: skip
TEXTS = [
    TaskText(
        id_, f"Region, {id_[-2:]}", "Which region?", "category", REGIONS,
        (("accuracy", "each sample counts the same"),), "accuracy", 1.0,
        ("ten answers are wrong by design",) if id_ == ROI1 else (),
    )
    for id_ in (ROI1, ROI2)
] + [
    TaskText(MICRO, "Microstructure", "", "labels", ("background", "vessel"),
             (("f1", ""), ("iou", "")), "iou"),
    TaskText(ATTRIBUTES, "Attributes", "", "attributes", ("vessel_density", "cell_size"),
             (("r2", ""),), "r2"),
]  # fmt: skip


def pairs_of(share, seed):
    """Answers of which `share` are right, at most one hundredth off."""
    rng = keyed_rng(seed, "pairs", int(100 * share))
    truth = [REGIONS[i % 3] for i in range(60)]
    right = rng.permutation(60) < share * 60
    guess = [t if r else REGIONS[(REGIONS.index(t) + 1) % 3] for t, r in zip(truth, right)]
    return {f"s{i}": [t, g] for i, (t, g) in enumerate(zip(truth, guess))}


def roi(task, method, seed, share, **more):
    pairs = pairs_of(share, seed)
    truth, guess = (np.array([pair[i] for pair in pairs.values()]) for i in (0, 1))
    scores = {"accuracy": float((truth == guess).mean())}
    scores |= {f"recall:{n}": float((guess[truth == n] == n).mean()) for n in REGIONS}
    return {
        "format": "brodmann-result-1",
        "task": task,
        "method": method,
        "seed": seed,
        "scores": scores,
        "per_split": {"a": scores},
        "raw": {"a": {"pairs": pairs}},
        "configuration": {"method": method, "options": {"width": 64}},
        "commit": "abcdef1234",
        "data_hash": "0123456789abcdef",
        "environment": {"python": "3.11", "gpu": "none"},
        "seconds": 60.0,
        "peak_memory_mb": 1500.0,
        **more,
    }


def micro(method, seed, tables):
    total = np.sum(tables, axis=0)
    f1 = 2 * np.diag(total) / (total.sum(0) + total.sum(1))
    scores = {"f1": float(f1.mean()), "iou": float((f1 / (2 - f1)).mean())}
    scores |= {f"f1:{n}": float(v) for n, v in zip(("background", "vessel"), f1)}
    raw = {f"split-{i}": {"table": table} for i, table in enumerate(tables)}
    return roi(MICRO, method, seed, 1.0) | {"scores": scores, "raw": raw}


def attributes(method, seed, noise):
    rng = keyed_rng(seed, "values", method)
    truth = rng.random((40, 2)) * (0.1, 80)
    guess = truth + noise * np.array([0.03, 25]) * rng.standard_normal((40, 2))
    r2 = 1 - ((guess - truth) ** 2).sum(0) / ((truth - truth.mean(0)) ** 2).sum(0)
    values = {
        f"s{i}": [[float(t[0]), None if i == 0 else float(t[1])], g.tolist()]
        for i, (t, g) in enumerate(zip(truth, guess))
    }
    names = ("vessel_density", "cell_size")
    scores = {"r2": float(r2.mean())} | {f"r2:{n}": float(v) for n, v in zip(names, r2)}
    return roi(ATTRIBUTES, method, seed, 1.0) | {
        "scores": scores, "raw": {"a": {"values": values}},
    }  # fmt: skip


def every():
    rows = []
    for task in (ROI1, ROI2):
        for seed in (0, 1, 2):
            rows += [roi(task, "byol", seed, 0.8 + seed / 30), roi(task, "pca", seed, 0.6)]
        rows += [roi(task, "oracle", 0, 1.0 if task == ROI2 else 0.85)]
        rows += [roi(task, "constant", 0, 0.3)]
    for seed in (0, 1, 2):
        rows += [micro("u-net", seed, [[[90, 10], [4, 20]], [[80, 5], [3, 9 + seed]]])]
        rows += [attributes("byol", seed, 0.4), attributes("pca", seed, 9.0)]
    return rows


PUBLISHED = {
    ROI1: {"BYOL (paper)": {"accuracy": (0.88, 0.02)}, "PCA (paper)": {"accuracy": (0.59, None)}}
}


class Tables(HTMLParser):
    """Section id -> its tables: lists of rows (class of the body, cells' text)."""

    def __init__(self, page):
        super().__init__()
        self.sections, self.section, self.body, self.cell = {}, None, None, None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "section":
            self.section = self.sections.setdefault(attrs.get("id"), [])
        elif tag == "table" and self.section is not None:
            self.section.append([])
        elif tag in ("tbody", "thead"):
            self.body = attrs.get("class") or tag
        elif tag == "tr" and self.section:
            self.section[-1].append((self.body, []))
        elif tag in ("td", "th") and self.section:
            self.cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self.cell is not None:
            self.section[-1][-1][1].append(" ".join(self.cell.split()))
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    rows = every()
    path = write_bench_report(
        folder, rows[::-1], tasks=TEXTS, published=PUBLISHED, title="Toy",
        intervals={(ROI2, "byol"): (0.7, 0.9)}, command="brodmann bench run toy",
    )  # fmt: skip
    assert path == folder / "report.html" and list(folder.iterdir()) == [path]
    return path.read_text()


def test_each_version_has_tables_of_its_own(page):
    sections = Tables(page).sections
    for key, task in zip(("t0", "t1"), (ROI1, ROI2)):
        main = sections[key][0]
        kinds = [kind for kind, _ in main if kind != "thead"]
        names = [cells[0] for kind, cells in main if kind != "thead"]
        published = ["published", "BYOL (paper)", "PCA (paper)"] if task == ROI1 else []
        assert [n.split(",")[0] for n in names] == ["byol", "pca", "oracle", "constant", *published]
        assert kinds == ["method"] * 2 + ["baseline"] * 2 + ["published"] * len(published)
        mine = [row["scores"]["accuracy"] for row in every()
                if row["task"] == task and row["method"] == "byol"]  # fmt: skip
        assert main[1][1][1:] == [f"{np.mean(mine):.3f} ± {np.std(mine, ddof=1):.3f}", "3"]
    assert "0.880 ± 0.020" in page and page.count("0.880 ± 0.020") == 1
    text = re.sub(r"<[^>]*>", " ", page)
    assert page.index("ten answers are wrong") > page.index('id="t0"')
    assert "0.850 of 1: the task itself is at fault" in text
    assert f"{ROI2}: the oracle" not in text


def test_confusions_are_those_of_scikit_learn(page):
    rows = [row for row in every() if row["task"] == ROI2 and row["method"] == "byol"]
    pairs = [pair for row in rows for pair in row["raw"]["a"]["pairs"].values()]
    expected = confusion_matrix(*zip(*pairs), labels=REGIONS)
    np.testing.assert_array_equal(confusion_of(map(BenchRow.of, rows), REGIONS), expected)
    matrix = Tables(page).sections["t1"][-1]
    shares = np.rint(100 * expected / expected.sum(1, keepdims=True)).astype(int)
    for (_, cells), name, line in zip(matrix[1:], REGIONS, shares):
        assert cells == [name, *(str(share) if share else "" for share in line)]


def test_tables_of_pixels_add_up_over_splits_and_seeds(page):
    rows = [BenchRow.of(row) for row in every() if row["task"] == MICRO]
    total = confusion_of(rows, ("background", "vessel"))
    np.testing.assert_array_equal(total, [[510, 45], [21, 20 * 3 + 9 + 10 + 11]])
    by_class = next(t for t in Tables(page).sections["t2"] if "vessel" in t[0][1])
    mine = [row.scores["f1:vessel"] for row in rows]
    assert by_class[1][1][2] == f"{np.mean(mine):.3f} ± {np.std(mine, ddof=1):.3f}"


def test_attributes_have_bars_and_dots(page):
    part = page[page.index('id="t3"') : page.index('id="made"')]
    assert part.count("<svg") == 2 and "Cell size (µm²)" in part and "Vessel density (%)" in part
    # What lies far below the mean is named, not drawn where it would squeeze the rest.
    worst = np.mean([r["scores"]["r2:cell_size"] for r in every()
                     if r["task"] == ATTRIBUTES and r["method"] == "pca"])  # fmt: skip
    assert worst < -1 and f"−{-worst:.2f}" in part


def test_provenance_is_complete(page):
    made = page[page.index('id="made"') :]
    for text in ("brodmann bench run toy", "abcdef1234", "0123456789abcdef", "3.11", "width"):
        assert text in made
    assert "1.5 GB" in made and f"{len(every()):d}" in made


def test_the_page_is_self_contained_and_draws_ids_once(page):
    assert not re.search(r'(?:src|href)="(?!data:|#)', page) and "<script src" not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 40
    for used in re.findall(r'(?:href="#|url\(#)([^")]+)', page):
        assert used in ids


def test_the_best_is_never_a_baseline_nor_published(page):
    rows = [BenchRow.of(row) for row in every() if row["task"] == ROI1]
    table = standings(rows, TEXTS[0], PUBLISHED[ROI1])
    assert best_of(table, "accuracy").name == "byol"
    assert {one.name for one in table if one.kind == "baseline"} == {"oracle", "constant"}
    part = page[page.index('id="t0"') : page.index('id="t1"')]
    best = re.findall(r'<tr><th scope="row">([^<]*)</th><td class="n best', part)
    assert best and set(best) == {"byol"}


def test_a_baseline_under_another_name_is_one():
    row = roi(ROI1, "prior", 0, 0.3) | {"configuration": {"method": "constant", "options": {}}}
    assert BenchRow.of(row).baseline and not BenchRow.of(roi(ROI1, "pca", 0, 0.3)).baseline


def test_warnings_say_what_makes_a_table_less(tmp_path):
    rows = [roi(ROI2, "byol", 0, 0.8), roi(ROI2, "byol", 1, 0.8, data_hash="f" * 16)]
    rows[1]["configuration"] = {"method": "byol", "options": {"width": 8}}
    text = write_bench_report(tmp_path, rows, tasks=TEXTS).read_text()
    for words in ("2 different sets of data", "fewer than 3 seeds of byol", "2 different settings"):
        assert words in text
    assert text.index("Read this first") < text.index('id="t0"')


def test_what_does_not_fit_together_is_refused(tmp_path):
    one = roi(ROI2, "byol", 0, 0.8)
    other = roi(ROI2, "byol", 0, 0.7)
    for rows, options in (
        ([], {}),
        ([one, other], {}),
        ([one], {"published": {ROI2: {"a": {"accuracy": (1, None)}}}}),
        ([{"task": "toy", "method": "a", "seed": 0, "scores": {}}], {}),
        ([{"task": ROI2}], {}),
        ([3], {}),
        ([one], {"extras": Extras(sections=[section(0)])}),
        ([one], {"extras": Extras(figures=[Picture("a", "", tmp_path / "no.png")])}),
        ([one], {"extras": Extras(figures=[Picture("a", "", tmp_path / "no.svg")])}),
    ):
        with pytest.raises(DataError):
            write_bench_report(tmp_path, rows, tasks=TEXTS, **options)
    assert not list(tmp_path.iterdir())
    write_bench_report(tmp_path, [one, dict(one)], tasks=TEXTS)
    with pytest.raises(DataError, match="one version"):
        standings([BenchRow.of(one)], TEXTS[0])
    with pytest.raises(DataError, match="another category"):
        confusion_of([BenchRow.of(one)], ("CTX", "STR"))
    with pytest.raises(DataError, match="other classes"):
        confusion_of([BenchRow.of(micro("a", 0, [[[1, 2], [3, 4]]]))], REGIONS)
    with pytest.raises(DataError, match="other attributes"):
        values_of([BenchRow.of(attributes("a", 0, 1))], 3)


def test_a_task_that_nobody_described_is_shown_by_what_its_rows_say(tmp_path):
    text = write_bench_report(tmp_path, [roi("toy/odd@v3", "x", 0, 0.7)]).read_text()
    sections = Tables(text).sections
    assert sections["t0"][0][0][1] == ["method", "Accuracy", "seeds"]
    assert len(sections["t0"]) == 3


def test_unknown_scores_are_dashes(tmp_path):
    row = roi(ROI2, "a", 0, 0.5)
    row["scores"] = {"accuracy": None, "recall:CTX": None}
    row["raw"] = {}
    sections = Tables(write_bench_report(tmp_path, [row], tasks=TEXTS).read_text()).sections
    assert sections["t0"][0][1][1] == ["a", "–", "1"] and len(sections["t0"]) == 1
    assert seeds_svg(standings([BenchRow.of(row)], TEXTS[1]), [("accuracy", "A")], "x") == ""


def test_pictures_stand_on_the_page(tmp_path):
    picture = tmp_path / "a.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(picture)
    patch = Volume(keyed_rng(0, "p").integers(0, 255, (40, 30), np.uint8), "yx", (1.17, 1.17))
    extras = Extras(
        embeddings=[Picture("Embedding", "Of images.", picture)],
        figures=[Picture("Slices", "How alike.", picture)],
        patches={"CTX": [patch] * 11, "STR": [patch], "VP": []},
        sections=[section(0)],
        label_map=tree(),
    )
    text = write_bench_report(
        tmp_path / "out", [roi(ROI2, "byol", 0, 0.8)], tasks=TEXTS, extras=extras
    ).read_text()
    assert text.count("data:image/png;base64,") >= 4
    assert text.count('alt="Example of CTX"') == 8 and text.count('alt="Example of STR"') == 1
    assert "46.8 × 35.1 µm" in text and "Example of VP" not in text
    assert "section 0" in text and "enlarge" in text and "of tissue" not in text
    for anchor in ("embeddings", "predictions", "examples", "figures"):
        assert f'href="#{anchor}"' in text and f'id="{anchor}"' in text


def test_nothing_escapes(tmp_path):
    row = roi(ROI2, EVIL, 0, 0.8)
    row["configuration"] = {"method": EVIL}
    row["environment"] = {EVIL: EVIL}
    text = write_bench_report(
        tmp_path, [row], tasks=TEXTS, title=EVIL, description=EVIL, command=EVIL, notes=[EVIL],
        facts={EVIL: EVIL},
    ).read_text()  # fmt: skip
    row["method"] = "$\\bad{$ a$"
    assert "$\\bad{$ a$" in write_bench_report(tmp_path, [row], tasks=TEXTS).read_text()
    assert "<script>alert" not in text and '<b>"' not in text


def test_results_of_a_benchmark_bring_their_tasks_and_published_rows(tmp_path):
    tasks = pytest.importorskip("brodmann.bench.tasks")
    from brodmann.bench.evaluate import mean_scores, score
    from brodmann.bench.results import Evidence, Result

    results = []
    for version in ("v1", "v2"):
        bench, task = tasks.find_task(f"mtneuro/roi-c1@{version}")
        counts = {name: 50 for name in task.categories}
        pairs = {f"{name}{i}": (name, name) for name, count in counts.items() for i in range(count)}
        if version == "v1":
            pairs = {
                key: ("CTX" if int(key.strip("CTXSRVPZI")) >= 40 else truth, guess)
                for key, (truth, guess) in pairs.items()
            }
        evidence = {split.name: Evidence(pairs=pairs) for split in task.splits}
        per_split = {name: score(task, one) for name, one in evidence.items()}
        plain = roi(task.id, "byol", 1, 1.0)
        plain |= {"scores": mean_scores(per_split), "per_split": per_split, "raw": evidence}
        results.append(Result(**plain))
    path = report_results(tmp_path, results, {bench.name: bench}, command="brodmann bench")
    sections = Tables(path.read_text()).sections
    first, second = (sections[key][0] for key in ("t0", "t1"))
    assert [cells[0] for kind, cells in first if kind == "published"][1:3] == [
        "Supervised", "Sup w/ Mixup",
    ]  # fmt: skip
    assert first[1][1][1] == "0.850" and second[1][1][1] == "1.000"
    assert all(kind != "published" for kind, _ in second)
    assert "CC-BY-4.0" in path.read_text()
    plain = [json.loads(result.to_json()) for result in results]
    assert Tables(write_bench_report(tmp_path, plain).read_text()).sections["t1"][0][1][1] == [
        "byol", "1.000", "1.000", "1",
    ]  # fmt: skip
