"""Whether all hosts of a run do the same: its config, versions, data and folder."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vitjax.config import user_code
from vitjax.config.values import flatten
from vitjax.core.errors import ConfigError
from vitjax.core.text import quoted
from vitjax.training.checkpoint_files import begun
from vitjax.training.summary import environment
from vitjax.training.workdir import CHECKPOINTS, LOCK

# Each host may have its own copy of the data, and as many workers as cores; the text of imported
# files is compared, not where they lie.
_FREE = {"data.path", "data.data_dir", "data.root", "data.workers", "imports"}
_LISTED = 3
# A network file system may show a new file to the other hosts only after its cache has expired.
_SECONDS = 60


def check(
    config: Mapping[str, Any], examples: Mapping[str, Any] | None = None, folder: Path | None = None
) -> None:
    """Checks that all hosts have the same config, versions, code and data.

    All hosts call this, before they read weights and take their first step. Different hosts would
    otherwise wait for each other in different places, or train on wrong sums.

    Args:
        config: the config of the run.
        examples: what the run learns from, as of `vitjax.data.Dataset.identity`; None if it is only
            evaluated.
        folder: the run's folder; None if nothing is written.

    Raises:
        ConfigError: something differs; the message names it, and is the same on all hosts.
    """
    if jax.process_count() == 1:
        return
    about = environment()
    facts = {
        **{f"config.{k}": v for k, v in flatten(config).items() if k not in _FREE},
        **{f"the data's {k}": v for k, v in flatten(examples or {}).items()},
        **{f"the version of {k}": v for k, v in about["versions"].items() if k != "python"},
        "the git revision of vitjax": about["git_revision"],
        **{f"the text of {name}": digest for name, digest in user_code.digests(config).items()},
    }
    if folder is not None:
        facts["the workdir has checkpoints"] = begun(folder / CHECKPOINTS)
    # Digests first: the facts of large data sets are long.
    texts = {key: json.dumps(value, sort_keys=True, default=str) for key, value in facts.items()}
    whole = hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).digest()
    if len(set(_gathered(whole))) > 1:
        shown = {key: [quoted(facts[key], 80), _digest(text)] for key, text in texts.items()}
        found = [json.loads(text) for text in _gathered(json.dumps(shown).encode())]
        raise ConfigError(_difference(found))


def _difference(found: list[dict[str, list[str]]]) -> str:
    """What differs between hosts, in words; for each host what it has under each name."""
    keys = dict.fromkeys(key for host in found for key in host)
    parts = []
    for key in keys:
        values = [host.get(key, ["missing", ""]) for host in found]
        other = next((i for i, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            here, there = values[0][0], values[other][0]
            same = " (the rest differs)" if here == there else ""
            parts.append(f"{key} is {here} on host 0 and {there} on host {other}{same}")
    more = f", and {len(parts) - _LISTED} more" if len(parts) > _LISTED else ""
    return (
        f"the hosts of this run differ: {'; '.join(parts[:_LISTED])}{more}. Start all of them with"
        " the same command, code and data"
    )


def check_folder(folder: Path) -> None:
    """Checks that all hosts have the same workdir; all call this after host 0 has locked it.

    Raises:
        ConfigError: a host does not see the file with which host 0 has locked ``folder``.
    """
    if jax.process_count() == 1:
        return
    path = folder / LOCK

    def seen() -> bytes:
        try:
            return path.read_bytes()
        except OSError:
            return b""

    first, deadline = _gathered(seen())[0], time.monotonic() + _SECONDS
    while seen() != first and time.monotonic() < deadline:
        time.sleep(0.2)
    found = _gathered(bytes([seen() == first]))
    without = [str(number) for number, sees in enumerate(found) if sees == bytes([False])]
    if without:
        raise ConfigError(
            f"{folder} is not the same folder on all hosts: host {', '.join(without)} does"
            " not see what host 0 writes there; choose a --workdir on a file system that they share"
        )


def _gathered(value: bytes) -> list[bytes]:
    """The values of all hosts, by their numbers."""
    lengths = multihost_utils.process_allgather(np.asarray([len(value)])).reshape(-1)
    padded = np.zeros(max(1, int(lengths.max())), np.uint8)
    padded[: len(value)] = np.frombuffer(value, np.uint8)
    rows = multihost_utils.process_allgather(padded).reshape(len(lengths), -1)
    return [row[:length].tobytes() for row, length in zip(rows, lengths, strict=True)]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
