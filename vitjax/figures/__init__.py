"""The pictures of a run: arrays in, one PNG out, written whole or not at all.

No function here touches matplotlib's global state, so all of them work without a display and in any
thread.
"""

from vitjax.figures._confusion import confusion_matrix
from vitjax.figures._curves import curves
from vitjax.figures._episodes import adaptation, episode, fits
from vitjax.figures._images import image_grid, mistakes, predictions
from vitjax.figures._probes import Point, probes
from vitjax.figures._segmentation import class_curves, colored, overlay, palette, segmentations

__all__ = [
    "Point",
    "adaptation",
    "class_curves",
    "colored",
    "confusion_matrix",
    "curves",
    "episode",
    "fits",
    "image_grid",
    "mistakes",
    "overlay",
    "palette",
    "predictions",
    "probes",
    "segmentations",
]
