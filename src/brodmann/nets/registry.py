"""Nets by name. A factory takes (in_channels, num_classes, features, strides, kernels, **options)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from brodmann.core import Registry

NETS: Registry[Callable[..., Any]] = Registry(
    "net",
    {
        "plain-unet": "brodmann.nets.unet:plain_unet",
        "convmixer": "brodmann.nets.convmixer:convmixer",
        "highresnet": "brodmann.nets.highresnet:highresnet",
        "prior-unet": "brodmann.nets.prior:PriorUNet",
        "segmamba": "brodmann.nets.segmamba:segmamba",
        "smp": "brodmann.nets.smp:smp_net",
        "superhuman": "brodmann.nets.superhuman:superhuman",
        "swinunetr": "brodmann.nets.swinunetr:swinunetr",
        "vnet-light": "brodmann.nets.vnet_light:vnet_light",
    },
)
