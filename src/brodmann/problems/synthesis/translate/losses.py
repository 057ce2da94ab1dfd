"""What the generator and its critic are trained for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from brodmann.nets.translation import Generator, PatchCritic

TEMPERATURE = 0.07
"""Of the contrast between places (Park et al. 2020)."""
Batch = Mapping[str, Tensor]


class Translated(NamedTuple):
    """One batch through the generator: codes and images."""

    content: Tensor
    own: Tensor
    """Style codes of the images themselves, in the target modality."""
    style: Tensor
    """Style codes that were put on: another image's, or random ones."""
    same: Tensor
    """Images put together again in their own style."""
    other: Tensor
    """Translations."""
    other_content: Tensor
    back: Tensor
    """Translations, seen alone, put back into the images' own style."""


def channel(image: Tensor, domain: Tensor) -> Tensor:
    """(n, c, *spatial), (n,) -> (n, 1, *spatial): of each item the channel of its modality."""
    return image[torch.arange(len(image), device=image.device), domain][:, None]


def translated(generator: Generator, batch: Batch) -> Translated:
    """Everything that the losses look at; see `Batches` for what a batch holds."""
    target = batch["target"]
    content = generator.content(batch["restained"], batch["seen"])
    own = generator.style(channel(batch["own"], target), target)
    read = generator.style(channel(batch["other"], target), target)
    style = torch.where(batch["from_prior"][:, None], batch["latent"], read)
    same = generator.decode(content, own, target)
    other = generator.decode(content, style, target)
    only = F.one_hot(target, generator.domains).to(other.dtype)
    other_content = generator.content(other.expand(-1, generator.domains, *other.shape[2:]), only)
    back = generator.decode(other_content, own, target)
    return Translated(content, own, style, same, other, other_content, back)


def generator_losses(
    generator: Generator, critic: PatchCritic, made: Translated, batch: Batch
) -> dict[str, Tensor]:
    """Losses by name, before they are weighed."""
    target = batch["target"]
    codes = generator.style(made.other, target)
    return {
        "reconstruction": (made.same - channel(batch["image"], target)).abs().mean(),
        "cycle": (made.back - channel(batch["image"], target)).abs().mean(),
        "adversarial": nearness(critic(made.other, target), 1.0),
        "latent": (codes - made.style.detach()).abs().mean(),
        "contrast": contrast(
            generator.project(made.other_content), generator.project(made.content), batch["places"]
        ),
        "spread": made.own.square().mean(),
    }


def critic_loss(critic: PatchCritic, made: Translated, batch: Batch) -> Tensor:
    """Least squares (Mao et al. 2017): real patches are 1, translations 0."""
    target = batch["target"]
    real = nearness(critic(channel(batch["real"], target), target), 1.0)
    return (real + nearness(critic(made.other.detach(), target), 0.0)) / 2


def nearness(answers: list[Tensor], value: float) -> Tensor:
    """Mean squared distance of a critic's answers from a value, over scales."""
    return sum((answer - value).square().mean() for answer in answers) / len(answers)


def contrast(query: Tensor, key: Tensor, places: Tensor) -> Tensor:
    """Patch-wise InfoNCE: a place is to be found again among other places of the same image.

    Parameters
    ----------
    query, key : (n, channels, *spatial) float32
        Content of the translations and of the images, projected.
    places : (n, k) int64
        Flat positions to compare.

    >>> content = torch.eye(4).reshape(1, 4, 2, 2)
    >>> everywhere = torch.arange(4)[None]
    >>> float(contrast(content, content, everywhere)) < 1e-4
    True
    """
    picked = []
    for content in (query, key):
        flat = content.flatten(2)
        index = places[:, None].expand(-1, flat.shape[1], -1)
        picked.append(F.normalize(flat.gather(2, index), dim=1))
    alike = torch.einsum("nck,ncl->nkl", *picked) / TEMPERATURE
    wanted = torch.arange(places.shape[1], device=places.device).expand(len(places), -1)
    return F.cross_entropy(alike.flatten(0, 1), wanted.flatten())
