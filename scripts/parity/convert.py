"""PyTorch modules' weights and activations under vitjax's names and layouts."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Arrays = dict[str, np.ndarray]

_LEAVES = {
    "weight": "kernel",
    "gamma": "scale",
    "running_mean": "mean",
    "running_var": "var",
}


def _leaf(module: torch.nn.Module, name: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    """A parameter's name and layout: kernels are (height, width, in, out) or (in, out)."""
    if name == "weight" and value.ndim == 1:
        return "scale", value
    if name == "weight" and value.ndim == 4:
        return "kernel", value.transpose(2, 3, 1, 0)
    if name == "weight" and value.ndim == 2:
        return "kernel", value.T
    return _LEAVES.get(name, name), value


def _leaves(model: torch.nn.Module) -> Any:
    """All (module path, vitjax leaf name, value)."""
    for path, module in model.named_modules():
        tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        for name, tensor in tensors:
            if name != "num_batches_tracked":
                leaf, value = _leaf(module, name, tensor.detach().numpy())
                yield path, leaf, value


def resnet(model: torch.nn.Module) -> Arrays:
    """The parameters and batch statistics of a timm ResNet or ResNetV2, or of SmallImageNet."""

    def counted(match: re.Match[str]) -> str:
        first = 0 if match[1] == "layer" else 1
        return f"stage{int(match[2]) + first}_block{int(match[4]) + 1}"

    names: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
        (r"^(?:conv1|stem\.conv)$", "stem_conv"),
        (r"^bn1$", "stem_norm"),
        (r"^norm$", "final_norm"),
        (r"^(?:fc|head\.fc)$", "head"),
        (r"^(layer|stages\.)(\d+)(\.blocks)?\.(\d+)", counted),
        (r"\.downsample\.(?:0|conv)$", "/shortcut_conv"),
        (r"\.downsample\.(?:1|norm)$", "/shortcut_norm"),
        (r"\.bn(\d)$", r"/norm\1"),
        (r"\.", "/"),
    ]
    found: Arrays = {}
    for path, leaf, value in _leaves(model):
        new = path
        for pattern, replacement in names:
            new = re.sub(pattern, replacement, new)
        if new == "head" and value.ndim == 4:  # timm's ResNetV2 has a 1 x 1 convolution as head
            value = value[0, 0]
        collection = "batch_stats" if leaf in ("mean", "var") else "params"
        found[f"{collection}/{new}/{leaf}"] = value
    return found


def plain(model: torch.nn.Module) -> Arrays:
    """The parameters and batch statistics of a model whose modules bear vitjax's names."""
    found: Arrays = {}
    for path, leaf, value in _leaves(model):
        collection = "batch_stats" if leaf in ("mean", "var") else "params"
        parts = [collection, *path.split("."), leaf] if path else [collection, leaf]
        found["/".join(parts)] = value
    return found


def watch_resnet(model: torch.nn.Module) -> Arrays:
    """A dict that the next forward pass of a residual network fills with intermediates."""
    found: Arrays = {}

    def keep(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: torch.Tensor) -> None:
            found[name] = output.detach().numpy().transpose(0, 2, 3, 1)

        return hook

    stages = [m for n, m in model.named_modules() if re.fullmatch(r"layer\d|stages\.\d", n)]
    for number, stage in enumerate(stages, start=1):
        blocks = getattr(stage, "blocks", stage)
        if len(blocks) > 1:
            blocks[0].register_forward_hook(keep(f"stage{number}_block1/output"))
        if number < len(stages) or not hasattr(model, "norm"):
            stage.register_forward_hook(keep(f"stage{number}"))
    pool = model.maxpool if hasattr(model, "maxpool") else getattr(model, "stem", None)
    if pool is not None:
        pool.register_forward_hook(keep("stem"))
    return found
