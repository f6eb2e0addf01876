"""vitjax: vision and few-shot learning research in JAX and Flax Linen.

`build`, `train`, `evaluate`, `predict` and `load` are imported when they are first used, so that
``import vitjax`` imports neither JAX nor a data library.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitjax.report.training import train
    from vitjax.tasks.runs import build, evaluate, load, predict

__version__ = "0.1.0"

__all__ = ["build", "evaluate", "load", "predict", "train"]


def __getattr__(name: str) -> Any:
    if name == "train":
        from vitjax.report import training

        return training.train
    if name in __all__:
        from vitjax.tasks import runs

        return getattr(runs, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
