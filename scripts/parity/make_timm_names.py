"""Write the names and shapes of timm's networks, by which files of weights are recognised.

    python -m scripts.parity.make_timm_names tests/weights/fixtures/timm_names.json.gz

Wants PyTorch and timm (the fixture: 2.13.0 and 1.0.31), and nothing of JAX. Without torchvision,
run it through `scripts.bench.training_torch`'s stand-in.
"""

import gzip
import json
import sys
from pathlib import Path

import timm
import torch

# Networks that vitjax has, and relatives of them that it does not have.
NAMES = (
    *("resnet18", "resnet34", "resnet50", "resnet50_gn", "wide_resnet50_2", "resnetv2_18"),
    *("resnetv2_50x1_bit", "resnetblur18", "resnetaa50", "resnetblur50", "resnetaa50d"),
    *("resnext50_32x4d", "seresnet18", "seresnext50_32x4d", "legacy_seresnet18"),
    *("legacy_seresnext26_32x4d", "ecaresnetlight", "skresnet18", "skresnet50", "resnest14d"),
    *("resnext101_32x8d", "seresnet50", "legacy_senet154", "skresnext50_32x4d", "resnest50d"),
    *("senet154", "resnest26d", "seresnet101", "skresnet50d", "resnext101_32x4d"),
    *("res2net50_48w_2s", "resnet18d", "resnetv2_18d", "gernet_s", "resnet26t"),
    *("vit_tiny_patch16_224", "vit_base_patch16_siglip_gap_224", "deit3_small_patch16_224"),
    *("vit_base_patch16_rpn_224", "vit_small_patch16_rope_ape_224", "beit_base_patch16_224"),
    *("cait_xxs24_224", "samvit_base_patch16", "vit_small_r26_s32_224", "eva_giant_patch14_224"),
    *(
        "swin_tiny_patch4_window7_224",
        "swinv2_tiny_window8_256",
        "convnext_tiny",
        "convnextv2_tiny",
    ),
    *("eva02_tiny_patch14_224", "maxvit_tiny_tf_224", "coatnet_0_rw_224", "regnetx_002"),
    *("regnety_002", "mobilenetv3_small_050", "tf_efficientnetv2_s", "mixer_s16_224"),
    *("ghostnet_050", "mobilevit_xxs", "repvgg_a0", "hrnet_w18_small", "edgenext_xx_small"),
    *("vit_base_patch16_clip_224", "vit_small_patch16_dinov3", "deit_tiny_distilled_patch16_224"),
)


def main() -> None:
    found = {}
    for name in NAMES:
        with torch.device("meta"):
            model = timm.create_model(name)
        found[name] = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    text = json.dumps(found, separators=(",", ":")).encode()
    Path(sys.argv[1]).write_bytes(gzip.compress(text, mtime=0))


if __name__ == "__main__":
    main()
