"""Other projects' checkpoints: read, written and downloaded.

``load(path, model)`` returns a model's variables, and ``save(variables, model, path, format)``
writes them for other tools. `vitjax.weights.layouts` declares the names and shapes of each project
once, for both directions.
"""

from vitjax.weights.errors import WeightsError
from vitjax.weights.loading import fill, fit, load
from vitjax.weights.opening import OWN, Weights, module_of, open_weights, read_formats
from vitjax.weights.saving import Converted, check_target, convert, save, written_formats

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
