"""The initial variables of a run: fresh, from a file of weights, or from another run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from vitjax import weights as files
from vitjax.config import to_dict
from vitjax.core.errors import ConfigError
from vitjax.core.names import check_patterns, listed, matches
from vitjax.core.paths import expanded
from vitjax.data.class_order import ClassList
from vitjax.objectives import objectives
from vitjax.training import runs, workdir
from vitjax.training.experiment import Experiment
from vitjax.training.settings import Start
from vitjax.weights.layouts import Description
from vitjax.weights.loading import flat


def variables(
    experiment: Experiment, say: Callable[[str], None] = print, *, with_head: bool = True
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The initial variables of a run, as its config's ``init`` section says.

    Args:
        experiment: the run.
        say: receives what was loaded, adapted or reinitialised.
        with_head: whether the head is used; without it, the classes of another run do not matter.

    Returns:
        The variables of the objective; and the origin of loaded weights as JSON values, or None.

    Raises:
        WeightsError: the file cannot be read, or does not fit the model.
        ConfigError: the model has no such part, a pattern matches no parameter, or the head of the
            other run has the same classes in another order.
        WorkdirError, CheckpointError: the folder of the other run holds no run, or no checkpoint.
    """
    start = experiment.start
    if start is None:
        return experiment.initial_variables(), None
    weights, origin = _read(start, experiment, with_head, say)
    objective, key = experiment.objective, experiment.initial_key
    batch = experiment.data.example_batch()
    expected = jax.eval_shape(objective.init_model, key, batch)

    @functools.cache
    def fresh() -> dict[str, Any]:
        return objective.init_model(key, batch)

    loaded: dict[str, Any] = files.fill(
        weights,
        objective.model,
        expected,
        lambda names: flat(objective.model.unstack(fresh())),
        exclude=listed(start.exclude),
        position_interpolation=start.position_interpolation,
        allow_nonfinite=start.allow_nonfinite,
        say=say,
    )
    loaded = _reinitialised(listed(start.exclude), loaded, fresh, say)
    return objective.wrap(key, loaded, batch), origin


class KnownClasses(NamedTuple):
    """The classes of the run whose head a config takes over.

    Attributes:
        classes: in the order of the head's outputs.
        data: the section ``data`` of that run's config.
    """

    classes: ClassList
    data: Mapping[str, Any]


def known_classes(config: Mapping[str, Any]) -> KnownClasses | None:
    """The classes that the head of a config's initial variables has learned.

    Args:
        config: plain sections.

    Returns:
        None unless the weights are those of another run which predicts classes in the same way.

    Raises:
        WorkdirError, ConfigError: that run's folder cannot be read.
    """
    source = _section(config, "init").get("from_checkpoint")
    if not isinstance(source, str) or not _is_run(folder := Path(expanded(source))):
        return None
    other = to_dict(runs.read_config(folder, say=lambda text: None))
    both = (other, config)
    episodic = any(_section(each, "data").get("episodes") is not None for each in both)
    names = [_section(each, "objective").get("name", "classification") for each in both]
    tasks = [objectives.lookup(name, "config.objective.name").task for name in names]
    classes = ClassList.described(workdir.read_data(folder))
    if classes is None or episodic or tasks[0] != tasks[1]:
        return None
    return KnownClasses(classes, _section(other, "data"))


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of a config; empty if there is none, or something else, which `build` reports."""
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}


def _is_run(folder: Path) -> bool:
    return (folder / workdir.DATA).is_file() or (folder / workdir.CHECKPOINTS).is_dir()


def _read(
    start: Start, experiment: Experiment, with_head: bool, say: Callable[[str], None]
) -> tuple[files.Weights, dict[str, Any]]:
    """The weights, and their origin."""
    source = start.from_checkpoint
    folder = Path(expanded(source))
    if _is_run(folder):
        if (start.format, start.grid, start.part, listed(start.ignore)) != (None, None, None, ()):
            raise ConfigError(
                "config.init: format, grid, part and ignore are for files of weights, but"
                f" {source} is the folder of a run; remove them"
            )
        return _of_run(folder, start, experiment, with_head, say)
    weights = files.open_weights(
        source,
        format=start.format,
        grid=start.grid,
        image_size=_image_size(experiment),
        part=start.part,
        ignore=listed(start.ignore),
        say=say,
    )
    origin: dict[str, Any] = {"from_checkpoint": source, "format": weights.format}
    if (digest := weights.sha256) is not None:
        origin["sha256"] = digest
    say(f"Starting from {source} ({weights.format})")
    if weights.mean is not None and weights.std is not None:
        _compare_images({"mean": weights.mean, "std": weights.std}, experiment, say)
    return weights, origin


def _of_run(
    folder: Path,
    start: Start,
    experiment: Experiment,
    with_head: bool,
    say: Callable[[str], None],
) -> tuple[files.Weights, dict[str, Any]]:
    """The weights of a run: its best checkpoint, and the moving average if it keeps one."""
    # The run's devices may not be available.
    other, placed, step = runs.load(folder, with_data=False, say=lambda text: None)
    model = other.objective.model
    own = model.unstack(other.objective.unwrap(other.parallel.to_host(placed)))
    arrays = {name: np.asarray(leaf) for name, leaf in flatten_dict(own, sep="/").items()}
    kind = "moving average" if other.settings.ema_decay is not None else "weights"
    say(f"Starting from the {kind} of step {step} of the run in {folder}")
    _compare_images({k: other.config["data"].get(k) for k in ("mean", "std")}, experiment, say)
    # A new head learns the classes of its own data.
    heads = [name for name in arrays if model.head_of(name.removeprefix("params/")) is not None]
    exclude = listed(start.exclude)
    if with_head and not all(matches(name.removeprefix("params/"), exclude) for name in heads):
        there, here = (ClassList(tuple(each.task.class_names)) for each in (other, experiment))
        alike = known_classes(experiment.config) is not None
        _compare_classes(there, here, alike, f"^{model.head_name}/", say)
    description = Description(type(model), model.described_fields(), None)
    weights = files.Weights(str(folder), arrays, None, description)
    return weights, {"from_checkpoint": str(folder), "format": "run", "step": step}


def _compare_classes(
    there: ClassList, here: ClassList, alike: bool, head: str, say: Callable[[str], None]
) -> None:
    """Reports that the outputs of a run's head become those of other classes.

    Args:
        there: the classes of the run.
        here: those of the new run.
        alike: whether both runs predict classes in the same way.
        head: the pattern of the head's parameters.
        say: receives it.

    Raises:
        ConfigError: they are the same classes in another order.
    """
    if there.names == here.names or len(there.names) != len(here.names):
        return
    lists = f"the run in config.init.from_checkpoint has {there.text()}, the data {here.text()}"
    if alike and sorted(there.names) == sorted(here.names):
        raise ConfigError(
            f"config.init: {lists}: the same classes in another order, so that each output of its"
            " head would begin as another class. Give the classes of the data the order of the"
            f" run, or make a new head: --config.init.exclude={head}"
        )
    say(
        f"  its classes differ, but are equal in number: {lists}; the head is kept, unless"
        f" config.init.exclude has {head!r}"
    )


def _image_size(experiment: Experiment) -> tuple[int, int] | None:
    """(height, width) of the run's images in pixels; None for other examples."""
    shape = np.shape(experiment.data.example_batch().get("image", ()))
    return (shape[1], shape[2]) if len(shape) == 4 else None


def _compare_images(
    there: Mapping[str, Any], experiment: Experiment, say: Callable[[str], None]
) -> None:
    """Reports differences in how images are normalised."""
    for key, value in there.items():
        here = experiment.config["data"].get(key)
        pair = [None if x is None else np.ravel(x).tolist() for x in (value, here)]
        # A single number is for all channels.
        most = max(len(x or ()) for x in pair)
        spread = [x * most if x and len(x) == 1 else x for x in pair]
        if spread[0] != spread[1]:
            say(
                "  its images were normalised differently:"
                f" config.data.{key} {pair[0]} -> {pair[1]}"
            )


def _reinitialised(
    patterns: Sequence[str],
    loaded: Mapping[str, Any],
    fresh: Callable[[], Mapping[str, Any]],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """``loaded`` with fresh values for the parameters that match ``patterns``."""
    leaves = flatten_dict(dict(loaded["params"]), sep="/")
    check_patterns(patterns, list(leaves), "config.init.exclude")
    names = [name for name in leaves if matches(name, patterns)]
    if not names:
        return dict(loaded)
    made = flatten_dict(dict(fresh()["params"]), sep="/")
    say(f"  reinitialised, by config.init.exclude: {', '.join(names)}")
    leaves |= {name: made[name] for name in names}
    return {**loaded, "params": unflatten_dict(leaves, sep="/")}
