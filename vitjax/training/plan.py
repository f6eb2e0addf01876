"""What a run needs, as `vitjax.training.planning` finds it: in numbers and as a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from vitjax.core.text import counted, duration

# Rows of the table of memory, and how they are known.
_EXACT, _ESTIMATE = "exact", "estimate"
_ROWS = {
    "parameters": ("parameters", _EXACT),
    "other_variables": ("other variables", _EXACT),
    "optimizer": ("optimizer state", _EXACT),
    "ema": ("moving average", _EXACT),
    "data": ("images kept there", _EXACT),
    "batch": ("batches", _EXACT),
    "gradients": ("gradients", _ESTIMATE),
    "activations": ("activations, temporaries", _ESTIMATE),
}
_ALWAYS = ("parameters", "optimizer", "batch", "gradients", "activations")


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one device during a training step.

    All but the last two are exact. These are XLA's temporaries at their peak: ``gradients`` is the
    size of all gradients at once, and ``activations`` the rest.

    Attributes:
        parameters: trained and frozen.
        other_variables: batch statistics and the like, the step and the random key.
        optimizer: the state of the optimizer.
        ema: the moving average.
        data: images that stay on the device.
        batch: the batch, and those that are read ahead.
        gradients: of the trained parameters.
        activations: all other temporaries, such as activations and gathered parameters.
    """

    parameters: int
    other_variables: int
    optimizer: int
    ema: int
    data: int
    batch: int
    gradients: int
    activations: int

    @property
    def total(self) -> int:
        """The sum of all."""
        return sum(dataclasses.asdict(self).values())


@dataclasses.dataclass(frozen=True)
class Plan:
    """A plan.

    Attributes:
        model: its name, and the dtype that it computes in where the config gives one.
        device: the name of a device.
        devices: their number.
        mesh: the axes of the mesh; under ``pmap``, the one axis.
        compiled_for: the platform whose XLA compiled the step.
        stands_for_another: whether the run would be on another platform.
        batch_size: examples, or episodes, of a step.
        unit: what a batch consists of.
        parameters: the number of trained ones, and of frozen ones.
        flops_per_step: see `vitjax.training.flops`.
        memory: of one device.
        device_memory: bytes of one device; None if that is not known.
        peak: bfloat16 FLOP/s of one device; None if that is not known.
        mfu: the fraction of the peak that is assumed.
        steps: of the run.
        largest_batch: the largest batch size that fits; 0 if none does, None if that is not known.
        batch_shards: the parts that a batch is split into.
    """

    model: str
    device: str
    devices: int
    mesh: Mapping[str, int]
    compiled_for: str
    stands_for_another: bool
    batch_size: int
    unit: str
    parameters: tuple[int, int]
    flops_per_step: float
    memory: Memory
    device_memory: int | None
    peak: float | None
    mfu: float
    steps: int
    largest_batch: int | None
    batch_shards: int

    @property
    def fits(self) -> bool | None:
        """Whether the memory of a device suffices; None if that is not known."""
        return None if self.device_memory is None else self.memory.total <= self.device_memory

    @property
    def seconds_per_step(self) -> float | None:
        """The time of a step at the assumed fraction of the peak."""
        if self.peak is None:
            return None
        return self.flops_per_step / (self.devices * self.peak * self.mfu)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values; times in seconds, memory in bytes."""
        seconds, largest = self.seconds_per_step, self.largest_batch
        per_device = None if largest is None else largest // self.batch_shards
        return {
            "model": self.model,
            "device": self.device,
            "devices": self.devices,
            "mesh": dict(self.mesh),
            "compiled_for": self.compiled_for,
            "unit": self.unit,
            "batch_size": self.batch_size,
            "batch_size_per_device": self.batch_size // self.batch_shards,
            "trained_parameters": self.parameters[0],
            "frozen_parameters": self.parameters[1],
            "flops_per_step": self.flops_per_step,
            "memory_per_device": {**dataclasses.asdict(self.memory), "total": self.memory.total},
            "device_memory": self.device_memory,
            "fits": self.fits,
            "peak_flops_per_second": self.peak,
            "mfu": self.mfu,
            "seconds_per_step": seconds,
            "examples_per_second": None if seconds is None else self.batch_size / seconds,
            "steps": self.steps,
            "seconds": None if seconds is None else self.steps * seconds,
            "largest_batch_size": largest,
            "largest_batch_size_per_device": per_device,
        }

    def lines(self) -> Iterator[str]:
        """The plan as text."""
        trained, frozen = self.parameters
        mesh = ", ".join(f"{axis}={size}" for axis, size in self.mesh.items() if size > 1)
        size = "" if self.device_memory is None else f" of {_size(self.device_memory)}"
        facts = {
            "model": self.model,
            "devices": f"{self.devices:,} x {self.device}{size}{f' (mesh {mesh})' if mesh else ''}",
            "batch": self._batch(self.batch_size),
            "parameters": f"{trained:,} trained, {frozen:,} frozen",
            "FLOPs per step": f"{self.flops_per_step:.3e}",
        }
        yield from (f"{name:16}{value}" for name, value in facts.items())
        yield ""
        yield "memory per device"
        for name, amount in dataclasses.asdict(self.memory).items():
            if amount or name in _ALWAYS:
                row, known = _ROWS[name]
                yield f"  {row:24}{_size(amount):>12}  {known}"
        yield f"  {'total':24}{_size(self.memory.total):>12}  {self._verdict()}"
        yield ""
        yield from self._speed()
        if self.largest_batch is not None:
            found = self._batch(self.largest_batch) if self.largest_batch else "none fits"
            yield f"{'largest batch':16}{found}"
        yield ""
        yield from self._notes()

    def _batch(self, size: int) -> str:
        return f"{counted(size, self.unit)}, {size // self.batch_shards:,} per device"

    def _verdict(self) -> str:
        if self.device_memory is None:
            return "the memory of the device is not known"
        part = f"{self.memory.total / self.device_memory:.0%} of the device"
        return f"{'fits' if self.fits else 'does not fit'}: {part}"

    def _speed(self) -> Iterator[str]:
        seconds = self.seconds_per_step
        if seconds is None:
            yield f"{'time':16}not known: the peak of {self.device!r} is not"
            return
        assert self.peak is not None
        rate = self.batch_size / seconds
        peak = f"the bfloat16 peak of {self.peak / 1e12:,.4g} TFLOP/s per device"
        yield f"{'time per step':16}{1000 * seconds:,.4g} ms at {self.mfu:.0%} of {peak}"
        yield f"{'speed':16}{rate:,.4g} {self.unit}s per second"
        yield f"{'whole run':16}{duration(self.steps * seconds)} for {counted(self.steps, 'step')}"

    def _notes(self) -> Iterator[str]:
        yield (
            "exact: sizes of arrays by their placement. estimate: the temporaries of XLA for"
            f" {self.compiled_for}, the gradients as if all were there at the peak."
        )
        if self.stands_for_another:
            yield (
                "XLA for another platform orders and fuses operations in other ways, and XLA for"
                " CPUs keeps much of a bfloat16 network in float32: there, expect less."
            )


def _size(amount: float) -> str:
    """A number of bytes in gigabytes or megabytes, with three digits or more."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if amount >= factor:
            return f"{amount / factor:,.2f} {unit}"
    return f"{amount / 1e3:,.1f} kB"
