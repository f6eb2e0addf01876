"""Write how PyTorch and transformers resize position embeddings, each project in its way.

    python -m scripts.parity.make_interpolations_fixture tests/weights/fixtures/interpolations.npz

Wants PyTorch and transformers (the fixture in the repository: 2.13.0, 5.1.0). In the file,
``bicubic_plain/12x9/4x5`` is what became of ``grid/12x9``, (1, rows, columns, channels). A small
``Dinov2Model`` and ``ViTModel`` of transformers for images of 16 x 16, ``dinov2/...`` and
``vit/...``, give the class token ``dinov2`` and ``vit`` for ``images`` of 24 x 12.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

import transformers  # isort: skip

GRIDS: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {
    (12, 9): ((4, 5), (24, 18), (17, 3)),
    (4, 4): ((7, 7), (3, 3), (1, 10)),
}


def resized(grid: torch.Tensor, kind: str, new: tuple[int, int]) -> torch.Tensor:
    """``grid``, (1, channels, rows, columns), resized in the way called ``kind``."""
    if kind == "bicubic":
        return interpolate(grid, size=new, mode="bicubic", antialias=True)
    if kind == "bicubic_corners":
        return interpolate(grid, size=new, mode="bicubic", align_corners=True)
    if kind == "bicubic_plain":
        return interpolate(grid, size=new, mode="bicubic")
    factors = [(sides + 0.1) / old for sides, old in zip(new, grid.shape[2:], strict=True)]
    return interpolate(grid, scale_factor=factors, mode="bicubic")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path", type=Path)
    path = parser.parse_args().path
    torch.manual_seed(0)
    found: dict[str, torch.Tensor] = {}
    for old, others in GRIDS.items():
        grid = torch.randn(1, 3, *old).half().float()
        found[f"grid/{old[0]}x{old[1]}"] = grid.permute(0, 2, 3, 1)
        for kind in ("bicubic", "bicubic_plain", "bicubic_offset", "bicubic_corners"):
            for new in others:
                name = f"{kind}/{old[0]}x{old[1]}/{new[0]}x{new[1]}"
                found[name] = resized(grid.double(), kind, new).permute(0, 2, 3, 1)
    sizes: dict[str, Any] = {"image_size": 16, "patch_size": 4, "hidden_size": 8}
    sizes |= {"num_hidden_layers": 1, "num_attention_heads": 2}
    images = torch.randn(2, 3, 24, 12).half()
    found["images"] = images.permute(0, 2, 3, 1)
    for name, model in (
        ("dinov2", transformers.Dinov2Model(transformers.Dinov2Config(**sizes, mlp_ratio=2))),
        (
            "vit",
            transformers.ViTModel(transformers.ViTConfig(**sizes, intermediate_size=16), False),
        ),
    ):
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
            parameter.data = parameter.data.half().float()
        found |= {f"{name}/{key}": value.half() for key, value in model.state_dict().items()}
        options = {} if name == "dinov2" else {"interpolate_pos_encoding": True}
        with torch.no_grad():
            found[name] = model.eval()(images.float(), **options).last_hidden_state[:, 0]
    np.savez_compressed(path, **{name: tensor.numpy() for name, tensor in found.items()})


if __name__ == "__main__":
    main()
