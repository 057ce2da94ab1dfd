"""Nets that take an image apart into content and style and put it together in another style.

No layer looks at the whole image: features are normalised over channels at each voxel, so that
an image translated in tiles is the image translated whole.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOL = {2: F.avg_pool2d, 3: F.avg_pool3d}
LAYOUT = {2: torch.channels_last, 3: torch.channels_last_3d}
"""Of the weights; twice as fast on a CPU, since normalisation runs over channels."""
STRIDE = 2
"""Voxels to one place of the content, along each axis."""
SLOPE = 0.2


def unit(features: Tensor) -> Tensor:
    """Zero mean and unit deviation over the channels of each voxel; (n, channels, *spatial).

    >>> unit(torch.tensor([[[1.0], [3.0]]])).round().flatten().tolist()
    [-1.0, 1.0]
    """
    return F.layer_norm(features.movedim(1, -1), features.shape[1:2]).movedim(-1, 1)


class Modulation(nn.Module):
    """A style's gain and offset for each channel; at first near 1 and 0."""

    def __init__(self, features: int, style: int) -> None:
        super().__init__()
        self.read = nn.Linear(style, 2 * features)

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        gain, offset = self.read(style).chunk(2, 1)
        shape = (*gain.shape, *(1,) * (features.dim() - 2))
        return torch.addcmul(offset.reshape(shape), features, gain.reshape(shape) + 1)


class Residual(nn.Module):
    """What is added to features: two 3-wide convolutions on the normalised ones.

    The features themselves pass unnormalised, so that grey values need not be learned anew.
    """

    def __init__(self, features: int, ndim: int, style: int = 0) -> None:
        super().__init__()
        self.first, self.second = (CONV[ndim](features, features, 3, padding=1) for _ in range(2))
        self.modulation = Modulation(features, style) if style else None

    def forward(self, features: Tensor, style: Tensor | None = None) -> Tensor:
        inner = unit(features)
        if self.modulation is not None:
            inner = self.modulation(inner, style)
        inner = F.leaky_relu(self.first(inner), SLOPE)
        return features + self.second(inner)


def chosen(answers: Tensor, domain: Tensor, domains: int) -> Tensor:
    """Of answers for each modality, (n, domains * k, ...), those for one: (n, k, ...)."""
    answers = answers.unflatten(1, (domains, -1))
    return answers[torch.arange(len(answers), device=answers.device), domain]


class ContentEncoder(nn.Module):
    """Channels -> what is where: (n, c, *spatial) -> (n, size, *spatial / 2).

    One encoder whichever modalities are seen: those that are not are zero, and further
    planes say which are there.
    """

    def __init__(self, features: int, size: int, domains: int, blocks: int, ndim: int) -> None:
        super().__init__()
        conv = CONV[ndim]
        self.stem = conv(2 * domains, features, 2 * STRIDE, stride=STRIDE, padding=1)
        self.blocks = nn.ModuleList(Residual(features, ndim) for _ in range(blocks))
        self.last = conv(features, size, 1)

    def forward(self, image: Tensor, seen: Tensor) -> Tensor:
        seen = seen.reshape(*seen.shape, *(1,) * (image.dim() - 2))
        there = seen.expand(-1, -1, *image.shape[2:])
        features = self.stem(torch.cat([image * seen, there], 1))
        for block in self.blocks:
            features = block(features)
        return self.last(features)


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel over space: (n, channels, *spatial) -> (n, channels)."""
    flat = features.flatten(2)
    return flat.mean(2), (flat.var(2, correction=0) + 1e-5).sqrt()


class StyleEncoder(nn.Module):
    """One channel of known modality -> how it is stained: (n, 1, *spatial) -> (n, size).

    Without normalisation, which would take out what is sought. The code is read from mean
    and deviation of image and features, so that it holds for images of any size.
    """

    def __init__(self, features: int, size: int, domains: int, ndim: int) -> None:
        super().__init__()
        widths = (1, features // 2, features, 2 * features)
        self.convs = nn.ModuleList(
            CONV[ndim](a, b, 3, stride=2, padding=1) for a, b in pairwise(widths)
        )
        self.heads = nn.Linear(4 * features + 2, domains * size)
        self.domains = domains

    def forward(self, image: Tensor, domain: Tensor) -> Tensor:
        found = moments(image)
        for conv in self.convs:
            image = F.leaky_relu(conv(image), SLOPE)
        codes = self.heads(torch.cat([*found, *moments(image)], 1))
        return chosen(codes, domain, self.domains)


class Decoder(nn.Module):
    """Content and style -> one channel: (n, size, *spatial / 2), (n, style) -> (n, 1, *spatial).

    The first layer has weights for each modality. The style sets gain and offset of all
    features, as AdaIN does in MUNIT.
    """

    def __init__(
        self, features: int, content: int, style: int, domains: int, blocks: int, ndim: int
    ) -> None:
        super().__init__()
        conv, fine = CONV[ndim], features // 2
        self.domains = domains
        self.mapping = nn.Sequential(
            nn.Linear(style + domains, features), nn.LeakyReLU(SLOPE), nn.Linear(features, features)
        )
        self.first = conv(content, domains * features, 1)
        self.stain = Modulation(features, features)
        self.blocks = nn.ModuleList(Residual(features, ndim, features) for _ in range(blocks))
        self.up = UP[ndim](features, fine, 2 * STRIDE, STRIDE, padding=1)
        self.fine = conv(fine, fine, 3, padding=1)
        self.last = conv(fine, 1, 3, padding=1)
        self.brightness = Modulation(1, features)

    def forward(self, content: Tensor, style: Tensor, domain: Tensor) -> Tensor:
        which = F.one_hot(domain, self.domains).to(style.dtype)
        style = F.leaky_relu(self.mapping(torch.cat([style, which], 1)), SLOPE)
        features = self.stain(chosen(self.first(content), domain, self.domains), style)
        for block in self.blocks:
            features = block(features, style)
        features = self.up(features)
        made = self.last(features + F.leaky_relu(self.fine(features), SLOPE))
        return self.brightness(made, style)


class Generator(nn.Module):
    """Content encoder, style encoder and decoder.

    Parameters
    ----------
    domains : int
        Modalities: image channels.
    ndim : 2 or 3
    features : int
        Channels at half resolution; half as many at full resolution.
    content, style : int
        Channels of the content map, numbers in a style code.
    blocks : int
        Residual blocks in the content encoder, and in the decoder.

    Source: the parts are those of MUNIT (Huang et al. 2018) and DRIT (Lee et al. 2018), whose
    kind MouseGAN++ (Yu et al. 2022) is of; normalisation over channels, with features that
    pass it by, is ours.

    Example
    -------
    >>> net = Generator(2, 2, features=4, content=4, style=3, blocks=1)
    >>> image, first = torch.zeros(1, 2, 8, 12), torch.zeros(1, dtype=torch.long)
    >>> content = net.content(image)
    >>> content.shape, net.decode(content, net.style(image[:, :1], first), first).shape
    (torch.Size([1, 4, 4, 6]), torch.Size([1, 1, 8, 12]))
    """

    def __init__(
        self,
        domains: int,
        ndim: int,
        *,
        features: int = 32,
        content: int = 16,
        style: int = 8,
        blocks: int = 2,
    ) -> None:
        super().__init__()
        self.domains, self.ndim, self.blocks = domains, ndim, blocks
        self.content_encoder = ContentEncoder(features, content, domains, blocks, ndim)
        self.style = StyleEncoder(features, style, domains, ndim)
        self.decode = Decoder(features, content, style, domains, blocks, ndim)
        # Places are compared in a projection (Park et al. 2020), so that content may also hold
        # what only one modality shows.
        self.project = nn.Sequential(
            CONV[ndim](content, features, 1), nn.LeakyReLU(SLOPE), CONV[ndim](features, content, 1)
        )
        self.to(memory_format=LAYOUT[ndim])

    @property
    def radius(self) -> int:
        """Voxels around one that its translation depends on, rounded up to the stride."""
        reach = 2 + STRIDE * 4 * self.blocks + 2 + 2
        return -(-reach // STRIDE) * STRIDE

    def content(self, image: Tensor, seen: Tensor | None = None) -> Tensor:
        """Content of an image seen through some of its channels.

        Parameters
        ----------
        image : (n, c, *spatial) float32
            All channels; even sizes.
        seen : (n, c) float32, optional
            1 for each channel to look at, 0 for others; all of them by default.
        """
        if seen is None:
            seen = image.new_ones(image.shape[:2])
        return self.content_encoder(image, seen)


class PatchCritic(nn.Module):
    """Says of every patch, at two scales, how real it looks as an image of one modality.

    (n, 1, *spatial), (n,) modality -> two maps (n, *places), near 1 where real. One output for
    each modality takes the place of a separate classifier of modalities.
    """

    def __init__(self, domains: int, ndim: int, *, features: int = 32, scales: int = 2) -> None:
        super().__init__()
        self.domains, self.ndim = domains, ndim
        widths = (1, features // 2, features, 2 * features)
        self.scales = nn.ModuleList()
        for _ in range(scales):
            layers: list[nn.Module] = []
            for a, b in pairwise(widths):
                layers += [CONV[ndim](a, b, 3, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
            self.scales.append(
                nn.Sequential(*layers, CONV[ndim](widths[-1], domains, 3, padding=1))
            )
        self.to(memory_format=LAYOUT[ndim])

    def forward(self, image: Tensor, domain: Tensor) -> list[Tensor]:
        answers = []
        for i, scale in enumerate(self.scales):
            if i:
                image = POOL[self.ndim](image, 2, ceil_mode=True)
            answers.append(chosen(scale(image), domain, self.domains)[:, 0])
        return answers
