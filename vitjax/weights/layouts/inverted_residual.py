"""The names of inverted residual blocks in timm, which all networks of them share."""

from __future__ import annotations

import re
from typing import Any

LAYER = re.compile(
    r"stage(\d+)_block(\d+)/(expand|depthwise|squeeze_excite|project)/(conv|norm|reduce|expand)"
)
_TIMM = {
    "stem/conv": "conv_stem",
    "stem/norm": "bn1",
    "last/conv": "conv_head",
    "last/norm": "bn2",
    "head": "classifier",
}
REQUIRED = (
    r"conv_stem\.weight",
    r"blocks\.0\.0\.conv_dw\.weight",
    r"blocks\.6\.0\.conv_pwl\.weight",
)


def timm(module: Any, name: str) -> str:
    """Timm's name of a layer of MobileNetV2, MnasNet or EfficientNet."""
    del module
    if (found := LAYER.fullmatch(name)) is None:
        return _TIMM[name]
    stage, part, layer = int(found[1]), found[3], found[4]
    # The first stage has no expansion, and layers of another name.
    order = ["depthwise", "project"] if stage == 1 else ["expand", "depthwise", "project"]
    convs = {"expand": "pw", "depthwise": "dw", "project": "pw" if stage == 1 else "pwl"}
    if part == "squeeze_excite":
        layer = f"se.conv_{layer}"
    else:
        layer = f"conv_{convs[part]}" if layer == "conv" else f"bn{order.index(part) + 1}"
    return f"blocks.{stage - 1}.{int(found[2]) - 1}.{layer}"
