import numpy as np
import pytest
from typer.testing import CliRunner

from brodmann.cli.app import app
from brodmann.core import (
    BrodmannError,
    DataError,
    Label,
    LabelMap,
    OutputError,
    RecipeError,
    Volume,
    keyed_rng,
)
from brodmann.io import read_volume, write_volume
from brodmann.pipeline import mapping
from brodmann.pipeline.mapping import map_image
from brodmann.pipeline.model import Model, build_net, seeded_net
from brodmann.pipeline.predict import predict_images
from brodmann.preprocess import Normalisation
from brodmann.problems.semantic.plan import Plan

TREE = LabelMap([Label(300, "left", "L"), Label(7, "right", "R")])
PLAN = Plan((16, 16), 2, (4, 8), ((1, 1), (2, 2)), ((3, 3), (3, 3)), (10.0, 10.0))
OPTIONS = {"kind": "plain-unet", "convs_per_stage": 1, "dropout": 0.0}
CHANNELS = ("green", "red")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    net = seeded_net(0, lambda: build_net(OPTIONS, PLAN, 2, 3))
    made = Model("semantic", [net], OPTIONS, PLAN, Normalisation("image"), TREE, CHANNELS, {})
    return made.save(tmp_path_factory.mktemp("model"))


def picture(seed=0, shape=(40, 30)):
    values = keyed_rng(seed, "picture").normal(100, 30, (2, *shape)).astype(np.float32)
    return Volume(values, "cyx", (10.0, 10.0), CHANNELS)


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def pixels(path):
    return read_volume(path, spacing="unit").numpy()


@pytest.fixture
def sections(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(2):
        write_volume(tmp_path / "in" / f"s{i}.tif", picture(i))
    return tmp_path / "in"


@pytest.fixture
def dataset(tmp_path):
    """Two grey files for each sample, their spacing told by dataset.yaml alone."""
    folder = tmp_path / "mine"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for channel, values in zip(CHANNELS, picture(5).numpy()):
        grey = Volume(values, "yx", (1.0, 1.0))
        write_volume(folder / "images" / f"a.{channel}.tif", grey)
    labels = np.full((40, 30), 7, np.uint16)
    write_volume(folder / "labels" / "a.tif", Volume(labels, "yx", (1.0, 1.0)))
    (folder / "dataset.yaml").write_text("spacing_um: [10, 10]\nchannels: [green, red]\n")
    TREE.to_csv(folder / "labels.csv")
    return folder


def test_a_dataset_folder_is_never_an_out(model, sections, dataset):
    for source in (sections, dataset):
        before = files(dataset)
        with pytest.raises(OutputError, match=r"is a dataset.*another OUT"):
            predict_images(model, source, dataset)
        (dataset / "dataset.yaml").rename(dataset / "kept")
        with pytest.raises(OutputError, match="is a dataset"):
            predict_images(model, sections, dataset)
        (dataset / "kept").rename(dataset / "dataset.yaml")
        assert files(dataset) == before


def test_an_image_is_never_overwritten_by_its_map(model, sections):
    before = files(sections)
    with pytest.raises(OutputError, match="would overwrite its image"):
        predict_images(model, sections / "s0.tif", sections / "s0.tif")
    (sections / "labels").mkdir()
    (sections / "s0.tif").rename(sections / "labels" / "s0.tif")
    with pytest.raises(OutputError, match="would overwrite its image"):
        predict_images(model, sections / "labels", sections)
    (sections / "labels" / "s0.tif").rename(sections / "s0.tif")
    assert files(sections) == before


@pytest.mark.parametrize("theirs", ["labels/s1.tif", "confidence/s0.tif", "labels.csv"])
def test_a_file_that_predict_did_not_write_is_refused_by_name(model, sections, tmp_path, theirs):
    out = tmp_path / "out"
    (out / theirs).parent.mkdir(parents=True)
    (out / theirs).write_text("mine")
    with pytest.raises(OutputError, match=theirs):
        predict_images(model, sections, out, page=False)
    assert files(out) == {theirs: b"mine"}


def test_a_file_put_there_later_is_refused_too(model, sections, tmp_path):
    out = tmp_path / "out"
    predict_images(model, sections / "s0.tif", out, page=False)
    (out / "labels" / "s1.tif").write_text("mine")
    with pytest.raises(OutputError, match=r"s1\.tif"):
        predict_images(model, sections, out, page=False)
    assert (out / "labels" / "s1.tif").read_text() == "mine"


def test_an_existing_single_map_stays_until_the_new_one_is_whole(model, sections, tmp_path):
    out = tmp_path / "map.tif"
    predict_images(model, sections / "s0.tif", out)
    old = out.read_bytes()
    bad = picture().like(np.full((2, 40, 30), np.nan, np.float32))
    write_volume(sections / "bad.tif", bad)
    with pytest.raises(DataError, match=r"bad\.tif"):
        predict_images(model, sections / "bad.tif", out)
    assert out.read_bytes() == old
    predict_images(model, sections / "s1.tif", out)
    assert (pixels(out) != pixels_of(model, sections / "s0.tif", tmp_path)).any()
    assert (pixels(out) == pixels_of(model, sections / "s1.tif", tmp_path)).all()


def pixels_of(model, image, folder):
    path = folder / "direct" / f"{image.stem}.tif"
    path.parent.mkdir(exist_ok=True)
    volume = read_volume(image, axes="cyx")
    return pixels(map_image(Model.load(model), volume, path, redo=True).labels)


@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr"])
def test_a_changed_input_is_mapped_anew_and_an_unchanged_one_is_kept(
    model, sections, tmp_path, suffix, monkeypatch
):
    out = tmp_path / "out"
    predict_images(model, sections, out, suffix=suffix, page=False)
    mapped = []
    whole = Model.map
    monkeypatch.setattr(
        Model, "map", lambda self, *a, **k: mapped.append(a[2]) or whole(self, *a, **k)
    )
    write_volume(sections / "s0.tif", picture(9))
    predict_images(model, sections, out, suffix=suffix, page=False)
    assert mapped == [str(sections / "s0.tif")]
    expected = pixels_of(model, sections / "s0.tif", tmp_path)
    assert (pixels(out / "labels" / f"s0{suffix}") == expected).all()
    mapped.clear()
    predict_images(model, sections, out, suffix=suffix, page=False, mirror="x")
    assert len(mapped) == 2


class Stop(Exception):
    pass


def test_half_mapped_work_goes_on_only_with_the_same_options(model, tmp_path):
    loaded, image, asked = Model.load(model), picture(shape=(700, 16)), []

    def stop(done, total):
        # Rows go to disk 512 at a time; only then is there something to go on with.
        if done > 0.85 * total:
            raise Stop

    def first(**options):
        asked.clear()
        map_image(
            loaded,
            image,
            tmp_path / "a.tif",
            redo=True,
            report=lambda done, total: asked.append(done),
            **options,
        )
        return asked[0]

    begin = first()
    with pytest.raises(Stop):
        map_image(loaded, image, tmp_path / "a.tif", redo=True, report=stop)
    assert first() > begin
    for other in ({"mirror": [1]}, {"key": "another"}):
        with pytest.raises(Stop):
            map_image(loaded, image, tmp_path / "a.tif", redo=True, report=stop)
        fresh = first(**other)
        assert fresh == begin


def test_half_mapped_work_of_another_size_is_no_obstacle(model, tmp_path):
    loaded, path = Model.load(model), tmp_path / "a.tif"

    def stop(done, total):
        raise Stop

    with pytest.raises(Stop):
        map_image(loaded, picture(shape=(60, 30)), path, report=stop)
    map_image(loaded, picture(), path)
    assert pixels(path).shape == (40, 30)


def test_a_stop_between_files_leaves_nothing_that_is_refused(
    model, sections, tmp_path, monkeypatch
):
    out, remove = tmp_path / "out", mapping.shutil.rmtree

    def killed(path, **rest):
        if path.name == ".s0.tif.partial" and path.exists():
            raise Stop
        remove(path, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(mapping.shutil, "rmtree", killed)
        with pytest.raises(Stop):
            predict_images(model, sections, out, page=False)
    assert (out / "labels" / "s0.tif").exists() and list(out.rglob(".*.partial"))
    predict_images(model, sections, out, page=False)
    assert not list(out.rglob(".*.partial"))


def test_a_partial_left_after_the_last_file_is_cleared(model, tmp_path):
    path = tmp_path / "a.tif"
    map_image(Model.load(model), picture(), path)
    (tmp_path / ".a.tif.partial").mkdir()
    map_image(Model.load(model), picture(), path)
    assert not (tmp_path / ".a.tif.partial").exists()


def test_a_file_that_is_no_image_is_refused_in_one_line(model, tmp_path):
    (tmp_path / "make.py").write_text("print()")
    args = ["predict", str(model), str(tmp_path / "make.py"), str(tmp_path / "out")]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 2
    assert "not an image format that can be read" in result.stderr
    assert result.stderr.strip().count("\n") == 0 and "make.py" in result.stderr


@pytest.mark.parametrize("suffix", [".jpg", "jpg", ".docx", ""])
def test_formats_that_cannot_be_written_are_refused_at_once(model, sections, tmp_path, suffix):
    with pytest.raises(OutputError, match="not a format that can be written"):
        predict_images(model, sections, tmp_path / "out", suffix=suffix)
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError, match="not a format that can be written"):
        predict_images(model, sections / "s0.tif", tmp_path / "new" / "a.jpg")
    assert not (tmp_path / "new").exists()


def test_a_format_needs_no_dot(model, sections, tmp_path):
    predict_images(model, sections, tmp_path / "out", suffix="PNG", page=False)
    assert pixels(tmp_path / "out" / "labels" / "s1.png").shape == (40, 30)


def test_nan_names_its_file_and_costs_itself_only(model, sections, tmp_path):
    values = picture().numpy().copy()
    values[0, 3, 3] = np.nan
    write_volume(sections / "r.tif", picture().like(values))
    with pytest.raises(DataError, match=r"r\.tif.*2 of 3"):
        predict_images(model, sections, tmp_path / "out", page=False)
    assert len(list((tmp_path / "out" / "labels").glob("s*.tif"))) == 2


def test_dataset_yaml_counts_for_a_dataset_as_input(model, dataset, tmp_path):
    result = predict_images(model, dataset, tmp_path / "out")
    assert [image["name"] for image in result["images"]] == ["a"]
    found = read_volume(tmp_path / "out" / "labels" / "a.tif")
    expected = map_image(Model.load(model), picture(5), tmp_path / "a.tif").labels
    assert found.spacing == (10.0, 10.0) and (found.numpy() == pixels(expected)).all()
    assert (tmp_path / "out" / "report.html").exists()


def test_a_fault_of_the_dataset_is_told(model, dataset, tmp_path):
    (dataset / "images" / "a.red.tif").unlink()
    with pytest.raises(DataError, match="channels of this sample are missing"):
        predict_images(model, dataset, tmp_path / "out")


def test_an_out_that_cannot_be_a_folder_says_out(model, sections, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BrodmannError, match="choose another OUT"):
        predict_images(model, sections, tmp_path / "file" / "maps")
    with pytest.raises(RecipeError, match="several images"):
        predict_images(model, sections, tmp_path / "a.tif")
