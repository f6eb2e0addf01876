"""Few-shot learning: a differentiable inner loop, and the methods built on it as objectives.

>>> from vitjax.meta import adapt
"""

from vitjax.meta.inner_loop import History, adapt, scale_by_rates
from vitjax.meta.maml import Anil, Boil, Cavia, FirstOrderMaml, Maml, MetaSgd

__all__ = [
    "Anil",
    "Boil",
    "Cavia",
    "FirstOrderMaml",
    "History",
    "Maml",
    "MetaSgd",
    "adapt",
    "scale_by_rates",
]
