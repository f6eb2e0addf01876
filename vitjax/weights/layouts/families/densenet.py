"""DenseNet of timm and torchvision."""

from __future__ import annotations

import re

import numpy as np

from vitjax.models.densenet import DenseNet
from vitjax.weights.layouts.family import Family, renamed
from vitjax.weights.layouts.layout import Arrays

# Names of old versions of torchvision, which its published files still have.
_OLD = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.\w+)$")


def _prepare(arrays: Arrays) -> dict[str, np.ndarray]:
    """The arrays under the names of today."""
    return {_OLD.sub(r"\1\2", name): array for name, array in arrays.items()}


LAYOUTS = tuple(
    Family(
        project=project,
        model=DenseNet,
        source=f"{project}.models.densenet",
        names={f"densenet{depth}": f"densenet{depth}" for depth in (121, 161, 169, 201)},
        translate=renamed(
            (r"stem_(conv|norm)", r"features.\g<1>0"),
            (r"stage(\d)_layer(\d+)/(\w+)", r"features.denseblock\1.denselayer\2.\3"),
            (r"stage(\d)_transition/(\w+)", r"features.transition\1.\2"),
            (r"last_norm", "features.norm5"),
            (r"head", "classifier"),
        ),
        required=(r"features\.conv0\.weight", r"features\.denseblock1\.denselayer1\.conv1\.weight"),
        prepare=_prepare,
    ).layout()
    for project in ("timm", "torchvision")
)
