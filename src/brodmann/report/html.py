"""The page: templates filled in, everything escaped."""

from __future__ import annotations

import math
from functools import cache
from typing import Any


def render(template: str = "report.html.j2", **values: Any) -> str:
    """The HTML of a page. Every value is escaped, except SVG that this package drew itself.

    A value that the template names and `values` lacks is an error, not a blank.
    """
    return _environment().get_template(template).render(**values)


def score_text(value: float | None) -> str:
    """Three decimals, or a dash for what is not known.

    >>> score_text(0.51249), score_text(None)
    ('0.512', '–')
    """
    return "–" if value is None else f"{value:.3f}"


def size_text(value: float | None) -> str:
    """A size with three significant figures.

    >>> [size_text(v) for v in (None, 0, 0.01234, 1.5, 12345.6)]
    ['–', '0', '0.0123', '1.50', '12,346']
    """
    if value is None:
        return "–"
    if not value:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}" if decimals < 7 else f"{value:.2e}"


def percent_text(value: float | None, sign: bool = False) -> str:
    """A share as percent, with a sign on request.

    >>> percent_text(0.123), percent_text(-0.5, True), percent_text(-4e-4), percent_text(None)
    ('12 %', '−50 %', '<0.1 %', '–')
    """
    if value is None:
        return "–"
    percent = abs(value) * 100
    if percent < 0.05:
        return "0 %" if percent == 0 else "<0.1 %"
    text = f"{percent:.1f}" if percent < 9.95 else f"{percent:.0f}"
    mark = "−" if value < 0 else "+" if sign and value > 0 else ""
    return f"{mark}{text} %"


@cache
def _environment():
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("brodmann.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"score": score_text, "size": size_text, "percent": percent_text}
    return environment
