"""Common corruptions of images at five severities, and images of which parts are moved or hidden.

The 15 corruptions of Hendrycks & Dietterich 2019, arXiv:1903.12261, Sec. 4.1 and Fig. 1, computed
from their descriptions. The order of `CORRUPTIONS` is that of the paper's tables.
"""

from vitjax.data.corruptions import noise  # isort: skip
from vitjax.data.corruptions import blur  # isort: skip
from vitjax.data.corruptions import weather  # isort: skip
from vitjax.data.corruptions import digital  # isort: skip
from vitjax.data.corruptions.base import (
    CORRUPTIONS,
    SEVERITIES,
    Corruption,
    Published,
    Severity,
    corrupt,
    register,
)
from vitjax.data.corruptions.patches import drop_patches, patch_shuffle

__all__ = [
    "CORRUPTIONS",
    "SEVERITIES",
    "Corruption",
    "Published",
    "Severity",
    "blur",
    "corrupt",
    "digital",
    "drop_patches",
    "noise",
    "patch_shuffle",
    "register",
    "weather",
]
