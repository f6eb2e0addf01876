"""Other projects' checkpoints: read, written, and fetched from where people keep them.

``load(path, model)`` gives a model's variables, ``save(variables, model, path, format)`` writes
them for other tools. One layout for each project (`vitjax.weights.layouts`) serves both directions.
"""

from vitjax.weights.conversion import Converted, convert
from vitjax.weights.errors import WeightsError
from vitjax.weights.loading import fill, fit, load
from vitjax.weights.modules import module_of
from vitjax.weights.opening import OWN, Weights, open_weights, read_formats
from vitjax.weights.saving import check_target, save, written_formats

__all__ = [
    "OWN",
    "Converted",
    "Weights",
    "WeightsError",
    "check_target",
    "convert",
    "fill",
    "fit",
    "load",
    "module_of",
    "open_weights",
    "read_formats",
    "save",
    "written_formats",
]
