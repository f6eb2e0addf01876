"""Few-shot learning: a differentiable inner loop, and the methods built on it as objectives.

>>> from vitjax.meta import adapt
"""

from vitjax.meta.baselines import FineTuning, NearestCentroid
from vitjax.meta.gradient_based import GradientBased
from vitjax.meta.imaml import ImplicitMaml
from vitjax.meta.inner_loop import History, adapt, scale_by_rates
from vitjax.meta.maml import Anil, Boil, Cavia, FirstOrderMaml, Maml, MetaSgd
from vitjax.meta.mamlpp import MamlPlusPlus
from vitjax.meta.prototypical import ProtoNet
from vitjax.meta.reptile import Reptile

__all__ = [
    "Anil",
    "Boil",
    "Cavia",
    "FineTuning",
    "FirstOrderMaml",
    "GradientBased",
    "History",
    "ImplicitMaml",
    "Maml",
    "MamlPlusPlus",
    "MetaSgd",
    "NearestCentroid",
    "ProtoNet",
    "Reptile",
    "adapt",
    "scale_by_rates",
]
