"""Samplers: which examples a batch has. A config names one as ``config.data.sampler.name``."""

from vitjax.data.samplers import order, p_by_k, weighted
from vitjax.data.samplers.base import SAMPLERS, Sampler, Training, register

__all__ = ["SAMPLERS", "Sampler", "Training", "order", "p_by_k", "register", "weighted"]
