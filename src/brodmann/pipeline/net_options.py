"""Which keys of a recipe's net section its kind of net takes."""

from __future__ import annotations

import inspect
from typing import Any

from brodmann.core import RecipeError, nearest
from brodmann.nets import NETS

NET_KEYS = ("convs_per_stage", "dropout", "trust")
"""Keys of the net section that are arguments of those factories that know them."""
UNPLANNED = ("base_features", "max_features")
"""Keys that tell the planner what an smp's encoder settles by itself."""


def net_parameters(kind: str) -> dict[str, inspect.Parameter]:
    """The options of a net's factory by name; those that it hands on to `plain_unet` too."""
    found = dict(inspect.signature(NETS[kind]).parameters)
    if any(p.kind is p.VAR_KEYWORD for p in found.values()):
        found = dict(inspect.signature(NETS["plain-unet"]).parameters) | found
    return {name: p for name, p in found.items() if p.kind is p.KEYWORD_ONLY}


def check_net(net: dict[str, Any], where: str, defaults: dict[str, Any]) -> None:
    """Refuse an unknown net, options that it does not take, and keys that would do nothing.

    `defaults` are those of the net section.

    Raises
    ------
    RecipeError
    """
    kind = net.get("kind", "plain-unet")
    known = net_parameters(kind)
    options = net.get("options", {})
    for key in options if isinstance(options, dict) else ():
        if key in NET_KEYS and key in known:
            raise RecipeError(
                "this key belongs one level up", f"{where}: net.options.{key}", fix=f"set net.{key}"
            )
        if key not in known:
            own = [name for name in known if name not in NET_KEYS]
            raise RecipeError(
                f"net kind {kind!r} has no such option",
                f"{where}: net.options.{key}",
                fix=nearest(key, own) if own else "it has none",
            )
    idle = [key for key in NET_KEYS[:2] if key not in known]
    if kind == "smp":
        idle += UNPLANNED
    for key in idle:
        if net.get(key, defaults[key]) != defaults[key]:
            raise RecipeError(
                f"net kind {kind!r} has no use for this key",
                f"{where}: net.{key}",
                net[key],
                "leave it out; net.options holds what this kind takes",
            )
