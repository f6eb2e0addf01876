"""Config files: load one, override values from the command line, save it beside the run."""

from vitjax.config.files import load, variant
from vitjax.config.overrides import PREFIX, override, parse_value
from vitjax.config.values import flatten, from_json, to_dict, to_json

__all__ = [
    "PREFIX",
    "flatten",
    "from_json",
    "load",
    "override",
    "parse_value",
    "to_dict",
    "to_json",
    "variant",
]
