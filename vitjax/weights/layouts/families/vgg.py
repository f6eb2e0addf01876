"""VGG of timm and torchvision."""

from __future__ import annotations

import functools
import re
from typing import Any

from vitjax.models.vgg import SIDE, VGG
from vitjax.weights.layouts.family import Family, flattened, pointwise

_NAMES = [f"vgg{depth}{suffix}" for depth in (11, 13, 16, 19) for suffix in ("", "_bn")]
_DENSE = {
    "timm": {"fc1": "pre_logits.fc1", "fc2": "pre_logits.fc2", "head": "head.fc"},
    "torchvision": {"fc1": "classifier.0", "fc2": "classifier.3", "head": "classifier.6"},
}


def _translate(dense: dict[str, str], module: Any, name: str) -> str:
    found = re.fullmatch(r"stage(\d+)_(conv|norm)(\d+)", name)
    if found is None:
        return dense[name]
    # Layers are numbered in one sequence, in which activations and poolings count.
    stage, i = int(found[1]), int(found[3])
    each = 3 if module.batch_norm else 2
    before = sum(module.stage_sizes[: stage - 1]) * each + stage - 1
    return f"features.{before + (i - 1) * each + (found[2] == 'norm')}"


LAYOUTS = tuple(
    Family(
        project=project,
        model=VGG,
        source=f"{project}.models.vgg",
        names={name: name for name in _NAMES},
        translate=functools.partial(_translate, dense),
        required=(r"features\.0\.weight", re.escape(f"{dense['fc1']}.weight")),
        special={
            "fc1": functools.partial(flattened, side=SIDE, spatial=project == "timm"),
            **({"fc2": pointwise} if project == "timm" else {}),
        },
    ).layout()
    for project, dense in _DENSE.items()
)
