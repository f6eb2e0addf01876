"""Describes the devices of a run."""

from __future__ import annotations

import jax

from vitjax.core.machine import process_cores


def describe_devices() -> str:
    """The devices as text: ``"2 x NVIDIA H100 (gpu)"``, ``"CPU, 2 cores"``."""
    devices = jax.devices()
    hosts = f" on {jax.process_count()} hosts" if jax.process_count() > 1 else ""
    kind, platform = devices[0].device_kind, devices[0].platform
    if platform == "cpu":
        cores = process_cores()
        local = jax.local_device_count()
        simulated = f", as {local} simulated devices" if local > 1 else ""
        return f"CPU, {cores} core{'' if cores == 1 else 's'}{simulated}{hosts}"
    return f"{len(devices)} x {kind} ({platform}){hosts}"
