"""What objectives over labelled images share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from flax.traverse_util import flatten_dict
from jaxtyping import Array, PRNGKeyArray

from vitjax.core.errors import ConfigError
from vitjax.core.names import Patterns, check_expressions, check_patterns, layers, listed
from vitjax.core.text import shortened
from vitjax.core.validation import call
from vitjax.nn.batch_norm import running_statistics
from vitjax.objectives.base import Batch, ModelState, Objective, Params
from vitjax.objectives.lora import LoRA
from vitjax.objectives.state import FROZEN


@dataclasses.dataclass(frozen=True)
class ImageObjective(Objective):
    """An objective whose model maps a batch's images to outputs.

    Attributes:
        num_classes: the number of classes.
        normalize: maps the batch's images to what the model is fed.
        lora: the keywords of `LoRA`: train low-rank updates of some kernels beside frozen
            parameters. None trains the parameters themselves.
        frozen_statistics: patterns of layers of batch normalisation that stay in evaluation mode in
            training: they normalise by their running statistics, and leave them alone.
    """

    num_classes: int
    normalize: Callable[[Array], Array] = lambda images: images
    lora: Mapping[str, Any] | None = dataclasses.field(default=None, kw_only=True)
    frozen_statistics: Patterns | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_expressions(
            listed(self.frozen_statistics or ()), "config.objective.frozen_statistics"
        )
        self._adapter()

    def inputs(self, batch: Batch) -> Array:
        """One image of the batch; the values do not matter."""
        return self.normalize(batch["image"][:1])

    def wrap(self, rng: PRNGKeyArray, variables: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        """The model's variables; with ``lora`` those that are not trained are frozen.

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
        adapter = self._adapter()
        return dict(variables) if adapter is None else adapter.split(rng, self.model, variables)

    def unwrap(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The model's own variables; low-rank updates are merged into their kernels."""
        adapter = self._adapter()
        return dict(variables) if adapter is None else adapter.merge(variables)

    def check(self, variables: Mapping[str, Any], data: Any, trained: Any, *, fresh: bool) -> None:
        """Checks that what is frozen is pretrained, and stays as it is.

        Raises:
            ConfigError: low-rank updates of fresh parameters; or layers whose parameters are frozen
                would normalise by the statistics of each batch, and their running statistics would
                change.
        """
        del data
        if self.lora is not None and fresh:
            raise ConfigError(
                "config.objective.lora trains small updates of pretrained parameters, and here they"
                " would be random: config.init.from_checkpoint says what to start from"
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
                f"{len(wrong)} layers of batch normalisation are frozen ({shortened(wrong)}), and"
                " their running statistics would change all the same:"
                f" config.objective.frozen_statistics = {pattern} keeps them, and normalises by"
                " them; () lets them change"
            )

    def forward(
        self, params: Params, model_state: ModelState, inputs: Array, rng: PRNGKeyArray
    ) -> tuple[Any, ModelState]:
        """The model's outputs in training, and the state after them.

        Args:
            params: the trained ones.
            model_state: all else that the objective keeps.
            inputs: what the model is fed.
            rng: of dropout.
        """
        variables = self.unwrap({"params": params, **model_state})
        with running_statistics(listed(self.frozen_statistics or ())):
            outputs: Any = self.model.apply(
                variables,
                inputs,
                train=True,
                rngs={"dropout": rng},
                mutable=[name for name in variables if name != "params"],
            )
        return outputs[0], {**model_state, **outputs[1]}

    def outputs(self, variables: Mapping[str, Any], images: Array) -> Array:
        """The model's outputs in evaluation, for images as they are in a batch."""
        outputs: Any = self.model.apply(self.unwrap(variables), self.normalize(images), train=False)
        return outputs

    def _adapter(self) -> LoRA | None:
        if self.lora is None:
            return None
        adapter: LoRA = call(LoRA, self.lora, where="config.objective.lora")
        return adapter
