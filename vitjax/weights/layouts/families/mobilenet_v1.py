"""MobileNet of timm."""

from __future__ import annotations

from vitjax.models.mobilenet_v1 import MobileNetV1
from vitjax.weights.layouts.family import Family, renamed

_NAMES = {
    "depthwise/conv": "conv_dw",
    "depthwise/norm": "bn1",
    "pointwise/conv": "conv_pw",
    "pointwise/norm": "bn2",
}

LAYOUTS = (
    Family(
        project="timm",
        model=MobileNetV1,
        source="timm.models.efficientnet",
        names={"mobilenet_v1": "mobilenetv1_100"},
        translate=renamed(
            (r"stem/conv", "conv_stem"),
            (r"stem/norm", "bn1"),
            (
                r"stage(\d)_block(\d)/(.+)",
                lambda m: f"blocks.{int(m[1]) - 1}.{int(m[2]) - 1}.{_NAMES[m[3]]}",
            ),
            (r"head", "classifier"),
        ),
        required=(r"conv_stem\.weight", r"blocks\.3\.5\.conv_dw\.weight"),
        forbidden={r"conv_pwl": "inverted residuals", r"\.se\.": "squeeze-and-excitation"},
    ).layout(),
)
