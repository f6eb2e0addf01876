"""Results of an evaluation over fixed episodes: means and confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from vitjax.meta.episodic import MODES

# Half the width of a 95% confidence interval in standard errors of the mean.
_Z = 1.96

MEANING = (
    "transductive: queries are normalised by the statistics of all queries of their episode"
    " (and of its support set, for methods that pass both through the network together)",
    "inductive: each query is classified independently of the other queries",
)

# {mode: {"loss": (episodes, steps + 1), "accuracy": (episodes, steps + 1)}}
EpisodeMeasures = Mapping[str, Mapping[str, np.ndarray]]


def interval(values: Float[np.ndarray, "episodes *rest"]) -> Float[np.ndarray, "*rest"]:
    """Half the width of the mean's 95% confidence interval: 1.96 s / sqrt(episodes).

    s is the sample standard deviation, with n - 1 in the denominator. NaN for a single episode.
    """
    number = len(values)
    if number < 2:
        return np.full(values.shape[1:], np.nan)
    deviation: np.ndarray = np.std(values, axis=0, ddof=1, dtype=np.float64)
    return _Z * deviation / np.sqrt(number)


def results(measures: EpisodeMeasures, protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The results of one split, as JSON values.

    Args:
        measures: of every episode that counts, once.
        protocol: the sizes of an episode: those of ``ways``, ``shots`` and ``queries`` that it has.

    Returns:
        For each mode ``accuracy`` and its interval ``ci95`` after the last step, ``loss``, and
        ``per_step``, ``per_step_ci95`` and ``per_step_loss``, lists over 0, 1, ... steps. For
        regression, which has no accuracy, ``ci95``, ``per_step`` and ``per_step_ci95`` are those of
        the loss, the mean squared error. Besides the modes: ``episodes``, ``test_steps`` and the
        protocol.
    """
    loss = measures[MODES[0]]["loss"]
    return {
        **{mode: _mode(measures[mode]) for mode in MODES},
        **protocol,
        "episodes": len(loss),
        "test_steps": loss.shape[1] - 1,
    }


def _mode(measures: Mapping[str, np.ndarray]) -> dict[str, Any]:
    headline = "accuracy" if "accuracy" in measures else "loss"
    means = {
        name: np.asarray(np.mean(values, axis=0, dtype=np.float64))
        for name, values in measures.items()
    }
    intervals = interval(measures[headline])
    result = {
        headline: float(means[headline][-1]),
        "ci95": float(intervals[-1]),
        "loss": float(means["loss"][-1]),
        "per_step": means[headline].tolist(),
        "per_step_ci95": intervals.tolist(),
    }
    if headline != "loss":
        result["per_step_loss"] = means["loss"].tolist()
    return result


def of_ensemble(
    probabilities: Mapping[str, Float[np.ndarray, "episodes queries ways"]],
    targets: Int[np.ndarray, "episodes queries"],
    mask: Bool[np.ndarray, "episodes queries"],
) -> dict[str, dict[str, float]]:
    """``accuracy``, its ``ci95`` and ``loss`` of averaged probabilities, for each mode.

    Args:
        probabilities: for each mode, the mean over all members of the ensemble; NaN for classes
            that the episode's support set lacks, whose queries do not count.
        targets: the class of each query.
        mask: which queries count.
    """
    metrics = {}
    for mode in MODES:
        values = probabilities[mode]
        true = np.take_along_axis(values, targets[..., None], axis=-1)[..., 0].astype(np.float64)
        counts = mask & ~np.isnan(true)
        number = np.maximum(counts.sum(axis=1), 1)
        best = np.where(np.isnan(values), -1, values).argmax(axis=-1)
        right = np.sum((best == targets) & counts, axis=1) / number
        losses = -np.log(np.maximum(true, np.finfo(np.float32).tiny))
        loss = np.sum(np.where(counts, losses, 0), axis=1) / number
        metrics[mode] = {
            "accuracy": float(right.mean()),
            "ci95": float(interval(right)),
            "loss": float(loss.mean()),
        }
    return metrics


def describe(values: Mapping[str, Any]) -> list[str]:
    """The headline of each mode as text: "transductive 98.12% ± 0.31% (600 episodes, ...)"."""
    lines = [f"{mode} {headline(values[mode])} ({protocol(values)})" for mode in MODES]
    if values[MODES[0]] == values[MODES[1]]:
        # The model has no batch statistics.
        lines = [f"transductive and inductive {lines[0].removeprefix(MODES[0]).lstrip()}"]
    lines += best_steps(values)
    ensemble = values.get("ensemble")
    if ensemble is not None:
        steps = ", ".join(map(str, ensemble["checkpoints"]))
        lines += [
            f"ensemble of the checkpoints of steps {steps}: {mode} {headline(ensemble[mode])}"
            for mode in MODES
        ]
    return lines


def best_steps(values: Mapping[str, Any]) -> list[str]:
    """For each mode whose last step is not the best, the results after each step as a line."""
    shown = MODES[:1] if values[MODES[0]] == values[MODES[1]] else MODES
    lines = []
    for mode in shown:
        means = np.asarray(values[mode]["per_step"], np.float64)
        if not np.isfinite(means).all():
            continue
        fraction = "accuracy" in values[mode]
        best = int(means.argmax() if fraction else means.argmin())
        if means[best] == means[-1]:
            continue
        name = "accuracy" if fraction else "squared error"
        each = ", ".join(f"{mean:.2%}" if fraction else f"{mean:.4g}" for mean in means)
        of_mode = f"{mode} " if len(shown) > 1 else ""
        lines.append(
            f"{of_mode}{name} after 0 to {len(means) - 1} steps: {each}; step {best} is the best,"
            " not the last"
        )
    return lines


def headline(mode: Mapping[str, Any]) -> str:
    """``"98.12% ± 0.31%"``, or for regression ``"mean squared error 0.351 ± 0.022"``."""
    if "accuracy" in mode:
        return f"{mode['accuracy']:.2%} ± {mode['ci95']:.2%}"
    return f"mean squared error {mode['loss']:.4g} ± {mode['ci95']:.2g}"


def protocol(values: Mapping[str, Any]) -> str:
    """The sizes of an episode: ``"600 episodes, 5-way 1-shot, 15 queries per class"``."""
    words = []
    if "episodes" in values:
        words.append(f"{values['episodes']} episode{'' if values['episodes'] == 1 else 's'}")
    size = [
        f"{_span(values[key])}-{word}"
        for key, word in (("ways", "way"), ("shots", "shot"))
        if key in values
    ]
    words.append(" ".join(size))
    per = " per class" if "ways" in values else ""
    words.append(f"{values['queries']} quer{'y' if values['queries'] == 1 else 'ies'}{per}")
    return ", ".join(words)


def table(values: Mapping[str, Any]) -> list[str]:
    """The results of each mode after each step, as lines of a table with one step per line."""
    shown = MODES[:1] if values[MODES[0]] == values[MODES[1]] else MODES
    modes = [values[mode] for mode in shown]
    fraction = "accuracy" in modes[0]
    name = "accuracy" if fraction else "squared error"
    heads = [f"{mode} {name}" for mode in shown] if len(shown) > 1 else [name]
    lines = [f"{'steps':>5}" + "".join(f"{head:>28}" for head in heads)]
    for step in range(values["test_steps"] + 1):
        cells = []
        for mode in modes:
            value, width = mode["per_step"][step], mode["per_step_ci95"][step]
            cells.append(f"{value:.2%} ± {width:.2%}" if fraction else f"{value:.4g} ± {width:.2g}")
        lines.append(f"{step:>5}" + "".join(f"{cell:>28}" for cell in cells))
    return lines


def _span(value: Any) -> str:
    return f"{value[0]} to {value[1]}" if isinstance(value, list | tuple) else str(value)
