"""Methods by name: anything that can `fit` and `predict`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from brodmann.core import Registry

METHODS: Registry[Callable[..., Any]] = Registry(
    "method",
    {
        "constant": "brodmann.bench.baselines:Constant",
        "random": "brodmann.bench.baselines:Random",
        "oracle": "brodmann.bench.baselines:Oracle",
        "supervised": "brodmann.bench.methods.images:supervised",
        "mixup": "brodmann.bench.methods.images:mixup",
        "byol": "brodmann.bench.methods.images:byol",
        "myow": "brodmann.bench.methods.images:myow",
        "myow-m": "brodmann.bench.methods.images:myow_merged",
        "random-net": "brodmann.bench.methods.images:random_net",
        "pca": "brodmann.bench.methods.images:pca",
        "nmf": "brodmann.bench.methods.images:nmf",
        "texture": "brodmann.bench.methods.images:texture",
        "committee": "brodmann.bench.methods.committee:committee",
        "segment": "brodmann.bench.methods.segment:Segment",
    },
)
"""Each value makes a method from options that are plain data."""

__all__ = ["METHODS"]
