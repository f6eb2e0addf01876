"""Write one reference network's weights, inputs and activations to a file."""

import json
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
    *,
    full: bool = False,
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
        full: a whole network: leave its kernels as they are, and write the logits alone.
    """
    randomize(model, everything=not full)
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
    intermediates = {} if full else {k: v[:1] for k, v in intermediates.items()}
    intermediates["logits"] = logits
    arrays |= {f"intermediates/{name}": value for name, value in intermediates.items()}
    images = inputs.numpy()
    images = images.transpose(0, 2, 3, 1) if images.ndim == 4 else images
    arrays["images"] = images.astype(np.float16)
    arrays["model"] = np.array(json.dumps(spec))
    np.savez_compressed(path, **arrays)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{path.stem}: {count:,} parameters, {len(intermediates)} activations", flush=True)


def randomize(model: nn.Module, everything: bool) -> None:
    """Makes normalisations, biases and, with ``everything``, kernels other than trivial."""
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
                elif name != "weight" and tensor.is_floating_point():
                    tensor.normal_(0, 0.2)
                elif everything and tensor.ndim > 1:
                    tensor.normal_(0, 1.3 * tensor[0].numel() ** -0.5)
