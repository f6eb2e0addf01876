"""How well objects are told apart, measured on whole images: Rand and information scores.

A boundary with a hole of one pixel is nearly perfect by its pixels, and has merged two cells. These
measures compare objects instead, as the ISBI 2012 challenge does: Arganda-Carreras et al. 2015,
"Crowdsourcing the creation of image segmentation algorithms for connectomics", Front. Neuroanat.
9:142.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from vitjax.registry import ConfigError, near_match

MEASURES = ("v_rand", "v_info", "rand_error", "pixel_error")
# Scores of the best threshold, and errors at this one.
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
    """Means over images, which are given one after the other.

    ``v_rand`` and ``v_info`` are those of the threshold at which the mean over all images is best,
    as the challenge has it; the errors are those at 0.5. Images whose truth has no object do not
    count, except for ``pixel_error``.
    """

    def __init__(self, names: Iterable[str]):
        self.names = tuple(names)
        self._found: dict[tuple[str, float], list[float]] = {}

    def add(self, probability: Image, label: Objects, foreground: int) -> None:
        """Measures one image.

        Args:
            probability: of the class ``foreground``, in [0, 1].
            label: class numbers, -1 where a pixel does not count.
            foreground: the class whose connected parts are objects.
        """
        if "pixel_error" in self.names and np.any(label != _IGNORE):
            self._note("pixel_error", _MIDDLE, pixel_error(probability, label, foreground))
        objects = parts(label == foreground)
        if not objects.any():
            return
        scores = [name for name in ("v_rand", "v_info") if name in self.names]
        for threshold in THRESHOLDS:
            middle = threshold == _MIDDLE and "rand_error" in self.names
            if not (scores or middle):
                continue
            segments = segment(probability, threshold)
            for name in scores:
                score = v_rand if name == "v_rand" else v_info
                self._note(name, threshold, score(objects, segments))
            if middle:
                self._note("rand_error", threshold, rand_error(objects, segments))

    def values(self) -> dict[str, float]:
        """The means; NaN where no image counted. Beside scores ``.._threshold``, where it is best.

        Order: that of the names.
        """
        values = {}
        for name in self.names:
            means = {at: float(np.mean(v)) for (key, at), v in self._found.items() if key == name}
            best = max(means, key=lambda at: (means[at], -abs(at - _MIDDLE)), default=_MIDDLE)
            values[name] = means.get(best, float("nan"))
            if name.startswith("v_"):
                values[f"{name}_threshold"] = best
        return values

    def _note(self, name: str, threshold: float, value: float) -> None:
        self._found.setdefault((name, threshold), []).append(value)


def parts(mask: Bool[np.ndarray, "height width"]) -> Objects:
    """The connected parts of ``mask``, numbered from 1, with 0 outside.

    Pixels are connected by their sides: a boundary that touches itself by corners alone is closed.
    """
    # Slow to import, and of use to runs alone that measure objects.
    from skimage.measure import label

    objects: Objects = label(mask, connectivity=1)
    return objects


def segment(probability: Image, threshold: float) -> Objects:
    """The objects of a map of ``probability``, from 1 on; every pixel belongs to one.

    The connected parts above ``threshold`` grow by watershed until they meet, so that boundaries
    have no width: how thick they were drawn is no part of what is measured. All 0 where nothing is
    above ``threshold``.
    """
    from skimage.segmentation import watershed

    seeds = parts(probability > threshold)
    if not seeds.any():
        return seeds
    grown: Objects = watershed(-probability, seeds, connectivity=1)
    return grown


def v_rand(truth: Objects, segments: Objects) -> float:
    """The foreground-restricted Rand score: 1 is perfect.

    ``sum p_ij^2 / (sum s_i^2 / 2 + sum t_j^2 / 2)`` with p_ij the share of pixels in segment i and
    object j, s and t its margins; pixels where ``truth`` is 0 do not count (Arganda-Carreras et al.
    2015, Equation 3 with alpha = 0.5).
    """
    joint, of_segments, of_objects = _shares(truth, segments)
    norm = np.sum(of_segments**2) + np.sum(of_objects**2)
    return float(2 * np.sum(joint**2) / norm)


def v_info(truth: Objects, segments: Objects) -> float:
    """The foreground-restricted information score: 1 is perfect.

    Twice the mutual information of segments and objects over the sum of their entropies; pixels
    where ``truth`` is 0 do not count (Arganda-Carreras et al. 2015, Equation 6 with alpha = 0.5).
    """
    joint, of_segments, of_objects = _shares(truth, segments)
    entropies = _entropy(of_segments) + _entropy(of_objects)
    if entropies <= 0:  # one object, one segment
        return 1.0
    return float(2 * (entropies - _entropy(joint)) / entropies)


def rand_error(truth: Objects, segments: Objects) -> float:
    """One minus the F-score of pairs of pixels, as scikit-image has it; ``truth`` 0 is left out."""
    from skimage.metrics import adapted_rand_error

    if np.count_nonzero(truth) < 2:  # without a pair of pixels, none is wrong
        return 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        error = float(adapted_rand_error(truth, segments)[0])
    # Objects of one pixel each have no pair that belongs together.
    return error if np.isfinite(error) else 0.0


def pixel_error(probability: Image, label: Objects, foreground: int) -> float:
    """The share of pixels on the wrong side of 0.5, of those whose ``label`` is not -1."""
    counted = label != _IGNORE
    return float(np.mean((probability > _MIDDLE)[counted] != (label == foreground)[counted]))


def _shares(truth: Objects, segments: Objects) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the pixels where ``truth`` is not 0, the joint shares and both margins, none of them 0."""
    inside = truth > 0
    _, objects = np.unique(truth[inside], return_inverse=True)
    _, found = np.unique(segments[inside], return_inverse=True)
    _, joint = np.unique(found * np.int64(objects.max() + 1) + objects, return_counts=True)
    total = objects.size
    return joint / total, np.bincount(found) / total, np.bincount(objects) / total


def _entropy(shares: np.ndarray) -> float:
    return float(-np.sum(shares * np.log(shares)))
