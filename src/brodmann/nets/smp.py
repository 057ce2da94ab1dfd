"""The encoders and decoders of segmentation-models-pytorch behind the house's factory signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from brodmann.core import BrodmannError, ModelError, RecipeError, nearest

DECODERS = {
    "unet": "Unet",
    "manet": "MAnet",
    "fpn": "FPN",
    "unetplusplus": "UnetPlusPlus",
    "pan": "PAN",
    "pspnet": "PSPNet",
}
"""Decoder -> its class; those of the paper's Task 2."""
DEPTHS = {"pspnet": 3}
"""Encoder stages that a decoder takes where they are not 5."""
DROPOUTS = {"fpn": "decoder_dropout", "pspnet": "psp_dropout"}
"""Decoders that drop channels, and what they call it."""
WIDTHS = (256, 128, 64, 32, 16)
"""Channels of the decoders that mirror their encoder, coarsest first."""
SMALLEST = {"pan": 8}
"""Sides, in pixels of the coarsest features, that a decoder pools away before it pools again."""


def smp_net(
    in_channels: int = 1,
    num_classes: int = 3,
    features: Sequence[int] = (),
    strides: Sequence[Sequence[int]] = ((1, 1),),
    kernels: Sequence[Sequence[int]] | None = None,
    *,
    decoder: str = "unet",
    encoder: str = "resnet18",
    weights: str | None = None,
    depth: int | None = None,
    decoder_dropout: float | None = None,
) -> SmpNet:
    """A 2D net of an image classifier's stages and one of six decoders.

    Parameters
    ----------
    in_channels, num_classes : int
        Any number of each.
    features, strides, kernels
        The plan's. Encoders bring their own, so only that the plan is 2D counts.
    decoder : "unet", "manet", "fpn", "unetplusplus", "pan" or "pspnet"
    encoder : str
        A name of segmentation-models-pytorch such as "resnet18" or "efficientnet-b7" (the
        paper's), or "tu-" and a name of timm.
    weights : str, optional
        "imagenet" (or another set that the encoder has) is fetched from the library's own
        store. The path of a .safetensors file is read: the state of an encoder, or of a whole
        net, with 3 channels or as many as this one. None starts at random.
        Weights of 3 channels are summed for one and dealt out in turn for more.
    depth : int, optional
        Stages of the encoder, 3 to 5, each of half the size; 5, of a PSPNet 3.
    decoder_dropout : float, optional
        Share of channels that an FPN or a PSPNet drops before its head; theirs is 0.2.

    Returns
    -------
    nn.Module
        (n, in_channels, y, x) float32 -> logits (n, num_classes, y, x), for any y and x: what
        the encoder cannot divide is continued at the far edges, and cut off the answer.

    Raises
    ------
    RecipeError
        If an option is unknown or does not fit.
    BrodmannError
        If weights cannot be fetched.
    ModelError
        If a file of weights is missing, damaged or of another encoder.

    Source: MTNeuro, section 4.2; Iakubovskii 2019 (MIT).

    Example
    -------
    >>> import torch
    >>> net = smp_net(1, 4, decoder="fpn").eval()
    >>> net(torch.zeros(1, 1, 75, 128)).shape
    torch.Size([1, 4, 75, 128])
    """
    if any(len(stride) != 2 for stride in strides):
        raise RecipeError(
            "the nets of kind smp are 2D",
            "net.kind",
            f"strides {[list(s) for s in strides]}",
            "use plain-unet, vnet-light or highresnet for volumes",
        )
    if decoder not in DECODERS:
        raise RecipeError(
            "unknown decoder", "net.options.decoder", repr(decoder), nearest(decoder, DECODERS)
        )
    options: dict[str, Any] = {}
    if decoder_dropout is not None:
        if decoder not in DROPOUTS or not 0 <= decoder_dropout < 1:
            raise RecipeError(
                "a share of channels from 0 to below 1 is dropped by fpn and pspnet only",
                "net.options.decoder_dropout",
                f"{decoder_dropout} for {decoder}",
            )
        options[DROPOUTS[decoder]] = decoder_dropout
    depth = DEPTHS.get(decoder, 5) if depth is None else depth
    if depth not in (3, 4, 5):
        raise RecipeError("an encoder has 3, 4 or 5 stages", "net.options.depth", depth)
    options["encoder_depth"] = depth
    if decoder in ("unet", "unetplusplus", "manet"):
        # The finest stay, so that fewer stages change nothing near the answer.
        options["decoder_channels"] = WIDTHS[-depth:]
    if decoder == "pspnet":
        options["upsampling"] = 2**depth

    def build(channels: int, fetched: str | None = None) -> nn.Module:
        return _library_net(decoder, encoder, fetched, channels, num_classes, options)

    if weights is None:
        net = build(in_channels)
    elif str(weights).endswith(".safetensors"):
        net = _with_file(build, in_channels, Path(weights))
    elif encoder.startswith("tu-"):
        raise RecipeError(
            "encoders of timm take weights from a file only: some of theirs are pickles",
            "net.options.weights",
            repr(weights),
            "give weights: null, or the path of a .safetensors file",
        )
    else:
        net = build(in_channels, weights)
    return SmpNet(net, in_channels, SMALLEST.get(decoder, 1))


class SmpNet(nn.Module):
    """A net of segmentation-models-pytorch for images of any size; `smp_net` makes it."""

    def __init__(self, net: nn.Module, in_channels: int, smallest: int) -> None:
        super().__init__()
        self.net, self.in_channels = net, in_channels
        self.divisor = int(net.encoder.output_stride)
        self.least = self.divisor * smallest

    def forward(self, image: Tensor) -> Tensor:
        """(n, in_channels, y, x) -> logits (n, num_classes, y, x)."""
        if image.dim() != 4 or image.shape[1] != self.in_channels or 0 in image.shape:
            raise ModelError(
                f"the net takes (n, {self.in_channels}, y, x)", "image", tuple(image.shape)
            )
        height, width = image.shape[2:]
        below, right = (max(self.least, n + -n % self.divisor) - n for n in (height, width))
        if below or right:
            image = F.pad(image, (0, right, 0, below), mode="replicate")
        try:
            answer = self.net(image)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ModelError(
                "batch normalisation cannot learn from a single value",
                "training",
                f"a batch of {len(image)} with sides {height} x {width}",
                "set net.batch to 2 or more, or net.patch larger",
            ) from error
        return answer[:, :, :height, :width]


def _library_net(
    decoder: str,
    encoder: str,
    weights: str | None,
    in_channels: int,
    num_classes: int,
    options: Mapping[str, Any],
) -> nn.Module:
    """The library's own net, its errors in our words."""
    import segmentation_models_pytorch as smp

    known = smp.encoders.encoders
    if encoder not in known and not _in_timm(encoder):
        raise RecipeError(
            "unknown encoder", "net.options.encoder", repr(encoder), nearest(encoder, known)
        )
    if weights is not None and weights not in known[encoder]["pretrained_settings"]:
        sets = list(known[encoder]["pretrained_settings"])
        raise RecipeError(
            f"{encoder} has no such weights",
            "net.options.weights",
            repr(weights),
            f"known: {', '.join(sets)}; or null, or the path of a .safetensors file",
        )
    make = getattr(smp, DECODERS[decoder])
    try:
        return make(
            encoder_name=encoder,
            encoder_weights=weights,
            in_channels=in_channels,
            classes=num_classes,
            **options,
        )
    except (OSError, ConnectionError) as error:
        raise BrodmannError(
            f"the {weights} weights of {encoder} cannot be fetched",
            "net.options.weights",
            str(error).split("\n")[0],
            "give weights: null, or the path of a .safetensors file that you have",
        ) from error
    except (ValueError, KeyError, RuntimeError, AssertionError, TypeError) as error:
        raise RecipeError(
            f"{encoder} and {decoder} do not go together as asked",
            "net.options",
            str(error).split("\n")[0],
            "take another encoder, depth or number of channels",
        ) from error


def _in_timm(encoder: str) -> bool:
    """Whether a "tu-" name is one of timm's own; others would be looked up on the network."""
    import timm

    return encoder.startswith("tu-") and timm.is_model(encoder[3:].partition(".")[0])


def _with_file(build: Any, in_channels: int, path: Path) -> nn.Module:
    """A net whose encoder starts from a file; nothing is unpickled."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError("cannot read the weights", path, error) from error
    for prefix in ("net.encoder.", "encoder."):
        if any(name.startswith(prefix) for name in state):
            state = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
    fault = ""
    for channels in dict.fromkeys((in_channels, 3)):
        net = build(channels)
        own = net.encoder.state_dict()
        wrong = [
            name
            for name, value in own.items()
            if not name.endswith("num_batches_tracked")
            and (name not in state or state[name].shape != value.shape)
        ]
        if not wrong:
            # The library's encoders take a classifier's last layer as given; none is here.
            nn.Module.load_state_dict(
                net.encoder, {n: state.get(n, value) for n, value in own.items()}
            )
            if channels != in_channels:
                net.encoder.set_in_channels(in_channels, pretrained=True)
            return net
        name = wrong[0]
        found = tuple(state[name].shape) if name in state else "nothing"
        fault = f"{len(wrong)} tensors; {name} is {found}, wants {tuple(own[name].shape)}"
    raise ModelError(
        "these weights are of another encoder",
        path,
        fault,
        "name the encoder that they are of under net.options.encoder",
    )
