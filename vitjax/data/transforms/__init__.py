"""Transforms of samples, and the pipelines of them that configs write as text."""

from vitjax.data.transforms import (
    color,
    corruption,
    erasing,
    geometry,
    moving,
    policies,
    views,
    warps,
)
from vitjax.data.transforms.base import TRANSFORMS, Photometric, Transform, register
from vitjax.data.transforms.pipeline import Pipeline, parse

__all__ = [
    "TRANSFORMS",
    "Photometric",
    "Pipeline",
    "Transform",
    "color",
    "corruption",
    "erasing",
    "geometry",
    "moving",
    "parse",
    "policies",
    "register",
    "views",
    "warps",
]
