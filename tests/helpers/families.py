"""What references say of the families of convolutional networks: tests/families/*.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "families"
FAMILIES: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))
}
FIXTURES = sorted((FOLDER / "fixtures").glob("*.npz"))
MEMBERS: list[dict[str, Any]] = [
    member for family in FAMILIES.values() for member in family["members"]
]
# Registered names to numbers of parameters, and those that are counted with their files.
COUNTS: dict[str, int] = {
    member["model"]: member["parameters"] for member in MEMBERS if not member["fields"]
}
COUNTED = {member["model"] for member in MEMBERS if member["format"] and not member["fields"]}
# One small network of each class: the registered name to fields and the shape of its inputs.
SMALL: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    name: (small["fields"], tuple(small["shape"]))
    for family in FAMILIES.values()
    for name, small in family["small"].items()
}
