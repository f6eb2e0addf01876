"""Make and load the networks of `write_exports` with timm, and note what timm makes of them.

    python -m scripts.parity.read_exports FOLDER tests/weights/fixtures/exports_timm.json

Runs the program beside each file, and `timm.create_model("local-dir:...")` where there is a
config.json. A line for each network: the largest difference of logits from vitjax's.
"""

import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))

from training_torch import import_timm  # type: ignore[import-not-found]

timm: Any = import_timm()


def logits(model: Any, images: np.ndarray) -> np.ndarray:
    """Those of (batch, height, width, channels)."""
    with torch.no_grad():
        return model.eval()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()


def main() -> None:
    noted = {}
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        with np.load(folder / "expected.npz") as file:
            images, expected = file["images"], file["logits"]
        (program,) = folder.glob("load_*.py")
        model = runpy.run_path(str(program))["model"]
        found = logits(model, images)
        worst = np.abs(found - expected).max() / np.abs(expected).max()
        again = "without config.json"
        if (folder / "config.json").exists():
            local = timm.create_model(f"local-dir:{folder}", pretrained=True)
            again = f"{np.abs(logits(local, images) - found).max():.1g} by local-dir"
        print(f"{folder.name}: {worst:.1g}, {again}", flush=True)
        arrays = {
            n: list(x.shape) for n, x in model.state_dict().items() if x.ndim or "num" not in n
        }
        call = re.search(r"^model = (.*)$", program.read_text(), re.M)
        assert call is not None
        noted[folder.name] = {
            "made_by": call[1],
            "arrays": arrays,
            "logits": [[float(f"{x:.6g}") for x in row] for row in found.tolist()],
        }
    if len(sys.argv) > 2:
        lines = ",\n".join(
            f"{json.dumps(name)}: {json.dumps(each)}" for name, each in noted.items()
        )
        Path(sys.argv[2]).write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
