"""Write networks of other projects: their files of weights, and what they compute.

    python -m scripts.parity.references /tmp/references                 # all, several GB
    python -m scripts.parity.references /tmp/references resnet50 smp_resnet34
    python -m scripts.parity.references --small tests/weights/fixtures

Wants PyTorch, torchvision, timm, segmentation_models_pytorch and safetensors (the fixtures in the
repository: 2.13.0, 0.29.1, 1.0.31, 0.6.0, 0.8.0), and nothing of JAX. For each there is NAME.npz
with the model's fields, images and, from float64, logits and activations; and beside it, under the
project's own names, NAME with the suffix of the project's files. `compare_references` reads both.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from scripts.parity.reference_cases import CASES, SMALL, Case
from scripts.parity.vit_cases import VIT_CASES, VIT_SMALL
from scripts.parity.write import calibrate, watch

# Numbers of an activation in a fixture.
MOST = 800


def state(case: Case, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """What the project would save of the model."""
    found = {k: v.detach() for k, v in case.model.state_dict().items()}
    if case.state is not None:
        found = case.state(found)
    elif case.format == "maml":
        found = {k.removeprefix("weights.").replace("|", "/"): v for k, v in found.items()}
    elif case.format == "npz":
        found = big_transfer(found)
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in found.items()}


def big_transfer(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict of timm's BiT as google-research/big_transfer's files have it."""
    names: list[tuple[str, Any]] = [
        (r"^stem\.conv", "root_block"),
        (r"^stages\.(\d)", lambda m: f"block{int(m[1]) + 1}"),
        (r"\.blocks\.(\d+)\.", lambda m: f"/unit{int(m[1]) + 1:02d}/"),
        (r"downsample\.conv", "a/proj"),
        (r"(conv|norm)(\d)", lambda m: "abc"[int(m[2]) - 1]),
        (r"^head\.fc\.weight", "head/conv2d/kernel"),
        (r"^head\.fc\.bias", "head/conv2d/bias"),
        (r"^norm", ""),
    ]
    found = {}
    for name, tensor in state.items():
        kernel = tensor.ndim == 4
        for pattern, replacement in names:
            name = re.sub(pattern, replacement, name)
        weight = "/standardized_conv2d/kernel" if kernel else "/group_norm/gamma"
        name = name.replace(".weight", weight).replace(".bias", "/group_norm/beta")
        found["resnet/" + name.lstrip("/")] = tensor.permute(2, 3, 1, 0) if kernel else tensor
    return found


def write(folder: Path, name: str, case: Case, dtype: torch.dtype) -> None:
    """Gives the model weights, and writes them and what it makes of images.

    Args:
        folder: is made if need be.
        name: of the files.
        case: the model and what is known of it.
        dtype: of the weights in the file, which stand for themselves in any dtype.
    """
    calibrate(case.model, case.shape, case.scale)
    model = case.model.to(dtype).train(case.train).double()
    folder.mkdir(parents=True, exist_ok=True)
    weights = state(case, dtype)
    path = folder / f"{name}{case.suffix}"
    if case.suffix == ".safetensors":
        save_file({k: v.clone().contiguous() for k, v in weights.items()}, path)
    elif case.suffix == ".weights.npz":
        np.savez_compressed(path, **{k: v.numpy() for k, v in weights.items()})
    else:
        torch.save(weights, path)
    if path.suffix == ".npz" and hasattr(model, "load_pretrained"):
        # timm itself reads such files.
        before = {k: v.clone() for k, v in model.state_dict().items()}
        with torch.no_grad():
            model.load_pretrained(str(path))
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())

    images = (case.scale * torch.randn(*case.shape)).half().double()
    seen = watch(model, case.watched)
    with torch.no_grad():
        logits = model(images)
    seen["logits"] = (logits.permute(0, 2, 3, 1) if case.channels_first else logits).numpy()
    seen |= getattr(model, "seen", {})
    if dtype == torch.half:
        # Of the other images the logits will do, and of activations the small ones.
        first = {k: v[:1] for k, v in seen.items() if k != "logits"}
        few = {k: v for k, v in first.items() if v.size <= MOST}
        seen = {**few, "logits": seen["logits"]}
    images = images.permute(0, 2, 3, 1) if images.ndim == 4 else images
    spec = {
        "model": case.ours,
        "fields": case.fields,
        "format": case.format,
        "weights": path.name,
        "reference": case.reference,
        "train": case.train,
        "inferred": case.inferred,
        "grid": case.grid,
    }
    arrays: dict[str, Any] = {f"seen/{k}": v for k, v in seen.items()}
    arrays["images"] = images.numpy().astype(np.float16)
    arrays["spec"] = np.array(json.dumps(spec))
    np.savez_compressed(folder / f"{name}.npz", **arrays)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{name}: {count:,} parameters, {len(seen)} activations", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="networks of a few KB, as fixtures")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="which; all where none is given")
    arguments = parser.parse_args()
    cases = SMALL | VIT_SMALL if arguments.small else CASES | VIT_CASES
    for name in arguments.names or cases:
        torch.manual_seed(0)
        case = cases[name]()
        write(arguments.folder, name, case, torch.half if arguments.small else torch.float)


if __name__ == "__main__":
    main()
