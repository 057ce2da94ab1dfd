"""Model: net + normalisation + spacing + label map, in a folder that nothing unpickles.

`model.yaml` says how to build the nets, `model.safetensors` holds the weights of all folds
(tensor names begin with the fold's number), `labels.csv` the label map, `README.md` is the
card for people.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from brodmann.core import DataError, LabelMap, ModelError, Volume
from brodmann.core.files import make_folder, write_text, written_beside
from brodmann.nets import NETS
from brodmann.preprocess import Normalisation, Statistics, image_channels
from brodmann.problems.base import PROBLEMS, Problem
from brodmann.problems.semantic.plan import Plan

FORMAT = 1
SPACING_TOLERANCE = 0.02
"""Relative difference of spacing that is let pass."""


@dataclass
class Model:
    """A trained model.

    Attributes
    ----------
    problem : str
        Name in problems.base.PROBLEMS.
    nets : sequence of nn.Module
        One for each fold; their logits are averaged.
    net_options : dict
        `kind` and the factory's arguments.
    plan : Plan
    normalisation : Normalisation
    label_map : LabelMap or None
        None where answers are no classes (affinities between voxels).
    channels : tuple of str
        Names of the input channels, in order.
    facts : dict
        What the card tells: data, licence, scores, how it was trained.
    problem_options : dict
        Further arguments of the problem, as plain data.
    """

    problem: str
    nets: Sequence[nn.Module]
    net_options: dict[str, Any]
    plan: Plan
    normalisation: Normalisation
    label_map: LabelMap | None
    channels: tuple[str, ...]
    facts: dict[str, Any]
    problem_options: dict[str, Any] = field(default_factory=dict)

    def asked(self) -> Problem:
        """The problem that the nets answer."""
        return PROBLEMS[self.problem](self.label_map, self.plan, **self.problem_options)

    def map(self, image: Volume, out: Path, where: str = "image", **options: Any) -> Path:
        """Map an image of any size; see the problem's `assemble` for options and files.

        Raises
        ------
        ModelError
            If the image has other channels, dimensions or spacing than the model.
        """
        self.check(image, where)
        image = replace(image, channels=self.channels)
        return self.asked().assemble(
            self.nets, image, self.normalisation, make_folder(out), **options
        )

    @property
    def spatial_axes(self) -> str:
        return "zyx"[-len(self.plan.patch) :]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that an answer depends on: weights, plan, normalisation, labels."""
        digest = hashlib.blake2b(digest_size=16)
        rest: tuple = (
            self.problem,
            self.net_options,
            self.plan,
            self.normalisation,
            self.label_map.classes if self.label_map else None,
        )
        if self.problem_options:
            rest += (sorted(self.problem_options.items()),)
        digest.update(repr((rest, self.channels)).encode())
        for net in self.nets:
            for tensor in net.state_dict().values():
                digest.update(
                    tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
                )
        return digest.hexdigest()

    def only(self, net: nn.Module) -> Model:
        """The same model with one of its nets."""
        return replace(self, nets=[net])

    def check(self, image: Volume, where: str = "image") -> None:
        """Refuse an image that this model cannot know how to read."""
        if image.num_channels != len(self.channels):
            if image_channels(self.channels) < len(self.channels):
                raise ModelError(
                    "the model needs priors carried from labelled sections of the same series",
                    where,
                    f"{image.num_channels} channels",
                    "map the series by brodmann run with prior.method=propagate",
                )
            raise ModelError(
                f"the model takes {len(self.channels)} channels ({', '.join(self.channels)})",
                where,
                image.num_channels,
                "give the channels that it was trained on",
            )
        if image.ndim != len(self.plan.patch):
            raise ModelError(f"the model is {len(self.plan.patch)}D", where, f"axes {image.axes!r}")
        off = [abs(a / b - 1) > SPACING_TOLERANCE for a, b in zip(image.spacing, self.plan.spacing)]
        if any(off):
            raise ModelError(
                f"the model was trained at a spacing of {_um(self.plan.spacing)}",
                where,
                _um(image.spacing),
                "resample the image (brodmann predict does), or correct its spacing",
            )

    def save(self, folder: Path) -> Path:
        """Write the model folder; the weights last, so that a half-written one is no model."""
        make_folder(folder)
        (folder / "model.safetensors").unlink(missing_ok=True)
        if self.label_map:
            self.label_map.to_csv(folder / "labels.csv")
        statistics = self.normalisation.statistics
        tree = {
            "format": FORMAT,
            "problem": self.problem,
            **({"problem_options": self.problem_options} if self.problem_options else {}),
            "net": self.net_options,
            "folds": len(self.nets),
            "plan": self.plan.to_dict(),
            "normalisation": {
                "kind": self.normalisation.kind,
                "statistics": statistics.to_dict() if statistics else None,
            },
            "channels": list(self.channels),
            "facts": self.facts,
        }
        write_text(folder / "model.yaml", yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
        write_text(folder / "README.md", card(self))
        tensors = {
            f"{fold}.{name}": tensor.detach().contiguous().clone()
            for fold, net in enumerate(self.nets)
            for name, tensor in net.state_dict().items()
        }
        with written_beside(folder / "model.safetensors") as beside:
            save_file(tensors, beside, metadata={"format": str(FORMAT)})
        return folder

    @classmethod
    def load(cls, folder: Path) -> Model:
        """Read a model folder. Nothing in it is executed.

        Raises
        ------
        ModelError
            If a file is missing or damaged, or the weights do not fit the net.
        """
        folder = Path(folder)
        tree = _read_yaml(folder)
        try:
            if tree["format"] != FORMAT:
                raise ModelError(
                    "a model folder of another format",
                    folder,
                    tree["format"],
                    f"this version reads {FORMAT}",
                )
            plan = Plan.from_dict(tree["plan"])
            statistics = tree["normalisation"]["statistics"]
            normalisation = Normalisation(
                tree["normalisation"]["kind"],
                Statistics.from_dict(statistics) if statistics else None,
            )
            table = folder / "labels.csv"
            problem, options = tree["problem"], tree.get("problem_options") or {}
            label_map = LabelMap.from_csv(table) if PROBLEMS[problem].labelled else None
            outputs = PROBLEMS[problem](label_map, plan, **options).outputs
            channels, net_options = tuple(tree["channels"]), settled(tree["net"])
            nets = [
                build_net(net_options, plan, len(channels), outputs)
                for _ in range(int(tree["folds"]))
            ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError("model.yaml does not describe a model", folder, repr(error)) from error
        try:
            with safe_open(folder / "model.safetensors", "pt") as file:
                names = list(file.keys())
                for fold, net in enumerate(nets):
                    prefix = f"{fold}."
                    net.load_state_dict(
                        {
                            n.removeprefix(prefix): file.get_tensor(n)
                            for n in names
                            if n.startswith(prefix)
                        }
                    )
        except (OSError, SafetensorError, RuntimeError) as error:
            raise ModelError(
                "the weights cannot be read",
                folder / "model.safetensors",
                str(error).split("\n")[0],
                "copy the folder again, or train anew",
            ) from error
        for net in nets:
            net.eval()
        return cls(
            problem,
            nets,
            net_options,
            plan,
            normalisation,
            label_map,
            channels,
            tree.get("facts") or {},
            options,
        )


def kept_model(folder: Path) -> Model:
    """The model that a stage of training has left, which belongs to no stage's own folder."""
    if not (folder / "model.safetensors").exists():
        raise DataError(
            "the model of this run is gone", folder, fix="remove DIR/train to train anew"
        )
    return Model.load(folder)


def build_net(options: dict[str, Any], plan: Plan, in_channels: int, outputs: int) -> nn.Module:
    """The net that recipe or model.yaml names, freshly initialised."""
    rest = {key: value for key, value in options.items() if key != "kind"}
    return NETS[options["kind"]](
        in_channels, outputs, plan.features, plan.strides, plan.kernels, **rest
    )


def settled(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a net that is trained: its first weights are fetched and read no more.

    >>> settled({"kind": "smp", "decoder": "fpn", "weights": "imagenet"})
    {'kind': 'smp', 'decoder': 'fpn'}
    """
    return {key: value for key, value in options.items() if key != "weights"}


def seeded_net(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """A net whose first weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def card(model: Model) -> str:
    """The model card in Markdown."""
    facts = "\n".join(f"| {key} | {value} |" for key, value in model.facts.items())
    plan = model.plan
    shown = image_channels(model.channels)
    channels = ", ".join(model.channels[:shown])
    use = "    brodmann predict THIS_FOLDER IMAGE OUT"
    if shown < len(model.channels):
        channels += " and one prior for each region"
        use = (
            "It mends labels that registration carries along a series (`brodmann run` with\n"
            "`prior.method=propagate`) and maps no image by itself."
        )
    if model.label_map:
        answers = f"{model.label_map.num_classes - 1} regions"
        told = "Regions: " + ", ".join(model.label_map.class_names[1:])
    else:
        offsets = getattr(model.asked(), "offsets", ())
        answers = f"affinities between voxels at {len(offsets)} offsets"
        told = "Offsets (z, y, x) in voxels: " + ", ".join(str(tuple(o)) for o in offsets)
        use += ".zarr\n    brodmann neurons OUT.zarr SEGMENTS.zarr"
    return f"""# {model.facts.get("title") or "Brodmann model"}

Maps {len(plan.patch)}D images with channels {channels} at {_um(plan.spacing)} to
{answers}.

{use}

| | |
|---|---|
{facts}
| net | {net_in_words(model)} |
| parameters | {sum(p.numel() for p in model.nets[0].parameters()):,} in each of {len(model.nets)} |
| window | {" x ".join(map(str, plan.patch))} |
| intensities | z-score by {model.normalisation.kind} |

{told}.
"""


def net_in_words(model: Model) -> str:
    """The net in a few words."""
    options = {key: value for key, value in model.net_options.items() if key != "kind"}
    kind, plan = model.net_options["kind"], model.plan
    if kind == "smp":
        return ", ".join([kind, *(f"{key} {value}" for key, value in options.items())])
    return f"{kind}, {plan.stages} stages, {plan.features[0]} to {max(plan.features)} channels"


def _um(spacing: Sequence[float]) -> str:
    return " x ".join(f"{s:g}" for s in spacing) + " um"


def _read_yaml(folder: Path) -> dict[str, Any]:
    path = folder / "model.yaml"
    if not path.exists():
        raise ModelError(
            "this is no model folder",
            folder,
            "no model.yaml",
            "give the folder that `brodmann run` wrote (DIR/model)",
        )
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError("cannot read the model", path, error) from error
    if not isinstance(tree, dict):
        raise ModelError("model.yaml is no mapping", path)
    return tree
