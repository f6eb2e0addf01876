"""Write the networks of tests/helpers/export_cases.py for `read_exports`, which runs timm.

    python -m scripts.parity.write_exports FOLDER

Each network gets a folder of its own, with the program and the files that come with an export.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "helpers"))

from export_cases import CASES, made  # type: ignore[import-not-found]

from vitjax import weights
from vitjax.data.normalization import Normalization
from vitjax.data.preparation import Preparation
from vitjax.data.transforms import parse
from vitjax.weights.preprocessing import Preprocessing


def main() -> None:
    for name in CASES:
        module, shape, variables, images = made(name)
        folder = Path(sys.argv[1]) / name
        normalization = Normalization.of(0.4, 0.2, shape[-1])
        pipeline = parse(f"resize({shape[:2]!r})")
        preprocessing = Preprocessing.of(
            Preparation(pipeline, normalization, shape, shape[-1]), None
        )
        path = folder / "model"
        weights.save(variables, module, path, "timm", preprocessing=preprocessing)
        logits = np.asarray(module.apply(variables, images))
        np.savez(folder / "expected.npz", images=images, logits=logits)


if __name__ == "__main__":
    main()
