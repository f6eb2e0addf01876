"""Write what the vision towers of CLIP and SigLIP compute in transformers.

    python -m scripts.parity.make_contrastive_fixture tests/weights/fixtures/contrastive.npz

Wants PyTorch and transformers (the fixture in the repository: 2.13.0, 5.1.0). In the file, ``clip``
is the projected class token of a small ``CLIPModel`` for ``images``, and ``siglip`` the pooled
tokens of a small ``SiglipModel``; ``clip/...`` and ``siglip/...`` are their weights, text towers
included.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

VISION: dict[str, Any] = {"image_size": 16, "patch_size": 4, "hidden_size": 8}
LAYERS: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
TEXT: dict[str, Any] = {**LAYERS, "hidden_size": 4, "vocab_size": 5, "max_position_embeddings": 3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("path", type=Path)
    path = parser.parse_args().path
    torch.manual_seed(0)
    images = torch.randn(2, 3, 16, 16).half()
    found = {"images": images.permute(0, 2, 3, 1)}
    towers = {"text_config": TEXT, "vision_config": {**VISION, **LAYERS}}
    clip = transformers.CLIPModel(transformers.CLIPConfig(**towers, projection_dim=6))
    siglip = transformers.SiglipModel(transformers.SiglipConfig(**towers))
    for name, model in (("clip", clip), ("siglip", siglip)):
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
            parameter.data = parameter.data.half().double()
        found |= {f"{name}/{key}": value.half() for key, value in model.state_dict().items()}
        with torch.no_grad():
            pooled = model.double().eval().vision_model(images.double()).pooler_output
            found[name] = model.visual_projection(pooled) if name == "clip" else pooled
    np.savez_compressed(path, **{name: tensor.numpy() for name, tensor in found.items()})


if __name__ == "__main__":
    main()
