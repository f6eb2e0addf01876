"""The readers of what strangers supply, each with valid inputs to start from."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.serialization
import h5py
import ml_collections
import numpy as np
import pyarrow.parquet
from PIL import Image

from vitjax import weights
from vitjax.config.overrides import override, parse_value
from vitjax.core.file_lists import find_images
from vitjax.data import mask_files
from vitjax.data.creation import recall
from vitjax.data.image_files import measure, read_image
from vitjax.data.sources import SOURCES, tables
from vitjax.data.transforms import pipeline
from vitjax.training import checks, formats, logging, saved_progress, workdir
from vitjax.training.checkpoint_files import ReadableSteps
from vitjax.training.resuming import Patience
from vitjax.training.settings import EarlyStopping
from vitjax.weights.formats import files

# Of the file or the workdir that is read: rare, so that an error that has it names the file.
STEM = "xqzfuzz"
FIXTURES = Path(__file__).resolve().parents[2] / "tests" / "weights" / "fixtures"
TENSORFLOW_INDEX = FIXTURES / "tf_maml.index"
TENSORFLOW_DATA = FIXTURES / "tf_maml.data-00000-of-00001"
ARRAYS: dict[str, np.ndarray] = {
    "encoder.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "encoder.bias": np.zeros(2, np.float16),
    "steps": np.asarray(7, np.int64),
}


class Target(NamedTuple):
    """A reader.

    Attributes:
        seeds: makes valid inputs.
        read: reads the file at a path.
        suffix: of the file.
        packed: what the file holds for an input, where checksums would hide the damage otherwise.
        named: whether errors have to name the file.
    """

    seeds: Callable[[], Iterable[bytes]]
    read: Callable[[Path], Any]
    suffix: str = ""
    packed: Callable[[bytes], bytes] = bytes
    named: bool = True


def _fixtures(pattern: str) -> Callable[[], Iterable[bytes]]:
    paths = sorted(FIXTURES.glob(pattern), key=lambda path: path.stat().st_size)[:8]
    return lambda: [path.read_bytes() for path in paths]


def _written(suffix: str) -> Callable[[], Iterable[bytes]]:
    def write() -> Iterable[bytes]:
        path = Path(f"arrays{suffix}")
        files.write(path, ARRAYS, metadata={"note": "of a test"})
        yield path.read_bytes()

    return write


def _read_weights(path: Path) -> None:
    files.metadata(path)
    files.read(path)


def _open_weights(path: Path) -> None:
    opened = weights.open_weights(path, say=lambda words: None)
    weights.module_of(opened, say=lambda words: None)


def _pickles() -> Iterable[bytes]:
    for path in sorted(FIXTURES.glob("torch_*.pth")):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                name = next(n for n in archive.namelist() if n.endswith("/data.pkl"))
                yield archive.read(name)


def _with_pickle(content: bytes) -> bytes:
    """A checkpoint of PyTorch whose list of tensors is ``content``."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for key in range(4):
            archive.writestr(f"archive/data/{key}", bytes(256))
    return file.getvalue()


def _array_files() -> Iterable[bytes]:
    for array in ARRAYS.values():
        file = io.BytesIO()
        np.save(file, array)
        yield file.getvalue()


def _with_array(content: bytes) -> bytes:
    """An .npz file whose array is ``content``."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("encoder.weight.npy", content)
    return file.getvalue()


def _notes() -> Iterable[bytes]:
    for path in sorted(FIXTURES.glob("exported_*.safetensors")):
        yield json.dumps(files.metadata(path)).encode()


def _with_note(content: bytes) -> bytes:
    """A file that vitjax exported, whose metadata are ``content``."""
    exported = (FIXTURES / "exported_vit.safetensors").read_bytes()
    length = int.from_bytes(exported[:8], "little")
    header = json.loads(exported[8 : 8 + length])
    try:
        metadata = json.loads(content)
    except (ValueError, RecursionError):
        metadata = content.decode("latin1")
    if not isinstance(metadata, dict):
        metadata = {"vitjax": metadata}
    header["__metadata__"] = {
        key: value if isinstance(value, str) else str(value) for key, value in metadata.items()
    }
    changed = json.dumps(header).encode()
    return len(changed).to_bytes(8, "little") + changed + exported[8 + length :]


def _images(format: str, modes: Iterable[str] = ("RGB", "L")) -> Callable[[], Iterable[bytes]]:
    def draw() -> Iterable[bytes]:
        pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
        for mode in modes:
            file = io.BytesIO()
            Image.fromarray(pixels).convert(mode).save(file, format)
            yield file.getvalue()

    return draw


def _flax() -> Iterable[bytes]:
    yield flax.serialization.msgpack_serialize({"params": {"encoder": ARRAYS}})


def _keras() -> Iterable[bytes]:
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        group = content.create_group("encoder")
        for name, array in ARRAYS.items():
            group.create_dataset(name, data=array)
    yield file.getvalue()


def _shards() -> Iterable[bytes]:
    weight_map = dict.fromkeys(ARRAYS, "arrays.safetensors")
    yield json.dumps({"metadata": {"total_size": 96}, "weight_map": weight_map}).encode()


def _read_shards(path: Path) -> None:
    if not (beside := path.with_name("arrays.safetensors")).exists():
        files.write(beside, ARRAYS)
    _read_weights(path)


def _read_index(path: Path) -> None:
    shutil.copy(TENSORFLOW_DATA, path.with_suffix(".data-00000-of-00001"))
    _read_weights(path)


def _read_data(path: Path) -> None:
    index = path.with_name(f"{STEM}.index")
    shutil.copy(TENSORFLOW_INDEX, index)
    _read_weights(index)


def _parquet() -> Iterable[bytes]:
    file = io.BytesIO()
    rows = {"path": ["a.png", "b.png"], "label": ["cat", "dog"], "weight": [0.5, None]}
    pyarrow.parquet.write_table(pyarrow.table(rows), file)
    yield file.getvalue()


def _data_arrays() -> Iterable[bytes]:
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8)
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, x_train=images, y_train=np.arange(6) % 2)
        yield file.getvalue()


def _read_image(path: Path) -> None:
    for channels in (1, 3):
        read_image(path, channels, max_pixels=10**6)
    measure(path, max_pixels=10**6)


def _read_mask(path: Path) -> None:
    mask_files.read_mask(path, max_pixels=10**6)


def _read_list(path: Path) -> None:
    path.with_name("a.png").touch()
    find_images([], [path])


def _text(*texts: str) -> Callable[[], Iterable[bytes]]:
    return lambda: [text.encode() for text in texts]


def _read_override(path: Path) -> None:
    text = path.read_bytes().decode(errors="surrogateescape")
    parse_value(text)
    config = ml_collections.ConfigDict({"model": {"name": "vit", "depth": 2}, "seed": 0})
    override(config, [f"--config.{text}"])


def _read_pipeline(path: Path) -> None:
    pipeline.parse(path.read_bytes().decode(errors="surrogateescape"))


def _in_workdir(name: str, read: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Reads a file as the one called ``name`` in a workdir."""

    def run(path: Path) -> None:
        folder = path.parent / f"{STEM}_run"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        path.replace(folder / name)
        read(folder)

    return run


def _read_data_json(folder: Path) -> None:
    found = workdir.read_data(folder)
    if found is not None:
        recall(found, source="digits", batch_size=2, where=str(folder / workdir.DATA))


def _list_checkpoints(folder: Path) -> None:
    """Lists the checkpoint of step 1 as Orbax does, which reads its metrics and times."""
    listed = ReadableSteps()
    for step in listed.find_all(folder):
        _ = step.commit_timestamp
    path = folder / _METRICS
    if not listed.damaged and path.exists():
        values = formats.metrics(json.loads(path.read_text()))
        json.dumps(values)


def _read_progress(path: Path) -> None:
    """Reads ``progress`` of a checkpoint as it is, without the digest that would refuse it."""
    content = path.read_bytes().decode(errors="replace")
    try:
        progress = json.loads(content)
    except (ValueError, RecursionError):
        return  # Orbax raises it, which makes the checkpoint a damaged one
    if isinstance(progress, dict):
        saved_progress.check(progress)
        rule = EarlyStopping(patience=2)
        Patience.saved(progress, rule).used_up(rule)
        checks.same_data(progress.get("data"), _IDENTITY, accept=True)


_CONFIG: Mapping[str, Any] = {
    "seed": 0,
    "model": {"name": "vit_ti16", "depth": 2},
    "data": {"source": "digits", "batch_size": 64},
    "train": {"epochs": 2.0},
}
_DATA: Mapping[str, Any] = {
    "class_names": ["0", "1"],
    "examples": {"train": 14, "val": 2},
    "image": {"shape": [8, 8, 1], "dtype": "uint8"},
}
_IDENTITY: Mapping[str, Any] = {
    "train": {"examples": 3, "digest": "ab", "folders": {"a": [3, "cd"]}, "labels": "ef"},
}
_PROGRESS: Mapping[str, Any] = {
    **{"next_batch": 3, "best": 0.5, "evaluations_since_best": 1, "stopping_metric": "val/loss"},
    "clock": {"seconds": 1.5, "steady_steps": 2, "steady_seconds": 0.5},
    **{"skipped": {"a.png": "cut"}, "init": None, "data": _IDENTITY},
    "data_changes": [{"step": 2, "change": "train has 11"}],
    "classes": {"names": "ab", "stored": "cd"},
}
_METRICS = "1/metrics/metrics"
_TIMES: Mapping[str, Any] = {
    "item_handlers": {"state": "StandardCheckpointHandler"},
    **{"metrics": {}, "performance_metrics": {}, "custom_metadata": {}},
    **{"init_timestamp_nsecs": 10**18, "commit_timestamp_nsecs": 10**18},
}
_RECORDS = """\
{"step": 1, "split": "train", "loss": 2.5}
{"step": 2, "split": "val", "iou_per_class": [1, null]}
"""
_TRANSFORMS = "resize(32) | random_affine(degrees=10, translate=0.1) | flip"

TARGETS: dict[str, Target] = {
    "npz": Target(_written(".npz"), _read_weights, ".npz"),
    "npy": Target(_array_files, _read_weights, ".npz", _with_array),
    "safetensors": Target(_written(".safetensors"), _read_weights, ".safetensors"),
    "pth": Target(_fixtures("torch_*zip*.pth"), _read_weights, ".pth"),
    "old_pth": Target(_fixtures("torch_old*.pth"), _read_weights, ".pth"),
    "pickle": Target(_pickles, _read_weights, ".pth", _with_pickle),
    "recognition": Target(_fixtures("*.safetensors"), _open_weights, ".safetensors"),
    "note": Target(_notes, _open_weights, ".safetensors", _with_note),
    "tensorflow_index": Target(_fixtures(TENSORFLOW_INDEX.name), _read_index, ".index"),
    "tensorflow_data": Target(_fixtures(TENSORFLOW_DATA.name), _read_data, ".data-00000-of-00001"),
    "flax": Target(_flax, _read_weights, ".msgpack"),
    "keras": Target(_keras, _read_weights, ".h5"),
    "shards": Target(_shards, _read_shards, ".safetensors.index.json"),
    "png": Target(_images("PNG", ("RGB", "L", "P", "1", "I;16", "RGBA")), _read_image, ".png"),
    "jpeg": Target(_images("JPEG"), _read_image, ".jpg"),
    "webp": Target(_images("WEBP"), _read_image, ".webp"),
    "tiff": Target(_images("TIFF", ("RGB", "L", "P", "F")), _read_image, ".tif"),
    "gif": Target(_images("GIF", ("L", "P")), _read_image, ".gif"),
    "bmp": Target(_images("BMP", ("RGB", "L", "P", "1")), _read_image, ".bmp"),
    "mask": Target(_images("PNG", ("L", "P", "1")), _read_mask, ".png"),
    "table": Target(
        _text("path,label,split\na.png,cat,train\nb.png,dog,val\n", 'path\tlabel\n"a\tb"\tc\n'),
        lambda path: tables.read_table(str(path)),
        ".csv",
    ),
    "parquet": Target(_parquet, lambda path: tables.read_table(str(path)), ".parquet"),
    "arrays": Target(_data_arrays, lambda path: SOURCES.create("npz", path=str(path)), ".npz"),
    "file_list": Target(
        _text("a.png\n", "*.png\n# b\n", "c/**/*.jpg\0./@d\0"),
        _read_list,
        named=False,  # an error names the entry
    ),
    "override": Target(
        _text("model.depth=3", "model=vit_ti16", "data.classes=['a', 1.5]", "x={'a': nan}"),
        _read_override,
        named=False,
    ),
    "transforms": Target(_text(_TRANSFORMS), _read_pipeline, named=False),
    "workdir_json": Target(
        _text('{"format": 2}'), _in_workdir(workdir.ABOUT, workdir.check_format)
    ),
    "progress": Target(_text(json.dumps(_PROGRESS)), _read_progress, named=False),
    "step_metrics": Target(
        _text('{"val/loss": 1.5, "val/iou_1": null}'), _in_workdir(_METRICS, _list_checkpoints)
    ),
    "step_times": Target(
        _text(json.dumps(_TIMES)), _in_workdir("1/_CHECKPOINT_METADATA", _list_checkpoints)
    ),
    "config_json": Target(
        _text(json.dumps(_CONFIG)), _in_workdir(workdir.CONFIG, workdir.read_config)
    ),
    "data_json": Target(_text(json.dumps(_DATA)), _in_workdir(workdir.DATA, _read_data_json)),
    "metrics": Target(
        _text(_RECORDS),
        _in_workdir("metrics.jsonl", lambda folder: list(logging.read(folder / "metrics.jsonl"))),
    ),
}
