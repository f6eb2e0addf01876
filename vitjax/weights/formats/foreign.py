"""Files and folders that are not read: what they are, and how their weights are taken out."""

from __future__ import annotations

import re
from pathlib import Path

from vitjax.weights.errors import WeightsError

# The first bytes of other files that are taken for weights.
_OTHERS = (
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
    (b"\x93NUMPY", "a single array (.npy); weights are several arrays with names (.npz)"),
    (b"GGUF", "a GGUF file, a format for language models"),
    (b"7z\xbc\xaf", "compressed with 7-Zip; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it first"),
)
_ONNX = """an ONNX graph; take its weights out, if the exporter kept their names:
  import numpy, onnx
  tensors = onnx.load("model.onnx").graph.initializer
  numpy.savez("model.npz", **{t.name: onnx.numpy_helper.to_array(t) for t in tensors})"""
_TFLITE = (
    "a TFLite file, a compiled graph, in which layers are merged and have lost their names: take"
    " the model that it was made from"
)
_ORBAX = """a checkpoint of Orbax; write its arrays to a file:
  import numpy, orbax.checkpoint
  from flax.traverse_util import flatten_dict
  tree = orbax.checkpoint.StandardCheckpointer().restore({path!r})
  numpy.savez("model.npz", **flatten_dict(tree, sep="/"))"""
_DCP = """a distributed checkpoint of PyTorch; write it to one file, where PyTorch is:
  python -m torch.distributed.checkpoint.format_utils dcp_to_torch {path} model.pth"""
TORCHSCRIPT = """is a program (TorchScript), not a state dict: save its state_dict() with PyTorch:
  import torch
  torch.save(torch.jit.load("model.pt", map_location="cpu").state_dict(), "model.pth")"""

# As Hugging Face's libraries name the parts of a model; fold-1-of-5.pth is a file of its own.
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.\w+)$")


def seems(begin: bytes, size: int) -> str:
    """What a file of ``size`` bytes that starts with ``begin`` may be, in words."""
    text = begin.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page: the address is of a page about the file, or requires a login"
    if begin.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS in place of the file: run 'git lfs pull' in its folder"
    for magic, words in _OTHERS:
        if begin.startswith(magic):
            return words
    if begin[4:8] == b"TFL3":
        return _TFLITE
    # The version of its format, then the name of the program that wrote it.
    if re.match(rb"\x08[\x01-\x20][\x12\x1a:B]", begin):
        return _ONNX
    if begin[257:262] == b"ustar":
        return "a tar archive, which PyTorch wrote before 0.1.10 and data sets use: unpack it"
    if begin.startswith(b"\x80"):
        return "a pickle of something other than PyTorch's tensors, which is never unpickled"
    return f"an unknown file of {size:,} bytes that begins with {begin[:16]!r}"


def folder(path: Path) -> str | None:
    """What a folder without a file of weights is, in words; None if nothing shows it."""
    names = {item.name for item in path.iterdir()}
    if "checkpoints" in names:
        return f"the folder of a run; vitjax export --workdir={path} exports its weights"
    if ".metadata" in names and any(name.endswith(".distcp") for name in names):
        return _DCP.format(path=path)
    if "_CHECKPOINT_METADATA" in names or "manifest.ocdbt" in names or "_METADATA" in names:
        return _ORBAX.format(path=str(path.absolute()))
    return None


def index_of_shard(path: Path) -> Path | None:
    """The index of the file ``path`` if it is one of several; None if it is a file of its own.

    Raises:
        WeightsError: it is one of several, without their index.
    """
    match = _SHARD.fullmatch(path.name)
    if match is None or int(match[3]) < 2:
        return None
    index = path.with_name(f"{match[1]}{match[4]}.index.json")
    if index.is_file():
        return index
    raise WeightsError(
        f"{path}: is part {int(match[2])} of {int(match[3])} of a model; put the other parts and"
        f" their index, {index.name}, beside it, and give the folder"
    )
