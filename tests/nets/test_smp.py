"""The library's nets behind our factory: sizes, weights, errors, and through the whole pipeline."""

import copy

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from brodmann.core import BrodmannError, Label, LabelMap, ModelError, RecipeError, Sample, Volume
from brodmann.nets import NETS
from brodmann.nets.smp import DECODERS, smp_net
from brodmann.pipeline.model import Model, build_net, settled
from brodmann.pipeline.recipe import NetSection, load_recipe, validated
from brodmann.preprocess import Normalisation
from brodmann.problems.semantic.plan import Plan

smp = pytest.importorskip("segmentation_models_pytorch")

PLAN = Plan((32, 64), 2, (8, 16), ((1, 1), (2, 2)), ((3, 3), (3, 3)), (1.17, 1.17))


@pytest.mark.parametrize("decoder", DECODERS)
class TestEveryDecoder:
    def test_weights_are_as_many_as_the_librarys(self, decoder):
        reference = getattr(smp, DECODERS[decoder])(
            encoder_name="resnet18", encoder_weights=None, in_channels=2, classes=5
        )
        net = smp_net(2, 5, decoder=decoder)
        ours = {name.removeprefix("net."): p.shape for name, p in net.named_parameters()}
        assert ours == {name: p.shape for name, p in reference.named_parameters()}

    def test_a_size_that_fits_gives_the_librarys_own_answer(self, decoder):
        net = smp_net(1, 4, decoder=decoder).eval()
        image = torch.randn(1, 1, 128, 160)
        with torch.inference_mode():
            assert torch.equal(net(image), net.net(image))

    @pytest.mark.parametrize("shape", [(75, 128), (33, 1), (5, 40)])
    def test_any_size_is_answered(self, decoder, shape):
        net = smp_net(1, 4, decoder=decoder).eval()
        image = torch.randn(2, 1, *shape)
        with torch.inference_mode():
            answer = net(image)
        assert answer.shape == (2, 4, *shape) and answer.isfinite().all()
        # The edge pixels repeated by hand, up to what the stages divide and the decoder pools.
        step, least = {"pan": (16, 128), "pspnet": (8, 8)}.get(decoder, (32, 32))
        rows, columns = (
            [min(i, n - 1) for i in range(max(least, -(-n // step) * step))] for n in shape
        )
        with torch.inference_mode():
            whole = net.net(image[:, :, rows][..., columns])
        assert torch.allclose(answer, whole[..., : shape[0], : shape[1]], atol=1e-5)

    def test_every_weight_in_use_learns(self, decoder):
        torch.manual_seed(0)
        net = smp_net(1, 3, decoder=decoder)
        net(torch.randn(2, 1, 70, 64)).square().mean().backward()
        unused = {name for name, p in net.named_parameters() if p.grad is None}
        # A PSPNet ends its encoder after three of five stages.
        stages = ("net.encoder.layer3.", "net.encoder.layer4.")
        assert all(decoder == "pspnet" and name.startswith(stages) for name in unused)
        grads = [p.grad for p in net.parameters() if p.grad is not None]
        assert all(g.isfinite().all() for g in grads)
        assert sum(bool(g.abs().max() > 0) for g in grads) > 0.9 * len(grads)

    @pytest.mark.parametrize("depth", [3, 4])
    def test_fewer_stages(self, decoder, depth):
        net = smp_net(1, 3, decoder=decoder, depth=depth).eval()
        with torch.inference_mode():
            assert net(torch.zeros(1, 1, 50, 60)).shape == (1, 3, 50, 60)
        assert net.divisor == 2**depth


def test_the_padding_is_at_the_far_edges_and_repeats_the_last_pixel():
    net = smp_net(1, 2).eval()
    seen = []
    net.net.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    image = torch.arange(40.0).reshape(1, 1, 5, 8)
    net(image)
    (padded,) = seen
    assert padded.shape == (1, 1, 32, 32)
    assert torch.equal(padded[..., :5, :8], image)
    assert (padded[..., 5:, 8:] == 39).all() and (padded[0, 0, 2, 8:] == image[0, 0, 2, 7]).all()


def test_the_papers_encoder_and_one_of_timm():
    with torch.device("meta"):
        net = smp_net(1, 4, encoder="efficientnet-b7")
    reference = 67.1e6  # of the library's U-Net with 3 channels
    assert abs(sum(p.numel() for p in net.parameters()) / reference - 1) < 0.01
    small = smp_net(1, 4, encoder="tu-resnet10t", depth=3).eval()
    assert small(torch.zeros(1, 1, 17, 40)).shape == (1, 4, 17, 40)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder": "unett"}, "did you mean 'unet'"),
        ({"encoder": "resnet17"}, "did you mean 'resnet1"),
        ({"encoder": "tu-hf-hub:someone/net"}, "unknown encoder"),
        ({"depth": 2}, "3, 4 or 5 stages"),
        ({"decoder_dropout": 0.1}, "fpn and pspnet only"),
        ({"decoder": "fpn", "decoder_dropout": 1.0}, "from 0 to below 1"),
        ({"weights": "imagnet"}, "known: imagenet"),
        ({"encoder": "tu-resnet10t", "weights": "imagenet"}, "from a file only"),
        ({"encoder": "densenet121", "decoder": "pan"}, "do not go together"),
        ({"strides": ((1, 1, 1), (2, 2, 2))}, "2D"),
    ],
)
def test_what_it_cannot_do_is_refused(options, message):
    with pytest.raises(RecipeError, match=message):
        smp_net(1, 4, **options)


def test_dropout_of_a_decoder_is_set():
    net = smp_net(1, 4, decoder="fpn", decoder_dropout=0.5)
    assert 0.5 in {m.p for m in net.modules() if isinstance(m, torch.nn.Dropout2d)}


def test_one_value_cannot_be_normalised():
    for decoder, size in (("unet", 32), ("pan", 128)):
        with pytest.raises(ModelError, match=r"net\.batch to 2 or more"):
            smp_net(1, 3, decoder=decoder)(torch.zeros(1, 1, size, size))
    with pytest.raises(ModelError, match="takes"):
        smp_net(2, 3)(torch.zeros(1, 1, 32, 32))


class TestWeights:
    def test_those_out_of_reach_are_told_in_one_line(self, monkeypatch):
        def unreachable(*args, **kwargs):
            raise OSError("no route\nand a trace")

        monkeypatch.setattr(smp.encoders, "hf_hub_download", unreachable)
        with pytest.raises(BrodmannError, match="cannot be fetched") as caught:
            smp_net(1, 3, weights="imagenet")
        line = str(caught.value)
        assert "weights: null" in line and "trace" not in line and "\n" not in line

    def test_those_in_reach_are_the_librarys(self, monkeypatch, tmp_path):
        """What the store holds: an encoder of three channels with a classifier's last layer."""
        torch.manual_seed(1)
        state = smp.encoders.get_encoder("resnet18", weights=None).state_dict()
        state = {k: v.contiguous() for k, v in state.items()}
        file = tmp_path / "model.safetensors"
        save_file(state | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}, file)
        asked = []

        def stored(repo_id, filename, revision):
            asked.append(filename)
            return str(file)

        monkeypatch.setattr(smp.encoders, "hf_hub_download", stored)
        fetched = smp_net(1, 3, weights="imagenet")
        assert "model.safetensors" in asked
        assert torch.equal(
            fetched.net.encoder.layer1[0].conv1.weight, state["layer1.0.conv1.weight"]
        )
        # The same from the file itself, and three channels summed for one.
        local = smp_net(1, 3, weights=str(file))
        assert torch.equal(local.net.encoder.conv1.weight, fetched.net.encoder.conv1.weight)
        assert torch.allclose(
            local.net.encoder.conv1.weight, state["conv1.weight"].sum(1, keepdim=True)
        )
        for a, b in zip(local.net.encoder.parameters(), fetched.net.encoder.parameters()):
            assert torch.equal(a, b)

    def test_a_whole_net_of_ours_starts_another_decoder(self, tmp_path):
        old = smp_net(1, 3)
        file = tmp_path / "whole.safetensors"
        save_file({k: v.clone().contiguous() for k, v in old.state_dict().items()}, file)
        new = smp_net(1, 7, decoder="fpn", weights=str(file))
        for a, b in zip(old.net.encoder.parameters(), new.net.encoder.parameters()):
            assert torch.equal(a, b)
        four = smp_net(3, 7, weights=str(self.three(tmp_path)))
        assert four.net.encoder.conv1.weight.shape[1] == 3

    @staticmethod
    def three(folder):
        file = folder / "three.safetensors"
        state = smp.encoders.get_encoder("resnet18", weights=None).state_dict()
        save_file({"encoder." + k: v.contiguous() for k, v in state.items()}, file)
        return file

    def test_files_that_do_not_fit(self, tmp_path):
        with pytest.raises(ModelError, match="cannot read"):
            smp_net(1, 3, weights=str(tmp_path / "none.safetensors"))
        broken = tmp_path / "broken.safetensors"
        broken.write_bytes(b"\x80\x04pickle me")
        with pytest.raises(ModelError, match="cannot read"):
            smp_net(1, 3, weights=str(broken))
        with pytest.raises(ModelError, match="another encoder"):
            smp_net(1, 3, encoder="resnet34", weights=str(self.three(tmp_path)))
        with pytest.raises(RecipeError, match="no such weights"):
            smp_net(1, 3, weights="weights.pth")


class TestRecipe:
    def tree(self, **net):
        return {"name": "t", "data": {"kind": "phantom-sections"}, "net": net}

    def test_options_reach_the_factory(self):
        recipe = validated(
            self.tree(kind="smp", options={"decoder": "fpn", "encoder": "resnet18"}), "t"
        )
        options = recipe.net.arguments
        assert options == {"kind": "smp", "decoder": "fpn", "encoder": "resnet18"}
        net = build_net(options, PLAN, 1, 4)
        assert type(net.net).__name__ == "FPN"
        again = validated(yaml.safe_load(yaml.safe_dump(recipe.dump())), "again")
        assert again == recipe

    def test_other_nets_keep_the_arguments_they_had(self):
        assert NetSection().arguments == {
            "kind": "plain-unet", "convs_per_stage": 2, "dropout": 0.0,
        }  # fmt: skip
        assert NetSection(kind="prior-unet").arguments["trust"] == 0.5
        assert "options" not in NetSection().model_dump()

    def test_a_change_on_the_command_line(self):
        recipe = load_recipe(
            "microstructure-vnc", ["net.kind=smp", "net.base_features=32",
            "net.max_features=null", "net.options.decoder=pan", "data.root=x"],
        )  # fmt: skip
        assert recipe.net.options == {"decoder": "pan"}

    @pytest.mark.parametrize(
        ("net", "message"),
        [
            ({"kind": "smp", "options": {"decode": "fpn"}}, "did you mean 'decoder'"),
            ({"kind": "plain-unet", "options": {"decoder": "fpn"}}, "no such option"),
            ({"options": {"dropout": 0.1}}, "set net.dropout"),
            ({"kind": "smp", "base_features": 16}, "no use for this key"),
            ({"kind": "smp", "dropout": 0.2}, "no use for this key"),
            ({"kind": "vnet-light", "convs_per_stage": 3}, "no use for this key"),
            ({"kind": "sml"}, "unknown net"),
        ],
    )
    def test_what_would_do_nothing_is_refused(self, net, message):
        with pytest.raises(RecipeError, match=message):
            validated(self.tree(**net), "t")


def blobs(seed):
    """A picture whose bright discs are class 1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :80]
    labels = np.zeros((48, 80), np.uint8)
    for cy, cx in rng.uniform((5, 5), (43, 75), (6, 2)):
        labels[(y - cy) ** 2 + (x - cx) ** 2 < 40] = 1
    return (labels * 80 + rng.normal(60, 15, labels.shape)).astype(np.float32), labels


class TestThroughThePipeline:
    label_map = LabelMap([Label(1, "disc", "disc")])

    def test_a_model_folder_gives_the_same_answers_without_the_network(self, tmp_path, monkeypatch):
        from brodmann.io import read_volume
        from brodmann.pipeline.mapping import map_image

        options = {"kind": "smp", "decoder": "unetplusplus", "weights": "imagenet"}
        net = build_net(settled(options), PLAN, 1, 2).eval()
        model = Model(
            "semantic", [net], settled(options), PLAN, Normalisation(), self.label_map,
            ("image",), {"title": "T"},
        )  # fmt: skip
        folder = model.save(tmp_path / "m")
        assert "smp, decoder unetplusplus" in (folder / "README.md").read_text("utf-8")

        # One that asks for weights by hand gets none either: they are in the folder.
        tree = yaml.safe_load((folder / "model.yaml").read_text("utf-8"))
        tree["net"]["weights"] = "imagenet"
        (folder / "model.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), "utf-8")
        monkeypatch.setattr(smp.encoders, "hf_hub_download", None)
        again = Model.load(folder)
        assert again.fingerprint == model.fingerprint
        image = Volume(blobs(0)[0], "yx", (1.17, 1.17))
        for name, one in (("a", model), ("b", again)):
            map_image(one, image, tmp_path / f"{name}.tif")
        a, b = (read_volume(tmp_path / f"{name}.tif").numpy() for name in "ab")
        assert np.array_equal(a, b) and a.shape == (48, 80)
        assert (load_file(folder / "model.safetensors").keys()) >= {"0.net.encoder.conv1.weight"}

    def test_a_few_steps_of_the_learner_learn(self, tmp_path):
        from brodmann.augment.base import make_augmentation
        from brodmann.problems.learner import Schedule, fit
        from brodmann.problems.semantic.cases import Case
        from brodmann.problems.semantic.patches import Batches
        from brodmann.problems.semantic.problem import Semantic

        torch.manual_seed(0)
        cases = [
            Case.of(
                Sample(str(i), *(Volume(v, "yx", (1, 1)) for v in blobs(i))),
                self.label_map, Normalisation(), 0, (1, 1),
            )
            for i in range(3)
        ]  # fmt: skip
        problem = Semantic(self.label_map, PLAN)
        net = smp_net(1, 2, decoder="unet", depth=3)
        batches = Batches(cases, (32, 64), 4, make_augmentation("none"), 0)
        schedule = Schedule(
            steps=25, optimizer="adamw", lr=2e-3, ema=0.8, checkpoint_every=25, log_every=5
        )
        first = copy.deepcopy(net.state_dict())
        trained, rows = fit(net, problem, batches, schedule, 0, tmp_path)
        assert rows[-1]["loss"] < rows[0]["loss"] - 0.3
        assert not torch.equal(first["net.encoder.conv1.weight"], trained.net.encoder.conv1.weight)
        image, labels = blobs(9)
        values = torch.from_numpy((image - image.mean()) / image.std())[None, None]
        with torch.inference_mode():
            guess = trained(values).argmax(1)[0].numpy()
        overlap = 2 * ((guess == 1) & (labels == 1)).sum() / ((guess == 1).sum() + labels.sum())
        assert overlap > 0.8


def test_the_registry_names_it():
    assert NETS["smp"] is smp_net
