"""Write a task's meta-gradient as PyTorch has it, for `tests/meta/test_maml.py`.

    python -m scripts.parity.make_maml_fixture tests/meta/fixtures/maml_gradient.npz

Wants PyTorch alone (the fixture in the repository: 2.13.0). Three steps of gradient descent on the
support set with ``autograd.grad(create_graph=True)``, batch statistics everywhere, then the query
loss and its gradient through the steps, all in float64; once with a smooth activation and once with
ReLU. Arrays are named ``<activation>/<params | gradient | adapted>/<vitjax's name>``, beside
``<activation>/loss`` and the two parts' ``input`` and ``target``; ``config`` is JSON.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.func import functional_call

from scripts.parity import convert
from scripts.parity.few_shot_networks import Conv4
from scripts.parity.write import randomize

SIDE, CHANNELS, FILTERS, WAYS, QUERIES = 18, 2, 4, 3, 2
STEPS, RATE = 3, 0.4
ACTIVATIONS = ("softplus", "relu")


def part(examples: int) -> dict[str, torch.Tensor]:
    """Noise images of half precision, which take little space, and each class's label."""
    images = torch.randn(WAYS * examples, CHANNELS, SIDE, SIDE).half().double()
    return {"input": images, "target": torch.arange(WAYS).repeat_interleave(examples)}


def meta_gradient(
    model: torch.nn.Module, support: dict[str, torch.Tensor], query: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The query loss after the steps, its gradient, and the adapted parameters."""
    start = dict(model.named_parameters())
    names = list(start)

    def loss(params: dict[str, torch.Tensor], each: dict[str, torch.Tensor]) -> torch.Tensor:
        return F.cross_entropy(functional_call(model, params, (each["input"],)), each["target"])

    params = start
    for _ in range(STEPS):
        gradients = torch.autograd.grad(
            loss(params, support), list(params.values()), create_graph=True
        )
        moved = [p - RATE * g for p, g in zip(params.values(), gradients, strict=True)]
        params = dict(zip(names, moved, strict=True))
    final = loss(params, query)
    gradients = torch.autograd.grad(final, list(start.values()))
    return final, dict(zip(names, gradients, strict=True)), params


def named(model: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """``tensors`` of the model's parameters under vitjax's names and in its layouts."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[name])
    found = convert.plain(model)
    prefix = "params/"
    return {k[len(prefix) :]: v.copy() for k, v in found.items() if k.startswith(prefix)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path", type=Path)
    path = parser.parse_args().path
    torch.manual_seed(0)
    support, query = part(1), part(QUERIES)
    arrays: dict[str, Any] = {}
    for name, each in (("support", support), ("query", query)):
        arrays[f"{name}/input"] = each["input"].permute(0, 2, 3, 1).numpy().astype(np.float16)
        arrays[f"{name}/target"] = each["target"].numpy().astype(np.int32)
    for activation in ACTIVATIONS:
        model = Conv4(CHANNELS, FILTERS, WAYS, FILTERS, activation=activation)
        randomize(model)
        model = model.half().double().train()
        loss, gradient, adapted = meta_gradient(model, support, query)
        arrays[f"{activation}/loss"] = np.asarray(loss.detach())
        # `named` overwrites the model's parameters, so the first ones are read first.
        start = {k: v.detach().clone() for k, v in model.named_parameters()}
        for kind, tensors in (("params", start), ("gradient", gradient), ("adapted", adapted)):
            for key, value in named(model, tensors).items():
                arrays[f"{activation}/{kind}/{key}"] = (
                    value.astype(np.float16) if kind == "params" else value
                )
        print(f"{activation}: loss {loss.item():.6f}")
    arrays["config"] = np.array(
        json.dumps({"filters": FILTERS, "num_classes": WAYS, "steps": STEPS, "rate": RATE})
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main()
