"""Accelerators by name: the peak and the memory of one device, from the vendors' data sheets."""

from __future__ import annotations

import dataclasses

from vitjax.core.errors import ConfigError
from vitjax.core.text import near_match


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """One device of a kind.

    Attributes:
        kind: a part of its `jax.Device.device_kind`.
        peak: dense bfloat16 FLOP/s (float16 on V100 and T4).
        memory: bytes. A gigabyte of a data sheet is taken as 10^9 bytes. Most vendors mean 2^30, so
            that 7% are left for the driver and for libraries.
    """

    kind: str
    peak: float
    memory: float


# The first kind that is found in the name of a device is used, so longer ones come first.
ACCELERATORS = {
    "h200": Accelerator("H200", 989e12, 141e9),
    "h100-pcie": Accelerator("H100 PCIe", 756e12, 80e9),
    "h100-nvl": Accelerator("H100 NVL", 835e12, 94e9),
    "h100": Accelerator("H100", 989e12, 80e9),
    "a100-80gb": Accelerator("A100-SXM4-80GB", 312e12, 80e9),
    "a100": Accelerator("A100", 312e12, 40e9),
    "l40s": Accelerator("L40S", 362e12, 48e9),
    "l40": Accelerator("L40", 181e12, 48e9),
    "l4": Accelerator("L4", 121e12, 24e9),
    "v100-32gb": Accelerator("V100-SXM2-32GB", 125e12, 32e9),
    "v100": Accelerator("V100", 125e12, 16e9),
    "t4": Accelerator("T4", 65e12, 16e9),
    "b200": Accelerator("B200", 2250e12, 180e9),
    "v6e": Accelerator("TPU v6 lite", 918e12, 32e9),
    "v5e": Accelerator("TPU v5 lite", 197e12, 16e9),
    # Also called "TPU v5p".
    "v5p": Accelerator("TPU v5", 459e12, 95e9),
    "v4": Accelerator("TPU v4", 275e12, 32e9),
    # A device of these two is a core, and a chip has two cores.
    "v3": Accelerator("TPU v3", 61.5e12, 16e9),
    "v2": Accelerator("TPU v2", 22.5e12, 8e9),
}


def of_kind(device_kind: str) -> Accelerator | None:
    """The accelerator with this `jax.Device.device_kind`; None if it is not known."""
    return next((each for each in ACCELERATORS.values() if each.kind in device_kind), None)


def named(name: str, where: str) -> Accelerator:
    """The accelerator called ``name``.

    Args:
        name: a key of `ACCELERATORS`, in capital or small letters.
        where: what gave the name, for the error.

    Raises:
        ConfigError: no accelerator has the name; the message has the near match and all names.
    """
    found = ACCELERATORS.get(name.lower())
    if found is None:
        known = ["cpu", *ACCELERATORS]
        raise ConfigError(
            f"{where}: unknown device {name!r}{near_match(name.lower(), known)}"
            f" (known: {', '.join(known)})"
        )
    return found
