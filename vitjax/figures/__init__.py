"""The figures of a run: each function takes arrays and writes one PNG file atomically.

No function uses matplotlib's global state, so all of them work without a display and in any thread.
Numbers that are not finite, images of any range and names with any characters can be drawn; errors
are raised only for arguments whose shapes do not match.
"""

from vitjax.figures._confusion import confusion_matrix, count_confusions
from vitjax.figures._curves import Declared, curves, panels, read_series
from vitjax.figures._episodes import adaptation, episode, fits
from vitjax.figures._explanations import explained, explanation, randomisation
from vitjax.figures._images import image_grid, mistakes, predictions
from vitjax.figures._optional import optional
from vitjax.figures._over_time import accuracy_over_time
from vitjax.figures._pixels import framed, pixels
from vitjax.figures._probes import Point, probes
from vitjax.figures._robustness import Levels, corruptions, examples_of_levels, levels
from vitjax.figures._segmentation import class_curves, colored, overlay, palette, segmentations
from vitjax.figures._shape_bias import BiasLine, shape_bias
from vitjax.figures._similarities import layer_similarities

__all__ = [
    "BiasLine",
    "Declared",
    "Levels",
    "Point",
    "accuracy_over_time",
    "adaptation",
    "class_curves",
    "colored",
    "confusion_matrix",
    "corruptions",
    "count_confusions",
    "curves",
    "episode",
    "examples_of_levels",
    "explained",
    "explanation",
    "fits",
    "framed",
    "image_grid",
    "layer_similarities",
    "levels",
    "mistakes",
    "optional",
    "overlay",
    "palette",
    "panels",
    "pixels",
    "predictions",
    "probes",
    "randomisation",
    "read_series",
    "segmentations",
    "shape_bias",
]
