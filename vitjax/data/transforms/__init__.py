"""Transforms of one image, and the pipelines of them that configs write as text."""

from vitjax.data.transforms import color, geometry, policies
from vitjax.data.transforms.pipeline import TRANSFORMS, Pipeline, Transform, parse, register

__all__ = [
    "TRANSFORMS",
    "Pipeline",
    "Transform",
    "color",
    "geometry",
    "parse",
    "policies",
    "register",
]
