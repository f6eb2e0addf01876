"""Write reference outputs of the few-shot networks for `tests/models/`, from PyTorch.

    python -m scripts.parity.make_few_shot_fixtures tests/models/fixtures

Wants PyTorch alone (the fixtures in the repository: 2.13.0), and nothing of JAX. A file holds the
model's fields, weights and images (numbers of half precision), and what the reference computes from
them in float64: logits and intermediate activations. One whose ``model`` says ``train`` was
computed with the statistics of its batch.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scripts.parity import convert
from scripts.parity.few_shot_networks import MLP, Conv4
from scripts.parity.write import write

# File, model, vitjax's name, fields and ``train``, shape of the inputs, conversion and hooks.
Case = tuple[str, nn.Module, dict[str, Any], tuple[int, ...], Callable, Callable]


def seen(model: Any) -> convert.Arrays:
    """The dict that a `Watched` model fills with intermediates."""
    found: convert.Arrays = model.seen
    return found


def small() -> Iterator[Case]:
    """Networks of a few thousand weights that together go through every option."""
    both = (convert.plain, seen)

    # 34 x 50 pixels are halved to odd sides, whose last row and column pooling leaves out.
    spec: dict[str, Any] = {"name": "Conv4", "fields": {"filters": 6, "num_classes": 5}}
    yield "conv4_pool", Conv4(3, 6, 5, 36), {**spec, "train": True}, (4, 3, 34, 50), *both

    fields = {"filters": 6, "num_classes": 5, "downsample": "stride", "pooling": "mean"}
    model = Conv4(1, 6, 5, 6, downsample="stride", pooling="mean")
    yield "conv4_stride", model, {"name": "Conv4", "fields": fields}, (2, 1, 28, 26), *both

    fields = {"filters": 6, "num_classes": 5, "num_context": 4}
    spec = {"name": "Conv4", "fields": {**fields, "norm_epsilon": 1e-5}, "train": True}
    yield "conv4_context", Conv4(3, 6, 5, 24, epsilon=1e-5, context=4), spec, (4, 3, 36, 32), *both

    options: dict[str, Any] = {"downsample": "stride", "norm": "group", "activation": "softplus"}
    fields = {"filters": 6, "num_classes": 5, "norm_groups": 3, **options}
    model = Conv4(3, 6, 5, 24, groups=3, **options)
    yield "conv4_group", model, {"name": "Conv4", "fields": fields}, (2, 3, 30, 32), *both

    options = {"downsample": "stride", "norm": "layer", "activation": "gelu"}
    model = Conv4(3, 6, 5, 24, **options)
    fields = {"filters": 6, "num_classes": 5, **options}
    yield "conv4_layer", model, {"name": "Conv4", "fields": fields}, (2, 3, 32, 29), *both

    fields = {"hidden": [10, 10, 10], "num_classes": 2, "num_context": 3, "activation": "tanh"}
    model = MLP(1, (10, 10, 10), 2, activation="tanh", context=3)
    yield "mlp_context", model, {"name": "MLP", "fields": fields}, (6, 1), *both

    spec = {"name": "MLP", "fields": {"hidden": [12, 8, 8], "num_classes": 5, "norm": "batch"}}
    model = MLP(90, (12, 8, 8), 5, norm="batch")
    yield "mlp_batch", model, {**spec, "train": True}, (8, 3, 5, 6), *both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    for name, *case in small():
        write(arguments.folder / f"{name}.npz", *case)


if __name__ == "__main__":
    main()
