"""What an evaluation over fixed episodes says: means over episodes and how sure they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from vitjax.meta.episodic import MODES

# Half the width of a 95% interval in standard errors of the mean, for many episodes.
_Z = 1.96

MEANING = (
    "transductive: queries are normalised by the statistics of all queries of their episode"
    " together (and of its support set, for methods that pass both at once)",
    "inductive: each query is answered as if it were alone",
)

# {mode: {"loss": (episodes, steps + 1), "accuracy": (episodes, steps + 1)}}
EpisodeMeasures = Mapping[str, Mapping[str, np.ndarray]]


def interval(values: Float[np.ndarray, "episodes *rest"]) -> Float[np.ndarray, "*rest"]:
    """Half the width of the mean's 95% interval: 1.96 s / sqrt(episodes), s with n - 1 below.

    NaN for a single episode, which says nothing about how much episodes differ.
    """
    number = len(values)
    if number < 2:
        return np.full(values.shape[1:], np.nan)
    deviation: np.ndarray = np.std(values, axis=0, ddof=1, dtype=np.float64)
    return _Z * deviation / np.sqrt(number)


def results(measures: EpisodeMeasures, protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of one split, as JSON values.

    Args:
        measures: those of every episode that counts, once.
        protocol: what an episode is like: ``ways``, ``shots``, ``queries``, as far as it has them.

    Returns:
        For each mode ``accuracy`` and its interval ``ci95`` after the last step, ``loss``, and
        ``per_step``, ``per_step_ci95`` and ``per_step_loss``, lists over 0, 1, ... steps. A
        regression has no accuracy: ``ci95``, ``per_step`` and ``per_step_ci95`` are those of its
        loss, the mean squared error. Beside the modes: ``episodes``, ``test_steps``, the protocol.
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
    """Of each mode the ``accuracy``, its ``ci95`` and the ``loss`` of averaged probabilities.

    Args:
        probabilities: of each class for each query, the mean over all members, by mode; NaN for
            classes that the episode does not show, whose queries do not count.
        targets: the class of each query.
        mask: which queries count.
    """
    worth = {}
    for mode in MODES:
        values = probabilities[mode]
        true = np.take_along_axis(values, targets[..., None], axis=-1)[..., 0].astype(np.float64)
        counts = mask & ~np.isnan(true)
        number = np.maximum(counts.sum(axis=1), 1)
        best = np.where(np.isnan(values), -1, values).argmax(axis=-1)
        right = np.sum((best == targets) & counts, axis=1) / number
        surprise = -np.log(np.maximum(true, np.finfo(np.float32).tiny))
        loss = np.sum(np.where(counts, surprise, 0), axis=1) / number
        worth[mode] = {
            "accuracy": float(right.mean()),
            "ci95": float(interval(right)),
            "loss": float(loss.mean()),
        }
    return worth


def describe(values: Mapping[str, Any]) -> list[str]:
    """The headline of each mode in words: "transductive 98.12% ± 0.31% (600 episodes, ...)"."""
    lines = [f"{mode} {headline(values[mode])} ({protocol(values)})" for mode in MODES]
    if values[MODES[0]] == values[MODES[1]]:
        # No layer has batch statistics.
        lines = [f"transductive and inductive alike {lines[0].removeprefix(MODES[0]).lstrip()}"]
    ensemble = values.get("ensemble")
    if ensemble is not None:
        steps = ", ".join(map(str, ensemble["checkpoints"]))
        lines += [
            f"ensemble of the checkpoints of steps {steps}: {mode} {headline(ensemble[mode])}"
            for mode in MODES
        ]
    return lines


def headline(mode: Mapping[str, Any]) -> str:
    """``"98.12% ± 0.31%"``, or of a regression ``"mean squared error 0.351 ± 0.022"``."""
    if "accuracy" in mode:
        return f"{mode['accuracy']:.2%} ± {mode['ci95']:.2%}"
    return f"mean squared error {mode['loss']:.4g} ± {mode['ci95']:.2g}"


def protocol(values: Mapping[str, Any]) -> str:
    """In words, what an episode is like: ``"600 episodes, 5-way 1-shot, 15 queries a class"``."""
    words = []
    if "episodes" in values:
        words.append(f"{values['episodes']} episode{'' if values['episodes'] == 1 else 's'}")
    size = [
        f"{_span(values[key])}-{word}"
        for key, word in (("ways", "way"), ("shots", "shot"))
        if key in values
    ]
    words.append(" ".join(size))
    per = " a class" if "ways" in values else ""
    words.append(f"{values['queries']} quer{'y' if values['queries'] == 1 else 'ies'}{per}")
    return ", ".join(words)


def table(values: Mapping[str, Any]) -> list[str]:
    """The course of each mode over the steps as lines of a table, a step to a line."""
    shown = MODES[:1] if values[MODES[0]] == values[MODES[1]] else MODES
    modes = [values[mode] for mode in shown]
    share = "accuracy" in modes[0]
    name = "accuracy" if share else "squared error"
    heads = [f"{mode} {name}" for mode in shown] if len(shown) > 1 else [name]
    lines = [f"{'steps':>5}" + "".join(f"{head:>28}" for head in heads)]
    for step in range(values["test_steps"] + 1):
        cells = []
        for mode in modes:
            value, width = mode["per_step"][step], mode["per_step_ci95"][step]
            cells.append(f"{value:.2%} ± {width:.2%}" if share else f"{value:.4g} ± {width:.2g}")
        lines.append(f"{step:>5}" + "".join(f"{cell:>28}" for cell in cells))
    return lines


def _span(value: Any) -> str:
    return f"{value[0]} to {value[1]}" if isinstance(value, list | tuple) else str(value)
