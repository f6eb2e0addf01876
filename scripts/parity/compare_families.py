"""Compare vitjax with what `family` wrote of the references: a line of a Markdown table for each.

    python -m scripts.parity.compare_families

For each network of tests/families/fixtures: its fields, the project, the number of activations that
are compared, the largest absolute value among them, and the largest absolute differences in float32
and in float64.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "helpers"))

import family_fixtures  # type: ignore[import-not-found]
from families import FIXTURES  # type: ignore[import-not-found]


def worst(found: dict[str, Any], wanted: dict[str, np.ndarray]) -> float:
    """The largest difference."""
    return max(float(np.abs(found[name] - x).max()) for name, x in wanted.items())


def main() -> None:
    for path in FIXTURES:
        spec = family_fixtures.spec(path)
        single, wanted = family_fixtures.computed(path, "float32")
        errors = worst(single, wanted), worst(*family_fixtures.computed(path, "float64"))
        largest = max(float(np.abs(x).max()) for x in wanted.values())
        fields = {k: v for k, v in spec["fields"].items() if k != "num_classes"}
        words = ", ".join([spec["model"], *(f"{k}={v}" for k, v in fields.items())])
        how = ", in training" if spec["train"] else ""
        project = spec["format"] or "the paper's, in PyTorch"
        print(
            f"| `{words}` | {project}{how} | {len(wanted)} | {largest:.3g} |"
            f" {errors[0]:.0e} | {errors[1]:.0e} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
