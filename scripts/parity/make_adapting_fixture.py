"""Write what timm makes of position embeddings, patch embeddings and first kernels of other sizes.

    python -m scripts.parity.make_adapting_fixture tests/weights/fixtures/adapting.npz

Wants PyTorch, torchvision and timm (the fixture in the repository: 2.13.0, 0.29.1, 1.0.31). In the
file, ``positions/12x9/4x5`` is what became of ``positions/12x9``, a number of prefix tokens and
then a grid of 12 x 9; ``patches/4x4/8x8`` of ``patches/4x4``; ``channels/1`` of ``channels/3``. A
small ViT for images of 16 x 16, ``weights/...``, gives ``logits`` for ``images`` of 24 x 40.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

import scripts.parity.reference_cases  # noqa: F401  (declares torchvision's operators)
from scripts.parity.write import randomize

from timm.layers import resample_abs_pos_embed, resample_patch_embed  # isort: skip
from timm.models import adapt_input_conv  # isort: skip
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn  # isort: skip

GRIDS: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {
    (12, 9): ((4, 5), (24, 18), (17, 3)),
    (4, 4): ((7, 7), (3, 3), (4, 10)),
}
PATCHES: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {
    (4, 4): ((8, 8), (7, 5), (4, 6)),
    (8, 8): ((4, 4), (5, 8), (16, 16)),
    (6, 3): ((4, 9),),
}
PREFIX = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path", type=Path)
    path = parser.parse_args().path
    torch.manual_seed(0)
    found: dict[str, torch.Tensor] = {}
    for old, others in GRIDS.items():
        name = f"positions/{old[0]}x{old[1]}"
        found[name] = torch.randn(1, PREFIX + old[0] * old[1], 3).half()
        for new in others:
            found[f"{name}/{new[0]}x{new[1]}"] = resample_abs_pos_embed(
                found[name].float(), list(new), list(old), num_prefix_tokens=PREFIX
            )
    for old, others in PATCHES.items():
        name = f"patches/{old[0]}x{old[1]}"
        found[name] = torch.randn(4, 3, *old).half()
        for new in others:
            found[f"{name}/{new[0]}x{new[1]}"] = resample_patch_embed(
                found[name].float(), list(new), interpolation="bilinear", antialias=True
            )
    found["channels/3"] = torch.randn(4, 3, 2, 2).half()
    for channels in (1, 2, 4, 7):
        kernel = adapt_input_conv(channels, found["channels/3"].float())
        found[f"channels/{channels}"] = kernel
    sizes = {"patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 2, "num_classes": 3}
    model = VisionTransformer(img_size=16, **sizes)
    randomize(model)
    state = {name: tensor.half() for name, tensor in model.state_dict().items()}
    larger = VisionTransformer(img_size=(24, 40), **sizes)
    single = {name: tensor.float() for name, tensor in state.items()}
    larger.load_state_dict(checkpoint_filter_fn(single, larger))
    images = torch.randn(2, 3, 24, 40).half()
    with torch.no_grad():
        found["logits"] = larger.eval()(images.float())
    found["images"] = images.permute(0, 2, 3, 1)
    found |= {f"weights/{name}": tensor for name, tensor in state.items()}
    np.savez_compressed(path, **{name: tensor.numpy() for name, tensor in found.items()})


if __name__ == "__main__":
    main()
