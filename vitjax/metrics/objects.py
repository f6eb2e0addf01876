"""How well objects are separated, measured on complete images: Rand and information scores.

A boundary with a hole of one pixel is nearly perfect pixel by pixel, but merges two cells. These
measures compare objects instead, as the ISBI 2012 challenge does: Arganda-Carreras et al. 2015,
"Crowdsourcing the creation of image segmentation algorithms for connectomics", Front. Neuroanat.
9:142. They agree with the challenge's code, Fiji's Trainable Segmentation, except for the pixels
where its watershed and scikit-image's divide plateaus differently.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from vitjax.metrics.base import Declaration
from vitjax.metrics.collected import MEASURES, Measure

# Each name, and whether a larger value is better.
OBJECT_MEASURES = {"v_rand": True, "v_info": True, "rand_error": False, "pixel_error": False}
# Measures of objects, which are reported at their best threshold.
_OF_OBJECTS = ("v_rand", "v_info", "rand_error")
THRESHOLDS = tuple(tenth / 10 for tenth in range(1, 10))
_MIDDLE = 0.5
_IGNORE = -1

Image = Float[np.ndarray, "height width"]
Objects = Int[np.ndarray, "height width"]
# (name, threshold) -> the sum over images, and its divisor.
Sums = dict[tuple[str, float], np.ndarray]


@dataclasses.dataclass(frozen=True)
class ObjectScores(Measure):
    """Measures of objects over all images of a split.

    ``v_rand`` and ``v_info`` are means over images, after borders are thinned; ``rand_error``
    counts pairs of pixels over all images, before thinning. Each is reported at the threshold that
    is best over all images, ``<name>_threshold``; the threshold of ``pixel_error`` is 0.5. Images
    whose truth has no object count only for ``pixel_error``.

    Attributes:
        names: names of `OBJECT_MEASURES`.
        foreground: the class whose connected parts are the objects.
    """

    names: tuple[str, ...]
    foreground: int = 1

    def collect(
        self, outputs: Float[Array, "batch height width classes"], batch: Mapping[str, Any]
    ) -> dict[str, Array]:
        """The probability of the foreground at each pixel, and the labels."""
        return {"probability": outputs[..., self.foreground], "label": batch["label"]}

    def reduce(self, examples: Any) -> Sums:
        """The sums over the images of one batch."""
        sums: Sums = {}
        for probability, label in zip(examples["probability"], examples["label"], strict=True):
            for key, value in self._of_image(probability, label).items():
                sums[key] = sums.get(key, np.zeros(2)) + value
        return sums

    def join(self, parts: Sequence[Any]) -> Sums:
        """The sums over the images of all parts."""
        keys = dict.fromkeys(key for part in parts for key in part)
        return {key: sum((p[key] for p in parts if key in p), np.zeros(2)) for key in keys}

    def compute(self, examples: Any) -> dict[str, float]:
        """The measures in the order of ``names``; NaN if no image counts."""
        values = {}
        for name in self.names:
            found = {at: s[0] / s[1] for (key, at), s in examples.items() if key == name}
            best = max(found, key=lambda at: (found[at], -abs(at - _MIDDLE)), default=_MIDDLE)
            value = float(found.get(best, np.nan))
            values[name] = 1 - value if name == "rand_error" else value
            if name in _OF_OBJECTS:
                values[f"{name}_threshold"] = best
        return values

    def declarations(self, name: str) -> dict[str, Declaration]:
        """The direction of each measure; thresholds have no direction."""
        declared = {each: Declaration(OBJECT_MEASURES[each], "fraction") for each in self.names}
        thresholds = [f"{each}_threshold" for each in self.names if each in _OF_OBJECTS]
        return {**declared, **dict.fromkeys(thresholds, Declaration(None))}

    def _of_image(self, probability: Image, label: Objects) -> Sums:
        """The sums of one image."""
        counted = label != _IGNORE
        sums: Sums = {}
        if "pixel_error" in self.names and counted.any():
            error = pixel_error(probability, label, self.foreground)
            sums["pixel_error", _MIDDLE] = np.array([error, 1])
        objects = parts(label == self.foreground)
        if not objects.any():
            return sums
        scores = [
            (name, s) for name, s in (("v_rand", v_rand), ("v_info", v_info)) if name in self.names
        ]
        for threshold in THRESHOLDS:
            if scores:
                segments = segment(probability, threshold, counted)
            for name, score in scores:
                sums[name, threshold] = np.array([score(objects, segments), 1])
            if "rand_error" in self.names:
                found = parts((probability > threshold) & counted)
                sums["rand_error", threshold] = np.array(_pairs(objects, found))
        return sums


for _name in OBJECT_MEASURES:
    MEASURES.register(_name, target="mask")(ObjectScores)


def parts(mask: Bool[np.ndarray, "height width"]) -> Objects:
    """The connected parts of ``mask``, numbered from 1, with 0 outside.

    Pixels are connected by their sides: a boundary whose pixels touch only at corners is closed.
    """
    # Slow to import, and needed only by runs that measure objects.
    from skimage.measure import label

    objects: Objects = label(mask, connectivity=1)
    return objects


def segment(
    probability: Image, threshold: float, counted: Bool[np.ndarray, "height width"] | None = None
) -> Objects:
    """The objects of a probability map, numbered from 1, with lines of 0 between them.

    The connected parts above ``threshold`` grow evenly until one pixel is left between them, so
    that the thickness of borders is not measured.

    Args:
        probability: the probability of being inside an object.
        threshold: the threshold; if no pixel is above it, the image is one object.
        counted: the pixels that objects can have, so that padding changes no object; None: all.
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

    ``sum p_ij^2 / (sum s_i^2 / 2 + sum t_j^2 / 2)`` with p_ij the fraction of pixels in segment i
    and object j, and s and t its margins (Arganda-Carreras et al. 2015, with split and merge scores
    weighted equally). Pixels where ``truth`` is 0 do not count; each pixel where ``segments`` is 0
    is a segment.
    """
    both, either = _pairs(truth, segments)
    return both / either


def v_info(truth: Objects, segments: Objects) -> float:
    """The foreground-restricted information score: 1 is perfect.

    Twice the mutual information of segments and objects, divided by the sum of their entropies,
    over the pixels that `v_rand` counts (Arganda-Carreras et al. 2015, with split and merge scores
    weighted equally).
    """
    joint, of_segments, of_objects = map(_entropy, _fractions(truth, segments))
    if of_segments + of_objects <= 0:  # one object, one segment
        return 1.0
    return float(2 * (of_segments + of_objects - joint) / (of_segments + of_objects))


def pixel_error(probability: Image, label: Objects, foreground: int) -> float:
    """The fraction of pixels on the wrong side of 0.5, among those whose ``label`` is not -1."""
    counted = label != _IGNORE
    return float(np.mean((probability > _MIDDLE)[counted] != (label == foreground)[counted]))


def _pairs(truth: Objects, segments: Objects) -> tuple[float, float]:
    """The pairs of pixels together in both, and the mean of the pairs together in each."""
    pixels = np.count_nonzero(truth)
    joint, of_segments, of_objects = (
        float(np.sum((each * pixels) ** 2)) for each in _fractions(truth, segments)
    )
    return joint, (of_segments + of_objects) / 2


def _fractions(truth: Objects, segments: Objects) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The positive joint fractions and both margins of the pixels where ``truth`` is not 0.

    A pixel where ``segments`` is 0 is a segment of its own.
    """
    from skimage.metrics import contingency_table

    inside = truth > 0
    found = segments[inside].astype(np.int64)
    lines = found == 0
    found[lines] = found.max() + 1 + np.arange(np.count_nonzero(lines))
    # Numbers without gaps, since the table has a row and a column for each number.
    found, objects = (np.unique(x, return_inverse=True)[1] for x in (found, truth[inside]))
    table = contingency_table(objects, found, normalize=True)
    of_segments, of_objects = (np.asarray(table.sum(axis=axis)).ravel() for axis in (0, 1))
    return table.data, of_segments, of_objects


def _entropy(fractions: np.ndarray) -> float:
    return float(-np.sum(fractions * np.log(fractions)))
