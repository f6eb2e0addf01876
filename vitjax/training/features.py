"""The features of all examples of a split: computed once, and cached on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Bool, Float

from vitjax.core.atomic import new_file
from vitjax.data import CorruptImage, Data, LabelledDataset
from vitjax.data.features import FeatureData
from vitjax.objectives.interfaces import Classifier
from vitjax.objectives.state import FROZEN
from vitjax.training import checks
from vitjax.training.experiment import Experiment
from vitjax.training.fingerprint import fingerprint
from vitjax.training.step import make_gather_step

# Keys of section ``data`` that change how examples are read, but not the examples.
_NO_MATTER = frozenset(("batch_size", "eval_batch_size", "workers", "train_transforms"))
_SAMPLES = 16
# The prefix of a layer's name in a file.
_LAYER = "layer/"
_REPRESENTATION = "representation"

# (variables, normalised images) -> the vectors of each layer by its name.
Vectors = Callable[[Mapping[str, Any], Any], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Features:
    """Features of all examples of a split, in its order.

    Attributes:
        layers: the vectors of each layer by its name.
        mask: False for images that could not be read and were skipped.
    """

    layers: dict[str, Float[np.ndarray, "examples width"]]
    mask: Bool[np.ndarray, "examples"]


class Extractor:
    """Computes the features of one network; it is compiled once for all splits."""

    def __init__(
        self,
        experiment: Experiment,
        variables: Any,
        vectors: Vectors,
        about: Mapping[str, Any],
        *,
        cache: Path | None = None,
        say: Callable[[str], None] = print,
    ):
        """Prepares; computes nothing.

        Args:
            experiment: has the data, whose images are transformed as in evaluation, and the
                devices.
            variables: those of the experiment's model (not of the objective), one copy.
            vectors: a pure function ``(variables, normalised images) -> {layer: vectors}``.
            about: what the function depends on, as JSON values; ``layers`` lists its layers.
            cache: the folder of cached features; None caches nothing.
            say: receives what is computed or found.
        """
        self._experiment, self._cache, self._say = experiment, cache, say
        self._data: LabelledDataset = checks.provides(
            experiment.data, LabelledDataset, "the computation of features"
        )
        model, normalize = experiment.objective.model, experiment.data.normalize
        self.layers: tuple[str, ...] = tuple(about["layers"])
        # The features do not depend on the head, so its training must not change the key.
        self._variables = {**variables, "params": model.split_head(variables["params"])[1]}
        self._about = {**about, "model": repr(model.headless())}
        parallel = experiment.parallel
        self._step = parallel.compile(
            make_gather_step(
                lambda variables, batch: vectors(variables, normalize(batch["image"])),
                axis_name=parallel.axis_name,
            )
        )

    def of(self, split: str) -> Features:
        """The features of ``split``, from the cache if they are there and intact.

        All hosts call this, and each receives all features.
        """
        path = None if self._cache is None else self._cache / f"{split}-{self._key(split)}.npz"
        found = None if path is None else _read(path, self._about["layers"], self._say)
        if jax.process_count() > 1:
            # Computing them takes all hosts.
            everywhere = multihost_utils.process_allgather(np.asarray(found is not None)).all()
            found = found if everywhere else None
        if found is None:
            found = self._compute(split)
            if path is not None and jax.process_index() == 0:
                with new_file(path) as unfinished, unfinished.open("wb") as file:
                    arrays: dict[str, Any] = {
                        _LAYER + name: array for name, array in found.layers.items()
                    }
                    np.savez(file, mask=found.mask, **arrays)
        else:
            self._say(f"Features of {split}: from {path}")
            self._note_skipped(split, found.mask)
        return found

    def _compute(self, split: str) -> Features:
        experiment, began = self._experiment, time.perf_counter()
        placed = experiment.parallel.place_state(self._variables)
        batches = experiment.data.eval_batches(
            split, process_index=jax.process_index(), process_count=jax.process_count()
        )
        with contextlib.closing(experiment.batches_ahead(batches)) as ready:
            steps = (experiment.parallel.fetch(self._step(placed, batch)) for batch in ready)
            # One at a time: all of them may not fit on a device.
            parts = list(map(jax.device_get, steps))
        # Padding follows the last example.
        count = experiment.data.num_examples(split)
        joined = jax.tree.map(lambda *arrays: np.concatenate(arrays)[:count], *parts)
        seconds = time.perf_counter() - began
        self._say(
            f"Features of {split}: {count:,} images, {len(self.layers)}"
            f" layer{'' if len(self.layers) == 1 else 's'}, computed in {seconds:.1f} s"
        )
        return Features(joined["values"], joined["mask"].astype(bool))

    def _key(self, split: str) -> str:
        """A hash of everything that the features depend on."""
        config = self._experiment.config["data"]
        about = {
            **self._about,
            "weights": fingerprint(self._variables),
            "data": {key: value for key, value in config.items() if key not in _NO_MATTER},
            "split": split,
            "images": _digest(self._data, split),
        }
        text = json.dumps(about, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _note_skipped(self, split: str, mask: np.ndarray) -> None:
        for index in np.flatnonzero(~mask).tolist():
            name = self._data.name(split, index)
            self._data.skipped.setdefault(name, f"{name}: skipped when features were computed")


def on_features(
    experiment: Experiment,
    objective: Classifier,
    variables: Mapping[str, Any],
    cache: Path,
    say: Callable[[str], None],
) -> Experiment:
    """The experiment with features, computed once, in place of its images.

    Args:
        experiment: the experiment on images.
        objective: its objective, with ``caches_features``.
        variables: those of the objective, one copy.
        cache: the folder of cached features.
        say: receives what is computed or found.
    """
    data: Data = checks.provides(experiment.data, Data, "training on cached features")

    def vectors(own: Mapping[str, Any], images: Any) -> dict[str, Any]:
        return {_REPRESENTATION: objective.features({FROZEN: own}, images)}

    about = {"layers": [_REPRESENTATION], "pooling": "mean"}
    extractor = Extractor(experiment, variables[FROZEN], vectors, about, cache=cache, say=say)
    features = {}
    for split in data.splits:
        found = extractor.of(split)
        features[split] = (found.layers[_REPRESENTATION], found.mask)
    return dataclasses.replace(experiment, data=FeatureData(data, features))


def _digest(data: LabelledDataset, split: str) -> str:
    """A checksum of the labels of ``split`` and of some of its images as evaluated."""
    count = data.num_examples(split)
    digest = hashlib.sha256(np.ascontiguousarray(data.labels(split)).tobytes())
    for index in np.linspace(0, count - 1, min(count, _SAMPLES)).astype(int).tolist():
        with contextlib.suppress(CorruptImage):
            digest.update(np.ascontiguousarray(data.example(split, index)).tobytes())
    return digest.hexdigest()


def _read(path: Path, names: Sequence[str], say: Callable[[str], None]) -> Features | None:
    """The features in a file; None if it is missing or damaged."""
    if not path.is_file():
        return None
    try:
        # Each array in the archive has a checksum, which is checked in reading.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Features({name: arrays[_LAYER + name] for name in names}, arrays["mask"])
    except Exception as error:
        say(f"{path} is damaged ({error}); its features are computed again")
        return None
