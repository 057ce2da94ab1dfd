"""Encoders: what turns images into representations, each with one way to learn and one to answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from brodmann.core import ModelError, RecipeError, key_seed
from brodmann.core.files import make_folder, write_json, written_beside
from brodmann.nets.resnet import FEATURES, Classifier, resnet18
from brodmann.nets.texture_net import TextureNet
from brodmann.problems.learner import Schedule, fit
from brodmann.problems.patches import Batches, Patches, Stack, Views, corners
from brodmann.problems.patches.images import eight_ways
from brodmann.problems.representations.problem import TwinBatches, TwinProblem
from brodmann.problems.representations.twins import METHODS, Twins, mlp

Told = Callable[[int, float], None]
"""Called with (steps done, loss)."""
BATCH = 64
"""Images at a time when representations are computed."""


class Encoder(Protocol):
    """Images -> representations."""

    def fit(self, stack: Stack, seed: int, folder: Path, told: Told) -> None:
        """Learn from the training images; go on from what `folder` holds."""

    def encode(self, images: np.ndarray) -> np.ndarray:
        """(n, c, h, w) as recorded -> (n, d) float32."""


@dataclass
class NetEncoder:
    """A net and how it sees an image: whole, or as the mean of its four corners.

    Parameters
    ----------
    method : str
        "byol", "myow", "myow-m"; "supervised", which learns the categories; or "random", which
        learns nothing.
    steps, batch, lr, optimizer, momentum, weight_decay, precision, ema
        As `Schedule`; `lr` is for 256 images and is scaled by batch / 256.
    epochs : int
        Where above 0, sets `steps` to so many times what it takes to see every image once.
    warmup : float
        Share of the steps over which the learning rate rises.
    views : Views
    whole : bool
        Represent the whole image, else the mean over its corners of a view's size.
    net : "resnet18" or "texture"
        The latter is a `TextureNet`.
    stem : "small" or "large"
        Of the ResNet.
    coarse : int
        The net sees the mean of squares of this many pixels a side.
    turned : bool
        Answers are means over the eight ways to lay a square image.
    hidden, size : int
        Of projectors and predictors.
    decay, mining_weight, mining_ramp, neighbours, pool
        Of MYOW; `decay` also of BYOL. `mining_ramp` is the share of the steps over which
        `mining_weight` rises; `pool` 0 is the batch's size.
    dropout, mixup, alpha, smoothing, balanced
        Of supervised training.
    projected : bool
        Represent by the projector's `size` numbers instead of the encoder's own.
    """

    method: str
    steps: int = 500
    epochs: int = 0
    batch: int = 256
    lr: float = 0.03
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.1
    precision: str = "auto"
    views: Views = field(default_factory=Views)
    whole: bool = False
    net: str = "resnet18"
    stem: str = "small"
    coarse: int = 1
    turned: bool = False
    hidden: int = 4096
    size: int = 256
    decay: float = 0.996
    mining_weight: float = 0.1
    mining_ramp: float = 0.1
    neighbours: int = 1
    pool: int = 0
    dropout: float = 0.2
    mixup: float = 0.0
    alpha: float = 1.0
    smoothing: float = 0.0
    balanced: bool = False
    projected: bool = False
    workers: int = 0
    ema: float = 0.0

    def __post_init__(self) -> None:
        if self.method not in (*METHODS, "supervised", "random"):
            raise RecipeError("no such way to learn", "method", self.method)
        if self.projected and self.method not in METHODS:
            raise RecipeError("only BYOL and its kin have a projector", "projected", self.projected)
        if not 0 <= self.smoothing < 1:
            raise RecipeError("a share of a label is 0 to below 1", "smoothing", self.smoothing)
        for key in ("warmup", "mining_ramp"):
            if not 0 <= getattr(self, key) <= 1:
                raise RecipeError("a share of the steps is 0 to 1", key, getattr(self, key))
        if self.net not in ("resnet18", "texture"):
            raise RecipeError("no such net", "net", self.net, "resnet18 or texture")
        for key in ("steps", "batch", "coarse"):
            if not isinstance(getattr(self, key), int) or getattr(self, key) < 1:
                raise RecipeError("a whole number from 1 is needed", key, getattr(self, key))
        self.trained: nn.Module | None = None
        self.stack_facts: dict[str, Any] = {}

    def fit(self, stack: Stack, seed: int, folder: Path, told: Told) -> None:
        """Train, or go on training from `folder`/checkpoint.pt; writes `encoder.safetensors`."""
        folder = make_folder(folder)
        if self.epochs:
            self.steps = self.epochs * -(-len(stack) // self.batch)
        torch.manual_seed(key_seed(seed, "initialise"))
        encoder, self.features = self._new(stack.images.shape[1])
        encoder = encoder.to(memory_format=torch.channels_last)
        self.stack_facts = {
            "mean": stack.mean, "deviation": stack.deviation, "side": list(stack.side),
            "categories": list(stack.names), "channels": int(stack.images.shape[1]),
        }  # fmt: skip
        if self.method == "random":
            self.trained = encoder.eval()
        elif self.method == "supervised":
            self.trained = self._supervised(encoder, stack, seed, folder, told)
        else:
            self.trained = self._twins(encoder, stack, seed, folder, told)
        self._save(folder)

    def _new(self, channels: int) -> tuple[nn.Module, int]:
        """An encoder without training, and the length of its representations."""
        if self.net == "texture":
            net = TextureNet(channels)
            features = net.length
        else:
            net, features = resnet18(channels, stem=self.stem), FEATURES
        return (nn.Sequential(nn.AvgPool2d(self.coarse), net) if self.coarse > 1 else net), features

    def _schedule(self) -> Schedule:
        return Schedule(
            steps=self.steps,
            optimizer=self.optimizer,  # type: ignore[arg-type]
            lr=self.lr * self.batch / 256,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            warmup_steps=round(self.warmup * self.steps),
            decay="cosine",
            precision=self.precision,  # type: ignore[arg-type]
            ema=self.ema,
        )

    def _supervised(
        self, encoder: nn.Module, stack: Stack, seed: int, folder: Path, told: Told
    ) -> nn.Module:
        if (stack.categories < 0).any():
            raise RecipeError("supervised training needs a category for every image", "method")
        net = Classifier(encoder, len(stack.names), self.dropout, self.features)
        batches = Batches(
            stack, self.views, self.batch, seed,
            balanced=self.balanced, mixup=self.mixup, alpha=self.alpha,
        )  # fmt: skip
        net, _ = fit(
            net, Patches(len(stack.names), self.smoothing), batches, self._schedule(), seed, folder,
            workers=self.workers, on_step=told,
        )  # fmt: skip
        return net

    def _twins(
        self, encoder: nn.Module, stack: Stack, seed: int, folder: Path, told: Told
    ) -> nn.Module:
        method: Any = self.method
        twins = Twins(encoder, method, self.hidden, self.size, self.features)
        mines = self.method != "byol"
        batches = TwinBatches(
            stack, self.views, self.batch, seed,
            pool=(self.pool or self.batch) if mines else 0, neighbours=self.neighbours,
        )  # fmt: skip
        problem = TwinProblem(
            self.steps, self.decay, self.mining_weight, round(self.mining_ramp * self.steps),
            self.neighbours,
        )  # fmt: skip
        twins, _ = fit(
            twins, problem, batches, self._schedule(), seed, folder,
            workers=self.workers, on_step=told,
        )  # fmt: skip
        online = twins.online
        return nn.Sequential(online.encoder, online.projector) if self.projected else online.encoder

    def _save(self, folder: Path) -> None:
        from safetensors.torch import save_file

        state = {key: value.contiguous() for key, value in self.trained.state_dict().items()}
        with written_beside(folder / "encoder.safetensors") as beside:
            save_file(state, beside)
        write_json(
            folder / "encoder.json",
            {"method": self.method, "net": self.net, "stem": self.stem, **self.stack_facts},
        )

    def load(self, folder: Path) -> None:
        """Take over what `fit` left in a folder; the options must be those of then.

        Raises
        ------
        ModelError
            If files are missing or damaged, or hold another net.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            self.stack_facts = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
            net, features = self._new(int(self.stack_facts["channels"]))
            if self.method == "supervised":
                net = Classifier(net, len(self.stack_facts["categories"]), self.dropout, features)
            elif self.projected:
                net = nn.Sequential(net, mlp(features, self.hidden, self.size))
            net.load_state_dict(load_file(folder / "encoder.safetensors"))
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ModelError(
                "this encoder cannot be read", folder, str(error).split("\n")[0], "train it anew"
            ) from error
        self.trained = net.eval()

    @property
    def encoder(self) -> nn.Module:
        """What makes representations, in evaluation mode."""
        return self.trained.encoder if isinstance(self.trained, Classifier) else self.trained

    def encode(self, images: np.ndarray) -> np.ndarray:
        """(n, c, h, w) as recorded -> (n, d) float32; nothing in the net changes."""
        return self._mean_over_views(self.encoder, images)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """What the supervised net's own head says, (n, classes) float32."""
        return self._mean_over_views(self.trained, images)

    @torch.inference_mode()
    def _mean_over_views(self, net: nn.Module, images: np.ndarray) -> np.ndarray:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        net = net.to(device).eval()
        brief = torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed")
        mean, deviation = (
            np.float32(self.stack_facts["mean"]),
            np.float32(self.stack_facts["deviation"]),
        )
        answers = []
        for first in range(0, len(images), BATCH):
            values = (images[first : first + BATCH].astype(np.float32) - mean) / deviation
            seen = [values] if self.whole else corners(values, self.views.shape(values.shape[-2:]))
            if self.turned:
                seen = [way for view in seen for way in eight_ways(view)]
            found = []
            for view in seen:
                inputs = torch.from_numpy(np.ascontiguousarray(view)).to(device)
                with brief:
                    found.append(net(inputs).float().cpu().numpy())
            answers.append(np.mean(found, 0))
        return np.concatenate(answers).astype(np.float32)
