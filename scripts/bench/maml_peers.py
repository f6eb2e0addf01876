"""The peers of `scripts/bench/maml.py`: usual JAX code, and PyTorch through a pipe."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict

USUAL = "usual jax"
TORCH_PEERS = ("torch autograd", "torch autograd, channels_last", "higher", "torch.func")


class Layers(nn.Module):
    """Conv4 of `flax.linen`'s own layers, with the names of vitjax's."""

    filters: int
    num_classes: int
    dtype: str

    @nn.compact
    def __call__(self, x: Any) -> Any:
        """Logits."""
        for i in range(1, 5):
            x = nn.Conv(self.filters, (3, 3), dtype=self.dtype, name=f"conv{i}")(x)
            x = nn.BatchNorm(
                use_running_average=False, epsilon=1e-3, dtype=self.dtype, name=f"norm{i}"
            )(x)
            x = nn.max_pool(nn.relu(x), (2, 2), (2, 2))
        return nn.Dense(self.num_classes, name="head")(x.reshape(len(x), -1).astype(jnp.float32))


class UsualJax:
    """MAML as in JAX tutorials: ``vmap`` over episodes of flax's layers.

    Args:
        params: of Conv4.
        batch: episodes.
        settings: see `Torch`.
    """

    def __init__(self, params: Any, batch: Any, settings: Mapping[str, Any]):
        kernel, head = params["conv1"]["kernel"], params["head"]["kernel"]
        model = Layers(kernel.shape[-1], head.shape[-1], settings["dtype"])
        optimizer = optax.adam(1e-3)

        def loss(params: Any, part: Any) -> Any:
            variables = {"params": params}
            outputs, _ = model.apply(variables, part["input"], mutable=["batch_stats"])
            losses = optax.losses.softmax_cross_entropy_with_integer_labels
            return losses(outputs, part["target"]).mean()

        def episode_loss(params: Any, support: Any, query: Any) -> Any:
            for _ in range(settings["steps"]):
                gradients = jax.grad(loss)(params, support)
                params = jax.tree.map(lambda p, g: p - settings["rate"] * g, params, gradients)
            return loss(params, query)

        def step(params: Any, opt_state: Any, batch: Any) -> Any:
            def mean(params: Any) -> Any:
                mapped = jax.vmap(episode_loss, (None, 0, 0))
                return mapped(params, batch["support"], batch["query"]).mean()

            value, gradients = jax.value_and_grad(mean)(params)
            updates, opt_state = optimizer.update(gradients, opt_state)
            return optax.apply_updates(params, updates), opt_state, value

        params = jax.device_put(params)
        self._state = params, optimizer.init(params)
        self._batch = jax.device_put(batch)
        jitted = jax.jit(step, donate_argnums=(0, 1))
        self._step = jitted.lower(*self._state, self._batch).compile()

    def run(self, steps: int) -> tuple[float, float]:
        """Takes ``steps`` steps: the seconds they took, and the last one's loss."""
        start = time.perf_counter()
        for _ in range(steps):
            *state, loss = self._step(*self._state, self._batch)
            self._state = state[0], state[1]
        value = float(loss)
        return time.perf_counter() - start, value


class Torch:
    """PyTorch in a process of its own, see ``maml_torch.py``.

    Attributes:
        peers: those that it has.
        missing: the reasons for those that it lacks.
        version: of PyTorch; empty if it is not installed.

    Args:
        python: the Python to run; None if there is none.
        params: of Conv4.
        batch: episodes.
        settings: ``steps`` and ``rate`` of the inner loop, ``depth`` of the network, ``dtype``,
            and ``precision``, PyTorch's name of that of float32 products.
    """

    def __init__(self, python: str | None, params: Any, batch: Any, settings: Mapping[str, Any]):
        self.missing: dict[str, str] = {}
        self.version = ""
        self.peers: list[str] = []
        if python is None:
            reason = "PyTorch is not installed here; --torch-python names a Python that has it"
            self.missing = dict.fromkeys(TORCH_PEERS, reason)
            return
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "episodes.npz"
        arrays = {name: batch[name] for name in ("support", "query")}
        np.savez(path, **flatten_dict({"params": params, **arrays}, sep="/"))
        gpu = jax.default_backend() == "gpu"
        # XLA computes float32 products in TF32 by default on GPUs that have it.
        settings = {"precision": "high" if gpu else "highest", **settings}
        program = Path(__file__).with_name("maml_torch.py")
        command = [python, str(program), str(path), json.dumps(settings)]
        self._process = subprocess.Popen(
            [*command, "--device", "cuda" if gpu else "cpu"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        greeting = self._read()
        if "error" in greeting:
            self.missing = dict.fromkeys(TORCH_PEERS, greeting["error"])
        else:
            self.missing, self.peers = greeting["missing"], greeting["peers"]
            self.version = greeting["version"]

    def run(self, peer: str, steps: int) -> tuple[float, float]:
        """As `UsualJax.run`; raises RuntimeError if the peer failed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"peer": peer, "steps": steps}) + "\n")
            self._process.stdin.flush()
            answer = self._read()
        except BrokenPipeError:
            answer = {"error": "its process has ended"}
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["seconds"], answer["loss"]

    def close(self) -> None:
        """Ends the process."""
        if self.version:
            assert self._process.stdin is not None
            with self._process:
                self._process.stdin.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            return {"error": f"its process ended with {self._process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer
