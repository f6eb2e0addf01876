"""AlexNet of torchvision."""

from __future__ import annotations

import functools

from vitjax.models.alexnet import SIDE, AlexNet
from vitjax.weights.layouts.family import Family, flattened, renamed

LAYOUTS = (
    Family(
        project="torchvision",
        model=AlexNet,
        source="torchvision.models.alexnet",
        names={"alexnet": "alexnet"},
        translate=renamed(
            (r"stage1_conv1", "features.0"),
            (r"stage2_conv1", "features.3"),
            (r"stage3_conv1", "features.6"),
            (r"stage3_conv2", "features.8"),
            (r"stage3_conv3", "features.10"),
            (r"fc1", "classifier.1"),
            (r"fc2", "classifier.4"),
            (r"head", "classifier.6"),
        ),
        required=(r"features\.0\.weight", r"features\.10\.weight", r"classifier\.4\.weight"),
        special={"fc1": functools.partial(flattened, side=SIDE)},
    ).layout(),
)
