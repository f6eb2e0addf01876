"""Read what `export_references` wrote into the projects' own models, and compare their logits.

    python -m scripts.parity.import_exports /tmp/references/*.npz

Wants what `references` wants. A line for each file: the largest absolute difference, in float64,
from the logits of the model that the weights came from. Every tensor has to be there, none more.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from scripts.parity.reference_cases import CASES
from scripts.parity.vit_cases import VIT_CASES, reader


def main() -> None:
    for path in map(Path, sys.argv[1:]):
        with np.load(path) as file:
            spec, images, logits = (file[key] for key in ("spec", "images", "seen/logits"))
        spec = json.loads(str(spec))
        for exported in sorted(path.parent.glob(f"{path.stem}.exported.*")):
            case = (CASES | VIT_CASES)[path.stem]()
            model = reader(case.model, exported.name.split(".")[2])
            if exported.suffix == ".safetensors":
                model.load_state_dict(load_file(exported), strict=True)
            elif spec["format"] == "maml":
                with np.load(exported) as file:
                    found = {f"weights.{k.replace('/', '|')}": file[k] for k in file.files}
                wanted = model.state_dict()
                tensors = {k: torch.from_numpy(found[k]) for k in wanted}
                model.load_state_dict(tensors, strict=True)
            else:
                model.load_pretrained(str(exported))
            model = model.double().train(case.train)
            inputs = torch.from_numpy(images).double()
            inputs = inputs.permute(0, 3, 1, 2) if inputs.ndim == 4 else inputs
            with torch.no_grad():
                found = model(inputs)
            found = (found.permute(0, 2, 3, 1) if case.channels_first else found).numpy()
            print(f"{exported.name}: {np.abs(found - logits).max():.1g}", flush=True)


if __name__ == "__main__":
    main()
