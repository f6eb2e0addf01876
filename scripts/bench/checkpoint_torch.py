"""PyTorch's side of `scripts/bench/checkpoint.py`; serves a `peer.Peer`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peer import received, serve  # type: ignore[import-not-found]


def _start() -> tuple[dict[str, Any], dict[str, Any]]:
    settings, arrays = received()
    path = Path(settings["folder"], "state.pt")
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}

    def save(steps: int) -> None:
        for _ in range(steps):
            torch.save(state, path)

    def load(steps: int) -> None:
        for _ in range(steps):
            torch.load(path)

    return {"save": save, "load": load}, {"versions": {"torch": torch.__version__}}


if __name__ == "__main__":
    serve(_start)
