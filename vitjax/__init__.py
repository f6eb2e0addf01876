"""vitjax: vision and few-shot learning research in JAX and Flax Linen."""

__version__ = "0.1.0"
