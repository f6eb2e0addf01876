"""Other projects' checkpoints: read, written, and fetched from where people keep them.

``load(path, model)`` gives a model's variables, ``save(variables, model, path, format)`` writes
them for other tools. One layout for each project (`vitjax.weights.layouts`) serves both directions.
"""

from vitjax.weights.errors import WeightsError
from vitjax.weights.loading import (
    OWN,
    Weights,
    fill,
    formats,
    load,
    module_of,
    open_weights,
    save,
)

__all__ = [
    "OWN",
    "Weights",
    "WeightsError",
    "fill",
    "formats",
    "load",
    "module_of",
    "open_weights",
    "save",
]
