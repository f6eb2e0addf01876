"""How well objects are told apart, measured on whole images: Rand and information scores.

A boundary with a hole of one pixel is nearly perfect by its pixels, and has merged two cells. These
measures compare objects instead, as the ISBI 2012 challenge does: Arganda-Carreras et al. 2015,
"Crowdsourcing the creation of image segmentation algorithms for connectomics", Front. Neuroanat.
9:142. They are those of the challenge's own code, Fiji's Trainable Segmentation, to the pixels at
which its watershed and scikit-image's part plateaus differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match

MEASURES = ("v_rand", "v_info", "rand_error", "pixel_error")
# Those of one threshold, the best.
_OF_OBJECTS = MEASURES[:3]
THRESHOLDS = tuple(tenth / 10 for tenth in range(1, 10))
_MIDDLE = 0.5
_IGNORE = -1

Image = Float[np.ndarray, "height width"]
Objects = Int[np.ndarray, "height width"]


def check_measures(names: Sequence[str]) -> None:
    """Raises ConfigError if one of ``names`` is not among `MEASURES`."""
    if isinstance(names, str):
        raise ConfigError(f"objective.measures is {names!r}; it should be a list of names")
    for name in names:
        if name not in MEASURES:
            raise ConfigError(
                f"objective.measures: there is no {name!r}{near_match(name, MEASURES)}"
                f" (known: {', '.join(MEASURES)})"
            )


class Measures:
    """Measures of all images, which are given one after the other.

    ``v_rand`` and ``v_info`` are means over images, after borders are thinned; ``rand_error`` is
    that of all images' pairs of pixels together, before. Each is that of the threshold at which it
    is best over all images; ``pixel_error`` is that at 0.5. Images whose truth has no object count
    for ``pixel_error`` alone.
    """

    def __init__(self, names: Iterable[str]):
        self.names = tuple(names)
        self._sums: dict[tuple[str, float], np.ndarray] = {}

    def add(self, probability: Image, label: Objects, foreground: int) -> None:
        """Measures one image.

        Args:
            probability: of the class ``foreground``, in [0, 1].
            label: class numbers, -1 where a pixel does not count.
            foreground: the class whose connected parts are objects.
        """
        counted = label != _IGNORE
        if "pixel_error" in self.names and counted.any():
            self._note("pixel_error", _MIDDLE, pixel_error(probability, label, foreground), 1)
        objects = parts(label == foreground)
        if not objects.any():
            return
        scores = [name for name in ("v_rand", "v_info") if name in self.names]
        for threshold in THRESHOLDS:
            if scores:
                segments = segment(probability, threshold, counted)
            for name in scores:
                score = v_rand if name == "v_rand" else v_info
                self._note(name, threshold, score(objects, segments), 1)
            if "rand_error" in self.names:
                found = parts((probability > threshold) & counted)
                self._note("rand_error", threshold, *_pairs(objects, found))

    def values(self) -> dict[str, float]:
        """The measures, in the order of their names; NaN where no image counted.

        Behind each that is of objects, ``.._threshold``, where it is best.
        """
        values = {}
        for name in self.names:
            found = {at: s[0] / s[1] for (key, at), s in self._sums.items() if key == name}
            best = max(found, key=lambda at: (found[at], -abs(at - _MIDDLE)), default=_MIDDLE)
            value = float(found.get(best, np.nan))
            values[name] = 1 - value if name == "rand_error" else value
            if name in _OF_OBJECTS:
                values[f"{name}_threshold"] = best
        return values

    def _note(self, name: str, threshold: float, numerator: float, denominator: float) -> None:
        self._sums.setdefault((name, threshold), np.zeros(2))[:] += numerator, denominator


def parts(mask: Bool[np.ndarray, "height width"]) -> Objects:
    """The connected parts of ``mask``, numbered from 1, with 0 outside.

    Pixels are connected by their sides: a boundary that touches itself by corners alone is closed.
    """
    # Slow to import, and of use to runs alone that measure objects.
    from skimage.measure import label

    objects: Objects = label(mask, connectivity=1)
    return objects


def segment(
    probability: Image, threshold: float, counted: Bool[np.ndarray, "height width"] | None = None
) -> Objects:
    """The objects of a map of ``probability``, from 1 on, with lines of 0 between them.

    The connected parts above ``threshold`` grow evenly until a line of one pixel is between them:
    how thick borders were drawn is no part of what is measured.

    Args:
        probability: of being inside of an object.
        threshold: where nothing is above it, all is one object.
        counted: the pixels that objects can have; what does not count joins nothing, so an image
            that was filled up has the objects that it had. None for all.
    """
    from skimage.segmentation import watershed

    inside = probability > threshold
    if counted is not None:
        inside &= counted
    if not inside.any():
        return np.ones(probability.shape, np.int32)
    grown: Objects = watershed(
        (~inside).astype(np.uint8), parts(inside), 1, mask=counted, watershed_line=True
    )
    return grown


def v_rand(truth: Objects, segments: Objects) -> float:
    """The foreground-restricted Rand score: 1 is perfect.

    ``sum p_ij^2 / (sum s_i^2 / 2 + sum t_j^2 / 2)`` with p_ij the share of pixels in segment i and
    object j, s and t its margins (Arganda-Carreras et al. 2015, with split and merge scores alike).
    Pixels where ``truth`` is 0 do not count, and each where ``segments`` is 0 is a segment.
    """
    both, either = _pairs(truth, segments)
    return both / either


def v_info(truth: Objects, segments: Objects) -> float:
    """The foreground-restricted information score: 1 is perfect.

    Twice the mutual information of segments and objects over the sum of their entropies, of what
    `v_rand` counts (Arganda-Carreras et al. 2015, with split and merge scores alike).
    """
    joint, of_segments, of_objects = map(_entropy, _shares(truth, segments))
    if of_segments + of_objects <= 0:  # one object, one segment
        return 1.0
    return float(2 * (of_segments + of_objects - joint) / (of_segments + of_objects))


def pixel_error(probability: Image, label: Objects, foreground: int) -> float:
    """The share of pixels on the wrong side of 0.5, of those whose ``label`` is not -1."""
    counted = label != _IGNORE
    return float(np.mean((probability > _MIDDLE)[counted] != (label == foreground)[counted]))


def _pairs(truth: Objects, segments: Objects) -> tuple[float, float]:
    """Pairs of pixels that are together in both; and in either, the mean of the two."""
    pixels = np.count_nonzero(truth)
    joint, of_segments, of_objects = (
        float(np.sum((share * pixels) ** 2)) for share in _shares(truth, segments)
    )
    return joint, (of_segments + of_objects) / 2


def _shares(truth: Objects, segments: Objects) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the pixels where ``truth`` is not 0, the joint shares and both margins, none of them 0.

    A pixel where ``segments`` is 0 is a segment of its own.
    """
    inside = truth > 0
    found = segments[inside].astype(np.int64)
    lines = found == 0
    found[lines] = found.max() + 1 + np.arange(np.count_nonzero(lines))
    _, objects = np.unique(truth[inside], return_inverse=True)
    _, found = np.unique(found, return_inverse=True)
    _, joint = np.unique(found * np.int64(objects.max() + 1) + objects, return_counts=True)
    total = objects.size
    return joint / total, np.bincount(found) / total, np.bincount(objects) / total


def _entropy(shares: np.ndarray) -> float:
    return float(-np.sum(shares * np.log(shares)))
