"""What each idea of the history of convolutional networks changes: docs/chronicle.md.

    python -m scripts.chronicle            # write the tables and the figure
    python -m scripts.chronicle --check    # fail if the page is not up to date

Each idea is shown by two networks that differ in it, traced by `vitjax.analysis.summary`. Ideas
whose networks are not registered are left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import matplotlib
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from vitjax import models
from vitjax.analysis import summary
from vitjax.figures import _canvas as canvas
from vitjax.models import Model

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, FIGURE = DOCS / "chronicle.md", DOCS / "images" / "chronicle.png"


class Stack(Model):
    """Convolutions without normalisation, each (side, side, channels, groups), and dense layers.

    Attributes:
        convolutions: of stride 1, each followed by a ReLU.
        dense: outputs of dense layers after the last map.
        average: average the last map before them.
    """

    convolutions: tuple[tuple[int, int, int, int], ...] = ()
    dense: tuple[int, ...] = ()
    average: bool = False

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        """Applies the layers."""
        for height, width, features, groups in self.convolutions:
            x = jax.nn.relu(nn.Conv(features, (height, width), feature_group_count=groups)(x))
        if self.dense:
            x = x.mean((1, 2)) if self.average else x.reshape(len(x), -1)
        for features in self.dense:
            x = nn.Dense(features)(x)
        return x


@dataclasses.dataclass(frozen=True)
class Network:
    """One of the two networks of an idea.

    Attributes:
        words: what it is called on the page.
        name: of a registered model; None for a `Stack`.
        fields: of the model.
        shape: of the input; None for that of the registered model.
    """

    words: str
    name: str | None = None
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    shape: tuple[int, ...] | None = None

    @property
    def known(self) -> bool:
        """Whether it can be built."""
        return self.name is None or self.name in models.names()

    def summarised(self) -> summary.Summary:
        """Its layers."""
        if self.name is None:
            assert self.shape is not None
            return summary.summarise(Stack(**self.fields), self.shape)
        model = models.create(self.name, **self.fields)
        return summary.summarise(model, self.shape or models.input_shape(self.name))


def registered(name: str, words: str | None = None, **fields: Any) -> Network:
    """A registered model, with some of its fields overridden."""
    return Network(words or f"`{name}`", name, fields)


def stack(words: str, shape: tuple[int, ...], **fields: Any) -> Network:
    """A `Stack` for inputs of a shape."""
    return Network(words, None, fields, shape)


MAP = (28, 28, 256)
# A name, the network without the idea, and the one with it.
IDEAS: tuple[tuple[str, Network, Network], ...] = (
    (
        "small kernels",
        stack("one 7 x 7 convolution, 256 channels", MAP, convolutions=((7, 7, 256, 1),)),
        stack("three of 3 x 3", MAP, convolutions=((3, 3, 256, 1),) * 3),
    ),
    ("1 x 1 bottleneck", registered("resnet34"), registered("resnet50")),
    (
        "factorised 1 x n and n x 1",
        stack("one 7 x 7 convolution, 256 channels", MAP, convolutions=((7, 7, 256, 1),)),
        stack("1 x 7 and 7 x 1", MAP, convolutions=((1, 7, 256, 1), (7, 1, 256, 1))),
    ),
    (
        "auxiliary loss",
        registered("googlenet", "`googlenet` without", auxiliary=False),
        registered("googlenet", "with auxiliary heads, which only training computes"),
    ),
    ("batch normalisation", registered("vgg16"), registered("vgg16_bn")),
    (
        "skip connection",
        registered("plain34"),
        # Without projections, as in the paper's comparison (Fig. 4).
        registered("resnet34", '`resnet34` with `shortcut="pad"`', shortcut="pad"),
    ),
    ("order: BN, ReLU, convolution", registered("resnet50"), registered("resnet50_v2")),
    ("width against depth", registered("resnet152"), registered("wrn50_2")),
    ("dense connections", registered("resnet50"), registered("densenet121")),
    ("grouped convolution", registered("resnet50"), registered("resnext50_32x4d")),
    (
        "depthwise separable convolution",
        stack("one 3 x 3 convolution, 256 channels", MAP, convolutions=((3, 3, 256, 1),)),
        stack(
            "depthwise 3 x 3 and 1 x 1",
            MAP,
            convolutions=((3, 3, 256, 256), (1, 1, 256, 1)),
        ),
    ),
    ("squeeze and excitation", registered("resnet50"), registered("seresnet50")),
    ("split attention", registered("resnet50"), registered("resnest50d")),
    (
        "global average pooling",
        stack("VGG's three dense layers", (7, 7, 512), dense=(4096, 4096, 1000)),
        stack("the mean and one dense layer", (7, 7, 512), dense=(1000,), average=True),
    ),
    ("compound scaling", registered("efficientnet_b0"), registered("efficientnet_b4")),
    ("recurrence", registered("b_net"), registered("bl_net")),
)


def short(number: float) -> str:
    """A number in three digits, such as 3.36 G."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:#.3g} {unit}".replace(". ", " ")
    return f"{number:.0f}"


def field(found: summary.Summary) -> str:
    """The largest receptive field of a layer that does not see the whole image."""
    sizes = [layer.size for layer in found.layers if layer.size and None not in layer.size]
    if not sizes:
        return "image"
    height, width = max(sizes, key=lambda size: (size[0] or 0) * (size[1] or 0))
    return str(height) if height == width else f"{height} x {width}"


def ideas() -> str:
    """The table of ideas."""
    rows = [
        "| Idea | Without and with | Parameters | FLOPs | Activations | Receptive field |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for idea, before, after in IDEAS:
        if not (before.known and after.known):
            continue
        a, b = before.summarised(), after.summarised()
        for place, (words, one) in enumerate(((before.words, a), (after.words, b))):
            cells = [
                idea if place == 0 else "",
                words,
                short(one.parameters),
                short(one.flops),
                f"{short(4 * one.activations)}B",
                field(one),
            ]
            rows.append(f"| {' | '.join(cells)} |")
        ratios = [
            f"x {y / x:.3g}" if x else ""
            for x, y in (
                (a.parameters, b.parameters),
                (a.flops, b.flops),
                (a.activations, b.activations),
            )
        ]
        rows.append(f"| | *change* | {' | '.join(ratios)} | |")
    return "\n".join(rows)


def published(entries: Sequence[summary.Entry]) -> str:
    """The table of published accuracies."""
    rows = [
        "| Model | Year | Top-1 | FLOPs | Parameters | Weights |",
        "|---|---:|---:|---:|---:|---|",
    ]
    rows += [
        f"| `{e.name}` | {e.year} | {e.accuracy:.1f}% | {short(e.flops)} | {short(e.parameters)} |"
        f" {e.accuracy_source} |"
        for e in entries
    ]
    return "\n".join(rows)


def draw(entries: Sequence[summary.Entry], path: Path) -> None:
    """Accuracy over FLOPs; the area of a circle shows parameters, its colour the year."""
    figure = canvas.new_figure(11.5, 7.5, layout="constrained")
    axes = figure.add_subplot()
    years = [entry.year or 0 for entry in entries]
    area = 3.0  # square points per million parameters
    points = axes.scatter(
        [entry.flops / 1e9 for entry in entries],
        [entry.accuracy or 0.0 for entry in entries],
        s=[area * entry.parameters / 1e6 for entry in entries],
        c=years,
        cmap="viridis",
        alpha=0.6,
        linewidths=0.6,
        edgecolors="black",
    )
    axes.set_xscale("log")
    axes.set_xlabel("GFLOPs of the forward pass for one image (a multiply-add counts as two)")
    axes.set_ylabel("published top-1 accuracy on ImageNet (%)")
    axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda x, _: f"{x:g}"))
    axes.grid(alpha=0.25)
    axes.margins(0.12)
    bar = figure.colorbar(points, ax=axes, label="year")
    bar.set_ticks(sorted(set(years)))
    bar.ax.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda x, _: f"{x:.0f}"))
    axes.legend(
        handles=[
            Line2D([], [], marker="o", ls="", ms=(area * size) ** 0.5, mfc="#bbbbbb", mec="black",
                   label=f"{size} M parameters")
            for size in (5, 25, 100)
        ],
        loc="lower right",
        labelspacing=1.0,
        fontsize=8,
    )  # fmt: skip
    _label(figure, axes, entries, area)
    canvas.save(figure, path)


def _label(figure: Any, axes: Any, entries: Sequence[summary.Entry], area: float) -> None:
    """Writes each name beside its circle, where it meets no other name or circle."""
    figure.canvas.draw()
    taken: list[Any] = []
    for entry in entries:
        # Half of a side in pixels of the figure, of a circle whose area is in square points.
        half = (area * entry.parameters / 1e6 / 3.14) ** 0.5 * figure.dpi / 72
        x, y = axes.transData.transform((entry.flops / 1e9, entry.accuracy))
        taken.append(Bbox([[x - half, y - half], [x + half, y + half]]))
    for entry in sorted(entries, key=lambda e: -(e.accuracy or 0)):
        radius = (area * entry.parameters / 1e6 / 3.14) ** 0.5 + 2
        places = [
            (x * (radius + far), y * (radius + far) * 0.8, x, y)
            for far in (0, 8, 16, 26, 38, 52, 70)
            for x, y in ((1, 0), (-1, 0), (0.5, 1), (0.5, -1), (-0.5, 1), (-0.5, -1))
        ]
        for place, (dx, dy, x, y) in enumerate(places):
            text = axes.annotate(
                entry.name,
                (entry.flops / 1e9, entry.accuracy),
                (dx, dy),
                textcoords="offset points",
                fontsize=7.5,
                ha="left" if x > 0 else "right",
                va="center" if y == 0 else ("bottom" if y > 0 else "top"),
                arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "#555555"},
            )
            # Of the words alone: that of the annotation reaches to its circle.
            text.update_positions(figure.canvas.get_renderer())
            box = Text.get_window_extent(text).expanded(1.02, 1.15)
            if place + 1 == len(places) or not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def with_tables(page: str, tables: dict[str, str], script: str = "scripts/chronicle.py") -> str:
    """The page with its tables, each between two markers with its name and the script's."""
    for name, table in tables.items():
        begin, end = f"<!-- {name}: written by {script} -->", f"<!-- end of {name} -->"
        before, found, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise SystemExit(f"{PAGE}: the markers of {name!r} are missing")
        page = f"{before}{begin}\n{table}\n{end}{after}"
    return page


def main() -> int:
    """Writes the page and the figure, or checks the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail if the page is out of date")
    check = parser.parse_args().check
    known = [name for name in models.names() if models.facts(name)["accuracy"] is not None]
    entries = sorted(map(summary.entry, known), key=lambda entry: (entry.year or 0, entry.flops))
    old = PAGE.read_text()
    new = with_tables(old, {"ideas": ideas(), "accuracies": published(entries)})
    if check:
        if new != old:
            print(f"{PAGE} is out of date: python -m scripts.chronicle", file=sys.stderr)
        return int(new != old)
    PAGE.write_text(new)
    draw(entries, FIGURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
