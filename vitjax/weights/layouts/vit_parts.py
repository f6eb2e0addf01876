"""What layouts of Vision Transformers share: tokens and positions, heads, descriptions."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vitjax.models.vit import ViT
from vitjax.nn.positions import sincos2d
from vitjax.weights import sizes
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts.card import CONFIG, invalid
from vitjax.weights.layouts.layout import Arrays, Description, Entry, Known, same
from vitjax.weights.layouts.vit_positions import positions_of

Grid = tuple[int, int] | None

# Heads for some widths of published networks; otherwise most have a width of 64 per head.
_HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}
_HEAD_WIDTH = 64
# The names that other projects have for the two forms of GELU.
_GELUS = {
    "gelu": "exact",
    "gelu_python": "exact",
    "gelu_new": "tanh",
    "gelu_tanh": "tanh",
    "gelu_pytorch_tanh": "tanh",
    "gelu_fast": "tanh",
    "quick_gelu": "quick",
}


def tokens(
    module: ViT,
    names: Mapping[str, str],
    arrays: Arrays | None,
    grid: Grid,
    *,
    rows_for: str = "class",
) -> list[Entry]:
    """Class token, registers and position embeddings.

    Files differ in which of the first tokens have a position. These tokens are the same for all
    images, so if the model has no position for one, the position is added to the token, and the
    outputs are the same.

    Args:
        module: the model.
        names: the format's names of ``"class"``, ``"registers"`` and ``"positions"``, of those
            that it has.
        arrays: of the file, or None for writing.
        grid: (rows, columns) of the file's patches. Writing needs it only for computed positions.
        rows_for: for writing, the first tokens that have a row among the positions: ``"none"``,
            ``"class"``, or ``"all"`` if the model has a position for the class token.
    """
    first, counts = {}, []
    for here, kind, number in (
        ("class_token", "class", int(module.has_class_token)),
        ("register_tokens", "registers", module.registers),
    ):
        if number and kind in names:
            first[f"params/{here}"] = names[kind]
            counts.append(number)
    separate = [entry for here, theirs in first.items() for entry in same(here, theirs)]
    if module.positions == "none" or "positions" not in names:
        return separate
    learned = module.positions == "learned"
    own_row = learned and module.class_position and module.has_class_token
    if arrays is None:
        rows = {"none": 0, "class": int(module.has_class_token), "all": sum(counts) * own_row}[
            rows_for
        ]
        folds = own_row and not rows
    else:
        stored = arrays.get(names["positions"])
        rows = own_row if stored is None or grid is None else stored.shape[1] - grid[0] * grid[1]
        folds = rows > own_row
    form = _Positions(module, grid, rows, own_row, tuple(counts), folds)
    ours = (
        *(first if folds else ()),
        *(["params/class_position_embedding"] if own_row else []),
        *(["params/position_embedding"] if learned else []),
    )
    theirs = (*(first.values() if folds else ()), names["positions"])
    return [*([] if folds else separate), Entry(ours, theirs, form.read, form.write)]


@dataclasses.dataclass(frozen=True)
class _Positions:
    """Position embeddings and the tokens that they are added to, in both forms.

    Attributes:
        module: the model.
        grid: (rows, columns) of patches.
        rows: the number of the file's positions of tokens before the patches.
        own_row: whether the model has a position for the class token.
        counts: the numbers of class tokens and registers.
        folds: whether positions are added to these tokens.
    """

    module: ViT
    grid: Grid
    rows: int
    own_row: bool
    counts: tuple[int, ...]
    folds: bool

    def read(self, *theirs: np.ndarray) -> tuple[np.ndarray, ...]:
        """[Class token,] [registers,] positions -> the same, [class position,] grid."""
        *first, positions = theirs
        total = sum(self.counts)
        if self.grid is None or positions.ndim != 3 or not 0 <= self.rows <= total:
            raise WeightsError(
                f"positions of shape {positions.shape} do not fit {self.grid} patches with at most"
                f" {total} tokens before them"
            )
        width = positions.shape[-1]
        before = np.zeros((1, total, width), positions.dtype)
        before[:, : self.rows] = positions[:, : self.rows]
        own = [before[:, :1].copy()] if self.own_row else []
        before[:, : len(own)] = 0
        if self.folds:
            pieces = np.split(before, np.cumsum(self.counts)[:-1], axis=1)
            first = [
                token.astype(np.float64) + piece.astype(np.float64)
                for token, piece in zip(first, pieces, strict=True)
            ]
        patches = positions[:, self.rows :].reshape(1, *self.grid, width)
        if self.module.positions == "learned":
            return (*first, *own, patches)
        if not np.allclose(patches[0].astype(np.float64), sincos2d(*self.grid, width), atol=1e-3):
            raise WeightsError(
                "the file's positions are not those that positions='sincos2d' computes; use"
                " positions='learned'"
            )
        return (*first, *own)

    def write(self, *ours: np.ndarray) -> tuple[np.ndarray, ...]:
        """The inverse of `read`."""
        left = list(ours)
        if self.module.positions == "learned":
            patches = left.pop()
        elif self.grid is not None:
            patches = sincos2d(*self.grid, self.module.width)[None].astype(np.float32)
        else:
            raise WeightsError(
                "positions='sincos2d' are computed from the size of the images, and stored in such"
                " files: set input_shape=(height, width, channels)"
            )
        own = left.pop() if self.own_row else 0
        if self.folds:
            left[0] = left[0] + own
        before = np.zeros((1, self.rows, patches.shape[-1]), patches.dtype)
        if self.rows:
            before[:, :1] = own
        return (*left, np.concatenate([before, patches.reshape(1, -1, before.shape[-1])], axis=1))


def fused(
    ours: Sequence[str], theirs: str, arrays: Arrays | None, *, bias: bool = True
) -> list[Entry]:
    """Several dense layers of vitjax that are stacked in one of PyTorch's.

    Args:
        ours: names of the layers.
        theirs: the name of PyTorch's, without ``weight`` and ``bias``.
        arrays: of the file, or None for writing. If it has no such bias in any block, biases are
            zero.
        bias: whether the model's layers have biases.
    """
    parts = len(ours)
    kernels = Entry(
        tuple(f"params/{name}/kernel" for name in ours),
        (f"{theirs}weight",),
        lambda x: tuple(piece.T for piece in _split(x, parts)),
        lambda *xs: (np.concatenate([x.T for x in xs]),),
    )
    if not bias:
        return [kernels]
    names = tuple(f"params/{name}/bias" for name in ours)
    if arrays is not None and f"{theirs}weight" in arrays:
        anywhere = re.sub(r"\d+", r"\\d+", re.escape(f"{theirs}bias"))
        if not has_array(arrays, anywhere):
            zeros = np.zeros(len(arrays[f"{theirs}weight"]), np.float32)
            return [kernels, Entry(names, (), lambda: _split(zeros, parts))]
    biases = Entry(
        names, (f"{theirs}bias",), lambda x: _split(x, parts), lambda *xs: (np.concatenate(xs),)
    )
    return [kernels, biases]


def has_array(arrays: Arrays, pattern: str) -> bool:
    """Whether a name matches ``pattern`` as a whole."""
    return any(re.fullmatch(pattern, name) for name in arrays)


def _split(array: np.ndarray, parts: int) -> tuple[np.ndarray, ...]:
    if len(array) % parts:
        raise WeightsError(
            f"has shape {array.shape}, which cannot be split into {parts} equal parts"
        )
    return tuple(np.split(array, parts))


def describe(
    *,
    width: int,
    depth: int,
    mlp_width: int,
    patch: Sequence[int],
    channels: int,
    known: Known,
    positions: np.ndarray | None,
    class_token: bool,
    positioned: Sequence[int],
    computed: str = "none",
    registers: int = 0,
    num_classes: int = 0,
    pooling: str | None = None,
    num_heads: int | None = None,
    interpolation: str = "bicubic",
    **fields: Any,
) -> Description:
    """The description of a ViT.

    Args:
        width: as in `ViT`.
        depth: likewise.
        mlp_width: likewise.
        patch: (height, width) of a patch.
        channels: of the images.
        known: what is known of the images.
        positions: the file's, (1, tokens, width), or None if it has none.
        class_token: whether it has one.
        positioned: the numbers of first tokens (class token, registers) that may have a position in
            files of the format, the usual number first.
        computed: ``positions`` of `ViT` for a file without them; ``"none"`` if networks of the
            format then have other positions or none.
        registers: as in `ViT`.
        num_classes: likewise.
        pooling: likewise; None for the class token, or the mean without one.
        num_heads: likewise, or None if the shapes do not determine it.
        interpolation: as in `Description`.
        **fields: further fields of `ViT`.

    Raises:
        WeightsError: it is not known how the patches are arranged.
    """
    guessed = {}
    if num_heads is None:
        num_heads = _HEADS.get(width, width // _HEAD_WIDTH if width % _HEAD_WIDTH == 0 else None)
        words = f"shapes do not show the number of attention heads; for a width of {width}"
        guessed["num_heads"] = f"{words} it is taken to be {num_heads}" if num_heads else words
    rows, notes = 0, tuple[str, ...]()
    if positions is None:
        grid = known.grid or (max(224 // patch[0], 1), max(224 // patch[1], 1))
        if computed == "none":
            # Rotary positions are computed in every block and have no array.
            guessed["positions"] = (
                "it has no position embeddings, so its positions may be rotary or relative, which"
                " no ViT of vitjax has, or it may be a network without positions ('none')"
            )
        else:
            fields["positions"] = computed
    else:
        reading = positions_of(positions.shape[1], patch, known, positioned)
        grid, rows, notes = reading.grid, reading.rows, reading.notes
    found = {
        "width": width,
        "depth": depth,
        "num_heads": num_heads,
        "mlp_width": None if mlp_width == 4 * width else mlp_width,
        "patch_size": patch[0] if patch[0] == patch[1] else tuple(patch),
        "num_classes": num_classes,
        "pooling": pooling or ("token" if class_token else "mean"),
        "class_token": class_token,
        # Positions of registers are added to them, and then that of the class token to it, too.
        "class_position": rows > 0 and not registers,
        "registers": registers,
        **fields,
    }
    if num_heads is None:
        del found["num_heads"]
    shape = (grid[0] * patch[0], grid[1] * patch[1], channels)
    return Description(
        ViT,
        found,
        shape,
        grid,
        guessed,
        {"num_heads": 1},
        interpolation=interpolation,
        notes=notes,
    )


def patches(arrays: Arrays, name: str) -> tuple[int, ...]:
    """The shape of the kernel of a patch embedding.

    Raises:
        WeightsError: it does not have 4 axes.
    """
    shape = arrays[name].shape
    if len(shape) != 4:
        raise WeightsError(f"{name} of shape {shape} is no kernel for patches of images")
    return shape


def has_hidden_head(module: ViT, name: str, arrays: Arrays | None) -> bool:
    """Whether a layer precedes the head, in the model or under ``name`` in the file."""
    return module.representation_size is not None or (arrays is not None and name in arrays)


def card_gelu(name: str, value: Any) -> str:
    """The form of GELU that ``value`` of ``config.json`` names, as `ViT` calls it.

    Raises:
        WeightsError: it is another function.
    """
    if not isinstance(value, str) or value not in _GELUS:
        raise invalid(name, value, f"a GELU that a ViT has: {', '.join(_GELUS)}")
    return _GELUS[value]


def card_heads(name: str, value: Any) -> int:
    """The number of heads in ``config.json``.

    Raises:
        WeightsError: it is no whole number above 0.
    """
    return sizes.whole(value, 1, f"{CONFIG} beside it: {name}")[0]
