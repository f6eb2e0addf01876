"""DenseNet of timm and torchvision."""

from __future__ import annotations

from vitjax.models.densenet import DenseNet
from vitjax.weights.layouts.family import Family, renamed

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
    ).layout()
    for project in ("timm", "torchvision")
)
