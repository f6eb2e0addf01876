"""The models of vitjax itself: other tests of the process register their own."""

from vitjax import models


def own_models() -> list[str]:
    """The names of the registry whose classes are in `vitjax`."""
    return [n for n in models.names() if type(models.create(n)).__module__.startswith("vitjax.")]
