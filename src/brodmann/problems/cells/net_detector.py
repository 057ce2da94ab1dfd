"""A trained net, or several, as a detector; in a folder that nothing unpickles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, combinations
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from brodmann.core import ModelError
from brodmann.core.files import make_folder, written_beside
from brodmann.nets import NETS
from brodmann.nets.convmixer import ConvMixer
from brodmann.nets.convmixer_kernels import CompiledConvMixer
from brodmann.problems.cells.detector import card_of, write_detector
from brodmann.problems.cells.intensity import (
    Contrast,
    Intensity,
    contrast_from,
    contrast_tree,
    within,
)
from brodmann.problems.cells.model_folder import read_weights, unfit
from brodmann.problems.cells.reach import reach_of, with_batch_norm

WEIGHTS = "model.safetensors"
RARE = -4.0
"""Logit of how likely a voxel is a cell's before anything is learned."""


def build_net(options: dict[str, Any], channels: int) -> nn.Module:
    """The net that `options` (kind, features, strides, kernels, and its own) name, for heat.

    Its normalisation is over batches, so that a trained net answers each voxel from its surround.
    """
    own = dict(options)
    kind = own.pop("kind")
    features, strides, kernels = own.pop("features"), own.pop("strides"), own.pop("kernels", None)
    if kind == "plain-unet":
        own["deep_supervision"] = False
    return _rare(with_batch_norm(NETS[kind](channels, 1, features, strides, kernels, **own)))


def _rare(net: nn.Module) -> nn.Module:
    """The last layer says at first that cells are rare (Lin et al. 2017), and no more.

    A convmixer with a skip begins as the weighted sum of its inputs that the skip is.
    """
    if isinstance(net, ConvMixer):
        nn.init.constant_(net.head.bias, RARE)
        if net.skip is not None:
            nn.init.zeros_(net.head.weight)
            nn.init.zeros_(net.skip.bias)
    elif hasattr(net, "decoder"):
        nn.init.constant_(net.decoder.seg_layers[-1].bias, RARE)
    return net


@dataclass
class NetDetector:
    """Heat is the mean probability that nets give.

    Attributes
    ----------
    nets : sequence of nn.Module
        (n, contrast.channels(channels), *spatial) -> logits (n, 1, *spatial).
    net_options : dict
        See `build_net`.
    spacing : tuple of float
        Micrometres per voxel.
    radius : tuple of int
        Of the peak window, in voxels.
    threshold : float
        In 0..1.
    contrast : Contrast
    channels : int
        As recorded.
    mirror : tuple of int
        Spatial axes to mirror; all combinations are averaged.
    facts : dict
        What the card tells.
    bf16 : bool
        Compute in bfloat16; answers that are no numbers are refused either way.
    """

    nets: Sequence[nn.Module]
    net_options: dict[str, Any]
    spacing: tuple[float, ...]
    radius: tuple[int, ...]
    threshold: float
    contrast: Contrast
    channels: int = 1
    mirror: tuple[int, ...] = ()
    name: str = "net"
    facts: dict[str, Any] = field(default_factory=dict)
    bf16: bool = False

    @cached_property
    def _reach(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return reach_of(self.nets[0])

    @property
    def halo(self) -> tuple[int, ...]:
        return tuple(
            n + h for n, h in zip(self._reach[0], self.contrast.halo(self.spacing), strict=True)
        )

    @property
    def multiple(self) -> tuple[int, ...]:
        return self._reach[1]

    def heat(self, raw: np.ndarray, intensity: Intensity, trim: Sequence[int] = ()) -> np.ndarray:
        """See `Detector.heat`.

        Raises
        ------
        ModelError
            If the number of channels is another one, or an answer is no number.
        """
        ndim = len(self.spacing)
        raw = np.asarray(raw)
        raw = raw[None] if raw.ndim == ndim else raw
        if raw.ndim != ndim + 1 or len(raw) != self.channels:
            raise ModelError(
                f"the detector takes {self.channels} channels of a {ndim}D image",
                self.name,
                f"shape {raw.shape}",
            )
        trim = tuple(trim) or (0,) * ndim
        # What the contrast alone looks at; the rest, from a multiple on, the net does too.
        seen = [
            max(0, min(t - reach, h)) // m * m
            for t, h, reach, m in zip(
                trim, self.contrast.halo(self.spacing), self._reach[0], self.multiple
            )
        ]
        values = self.contrast.apply(raw, self.spacing, intensity, seen)
        more = [-n % m for n, m in zip(values.shape[1:], self.multiple)]
        if any(more):
            values = np.pad(values, [(0, 0), *((0, n) for n in more)], mode="symmetric")
        heat = self._probability(values, [t - s for t, s in zip(trim, seen)])
        heat = heat[tuple(slice(size - n) for size, n in zip(heat.shape, more))]
        if not np.isfinite(heat).all():
            raise ModelError(
                "heat is not finite",
                self.name,
                "NaN or infinity",
                "use bf16=False" if self.bf16 else "look for NaN in the volume",
            )
        return heat

    def _probability(self, image: np.ndarray, trim: Sequence[int]) -> np.ndarray:
        axes = sorted(self.mirror)
        flips = list(chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)))
        parts = [
            np.flip(self._heat(number, np.flip(image, [axis + 1 for axis in flip]), trim), flip)
            for number in range(len(self.nets))
            for flip in flips
        ]
        return sum(parts[1:], parts[0]) / np.float32(len(parts))

    @cached_property
    def _compiled(self) -> list[CompiledConvMixer | None]:
        return [CompiledConvMixer(net) if isinstance(net, ConvMixer) else None for net in self.nets]

    @torch.inference_mode()
    def _heat(self, number: int, image: np.ndarray, trim: Sequence[int]) -> np.ndarray:
        """One net's answer: (c, *spatial) -> (*spatial less 2 trim)."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if device.type == "cpu" and not self.bf16:
            compiled = self._compiled[number]
            if compiled is not None:
                logits = compiled(image, torch.get_num_threads(), trim)[0]
                torch.from_numpy(logits).sigmoid_()
                return logits
        given = torch.from_numpy(np.ascontiguousarray(image))[None].to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            answer = self.nets[number].to(device).eval()(given)
        return answer[0, 0].float().sigmoid().cpu().numpy()[within(trim)]

    def save(self, folder: Path) -> Path:
        """Write `model.safetensors`, `detector.yaml` and a card."""
        folder = make_folder(folder)
        tensors = {
            f"{number}.{name}": tensor.detach().cpu().contiguous().clone()
            for number, net in enumerate(self.nets)
            for name, tensor in net.state_dict().items()
        }
        with written_beside(folder / WEIGHTS) as beside:
            save_file(tensors, beside)
        tree = {
            "name": self.name,
            "net": self.net_options,
            "nets": len(self.nets),
            "channels": self.channels,
            "spacing": list(self.spacing),
            "radius": list(self.radius),
            "threshold": float(self.threshold),
            "contrast": contrast_tree(self.contrast),
            "mirror": list(self.mirror),
            "facts": self.facts,
        }
        parameters = sum(p.numel() for p in self.nets[0].parameters())
        told = {
            "net": self.net_options["kind"],
            "parameters": f"{parameters:,} in each of {len(self.nets)}",
            "scale of intensities": self.contrast.scale,
            **self.facts,
        }
        return write_detector(folder, "net", tree, card_of(self, told))

    @classmethod
    def load(cls, tree: dict[str, Any], folder: Path) -> Self:
        """What `save` wrote."""
        path = folder / WEIGHTS
        options, channels = dict(tree["net"]), int(tree["channels"])
        contrast = contrast_from(tree["contrast"])
        seen = contrast.channels(channels)
        nets = [build_net(options, seen) for _ in range(int(tree["nets"]))]
        weights = read_weights(path)
        for number, net in enumerate(nets):
            prefix = f"{number}."
            own = {n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)}
            try:
                net.load_state_dict(own)
            except RuntimeError as error:
                raise unfit(path, error) from error
            net.eval()
        return cls(
            nets,
            options,
            tuple(map(float, tree["spacing"])),
            tuple(map(int, tree["radius"])),
            float(tree["threshold"]),
            contrast,
            channels,
            tuple(map(int, tree["mirror"])),
            str(tree["name"]),
            dict(tree.get("facts") or {}),
        )
