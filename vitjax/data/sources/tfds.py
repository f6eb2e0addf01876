"""A source over data sets that TensorFlow Datasets prepared, without importing TensorFlow."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vitjax.core.paths import expanded
from vitjax.core.text import near_match
from vitjax.core.validation import PositiveInt
from vitjax.data.errors import CorruptImage, DataError
from vitjax.data.identity import File, Identified, Identity, of_files
from vitjax.data.image_files import decode_image
from vitjax.data.image_formats import MAX_PIXELS
from vitjax.data.sample import Sample
from vitjax.data.sources.base import Source, register

_LABELS_AT_ONCE = 4096


class TfdsSplit(Identified):
    """A `LabelledSplit` over one split of a prepared data set, opened at the first read."""

    def __init__(
        self,
        folder: str,
        split: str,
        image_key: str,
        label_key: str,
        channels: int,
        where: str,
        max_pixels: int = MAX_PIXELS,
    ):
        self._settings = (folder, split, image_key, label_key, channels, where, max_pixels)
        self._folder, self._split, self._image_key, self._label_key = self._settings[:4]
        self._channels, self._where, self._max_pixels = self._settings[4:]
        self._lock = threading.Lock()
        self._open: Any = None
        self._labels: np.ndarray | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Open files cannot be sent to worker processes; each one opens its own.
        return TfdsSplit, self._settings

    @property
    def origin(self) -> str:
        """What TFDS calls the split."""
        return self._split

    def _records(self) -> Any:
        with self._lock:
            if self._open is None:
                from tensorflow_datasets.core.decode import DeserializeMethod

                self._open = self._builder().as_data_source(
                    split=self._split, deserialize_method=DeserializeMethod.RAW_BYTES
                )
        return self._open

    def _builder(self) -> Any:
        import tensorflow_datasets

        return tensorflow_datasets.builder_from_directory(self._folder)

    def __len__(self) -> int:
        return len(self._records())

    @property
    def labels(self) -> np.ndarray:
        """Class indices, int32 of shape (len(self),); the first access reads the complete split.

        No image is decoded; a million examples take about half a minute.
        """
        if self._labels is None:
            records, labels = self._records(), []
            for start in range(0, len(records), _LABELS_AT_ONCE):
                rows = range(start, min(start + _LABELS_AT_ONCE, len(records)))
                labels += [
                    _features(record)[self._label_key].int64_list.value[0]
                    for record in records.__getitems__(rows)
                ]
            self._labels = np.asarray(labels, np.int32)
        return self._labels

    def read(self, index: int) -> Sample:
        """The sample at ``index``; its image is uint8."""
        name = self.name(index)
        try:
            features = self.features(index)
            content = features[self._image_key].bytes_list.value[0]
            label = int(features[self._label_key].int64_list.value[0])
        except Exception as error:  # of any type that array_record and protobuf raise
            raise CorruptImage(f"{name}: cannot be read: {error}") from error
        image = decode_image(content, self._channels, name, max_pixels=self._max_pixels)
        return Sample(image, label)

    def features(self, index: int) -> Any:
        """The stored features of the example at ``index``, as protobuf has them."""
        return _features(self._records()[index])

    def name(self, index: int) -> str:
        """The data set, split and row."""
        return f"{self._where}, split {self._split!r}, example {index}"

    def identity(self) -> Identity:
        """The version of the data set, and which records of which files are the split."""
        info = self._builder().info
        note = f"{info.full_name} {self._split}"
        parts = info.splits[self._split].file_instructions
        files = [
            File(part.filename, f"{note} {part.skip} {part.take} {part.examples_in_shard}")
            for part in parts
        ]
        return of_files(files, self._folder)


def _features(record: bytes) -> Any:
    # Ten times as fast as TFDS's own decoding, even where that skips the image; `labels` is cheap
    # because of it.
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example.FromString(record).features.feature


@register("tfds")
def tfds(
    dataset: str,
    data_dir: str = "~/tensorflow_datasets",
    splits: Mapping[str, str] | None = None,
    image_key: str = "image",
    label_key: str = "label",
    max_pixels: PositiveInt = MAX_PIXELS,
) -> Source:
    """A data set that TensorFlow Datasets has prepared as array_record files.

    TFDS prepares it with TensorFlow, once and on any machine; reading needs neither. Classes have
    TFDS's names; those of Omniglot have its folders' names, such as "Greek/character01".

    Args:
        dataset: "name", "name/config", or either with ":version"; default: the newest version.
        data_dir: where TFDS prepared it: the folder that holds ``name/``.
        splits: our split names to TFDS's, which may be slices and sums:
            ``{"train": "train[:90%]", "val": "train[90%:]", "test": "test"}``. None takes those
            of ``train``, ``validation`` (as ``val``) and ``test`` that exist.
        image_key: the feature that is the image.
        label_key: the feature that is the class.
        max_pixels: the pixels of the largest image that is read.

    Raises:
        DataError: the data set is not prepared in ``data_dir`` (the message gives the command that
            prepares it), a split does not exist, or a feature is missing or of the wrong kind.
    """
    where = f"tfds {dataset}"
    folder, info = find_prepared(dataset, data_dir, where)
    _check_features(info.features, image_key, label_key, where)
    channels = 1 if info.features[image_key].shape[-1] == 1 else 3
    made = {
        ours: TfdsSplit(folder, theirs, image_key, label_key, channels, where, max_pixels)
        for ours, theirs in chosen_splits(info, splits, where).items()
    }
    for ours, split in made.items():
        check_split(split, ours, info, where)
    label = info.features[label_key]
    if getattr(label, "num_classes", None):
        names = [str(n) for n in label.names]
        if info.name == "omniglot" and label_key == "label":
            names = [_omniglot_name(name) for name in names]
        return Source(made, tuple(names))
    top = max(int(split.labels.max()) for split in made.values())
    return Source(made, tuple(str(c) for c in range(top + 1)))


def find_prepared(dataset: str, data_dir: str, where: str) -> tuple[str, Any]:
    """The folder of a prepared data set, and its TFDS info.

    Raises:
        DataError: it does not exist, cannot be read, or is not in array_record files; ``where``
            begins the message.
    """
    folder = _find(dataset, expanded(data_dir))
    import tensorflow_datasets

    try:
        info = tensorflow_datasets.builder_from_directory(folder).info
    except Exception as error:
        raise DataError(f"{where}: {folder} cannot be read: {error}") from error
    if str(getattr(info.file_format, "value", "")) != "array_record":
        raise DataError(
            f"{where}: {folder} holds {info.file_format} files, which cannot be read in any order."
            f" {_how_to_prepare(dataset, data_dir)}"
        )
    return folder, info


def chosen_splits(info: Any, splits: Mapping[str, str] | None, where: str) -> dict[str, str]:
    """Our split names to TFDS's: those asked for, or the usual ones that exist.

    Raises:
        DataError: no split exists, or two are the same.
    """
    if splits is None:
        usual = {"train": "train", "val": "validation", "test": "test"}
        chosen = {ours: theirs for ours, theirs in usual.items() if theirs in info.splits}
    else:
        chosen = {str(ours): str(theirs) for ours, theirs in splits.items()}
    if not chosen:
        raise DataError(f"{where}: give splits; the data set has {', '.join(info.splits)}")
    for ours, theirs in chosen.items():
        if (other := next(split for split in chosen if chosen[split] == theirs)) != ours:
            raise DataError(
                f"{where}: config.data.splits: {theirs!r} is {other!r} and {ours!r}; parts of it"
                f' are "{theirs}[:90%]" and "{theirs}[90%:]"'
            )
    return chosen


def check_split(split: TfdsSplit, ours: str, info: Any, where: str) -> None:
    """Opens ``split``, which the config calls ``ours``.

    Raises:
        DataError: it does not exist, or is empty.
    """
    theirs = split.origin
    try:
        length = len(split)
    except Exception as error:
        first_word = re.split(r"\W", theirs)[0]
        raise DataError(
            f"{where}: split {theirs!r} for {ours!r} cannot be read"
            f"{near_match(first_word, info.splits)} (the data set has"
            f" {', '.join(info.splits)}): {error}"
        ) from error
    if not length:
        raise DataError(f"{where}: split {theirs!r} for {ours!r} has no examples")


def _omniglot_name(name: str) -> str:
    """The folder of a character in Omniglot itself, which TFDS calls "Greek_0" for instance."""
    alphabet, _, number = name.rpartition("_")
    return f"{alphabet}/character{int(number) + 1:02d}"


def _check_features(features: Any, image_key: str, label_key: str, where: str) -> None:
    from tensorflow_datasets.core.features import Image

    for key, word in ((image_key, "image_key"), (label_key, "label_key")):
        if key not in features:
            raise DataError(
                f"{where}: no feature {key!r} ({word}){near_match(key, features)}"
                f" (it has: {', '.join(features)})"
            )
    image, label = features[image_key], features[label_key]
    if not isinstance(image, Image) or image.shape[-1] not in (1, 3, 4, None):
        raise DataError(f"{where}: the feature {image_key!r} is {image}, not a grey or RGB image")
    if image.np_dtype != np.uint8:
        raise DataError(f"{where}: images of {image.np_dtype} are not read; uint8 ones are")
    if label.shape != () or not np.issubdtype(label.np_dtype, np.integer):
        raise DataError(f"{where}: the feature {label_key!r} is {label}, not one class index")


def _prepared(data_dir: str) -> dict[str, str]:
    """What is prepared in ``data_dir``: "name:version" or "name/config:version" to folder."""
    found = {}
    root = Path(data_dir)
    for pattern in ("*/*/dataset_info.json", "*/*/*/dataset_info.json"):
        for file in sorted(root.glob(pattern)):
            name = file.parent.parent.relative_to(root).as_posix()
            found[f"{name}:{file.parent.name}"] = str(file.parent)
    return found


def _find(dataset: str, data_dir: str) -> str:
    """The folder of ``dataset`` in ``data_dir``, in its newest version if it names none."""
    prepared = _prepared(data_dir)
    name, _, version = dataset.partition(":")
    matches = [key for key in prepared if key.split(":")[0] == name]
    if version:
        matches = [key for key in matches if key == dataset]
    elif not matches and "/" not in name:
        # A name alone finds its only config.
        matches = [key for key in prepared if key.split("/")[0] == name]
        if len({key.split(":")[0] for key in matches}) > 1:
            raise DataError(f"tfds: {name!r} is prepared as {', '.join(matches)}; say which")
    if matches:
        numbers = {key: [int(n) for n in re.findall(r"\d+", key.split(":")[1])] for key in matches}
        return prepared[max(matches, key=lambda key: numbers[key])]
    names = [key.split(":")[0] for key in prepared]
    raise DataError(
        f"tfds: {dataset!r} is not prepared in {data_dir}"
        f"{near_match(dataset, [*prepared, *names])} (prepared there:"
        f" {', '.join(prepared) or 'nothing'}). {_how_to_prepare(dataset, data_dir)}"
    )


def _how_to_prepare(dataset: str, data_dir: str) -> str:
    return (
        "To prepare it, once and in any environment that has TensorFlow: pip install tensorflow"
        " tensorflow-datasets array-record importlib-resources && tfds build"
        f" {dataset} --data_dir={data_dir} --file_format=array_record"
    )
