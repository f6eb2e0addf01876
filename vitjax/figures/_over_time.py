"""How a recurrent network decides over its time steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from vitjax.figures import _canvas as canvas
from vitjax.figures._curves import drawable


def accuracy_over_time(
    accuracies: Any, decided: Any, path: str | Path, *, threshold: float
) -> Path:
    """Draws the accuracy at each time step, and the fraction of images decided by then.

    Args:
        accuracies: the accuracy at each step, as a fraction.
        decided: the fraction of the images whose reaction time is at most that step.
        path: the PNG file to write.
        threshold: the entropy below which an image is decided, in nats.

    Raises:
        ValueError: the numbers of steps differ.
    """
    accuracies, decided = (drawable(each) for each in (accuracies, decided))
    if accuracies.shape != decided.shape or accuracies.ndim != 1:
        raise ValueError(f"accuracies of shape {accuracies.shape}, decided {decided.shape}")
    finite = np.isfinite(accuracies)
    if not finite.any():
        return canvas.message("No example was evaluated", path)
    figure = canvas.new_figure(5.6, 3.8, layout="constrained")
    axes = figure.add_subplot()
    steps = np.arange(1, len(accuracies) + 1)
    last = accuracies[finite][-1]
    axes.plot(steps, accuracies, "o-", color="#4c72b0", label=f"accuracy (last step {last:.2%})")
    axes.plot(
        steps,
        decided,
        "s--",
        color="#777777",
        linewidth=1.2,
        markersize=4,
        label=f"decided: entropy below {threshold:g} nats",
    )
    axes.set(xlim=(0.5, len(steps) + 0.5), ylim=(-0.03, 1.03))
    axes.set_xlabel("time step", fontsize=10)
    axes.set_ylabel("fraction of the images", fontsize=10)
    axes.set_title("Accuracy over time", fontsize=11)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, framealpha=0.8)
    return canvas.save(figure, path)
