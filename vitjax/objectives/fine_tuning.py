"""The base of objectives that can fine-tune a part of their network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from flax.traverse_util import flatten_dict
from jaxtyping import Array, PRNGKeyArray

from vitjax.core.errors import ConfigError
from vitjax.core.names import Patterns, check_expressions, check_patterns, layers, listed
from vitjax.core.text import shortened
from vitjax.data.dataset import Dataset
from vitjax.nn.batch_norm import running_statistics
from vitjax.objectives.base import Batch, ModelState, Params
from vitjax.objectives.interfaces import ImageObjective
from vitjax.objectives.lora import LoRA
from vitjax.objectives.state import FROZEN


@dataclasses.dataclass(frozen=True)
class FineTunable(ImageObjective):
    """An objective over images that trains all of its network, or a part of it.

    Attributes:
        lora: trains low-rank updates of some kernels and freezes the other parameters. None trains
            the parameters themselves.
        frozen_statistics: patterns of batch normalisation layers that stay in evaluation mode
            during training: they use their running statistics without changing them.
    """

    lora: LoRA | None = dataclasses.field(default=None, kw_only=True)
    frozen_statistics: Patterns | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_expressions(
            listed(self.frozen_statistics or ()), "config.objective.frozen_statistics"
        )

    def wrap(self, rng: PRNGKeyArray, variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        """The variables of the model; with ``lora`` those that are not trained are frozen.

        Raises:
            ConfigError: a pattern matches no layer or parameter.
        """
        del batch
        check_patterns(
            listed(self.frozen_statistics or ()),
            layers(flatten_dict(dict(variables.get("batch_stats", {})), sep="/")),
            "config.objective.frozen_statistics",
            "layer with running statistics",
        )
        return dict(variables) if self.lora is None else self.lora.split(rng, self.model, variables)

    def unwrap(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The variables of the model; low-rank updates are merged into their kernels."""
        return dict(variables) if self.lora is None else self.lora.merge(variables)

    def check(
        self, variables: Mapping[str, Any], data: Dataset, trained: Any, *, fresh: bool
    ) -> None:
        """Checks that frozen layers are pretrained and do not change.

        Raises:
            ConfigError: low-rank updates of fresh parameters; or the running statistics of batch
                normalisation layers whose parameters are frozen would change.
        """
        del data
        if self.lora is not None and fresh:
            raise ConfigError(
                "config.objective.lora trains small updates of pretrained parameters, but these"
                " would be random; set config.init.from_checkpoint to pretrained weights"
            )
        if self.frozen_statistics is not None:
            return
        flags = flatten_dict(trained, sep="/")
        frozen = [name for name, changes in flags.items() if not changes]
        frozen += flatten_dict(variables.get(FROZEN, {}), sep="/")
        moving = [name for name, changes in flags.items() if changes]
        statistics = layers(flatten_dict(variables.get("batch_stats", {}), sep="/"))
        wrong = sorted({*statistics} & {*layers(frozen)} - {*layers(moving)})
        if wrong:
            every = len(wrong) == len(statistics)
            pattern = '"."' if every else 'patterns of them, such as "' + wrong[0] + '"'
            raise ConfigError(
                f"{len(wrong)} batch normalisation layers are frozen ({shortened(wrong)}), but"
                " their running statistics would change:"
                f" config.objective.frozen_statistics = {pattern} keeps and uses them; () lets them"
                " change"
            )

    def forward(
        self,
        params: Params,
        model_state: ModelState,
        inputs: Array,
        rng: PRNGKeyArray,
        *,
        sown: Sequence[str] = (),
    ) -> tuple[Any, ModelState]:
        """The outputs of the model in training, and the new ``model_state``.

        Args:
            params: the trained parameters.
            model_state: all other collections.
            inputs: normalised images.
            rng: the key of dropout.
            sown: further collections that the model fills, which the result then has too.
        """
        variables = self.unwrap({"params": params, **model_state})
        with running_statistics(listed(self.frozen_statistics or ())):
            outputs: Any = self.model.apply(
                variables,
                inputs,
                train=True,
                rngs={"dropout": rng},
                mutable=[*(name for name in variables if name != "params"), *sown],
            )
        return outputs[0], {**model_state, **outputs[1]}

    def outputs(self, variables: Mapping[str, Any], images: Array) -> Array:
        """The outputs of the model in evaluation, for images that are not normalised."""
        outputs: Any = self.model.apply(self.unwrap(variables), self.normalize(images), train=False)
        return outputs
