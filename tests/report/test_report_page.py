"""The whole report: files, content, escaping, and a browser where there is one."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import tifffile
from report_views import EVIL, run_view, section, tree

from brodmann.core import DataError, OutputError
from brodmann.io import read_volume
from brodmann.report import write_report

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Checker(HTMLParser):
    """Collects ids, references and text; complains about tags that do not close."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value)
            if key in ("href", "src", "xlink:href"):
                self.links.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def checked(path):
    checker = Checker()
    checker.feed(path.read_text("utf-8"))
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids)), "an id is used twice"
    for link in checker.links:
        inside = link.startswith("#") and link[1:] in checker.ids
        beside = (path.parent / link).exists() and not link.startswith("/")
        assert inside or link.startswith("data:") or beside, link[:80]
    return checker


def test_every_file_and_every_part(tmp_path):
    view = run_view(3)
    path = write_report(view, tmp_path / "out")
    assert path == tmp_path / "out" / "report.html"
    checker = checked(path)
    assert {"sections", "regions", "primary", "confusions", "areas", "learning"} <= set(checker.ids)
    text = " ".join(" ".join(checker.text).split())
    for words in ("0.815", "0.530", "this measures interpolation", "Thalamus", "500 µm", "CC0"):
        assert words in text
    assert "brodmann run demo --out <folder>" in text
    assert "nan" not in text.lower().split() and "None" not in text
    for one in view.sections:
        stem = one.name.replace(" ", "_")
        labels = tifffile.imread(tmp_path / "out/labels" / f"{stem}.tif")
        assert np.array_equal(labels, one.prediction.numpy())
        assert read_volume(tmp_path / "out/labels" / f"{stem}.tif").spacing == (50.0, 50.0)
        collection = json.loads((tmp_path / "out/polygons" / f"{stem}.geojson").read_text("utf-8"))
        assert len(collection["features"]) == 3
    assert len((tmp_path / "out/areas.csv").read_text("utf-8").splitlines()) == 1 + 3 * 3
    assert not [p for p in (tmp_path / "out").rglob(".*")], "nothing half-written is left"


def test_the_same_bytes_twice(tmp_path):
    pages = [write_report(run_view(2), tmp_path / name).read_bytes() for name in "ab"]
    assert pages[0] == pages[1]


def test_sections_are_read_once_and_in_order(tmp_path):
    reads = []

    class Lazy(list):
        def __iter__(self):
            for index in range(len(self)):
                reads.append(index)
                yield self[index]

    sections = Lazy(section(i, (20, 30), confidence=False) for i in range(15))
    page = write_report(run_view(15, sections=sections), tmp_path).read_text("utf-8")
    assert reads == list(range(15))
    assert page.count('<article class="card">') == 12
    assert page.count("<img ") == 3
    order = [int(number) for number in re.findall(r"<h3><span>section (\d+)", page)]
    assert order == sorted(order) and order[0] == 0 and order[-1] == 14, "best to worst"


def test_few_sections_are_all_shown_in_full_though_only_one_is_scored(tmp_path):
    scores = run_view().scores | {"per_image": [{"name": "section 1", "mean_dice": 0.4}]}
    page = write_report(run_view(3, scores=scores), tmp_path).read_text("utf-8")
    assert re.findall(r"<h3><span>(section \d+)", page) == ["section 1", "section 0", "section 2"]


def test_without_truth_scores_curve_or_confidence(tmp_path):
    bare = section(0, truth=False, confidence=False)
    empty = {"scores": {}, "confusions": [], "baselines": {}, "curve": [], "notes": [], "facts": {}}
    path = write_report(run_view(sections=[bare], **empty), tmp_path)
    checker = checked(path)
    assert not {"confusions", "areas", "learning"} & set(checker.ids)
    text = " ".join(checker.text)
    assert "No truth was given" in text and "Prediction" in text
    for words in ("Truth", "Differences", "Confidence", "baselines", "Read this first"):
        assert words not in text


def test_one_volume_is_shown_in_three_slices(tmp_path):
    path = write_report(run_view(1, sections=[section(0, (6, 20, 30), channels=1)]), tmp_path)
    checked(path)
    page = path.read_text("utf-8")
    assert re.findall(r"<h4>(.*?)</h4>", page) == ["z = 3 of 6", "y = 10 of 20", "x = 15 of 30"]
    assert "mm³" in page and "mm²" not in page


def test_everything_is_escaped(tmp_path):
    confusions = [{"truth": EVIL, "prediction": "TH", "pixels": 3, "share": 0.5}]
    scores = run_view().scores
    scores["per_image"] = [{"name": "section 0", "mean_dice": 0.9}]
    view = run_view(
        1,
        label_map=tree(evil=True),
        title=EVIL,
        description=EVIL,
        command=EVIL,
        facts={EVIL: EVIL},
        notes=[EVIL],
        baselines={EVIL: {"mean_dice": 0.1}},
        confusions=confusions,
        scores=scores,
    )
    path = write_report(view, tmp_path)
    page = path.read_text("utf-8")
    assert page.count("<script>") == 1 and "alert('x')</script>" not in page
    assert EVIL in " ".join(checked(path).text)


def test_names_become_safe_file_names(tmp_path):
    from dataclasses import replace

    one = replace(section(0), name="../../a b/c")
    write_report(run_view(sections=[one], scores={}), tmp_path / "out")
    assert [p.name for p in (tmp_path / "out/labels").iterdir()] == ["_.._a_b_c.tif"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_bad_runs_are_refused(tmp_path):
    with pytest.raises(DataError, match="at least one section"):
        write_report(run_view(sections=[]), tmp_path)
    with pytest.raises(DataError, match="two sections share a name"):
        write_report(run_view(sections=[section(0), section(0)]), tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(run_view(1), tmp_path / "file")


@pytest.fixture
def page(tmp_path):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    api = pytest.importorskip("playwright.sync_api")
    path = write_report(run_view(2), tmp_path)
    with api.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 400, "height": 800})
        page.trouble, page.asked = [], []
        page.on("console", lambda m: page.trouble.append(m.text) if m.type != "log" else None)
        page.on("pageerror", lambda error: page.trouble.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(path.as_uri())
        yield page
        browser.close()


def test_in_a_browser(page):
    outside = [url for url in page.asked if not url.startswith(("file:", "data:"))]
    assert outside == [] and len([url for url in page.asked if url.startswith("file:")]) == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 400, "wider than a phone"

    def column(index):
        cells = f"#regions tbody tr > :nth-child({index})"
        return page.eval_on_selector_all(cells, "all => all.map(one => one.textContent.trim())")

    dice = page.locator("#regions thead button", has_text="Dice")
    dice.click()
    assert column(3) == ["0.910", "0.720", "–"]
    dice.click()
    assert column(3) == ["0.720", "0.910", "–"], "what is not known stays last"
    page.locator("#regions thead button", has_text="name").click()
    assert column(2) == sorted(column(2))
    assert page.locator("#regions th[aria-sort]").count() == 1

    page.locator(".panel svg").nth(2).click(position={"x": 100, "y": 60})
    assert page.locator(".panel.large").count() == 1
    page.locator(".regions path[data-r='1']").first.hover()
    assert page.locator(".regions path.lit[data-r='1']").count() == 2, "true and predicted"
    assert page.locator(".regions path.lit").count() == 2
    assert page.trouble == []
