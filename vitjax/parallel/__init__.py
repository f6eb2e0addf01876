"""Where arrays live and how a step is compiled: device meshes, rules, pmap, prefetch, memory."""

from vitjax.parallel.base import MODES, Parallel, create
from vitjax.parallel.devices import describe_devices
from vitjax.parallel.mesh import MeshAxes, MeshJit
from vitjax.parallel.pmap import Pmap
from vitjax.parallel.prefetch import Batches, ahead
from vitjax.parallel.rules import AXES, RULES, Rule

__all__ = [
    "AXES",
    "MODES",
    "RULES",
    "Batches",
    "MeshAxes",
    "MeshJit",
    "Parallel",
    "Pmap",
    "Rule",
    "ahead",
    "create",
    "describe_devices",
]
