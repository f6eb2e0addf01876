"""timm's side of `scripts/bench/inference.py`, eager and compiled; serves a `peer.Peer`."""

from __future__ import annotations

from typing import Any

import torch
from networks import MEAN, STD, Case  # type: ignore[import-not-found]
from peer import received, serve  # type: ignore[import-not-found]
from timing import gemm_by_torch  # type: ignore[import-not-found]
from training_torch import timm_network, versions  # type: ignore[import-not-found]


def _start() -> tuple[dict[str, Any], dict[str, Any]]:
    settings, arrays = received()
    case, device = Case(**settings["case"]), settings["device"]
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("this PyTorch has no CUDA device")
    layout = torch.contiguous_format if case.is_vit else torch.channels_last
    model = timm_network(case).eval().to(device=device, memory_format=layout)
    images = [torch.from_numpy(image) for image in arrays["image"]]

    def probabilities(network: Any) -> None:
        x = torch.stack(images).to(device).permute(0, 3, 1, 2).float()
        x = ((x / 255 - MEAN) / STD).contiguous(memory_format=layout)
        with torch.autocast(device, torch.bfloat16, enabled=case.dtype == "bfloat16"):
            logits = network(x)
        torch.softmax(logits.float(), dim=-1).cpu().numpy()

    def runs(network: Any) -> Any:
        def predict(steps: int) -> None:
            with torch.inference_mode():
                for _ in range(steps):
                    probabilities(network)

        return predict

    facts = {"parameters": sum(p.numel() for p in model.parameters()), "versions": versions()}
    compiled = torch.compile(model)
    return {"eager": runs(model), "compiled": runs(compiled), "gemm": gemm_by_torch(device)}, facts


if __name__ == "__main__":
    serve(_start)
