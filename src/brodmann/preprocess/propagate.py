"""Labels carried from section to section of one series by registration.

Consecutive sections of a block look alike, so that the displacement between neighbours can be
found from their images alone. Displacements are chained from a labelled section to one without
labels, mended by one direct registration at the end, and the labels of the nearest labelled
section on each side are pulled along and blended, each place in favour of what looks alike. What comes out is a prior: for each region
the probability that a pixel belongs to it, on sections that nobody labelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage
from skimage.registration import optical_flow_tvl1

from brodmann.core import DataError

LOOKS = ((0.15, 15), (0.30, 15), (0.15, 30))
"""Ways to register, whose errors differ so that their mean is better than each: the reach of
local contrast, as a share of the shorter side, and the weight of likeness against smoothness in
the TV-L1 flow, for images of deviation CONTRAST."""
CONTRAST = 0.2
FLAT = 0.15
"""Share of the image's deviation below which a neighbourhood counts as flat."""
VOTE_REACH = 0.1
"""Reach, as a share of the shorter side, over which a carried section is compared with its target."""
LIKENESS = 6.0
"""How fast the vote of a carried section falls with its mean squared difference from the target,
in units of CONTRAST squared; 0 would let all vote alike."""
SOFTNESS_PX = 1.0
"""Blur of carried label borders: what registration cannot know."""


def local_contrast(image: np.ndarray, share: float) -> np.ndarray:
    """(h, w) of any type -> float32 with its neighbourhood's mean taken off and deviation evened.

    The neighbourhood reaches over `share` of the shorter side.
    """
    values = image.astype(np.float32)
    top = np.percentile(values[values > 0], 99.5) if (values > 0).any() else 1.0
    values = np.clip(values / max(float(top), 1e-6), 0, 1)
    reach = share * min(values.shape)
    rest = values - ndimage.gaussian_filter(values, reach)
    spread = np.sqrt(ndimage.gaussian_filter(rest**2, reach))
    return CONTRAST * rest / (spread + FLAT * max(float(values.std()), 1e-6))


def pulled(values: np.ndarray, field: np.ndarray) -> np.ndarray:
    """(..., h, w) seen through a displacement (2, h, w) in pixels: out(p) = values(p + field(p))."""
    rows, columns = np.indices(field.shape[1:], dtype=np.float32)
    places = (rows + field[0], columns + field[1])
    flat = values.reshape(-1, *values.shape[-2:])
    out = [ndimage.map_coordinates(one, places, order=1, mode="nearest") for one in flat]
    return np.array(out).reshape(*values.shape[:-2], *field.shape[1:]).astype(np.float32)


def chained(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """The displacement of pulling through `then` and after that through `first`."""
    return first + pulled(then, first)


class Carrier:
    """Carries labels between the sections of one series.

    Parameters
    ----------
    images : sequence of (h, w) arrays
        Every section of the series in order, labelled or not, on one grid. Sections that
        follow each other should be neighbours in the tissue.
    labels : mapping of int to (h, w) integer array
        Index in `images` -> class indices; -1 (ignore) is carried as no class at all.
    num_classes : int
        Background among them.

    Raises
    ------
    DataError
        If sections differ in size, or none is labelled.

    Source: the displacement between neighbours is TV-L1 optical flow (Zach et al. 2007) as in
    scikit-image; local votes by likeness are
    those of multi-atlas fusion (Artaechevarria et al. 2009).

    Example
    -------
    >>> section = np.zeros((32, 40)); section[8:20, 10:25] = 1
    >>> next_one = np.roll(section, 1, axis=1)
    >>> carrier = Carrier([section, next_one], {0: section.astype(int)}, 2)
    >>> float((carrier.prior(1).argmax(0) == next_one).mean()) > 0.97
    True
    """

    def __init__(
        self, images: Sequence[np.ndarray], labels: Mapping[int, np.ndarray], num_classes: int
    ) -> None:
        shapes = {np.shape(image) for image in images}
        if len(shapes) != 1:
            raise DataError("sections of one series must be of one size", found=sorted(shapes))
        if not labels:
            raise DataError("no section of the series is labelled")
        (self.shape,) = shapes
        self.views = [
            [local_contrast(np.asarray(image), share) for image in images] for share, _ in LOOKS
        ]
        self.labels, self.num_classes = dict(labels), num_classes
        self._steps: dict[tuple[int, int, int], np.ndarray] = {}
        self._fields: dict[tuple[int, int, int], np.ndarray] = {}
        self._soft: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def sources(self, index: int, gap: int = 1) -> list[tuple[int, float]]:
        """The nearest labelled section on each side, at least `gap` away, and their weights."""
        below = [i for i in self.labels if i <= index - gap]
        above = [i for i in self.labels if i >= index + gap]
        if below and above:
            low, high = max(below), min(above)
            share = (high - index) / (high - low)
            return [(low, share), (high, 1 - share)]
        nearest = max(below) if below else min(above) if above else None
        return [] if nearest is None else [(nearest, 1.0)]

    def prior(
        self,
        index: int,
        gap: int = 1,
        bend: np.ndarray | None = None,
        looks: Sequence[int] = range(len(LOOKS)),
    ) -> np.ndarray:
        """Probability of every class on one section.

        Parameters
        ----------
        index : int
            The section; its own labels are never used.
        gap : int
            Labelled sections nearer than this are not used either.
        bend : (2, h, w) float32, optional
            A further displacement in pixels, to make registration worse than it is.
        looks : sequence of int
            Which of LOOKS to register by; the mean over all of them by default.

        Returns
        -------
        (num_classes, h, w) float32, summing to one

        Raises
        ------
        DataError
            If no labelled section is that far away.
        """
        sources = self.sources(index, gap)
        if not sources:
            raise DataError(
                "no labelled section to carry from", found=f"section {index}, gap {gap}"
            )
        total = np.zeros((self.num_classes, *self.shape), np.float32)
        for source, weight in sources:
            if weight > 0:
                for look in looks:
                    field = self.field(index, source, look)
                    field = field if bend is None else chained(bend, field)
                    vote = weight * self._likeness(index, source, look, field)
                    classes, soft = self._softened(source)
                    total[classes] += vote * pulled(soft, field)
        # Where only ignored pixels were carried from, nothing is known: background.
        total[0] += total.sum(0) < 1e-12
        return total / total.sum(0)

    def _likeness(self, to: int, source: int, look: int, field: np.ndarray) -> np.ndarray:
        """How far a carried section is to be believed, pixel by pixel, in 0..1."""
        fixed, moving = self.views[look][to], pulled(self.views[look][source], field)
        apart = ndimage.gaussian_filter((fixed - moving) ** 2, VOTE_REACH * min(self.shape))
        return np.exp(-LIKENESS * apart / CONTRAST**2)

    def field(self, to: int, source: int, look: int = 0) -> np.ndarray:
        """Displacement (2, h, w) that pulls section `source` onto section `to`."""
        views = self.views[look]
        if (to, source, look) not in self._fields:
            step = 1 if source > to else -1
            field = np.zeros((2, *self.shape), np.float32)
            for at in range(to, source, step):
                field = chained(field, self._step(at, at + step, look))
            # Small errors of every link add up; one look at both ends takes most of them out.
            last = self._flow(views[to], pulled(views[source], field), look)
            self._fields[to, source, look] = chained(last, field)
        return self._fields[to, source, look]

    def _step(self, to: int, source: int, look: int) -> np.ndarray:
        if (to, source, look) not in self._steps:
            views = self.views[look]
            self._steps[to, source, look] = self._flow(views[to], views[source], look)
        return self._steps[to, source, look]

    @staticmethod
    def _flow(fixed: np.ndarray, moving: np.ndarray, look: int) -> np.ndarray:
        return optical_flow_tvl1(
            fixed, moving, attachment=LOOKS[look][1], num_warp=5, dtype=np.float32
        )

    def _softened(self, source: int) -> tuple[np.ndarray, np.ndarray]:
        """The classes that a section holds, and a blurred mask of each."""
        if source not in self._soft:
            labels = self.labels[source]
            classes = np.unique(labels[labels >= 0])
            masks = [(labels == c).astype(np.float32) for c in classes]
            blurred = [ndimage.gaussian_filter(mask, SOFTNESS_PX) for mask in masks]
            self._soft[source] = classes, np.array(blurred).reshape(-1, *self.shape)
        return self._soft[source]


def random_bend(
    shape: tuple[int, int], deviation_px: float, knot_px: float, rng: np.random.Generator
) -> np.ndarray:
    """A smooth random displacement (2, h, w) float32, cubic between knots.

    Knots lie `knot_px` apart and are moved by normal deviates of `deviation_px`.
    """
    knots = [int(np.ceil(n / knot_px)) + 4 for n in shape]
    coarse = rng.normal(0, deviation_px, (2, *knots))
    places = np.meshgrid(*((np.arange(n) / knot_px) + 1.5 for n in shape), indexing="ij")
    return np.stack(
        [ndimage.map_coordinates(one, places, order=3, mode="nearest") for one in coarse]
    ).astype(np.float32)
