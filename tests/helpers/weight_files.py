"""A small valid file of weights in every format that is read, for tests that damage them."""

import functools
import json
import shutil
import tempfile
import zipfile
from pathlib import Path

import flax.serialization
import flax.traverse_util
import ml_dtypes
import numpy as np

from vitjax import weights
from vitjax.core.errors import UserError
from vitjax.weights.formats import files, keras

FIXTURES = Path(__file__).parents[1] / "weights" / "fixtures"
_DATA = "tf_maml.data-00000-of-00001"


def _arrays():
    generator = np.random.default_rng(0)
    return {
        "stem/kernel": generator.normal(size=(3, 3, 3, 4)).astype(np.float32),
        "stem/bias": np.zeros(4, np.float16),
        "head/kernel": generator.normal(size=(4, 5)).astype(ml_dtypes.bfloat16),
        "step": np.int64(3),
    }


def _written(suffix, folder):
    files.write(folder / f"w{suffix}", _arrays(), metadata={"writer": "a test"})
    return folder / f"w{suffix}", folder / f"w{suffix}"


def _deflated(folder):
    np.savez_compressed(folder / "w.npz", **_arrays())
    return folder / "w.npz", folder / "w.npz"


def _fixture(name, folder):
    shutil.copy(FIXTURES / name, folder)
    return folder / name, folder / name


def _msgpack(folder):
    tree = flax.traverse_util.unflatten_dict(_arrays(), sep="/")
    (folder / "w.msgpack").write_bytes(flax.serialization.to_bytes({"params": tree, "epoch": 3}))
    return folder / "w.msgpack", folder / "w.msgpack"


def _tensorflow(damaged, folder):
    for name in ("tf_maml.index", _DATA):
        shutil.copy(FIXTURES / name, folder)
    return folder / "tf_maml.index", folder / damaged


def _keras(archived, folder):
    import h5py

    with h5py.File(folder / "w.h5", "w") as file:
        for name, array in _arrays().items():
            if array.dtype != ml_dtypes.bfloat16:
                file[f"model_weights/{name}:0"] = array
        kernel = np.ones((8, 8), np.float32)
        file.create_dataset("dense/kernel:0", data=kernel, chunks=(4, 4), compression="gzip")
    if not archived:
        return folder / "w.h5", folder / "w.h5"
    with zipfile.ZipFile(folder / "w.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "w.h5", keras.WEIGHTS)
    return folder / "w.keras", folder / "w.keras"


def _sharded(damaged, folder):
    places = {}
    for number, (name, array) in enumerate(_arrays().items()):
        places[name] = f"model-{number}.safetensors"
        files.write(folder / places[name], {name: array})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index, folder / damaged


def _carded(folder):
    """A file of weights with the two JSON files of its repository."""
    shutil.copy(FIXTURES / "torchvision_basic.pth", folder / "pytorch_model.bin")
    card = {"architecture": "resnet18", "num_classes": 5, "pretrained_cfg": {"mean": [0, 0, 0]}}
    (folder / "config.json").write_text(json.dumps(card))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0, 0, 0]}))
    return folder, folder / "config.json"


# Format: a function that writes a valid file, or several, to a folder. It returns the path to read
# and that of the file to damage.
FORMATS = {
    "npz": functools.partial(_written, ".npz"),
    "npz, deflated": _deflated,
    "safetensors": functools.partial(_written, ".safetensors"),
    "pth": functools.partial(_fixture, "torch_zip.pth"),
    "pth of a training": functools.partial(_fixture, "torch_zip_training.pth"),
    "pth, written here": functools.partial(_written, ".pth"),
    "old pth": functools.partial(_fixture, "torch_old.pth"),
    "old pth of a training": functools.partial(_fixture, "torch_old_training.pth"),
    "TorchScript": functools.partial(_fixture, "torch_script.pt"),
    "msgpack": _msgpack,
    "tensorflow, table": functools.partial(_tensorflow, "tf_maml.index"),
    "tensorflow, numbers": functools.partial(_tensorflow, _DATA),
    "h5": functools.partial(_keras, False),
    "keras": functools.partial(_keras, True),
    "index": functools.partial(_sharded, "model.safetensors.index.json"),
    "shard": functools.partial(_sharded, "model-0.safetensors"),
    "card": _carded,
}


def answer(path):
    """What reading ``path`` in every way gives: the arrays, or the messages of the errors.

    Any exception that is no UserError passes through.
    """
    found, messages = {}, []
    for read in (
        files.read,
        files.metadata,
        files.sha256,
        functools.partial(weights.open_weights, say=lambda words: None),
    ):
        try:
            result = read(files.located(Path(path)) if read is files.sha256 else path)
        except UserError as error:
            messages.append(str(error))
        else:
            found = result if read is files.read else found
    return found, messages


def read_content(content, name="w"):
    """`answer` for a file with this content, for a fuzzer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        return answer(path)
