"""What every model declares, so that nothing outside its file knows a name of its family."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeAlias, TypeVar

import flax.linen as nn
import jax
from flax.core import FrozenDict
from jaxtyping import Array

from vitjax.core.errors import ConfigError
from vitjax.core.validation import validate_fields
from vitjax.nn.convolution import INNER_LOOP_IMPL
from vitjax.nn.dtypes import as_dtype
from vitjax.nn.stacking import stack_layers, unstack_layers

Self = TypeVar("Self", bound="Model")

# Pairs of a pattern of parameters, and the dimension that the mesh axis ``model`` splits, counted
# from the last: -1 splits outputs (column-parallel), -2 inputs (row-parallel).
SplitRules: TypeAlias = tuple[tuple[str, int], ...]


class FeatureInfo(NamedTuple):
    """One feature map of a model.

    Attributes:
        name: its key in what `Model.features` returns.
        stride: pixels of the image per pixel of the map, in both directions.
        channels: channels of the map.
    """

    name: str
    stride: int
    channels: int


class Shapeless(NamedTuple):
    """A field that changes the outputs and no shape of a parameter.

    Attributes:
        needs: the (field, value) without which it has no effect; None for none.
        shown: a value that the parameters do show.
        exact: weights of another value are of no use, so that a difference is an error.
    """

    needs: tuple[str, Any] | None = None
    shown: Any = None
    exact: bool = False


class Model(nn.Module):
    """The base class of all models: a Linen module, and the facts of its family.

    A model is called ``model(inputs, train=False)``. Every class attribute and method below has a
    default, so a small model needs none of them. Fields with these names have one meaning in every
    model, and a model declares those that it supports:

    - ``num_classes``: outputs of the head; 0 or None for no head;
    - ``axis_name``: mapped axis over which batch statistics are averaged;
    - ``dtype``, ``param_dtype``: of the computation and of the parameters;
    - the `execution_fields` and the `regularising_fields`.

    Names of parameters are paths within ``params``, such as ``"head/kernel"``. Patterns are regular
    expressions that are searched for in such paths, which an objective may prefix.

    Attributes:
        head_name: regular expression of the entries of ``params`` that hold the last layer; None
            for a model without a head.
        head_hidden: further entries that are loaded from a file only together with the head.
        auxiliary_heads: the entries that hold the last layers of `auxiliary_logits`, each with the
            entries of the hidden layers before it. They are heads beside that of `head_name`.
        image_kernels: kernels that read the channels of images: pretrained weights are adapted in
            these to another number of channels.
        patch_kernel: the one of them whose height and width can be resampled.
        position_embedding: parameter of shape (1, rows, columns, width), resampled for images of
            another size.
        context_name: the parameter that CAVIA adapts.
        low_rank_kernels: patterns of the kernels that LoRA updates by default.
        tensor_parallel: how layers are split over the devices of a mesh axis ``model``: pairs of a
            pattern and the dimension to split, -1 or -2; the first pattern found in a name decides,
            and other parameters are copied. A layer that splits its outputs (-1, its bias too) is
            to be followed by one that splits its inputs (-2), after which the parts are summed:
            Shoeybi et al. 2019 (Megatron-LM), arXiv:1909.08053, Sec. 3. LoRA's factors of a
            ``kernel`` are ``kernel/a`` (inputs, rank) and ``kernel/b`` (rank, outputs).
        tensor_parallel_counts: fields with numbers of parts, such as heads, that stay complete: the
            size of the axis has to divide them.
        execution_fields: fields that change how outputs are computed and not their values, each
            with its plain value.
        regularising_fields: rates that act in training only; 0 turns each of them off.
        evaluation_fields: fields that change outputs in evaluation alone: a checkpoint can be
            evaluated with other values than those of its run.
        shapeless_fields: fields that change the outputs and no shape of a parameter, so that a file
            of weights has to state them.
        block_outputs: patterns of the sown values that enter the first block and leave each block.
        split_heads: pattern of sown values of shape (batch, tokens, heads, head width).
        no_channels: pattern of sown values whose last axis is not channels.
        input_ranks: numbers of axes of one example that the model accepts.
        counted_layers: fields that count equal blocks, or list such counts per stage, each with the
            pattern of the blocks' parameters; its groups are the numbers of stage and block.
        aligned_features: whether the sides of feature maps are those of the image over the stride,
            wherever the largest stride divides them. Layers without padding lose pixels.
    """

    head_name: ClassVar[str | None] = "head"
    head_hidden: ClassVar[tuple[str, ...]] = ()
    auxiliary_heads: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    image_kernels: ClassVar[tuple[str, ...]] = ()
    patch_kernel: ClassVar[str | None] = None
    position_embedding: ClassVar[str | None] = None
    context_name: ClassVar[str | None] = None
    low_rank_kernels: ClassVar[tuple[str, ...]] = ()
    tensor_parallel: ClassVar[SplitRules] = ()
    tensor_parallel_counts: ClassVar[tuple[str, ...]] = ()
    execution_fields: ClassVar[Mapping[str, Any]] = {
        "attention_impl": "plain",
        "conv_impl": "lax",
        "remat": "none",
        "scan_layers": False,
    }
    regularising_fields: ClassVar[tuple[str, ...]] = (
        "dropout",
        "attention_dropout",
        "drop_path",
        "drop_rate",
    )
    evaluation_fields: ClassVar[tuple[str, ...]] = ()
    shapeless_fields: ClassVar[Mapping[str, Shapeless]] = {}
    block_outputs: ClassVar[tuple[str, ...]] = ()
    split_heads: ClassVar[str] = r"(^|/)(queries|keys|values)$"
    no_channels: ClassVar[str] = r"(^|/)map$"
    input_ranks: ClassVar[tuple[int, ...]] = (3,)
    counted_layers: ClassVar[Mapping[str, re.Pattern[str]]] = {}
    aligned_features: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in self.field_names():
            value = getattr(self, name)
            # JSON has lists and objects only, with which the module would have no hash.
            if isinstance(value, list | tuple | Mapping):
                setattr(self, name, _hashable(value))
        validate_fields(self)
        for name in ("dtype", "param_dtype"):
            if self._value(name) is not None:  # None is Linen's own default, by the inputs
                as_dtype(self._value(name))
        super().__post_init__()

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """The fields of the model, without the two that Linen adds."""
        linen = ("parent", "name")
        return tuple(f.name for f in dataclasses.fields(cls) if f.name not in linen)

    def replaced(self: Self, **values: Any) -> Self:
        """A copy with those of ``values`` whose fields the model declares."""
        own = {name: value for name, value in values.items() if name in self.field_names()}
        return self.clone(**own) if own else self

    def described_fields(self) -> dict[str, Any]:
        """The fields that define the network, without those of execution and regularisation."""
        other = {"dtype", "param_dtype", "axis_name", *self.execution_fields}
        other.update(self.regularising_fields)
        values = {name: getattr(self, name) for name in self.field_names() if name not in other}
        return {n: dict(x) if isinstance(x, Mapping) else x for n, x in values.items()}

    def effective_fields(self) -> dict[str, Any]:
        """`described_fields` for comparing networks: the same network has the same values.

        A family with several values for the same network returns one of them, and leaves out fields
        that matter only for fresh parameters.
        """
        return self.described_fields()

    def layer_counts(self) -> dict[str, Any]:
        """The values of the fields `counted_layers`: integers, or tuples of them per stage."""
        return {name: getattr(self, name) for name in self.counted_layers}

    @property
    def dtypes(self) -> dict[str, Any]:
        """``dtype`` and ``param_dtype`` as the keywords of a layer."""
        return {name: as_dtype(getattr(self, name)) for name in ("dtype", "param_dtype")}

    # The head.

    @property
    def head_pattern(self) -> str:
        """The pattern of the heads' parameters; it matches nothing for a model without a head."""
        if self.head_name is None:
            return "(?!)"
        return rf"(^|/)({'|'.join((self.head_name, *self.auxiliary_heads))})/"

    def head_of(self, name: str) -> str | None:
        """The head that the parameter ``name`` is loaded with, or None for any other parameter."""
        entry = name.partition("/")[0]
        if self._is_head(entry):
            return entry
        for head, hidden in self.auxiliary_heads.items():
            if entry in hidden:
                return head
        return self.head_name if entry in self.head_hidden else None

    def hidden_in_head(self, name: str) -> bool:
        """Whether the parameter ``name`` belongs to a head and not to its last layer."""
        return self.head_of(name) not in (None, name.partition("/")[0])

    def split_head(self, params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The entries of ``params`` that are heads, and the others."""
        head = {name: tree for name, tree in params.items() if self._is_head(name)}
        return head, {name: tree for name, tree in params.items() if name not in head}

    def main_head(self, head: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of heads, as `split_head` returns them, without auxiliary heads."""
        return {name: tree for name, tree in head.items() if name not in self.auxiliary_heads}

    def _is_head(self, entry: str) -> bool:
        if self.head_name is None:
            return False
        return entry in self.auxiliary_heads or re.fullmatch(self.head_name, entry) is not None

    @property
    def num_outputs(self) -> int:
        """Outputs of the head; 0 for a model without one, or without the field ``num_classes``."""
        return int(self._value("num_classes") or 0)

    def with_head(self: Self, num_classes: int | None) -> Self:
        """A copy whose head has ``num_classes`` outputs.

        Raises:
            ConfigError: the model declares no field ``num_classes``, or has no head.
        """
        if self.head_name is None or "num_classes" not in self.field_names():
            raise ConfigError(
                f"the model {type(self).__name__} has no field 'num_classes', which sets or removes"
                " its head"
            )
        return self.clone(num_classes=num_classes)

    def headless(self: Self) -> Self:
        """A copy that returns what its head would read.

        Raises:
            ConfigError: as `with_head`.
        """
        return self.with_head(None)

    def only_head(self, head: Mapping[str, Any]) -> Model:
        """The head alone, as a model that maps the outputs of `headless` to the model's outputs.

        Auxiliary heads are left out.

        A family whose head is more than a dense layer overrides this.

        Args:
            head: the head's parameters, as `split_head` returns them.

        Raises:
            ConfigError: they are not those of one dense layer.
        """
        head = self.main_head(head)
        layers = [n for n, layer in head.items() if "kernel" in layer and layer["kernel"].ndim == 2]
        if len(head) != 1 or not layers:
            raise ConfigError(
                f"the head of a {type(self).__name__} is not one dense layer: it has the parameters"
                f" {', '.join(head) or 'none'}"
            )
        (entry,) = layers
        layer = head[entry]
        # Without a parent: Linen would make it a part of this module.
        return DenseHead(layer["kernel"].shape[-1], entry, "bias" in layer, parent=None)

    # Execution.

    def plain(self: Self) -> Self:
        """A copy with every execution field plain, but for ``scan_layers``.

        Its operations are those of the model's formulas: FLOPs are counted and activations are read
        with it. It has the same variables.
        """
        values = {n: value for n, value in self.execution_fields.items() if n != "scan_layers"}
        return self.replaced(**values)

    def free_execution_fields(self) -> tuple[str, ...]:
        """The model's execution fields that change no variable: all but ``scan_layers``."""
        fields = self.execution_fields.keys() & set(self.field_names())
        return tuple(sorted(fields - {"scan_layers"}))

    def for_inner_loops(self: Self) -> Self:
        """A copy that is fast inside an inner loop and can be differentiated twice.

        ``conv_impl="auto"`` becomes the matrix product, and attention becomes plain, because the
        fused kernel has no second derivative.
        """
        model = self.replaced(attention_impl="plain")
        if self._value("conv_impl") == "auto":
            model = model.replaced(conv_impl=INNER_LOOP_IMPL)
        return model

    def without_regularisers(self: Self) -> Self:
        """A copy with every regularising field at 0."""
        return self.replaced(**dict.fromkeys(self.regularising_fields, 0.0))

    def over_axis(self: Self, axis_name: str) -> Self:
        """A copy whose batch statistics are averaged over the mapped axis ``axis_name``."""
        return self.replaced(axis_name=axis_name)

    def split_rules(self, parts: int) -> tuple[SplitRules, str]:
        """How layers are split into ``parts`` parts.

        Returns:
            `tensor_parallel`, or that of the `backbone`; empty if they cannot be split so. And why
            they cannot, in words.
        """
        if not self.tensor_parallel and self.backbone is not None:
            return self.backbone[1].split_rules(parts)
        if not self.tensor_parallel:
            return (), f"a {type(self).__name__} has no rules of tensor parallelism"
        for name in self.tensor_parallel_counts:
            if (count := getattr(self, name)) % parts:
                sizes = ", ".join(str(n) for n in range(1, count + 1) if count % n == 0)
                return (), f"it does not divide the {count} {name} of the model ({sizes} do)"
        return self.tensor_parallel, ""

    @property
    def scanned(self) -> bool:
        """Whether the variables of all blocks are stacked in one array, under ``scan_layers``."""
        return bool(self._value("scan_layers"))

    def unscanned(self: Self) -> Self:
        """A copy without ``scan_layers``; `unstack` gives its variables."""
        return self.replaced(scan_layers=False)

    def unstack(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The variables of this model, or their shapes, with one entry per block."""
        if not self.scanned:
            return dict(variables)
        if isinstance(jax.tree.leaves(variables)[0], jax.ShapeDtypeStruct):
            shapes: dict[str, Any] = jax.eval_shape(unstack_layers, variables)
            return shapes
        return unstack_layers(variables)

    def stack(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The inverse of `unstack`."""
        return stack_layers(variables) if self.scanned else dict(variables)

    # Parts.

    def layer_key(self, name: str) -> tuple[int, ...]:
        """How deep in the network the parameter ``name`` is; keys are compared with each other.

        Raises:
            ConfigError: the model has no blocks, or ``scan_layers`` stacks them.
        """
        raise ConfigError(
            f"the layers of a {type(self).__name__} have no order: it declares no layer_key"
        )

    def layer_groups(self, names: Sequence[str]) -> list[int]:
        """The layer of each parameter, counted from 0 in the order of depth.

        0 is what comes before the blocks, then each block is one layer, and the head and the last
        normalisation are one more. Layer-wise learning rates count so: Bao et al. 2022 (BEiT),
        arXiv:2106.08254, appendix, and He et al. 2022 (MAE), arXiv:2111.06377, App. A.1.

        Raises:
            ConfigError: the model has no blocks, or ``scan_layers`` stacks them.
        """
        keys = [self.layer_key(name) for name in names]
        numbers = {key: number for number, key in enumerate(sorted(set(keys)))}
        return [numbers[key] for key in keys]

    def feature_info(self) -> tuple[FeatureInfo, ...]:
        """The maps that `features` returns, from fine to coarse; empty for a model without."""
        return ()

    def features(self, images: Any, train: bool = False) -> dict[str, Array]:
        """The feature maps of `feature_info`, each of shape (batch, height, width, channels).

        Use it as ``model.apply(variables, images, method="features")``, or within another module.

        Raises:
            ConfigError: the model has no feature maps.
        """
        raise ConfigError(f"a {type(self).__name__} has no feature maps: it declares no features")

    @property
    def map_name(self) -> str | None:
        """The sown value by whose positions outputs are explained by default; None without one.

        The last map or sequence of tokens, every position of which the outputs depend on.
        """
        if self.backbone is not None:
            entry, module = self.backbone
            return None if module.map_name is None else f"{entry}/{module.map_name}"
        info = self.feature_info()
        return info[-1].name if info else None

    @property
    def auxiliary_logits(self) -> Mapping[str, float]:
        """Further logits of training by name, each with the weight of its loss in the paper.

        A model that has some sows them, in training alone, as arrays in the collection
        ``"auxiliary"``. Its `auxiliary_heads` are their layers.
        """
        return {}

    @property
    def time_steps(self) -> int:
        """How many steps a recurrent network has logits for; 0 for any other network."""
        return 0

    def logits_over_time(self, images: Any) -> Array:
        """The logits of each time step in evaluation, (time, batch, classes).

        Use it as ``model.apply(variables, images, method="logits_over_time")``.

        Raises:
            ConfigError: the model has no `time_steps`.
        """
        raise ConfigError(f"a {type(self).__name__} has no time steps: it is not recurrent")

    @property
    def backbone(self) -> tuple[str, Model] | None:
        """The part that weights of a classification network can fill: its entry, its module."""
        return None

    # Tokens and sizes.

    @property
    def has_class_token(self) -> bool:
        """Whether the first token is a class token."""
        return False

    @property
    def reads_class_token(self) -> bool:
        """Whether the head reads the class token, and not the tokens of patches alone."""
        return False

    @property
    def prefix_tokens(self) -> int:
        """Tokens before those of the patches: the class token and registers."""
        return 0

    def patch_grid(self, image_shape: Sequence[int]) -> tuple[int, int] | None:
        """Patches (rows, columns) of an image of (height, width, channels); None without any."""
        del image_shape
        return None

    @property
    def margin(self) -> int:
        """Segmentation: pixels by which a side of the logits is smaller than that of the images."""
        return 0

    def valid_size(self, size: int) -> int:
        """Segmentation: the smallest side in pixels, at least ``size``, that images may have."""
        return max(size, 1)

    def _value(self, field: str) -> Any:
        """The value of a field, or None where the model does not declare it."""
        return getattr(self, field) if field in self.field_names() else None


class DenseHead(Model):
    """The head of most models: one dense layer.

    Attributes:
        num_classes: the number of outputs.
        entry: the entry of the parameters that holds the layer.
        use_bias: whether it has a bias.
        dtype: the dtype of the computation; None promotes inputs and parameters.
    """

    num_classes: int
    entry: str = "head"
    use_bias: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, features: Array, train: bool = False) -> Array:
        """The outputs for features (batch, width)."""
        layer = nn.Dense(self.num_classes, self.use_bias, dtype=self.dtype, name=self.entry)
        return layer(features)


def numbers_in(pattern: re.Pattern[str], name: str) -> tuple[int, ...] | None:
    """The groups of the first match of ``pattern`` in ``name`` as numbers, or None."""
    found = pattern.search(name)
    return found and tuple(int(group) for group in found.groups() if group)


def _hashable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return FrozenDict({key: _hashable(each) for key, each in value.items()})
    return tuple(_hashable(each) for each in value) if isinstance(value, list | tuple) else value
