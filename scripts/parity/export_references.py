"""Write the networks of `references` from vitjax, for `import_exports` to read them back.

    python -m scripts.parity.export_references /tmp/references/*.npz

Beside NAME.npz comes NAME.exported.FORMAT for every format that holds the network.
"""

import json
import sys
from pathlib import Path

import numpy as np

from vitjax import weights
from vitjax.weights import writing
from vitjax.weights.formats import files
from vitjax.weights.loading import flat

# What else a format's networks can be written as.
ALSO = {"torchvision": ["timm"], "timm": ["npz", "torchvision"]}


def main() -> None:
    for path in map(Path, sys.argv[1:]):
        with np.load(path) as file:
            spec, shape = json.loads(str(file["spec"])), file["images"].shape
        if spec["format"] == "vitjax":
            continue
        opened = weights.open_weights(path.parent / spec["weights"], grid=spec["grid"])
        module = weights.module_of(opened, say=lambda words: None, **spec["fields"])
        variables = weights.fit(opened, module, image_size=shape[1:3])
        for format in (spec["format"], *ALSO.get(spec["format"], [])):
            suffix = "npz" if format in ("npz", "maml", "big_vision") else "safetensors"
            written = path.with_name(f"{path.stem}.exported.{format}.{suffix}")
            ours = {name: np.asarray(leaf) for name, leaf in flat(variables).items()}
            try:
                layout = writing.layout_for(module, format)
                if format != spec["format"]:  # whose own code made it, with other blocks perhaps
                    writing.made_by(layout, module, ours, shape[1:])
                arrays = writing.renamed(ours, module, layout, shape[1:])
            except weights.WeightsError as error:
                print(f"{path.stem}: {error}")
            else:
                files.write(written, arrays)
                print(f"{path.stem}: {written.name}", flush=True)


if __name__ == "__main__":
    main()
