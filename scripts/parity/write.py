"""Random weights for a reference network, and what it computes with them."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from scripts.parity.convert import Arrays


def write(
    path: Path,
    model: nn.Module,
    spec: dict[str, Any],
    shape: tuple[int, ...],
    weights: Callable[[Any], Arrays],
    watch: Callable[[Any], Arrays],
) -> None:
    """Gives ``model`` random weights and writes what it makes of random inputs.

    Args:
        path: of the file.
        model: the reference.
        spec: ``name`` and ``fields`` of vitjax's model, and ``train`` where the batch's statistics
            are to be used.
        shape: of the inputs, as PyTorch has it.
        weights: finds the model's weights under vitjax's names.
        watch: gives a dict that the next forward pass fills with intermediates.
    """
    randomize(model)
    # Numbers of half precision, which take half the space, stand for themselves in any dtype.
    model = model.half().train(spec.get("train", False)).double()
    inputs = torch.randn(*shape).half().double()
    arrays: dict[str, Any] = {
        name: value.astype(np.float16) for name, value in weights(model).items()
    }
    intermediates = watch(model)
    with torch.no_grad():
        logits = model(inputs).numpy()
    # Of the other images, the logits will do.
    intermediates = {k: v[:1] for k, v in intermediates.items()}
    intermediates["logits"] = logits
    arrays |= {f"intermediates/{name}": value for name, value in intermediates.items()}
    images = inputs.numpy()
    images = images.transpose(0, 2, 3, 1) if images.ndim == 4 else images
    arrays["images"] = images.astype(np.float16)
    arrays["model"] = np.array(json.dumps(spec))
    np.savez_compressed(path, **arrays)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{path.stem}: {count:,} parameters, {len(intermediates)} activations", flush=True)


def randomize(model: nn.Module) -> None:
    """Makes normalisations, biases and kernels other than trivial."""
    for module in model.modules():
        for name, tensor in [
            *module.named_parameters(recurse=False),
            *module.named_buffers(recurse=False),
        ]:
            with torch.no_grad():
                if name == "running_var":
                    tensor.uniform_(0.5, 1.5)
                elif name == "running_mean":
                    tensor.normal_(0, 0.2)
                elif name == "weight" and tensor.ndim == 1:
                    tensor.normal_(1, 0.2)
                elif name == "gamma":
                    tensor.normal_(0.5, 0.2)
                elif not name.endswith("weight") and tensor.is_floating_point():
                    tensor.normal_(0, 0.2)
                elif tensor.ndim > 1:
                    tensor.normal_(0, 1.3 * tensor[0].numel() ** -0.5)


def calibrate(model: nn.Module, shape: tuple[int, ...], scale: float = 1.0) -> None:
    """Random weights under which the activations of a network stay of order one, however deep.

    Batch statistics are those of random images, and then changed at random. Normalisations scale
    down where many of them are added up, and where kernels are standardised, which multiplies by
    the root of their inputs. They shift up, as a network whose ReLUs stop every other number
    doubles rounding errors with every few layers (PyTorch's own in float32, too).

    Args:
        model: a PyTorch module.
        shape: of its inputs.
        scale: of the images.
    """
    randomize(model)
    standardized = any(type(module).__name__ == "StdConv2d" for module in model.modules())
    kinds = nn.BatchNorm1d | nn.BatchNorm2d | nn.GroupNorm
    norms = [module for module in model.modules() if isinstance(module, kinds)]
    gain = 0.05 if standardized else min(1, 10 / max(len(norms), 1)) ** 0.5
    batch = [norm for norm in norms if not isinstance(norm, nn.GroupNorm)]
    with torch.no_grad():
        for norm in norms:
            norm.weight *= gain
            norm.bias.add_(0.5).mul_(gain)
        for norm in batch:
            norm.momentum = 1.0
        if batch:
            model.train()(scale * torch.randn(max(8, shape[0]), *shape[1:]))
        for norm in batch:
            norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn_like(norm.bias)
            norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.8, 1.25)


def watch(model: nn.Module, names: dict[str, Any]) -> Arrays:
    """A dict that the next forward pass fills with the outputs of some modules, channels last.

    Args:
        model: a PyTorch module.
        names: patterns of whole names of modules, and what their outputs are to be called, as
            `re.sub` takes both. After a "<", it is the inputs that are kept.
    """
    found: Arrays = {}

    def keep(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            value = inputs if name.startswith("<") else output
            value = value[0] if isinstance(value, tuple) else value
            if value.ndim == 4 and not name.endswith("attention/map"):
                heads = name.endswith(("queries", "keys"))
                value = value.permute(0, 2, 1, 3) if heads else value.permute(0, 2, 3, 1)
            # A copy, as what follows may work in place.
            found[name.lstrip("<")] = value.detach().numpy().copy()

        return hook

    for path, module in model.named_modules():
        for pattern, name in names.items():
            if re.fullmatch(pattern, path):
                module.register_forward_hook(keep(re.sub(pattern, name, path)))
    return found
