"""Where arrays live and how a step is compiled: device meshes, pmap, prefetch, host memory."""

from vitjax.parallel.base import AXIS, MODES, Parallel, create
from vitjax.parallel.devices import describe_devices
from vitjax.parallel.mesh import MeshJit
from vitjax.parallel.pmap import Pmap
from vitjax.parallel.prefetch import ahead

__all__ = ["AXIS", "MODES", "MeshJit", "Parallel", "Pmap", "ahead", "create", "describe_devices"]
