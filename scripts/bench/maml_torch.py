"""PyTorch's side of `scripts/bench/maml.py`: serves the meta-steps that a `peer.Peer` requests.

Needs PyTorch, and `higher` for the peer of that name, but neither JAX nor vitjax.
"""

import contextlib
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from peer import received, serve  # type: ignore[import-not-found]
from timing import gemm_by_torch  # type: ignore[import-not-found]

Weights = dict[str, torch.Tensor]
EPSILON = 1e-3


class Episodes:
    """The episodes, the initial weights and the settings that all peers share.

    Attributes:
        device: PyTorch's name of it.
        steps: of the inner loop.
        rate: of it.
        depth: blocks of Conv4.
        dtype: of the computation.

    Args:
        arrays: the parameters under ``params/``, support and query under their names.
        settings: the attributes of those names.
        device: see above.
    """

    def __init__(self, arrays: dict[str, Any], settings: dict[str, Any], device: str):
        self.device, self.steps, self.rate = device, settings["steps"], settings["rate"]
        self.dtype = getattr(torch, settings["dtype"])
        self.depth: int = settings["depth"]
        self._arrays = arrays

    def weights(self, channels_last: bool = False) -> Weights:
        """Fresh leaves: kernels as (out, in, height, width) and (in, out)."""
        found = {}
        for name, value in self._arrays.items():
            if name.startswith("params/"):
                value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
                tensor = torch.tensor(np.ascontiguousarray(value), device=self.device)
                if channels_last and tensor.ndim == 4:
                    tensor = tensor.contiguous(memory_format=torch.channels_last)
                found[name.removeprefix("params/")] = tensor.requires_grad_()
        return found

    def part(self, name: str, channels_last: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (episodes, examples, channels, height, width), and labels, of support or query."""
        images = torch.tensor(self._arrays[f"{name}/input"].transpose(0, 1, 4, 2, 3))
        images = images.to(self.device).contiguous()
        if channels_last:
            flat = images.flatten(0, 1).contiguous(memory_format=torch.channels_last)
            images = flat.unflatten(0, images.shape[:2])
        return images, torch.tensor(self._arrays[f"{name}/target"]).long().to(self.device)

    def autocast(self) -> Any:
        """Automatic mixed precision for half-precision dtypes."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device, dtype=self.dtype)

    def outputs(self, weights: Weights, x: torch.Tensor) -> torch.Tensor:
        """Logits of Conv4 under the statistics of ``x``."""
        for i in range(1, self.depth + 1):
            x = F.conv2d(x, weights[f"conv{i}/kernel"], weights[f"conv{i}/bias"], padding=1)
            scale, bias = weights[f"norm{i}/scale"], weights[f"norm{i}/bias"]
            x = F.batch_norm(x, None, None, scale, bias, training=True, eps=EPSILON)
            x = F.max_pool2d(F.relu(x), 2)
        # The head reads rows, columns, channels.
        x = x.permute(0, 2, 3, 1).flatten(1)
        return x @ weights["head/kernel"] + weights["head/bias"]

    def loss(self, weights: Weights, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy."""
        with self.autocast():
            outputs = self.outputs(weights, images)
        return F.cross_entropy(outputs.float(), labels)


Step = Callable[[], torch.Tensor]


def autograd(episodes: Episodes, channels_last: bool = False) -> tuple[Weights, Step]:
    """A loop over episodes and steps of ``autograd.grad(create_graph=True)``."""
    weights = episodes.weights(channels_last)
    support, query = (episodes.part(name, channels_last) for name in ("support", "query"))

    def step() -> torch.Tensor:
        losses = []
        for i in range(len(support[0])):
            adapted = weights
            for _ in range(episodes.steps):
                loss = episodes.loss(adapted, support[0][i], support[1][i])
                gradients = torch.autograd.grad(loss, list(adapted.values()), create_graph=True)
                pairs = zip(adapted.items(), gradients, strict=True)
                adapted = {name: value - episodes.rate * g for (name, value), g in pairs}
            loss = episodes.loss(adapted, query[0][i], query[1][i]) / len(support[0])
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    return weights, step


def functional(episodes: Episodes) -> tuple[Weights, Step]:
    """``torch.func``: the gradient of a mean over a ``vmap`` over episodes."""
    from torch.func import grad, vmap

    weights = episodes.weights()
    support, query = episodes.part("support"), episodes.part("query")

    def episode_loss(weights: Weights, *episode: torch.Tensor) -> torch.Tensor:
        adapted = weights
        for _ in range(episodes.steps):
            gradients = grad(episodes.loss)(adapted, episode[0], episode[1])
            adapted = {k: v - episodes.rate * gradients[k] for k, v in adapted.items()}
        return episodes.loss(adapted, episode[2], episode[3])

    def step() -> torch.Tensor:
        loss = vmap(episode_loss, (None, 0, 0, 0, 0))(weights, *support, *query).mean()
        loss.backward()
        return loss.detach()

    return weights, step


class Module(torch.nn.Module):
    """The same network as a module, which `higher` needs."""

    def __init__(self, episodes: Episodes):
        super().__init__()
        self._episodes = episodes
        self.leaves = torch.nn.ParameterDict(
            {
                k.replace("/", "_"): torch.nn.Parameter(v.detach())
                for k, v in episodes.weights().items()
            }
        )

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss."""
        weights = {k.replace("_", "/"): v for k, v in self.leaves.items()}
        return self._episodes.loss(weights, images, labels)


def with_higher(episodes: Episodes) -> tuple[Weights, Step]:
    """`higher`: Grefenstette et al. 2019, arXiv:1910.01727, as in its MAML example."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import higher  # type: ignore[import-not-found]

    model = Module(episodes)
    inner = torch.optim.SGD(model.parameters(), lr=episodes.rate)
    support, query = episodes.part("support"), episodes.part("query")

    def step() -> torch.Tensor:
        losses = []
        for i in range(len(support[0])):
            with higher.innerloop_ctx(model, inner, copy_initial_weights=False) as (
                fast,
                optimizer,
            ):
                for _ in range(episodes.steps):
                    optimizer.step(fast(support[0][i], support[1][i]))
                loss = fast(query[0][i], query[1][i]) / len(support[0])
                loss.backward()
                losses.append(loss.detach())
        return torch.stack(losses).sum()

    return dict(model.named_parameters()), step


PEERS: dict[str, Callable[[Episodes], tuple[Weights, Step]]] = {
    "torch autograd": autograd,
    "torch autograd, channels_last": lambda episodes: autograd(episodes, channels_last=True),
    "higher": with_higher,
    "torch.func": functional,
}


def meta_step(weights: Weights, step: Step) -> Callable[[], float]:
    """``step`` followed by Adam's update."""
    optimizer: Any = torch.optim.Adam(weights.values(), lr=1e-3)

    def run() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = step()
        optimizer.step()
        # Reading the number waits for the device.
        return loss.item()

    return run


def _start() -> tuple[dict[str, Any], dict[str, Any]]:
    settings, arrays = received()
    torch.set_float32_matmul_precision(settings["precision"])
    device = settings["device"]
    if device == "cuda":
        torch.backends.cudnn.benchmark = True
        if not torch.cuda.is_available():
            raise RuntimeError("this PyTorch has no CUDA device")
    episodes = Episodes(arrays, settings, device)
    runs: dict[str, Any] = {"gemm": gemm_by_torch(device)}
    missing = {}
    for name in settings["peers"]:
        try:
            runs[name] = _timed(meta_step(*PEERS[name](episodes)))
        except ImportError as error:
            missing[name] = str(error)
    return runs, {"missing": missing, "versions": {"torch": torch.__version__}}


def _timed(step: Callable[[], float]) -> Callable[[int], dict[str, float]]:
    """The seconds of a number of steps, and the last one's loss."""

    def run(steps: int) -> dict[str, float]:
        start = time.perf_counter()
        for _ in range(steps):
            loss = step()
        return {"seconds": time.perf_counter() - start, "loss": loss}

    return run


if __name__ == "__main__":
    serve(_start)
