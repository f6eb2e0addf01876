"""The weights of PyTorch modules that bear vitjax's names, in vitjax's forms."""

import numpy as np
import torch

Arrays = dict[str, np.ndarray]

_STATISTICS = {"running_mean": "mean", "running_var": "var"}


def plain(model: torch.nn.Module) -> Arrays:
    """The parameters and batch statistics of a model whose modules bear vitjax's names."""
    found: Arrays = {}
    for name, tensor in model.state_dict().items():
        *path, leaf = name.split(".")
        if leaf == "num_batches_tracked":
            continue
        value = tensor.detach().numpy()
        if leaf in _STATISTICS:
            found["/".join(["batch_stats", *path, _STATISTICS[leaf]])] = value
            continue
        if leaf == "weight":
            leaf = "scale" if value.ndim == 1 else "kernel"
            # Kernels are (height, width, in, out) or (in, out).
            value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        found["/".join(["params", *path, leaf])] = value
    return found
