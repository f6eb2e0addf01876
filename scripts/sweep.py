r"""Train the networks of the chronicle on CIFAR-10: the measured part of docs/chronicle.md.

    python -m scripts.sweep families --data=cifar10.npz --minutes=1
    python -m scripts.sweep pairs recurrence --data=cifar10.npz --seeds 0 1 2
    python -m scripts.sweep draw

The configs are those of configs/cifar10/chronicle.py. ``families`` gives every family the same
time: the speed of a network is measured first, and its run has as many steps as fit. ``pairs`` and
``recurrence`` give the networks that are compared the same number of steps. Each run appends a line
to docs/chronicle.jsonl, and one that is there already is not trained again, so a sweep that was
stopped resumes with the same command. ``draw`` writes the tables and figures of the page.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import matplotlib
import numpy as np

import vitjax
from configs.cifar10.chronicle import NETWORKS
from scripts import chronicle
from vitjax import config as configs
from vitjax import models
from vitjax.analysis import summary
from vitjax.figures import _canvas as canvas
from vitjax.training import loop

CONFIG = "configs/cifar10/chronicle.py"
SWEEPS = ("families", "pairs", "recurrence")
RUNS = chronicle.DOCS / "chronicle.jsonl"
PAIRS: dict[str, tuple[str, str]] = {
    "auxiliary loss": ("googlenet_alone", "googlenet"),
    "batch normalisation": ("vgg11", "vgg11_bn"),
    "squeeze and excitation": ("resnet50", "seresnet50"),
    "skip connections, 20 layers": ("plain20_narrow", "resnet20_narrow"),
    "skip connections, 56 layers": ("plain56_narrow", "resnet56_narrow"),
}
RECURRENCE = ("b_net", "b_k_net", "b_f_net", "b_d_net", "bl_net")
# Networks that are only in a pair.
_ONLY_PAIRED = {"googlenet_alone", *itertools.chain(*list(PAIRS.values())[-2:]), *RECURRENCE[1:-1]}
FAMILIES = tuple(name for name in NETWORKS if name not in _ONLY_PAIRED)
# Seconds for which the speed of a network is measured.
_TRIAL = 6.0


@dataclasses.dataclass(frozen=True)
class Row:
    """A run.

    Attributes:
        sweep: ``"families"``, ``"pairs"`` or ``"recurrence"``.
        network: a key of NETWORKS.
        seed: of the run.
        steps: of training.
        batch_size: examples of a step.
        minutes: for which it was to train; None if its steps were given.
        seconds: for which it trained, without compilation.
        accuracy: on the test images.
        test_images: their number.
        accuracy_over_time: at each time step of a recurrent network.
        parameters: their number, of what an evaluation computes.
        flops: of the forward pass for one image.
        pixels: side of the images.
        year: of the paper.
        device: what it ran on.
        jax: the version of JAX.
        date: when it ended.
    """

    sweep: str
    network: str
    seed: int
    steps: int
    batch_size: int
    minutes: float | None
    seconds: float
    accuracy: float
    test_images: int
    accuracy_over_time: list[float] | None
    parameters: int
    flops: float
    pixels: int
    year: int | None
    device: str
    jax: str
    date: str


def rows() -> list[Row]:
    """The runs of docs/chronicle.jsonl."""
    if not RUNS.exists():
        return []
    return [Row(**json.loads(line)) for line in RUNS.read_text().splitlines()]


def with_tests(data: Path, count: int, folder: str) -> Path:
    """A copy of ``cifar10.npz`` with the first ``count`` test images, which are in random order."""
    with np.load(data) as file:
        arrays = {
            name: array[:count] if name.endswith("_test") else array for name, array in file.items()
        }
    path = Path(folder) / data.name
    np.savez(path, **arrays)
    return path


def steps_in(minutes: float, config: Any) -> int:
    """How many training steps fit into a time, by a short trial."""
    experiment = vitjax.build(config)
    with experiment.data.train_batches() as batches:
        batch = experiment.parallel.place_batch(dict(next(batches)))
    state = experiment.parallel.place_state(experiment.initial_state())
    step = experiment.train_step()
    for _ in range(2):  # compiles
        state, _ = step(state, batch)
    jax.block_until_ready(state)
    start, taken = time.perf_counter(), 0
    while (seconds := time.perf_counter() - start) < _TRIAL:
        state, _ = jax.block_until_ready(step(state, batch))
        taken += 1
    return max(1, round(60 * minutes * taken / seconds))


def trained(
    sweep: str, network: str, seed: int, data: Path, *, minutes: float | None, steps: int | None
) -> Row:
    """Trains a network."""
    config = configs.load(f"{CONFIG}:{network}")
    config.seed, config.data.path = seed, str(data)
    if steps is None:
        assert minutes is not None
        steps = steps_in(minutes, config)
    config.train.steps = steps
    with tempfile.TemporaryDirectory() as folder:
        # The loop alone: the figures of a run would evaluate the test images again.
        found = loop.train(vitjax.build(config), folder)
    pixels, fields = NETWORKS[network]
    costs = summary.summarise(vitjax.build(config).objective.model, (pixels, pixels, 3))
    over_time = found["test"].get("accuracy_over_time")
    return Row(
        sweep=sweep,
        network=network,
        seed=seed,
        steps=steps,
        batch_size=config.data.batch_size,
        minutes=minutes,
        seconds=round(steps * config.data.batch_size / found["examples_per_second"], 1),
        accuracy=round(found["test"]["accuracy"], 4),
        test_images=found["test"]["examples"],
        accuracy_over_time=None if over_time is None else [round(x, 4) for x in over_time],
        parameters=costs.parameters,
        flops=costs.flops,
        pixels=pixels,
        year=models.facts(fields["name"])["year"],
        device=found["device"],
        jax=jax.__version__,
        date=datetime.date.today().isoformat(),
    )


def planned(sweeps: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[str, str, int]]:
    """The runs of sweeps: the sweep, the network, the seed."""
    if "families" in sweeps:
        yield from (("families", network, 0) for network in FAMILIES)
    for seed in seeds:
        if "pairs" in sweeps:
            yield from (("pairs", name, seed) for name in itertools.chain(*PAIRS.values()))
        if "recurrence" in sweeps:
            yield from (("recurrence", name, seed) for name in RECURRENCE)


def families_table(found: Sequence[Row]) -> str:
    """The table of the families, by accuracy."""
    lines = [
        "| Network | Year | Pixels | Test accuracy | Images seen | Images/s | Parameters | FLOPs |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in sorted(found, key=lambda row: -row.accuracy):
        images = row.steps * row.batch_size
        lines.append(
            f"| `{row.network}` | {row.year} | {row.pixels} | {row.accuracy:.1%} | {images:,} |"
            f" {images / row.seconds:.0f} | {chronicle.short(row.parameters)} |"
            f" {chronicle.short(row.flops)} |"
        )
    return "\n".join(lines)


def _accuracies(found: Sequence[Row]) -> str:
    values = [row.accuracy for row in found]
    each = ", ".join(f"{100 * value:.1f}" for value in values)
    return f"{statistics.mean(values):.1%} ({each})"


def pairs_table(found: Sequence[Row]) -> str:
    """The table of the pairs, each network with the accuracies of its seeds."""
    lines = ["| Idea | Without | With | Difference |", "|---|---:|---:|---:|"]
    for idea, names in PAIRS.items():
        without, with_ = ([row for row in found if row.network == name] for name in names)
        if without and with_:
            change = statistics.mean(row.accuracy for row in with_)
            change -= statistics.mean(row.accuracy for row in without)
            lines.append(
                f"| {idea} | `{names[0]}` {_accuracies(without)} | `{names[1]}`"
                f" {_accuracies(with_)} | {100 * change:+.1f} |"
            )
    return "\n".join(lines)


def recurrence_table(found: Sequence[Row]) -> str:
    """The table of BL-net and its controls."""
    lines = ["| Network | Parameters | FLOPs | Test accuracy |", "|---|---:|---:|---:|"]
    for name in RECURRENCE:
        own = [row for row in found if row.network == name]
        if own:
            lines.append(
                f"| `{name}` | {own[0].parameters:,} | {chronicle.short(own[0].flops)} |"
                f" {_accuracies(own)} |"
            )
    return "\n".join(lines)


def draw_families(found: Sequence[Row], path: Path) -> None:
    """Bars of accuracy, of images seen and of parameters, a line per network."""
    found = sorted(found, key=lambda row: row.accuracy)
    figure = canvas.new_figure(11, 0.27 * len(found) + 1.2, layout="constrained")
    panels = figure.subplots(1, 3, sharey=True, width_ratios=(2, 1, 1))
    years = [row.year or 0 for row in found]
    scale = matplotlib.colors.Normalize(min(years), max(years))
    colours = [matplotlib.colormaps["viridis"](scale(year)) for year in years]
    names = [f"{row.network} ({row.year})" for row in found]
    columns: tuple[tuple[str, list[float], str], ...] = (
        ("test accuracy (%)", [100 * row.accuracy for row in found], "{:.1f}"),
        ("thousand images seen", [row.steps * row.batch_size / 1000 for row in found], "{:.1f}"),
        ("million parameters", [row.parameters / 1e6 for row in found], "{:.2f}"),
    )
    for axes, (title, values, form) in zip(panels, columns, strict=True):
        bars = axes.barh(names, values, color=colours)
        axes.bar_label(bars, [form.format(value) for value in values], padding=3, fontsize=7.5)
        axes.set_xlabel(title)
        axes.margins(x=0.2, y=0.01)
        axes.grid(axis="x", alpha=0.25)
        axes.tick_params(axis="y", labelsize=8)
    panels[0].axvline(10, color="black", lw=0.8, ls=":")
    canvas.save(figure, path)


def draw_recurrence(found: Sequence[Row], path: Path) -> None:
    """Accuracy at each time step of BL-net, and of the networks that have one."""
    figure = canvas.new_figure(7.5, 4.5, layout="constrained")
    axes = figure.add_subplot()
    own = [row.accuracy_over_time for row in found if row.accuracy_over_time]
    steps = range(1, len(own[0]) + 1)
    columns = [[100 * x for x in values] for values in zip(*own, strict=True)]
    mean = [statistics.mean(values) for values in columns]
    (line,) = axes.plot(steps, mean, marker="o", label="bl_net")
    axes.fill_between(
        steps,
        [min(values) for values in columns],
        [max(values) for values in columns],
        alpha=0.2,
        color=line.get_color(),
    )
    for i, name in enumerate(RECURRENCE[:-1], start=1):
        values = [100 * row.accuracy for row in found if row.network == name]
        if values:
            colour = f"C{i}"
            axes.axhline(statistics.mean(values), color=colour, ls="--", lw=1.2, label=name)
            axes.axhspan(min(values), max(values), color=colour, alpha=0.08, lw=0)
    axes.set_xlabel("time step")
    axes.set_ylabel("test accuracy (%)")
    axes.set_xticks(list(steps))
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.grid(alpha=0.25)
    canvas.save(figure, path)


def draw() -> None:
    """Writes the tables and figures of the page, of the runs that there are."""
    by_sweep = {sweep: [row for row in rows() if row.sweep == sweep] for sweep in SWEEPS}
    families, pairs, recurrence = by_sweep.values()
    tables = {
        "families": families_table(families),
        "pairs": pairs_table(pairs),
        "recurrence": recurrence_table(recurrence),
    }
    page = chronicle.PAGE.read_text()
    chronicle.PAGE.write_text(chronicle.with_tables(page, tables, "scripts/sweep.py"))
    if families:
        draw_families(families, chronicle.FIGURE.with_name("sweep.png"))
    if any(row.accuracy_over_time for row in recurrence):
        draw_recurrence(recurrence, chronicle.FIGURE.with_name("recurrence.png"))


def main() -> int:
    """Runs the sweeps that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="+", choices=[*SWEEPS, "draw"])
    parser.add_argument("--data", type=Path, default=Path("cifar10.npz"))
    parser.add_argument("--minutes", type=float, default=1.0, help="of each family's training")
    parser.add_argument("--steps", type=int, default=100, help="of the networks compared")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=[], help="networks; all if not given")
    parser.add_argument("--test-images", type=int, default=4000, help="of the 10,000 test images")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run_all(arguments, folder)
    if "draw" in arguments.what:
        draw()
    return 0


def run_all(arguments: argparse.Namespace, folder: str) -> None:
    """Trains what is missing of the sweeps."""
    done = {}
    for row in rows():
        budget = {"families": row.minutes}.get(row.sweep, row.steps)
        wanted = {"families": arguments.minutes}.get(row.sweep, arguments.steps)
        if row.sweep in arguments.what and budget != wanted:
            raise SystemExit(
                f"{RUNS} has a run of {row.network} with a budget of {budget}, not {wanted}: the"
                " networks of a table have one budget; remove its lines, or give that budget"
            )
        done[row.sweep, row.network, row.seed] = row
    data: Path | None = None
    for run in planned(arguments.what, arguments.seeds):
        sweep, network, seed = run
        if run in done or (arguments.only and network not in arguments.only):
            continue
        if data is None:
            data = with_tests(arguments.data, arguments.test_images, folder)
        timed = sweep == "families"
        row = trained(
            sweep,
            network,
            seed,
            data,
            minutes=arguments.minutes if timed else None,
            steps=None if timed else arguments.steps,
        )
        with RUNS.open("a") as file:
            file.write(json.dumps(dataclasses.asdict(row)) + "\n")
        print(f"{sweep} {network} {seed}: {row.accuracy:.1%} in {row.seconds:.0f} s", flush=True)
        jax.clear_caches()


if __name__ == "__main__":
    sys.exit(main())
