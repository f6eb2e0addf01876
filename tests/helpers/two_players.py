"""A one-dimensional GAN in a config file of its own: two optimizers, and a frozen network."""

GAN = '''
import dataclasses
from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from vitjax.data import sources
from vitjax.data.sources import ArraySplit, Source
from vitjax.metrics import Mean, over_axis
from vitjax.models import MODELS, Model
from vitjax.objectives import Objective, objectives

LATENT = 2


@sources.register("normal_numbers")
def normal_numbers(mean: float = 3.0, deviation: float = 0.5, count: int = 256) -> Source:
    """Numbers as images of one pixel."""

    def split(seed):
        numbers = np.random.default_rng(seed).normal(mean, deviation, (count, 1, 1, 1))
        return ArraySplit(numbers.astype(np.float32), np.zeros(count, np.int32), "numbers")

    return Source({"train": split(0), "val": split(1)}, class_names=("number",))


@MODELS.register("tiny_mlp", image_size=1, input_shape=(LATENT,), paper="", year=2014)
class TinyMLP(Model):
    num_classes: int | None = 1
    width: int = 16

    @nn.compact
    def __call__(self, x, train=False):
        x = jnp.tanh(nn.Dense(self.width, name="hidden")(x))
        return nn.Dense(self.num_classes, name="head")(x) if self.num_classes else x


@objectives.register("tiny_gan")
@dataclasses.dataclass(frozen=True)
class TinyGan(Objective):
    """Generator and critic in turn; both see numbers through a frozen random network."""

    parameter_groups: ClassVar = ("generator", "critic")
    own_collections: ClassVar = ("played",)

    normalize: Callable
    critic_steps: int = 3
    width: int = 16

    @property
    def critic(self):
        return TinyMLP(num_classes=1, width=self.width)

    @property
    def lens(self):
        return TinyMLP(num_classes=4, width=8)

    @classmethod
    def model_outputs(cls, data):
        return 1

    def inputs(self, batch):
        return jnp.zeros((1, LATENT))

    def wrap(self, rng, variables, batch):
        keys = jax.random.split(rng)
        return {
            "params": {
                "generator": variables["params"],
                "critic": self.critic.init(keys[0], jnp.zeros((1, 5)))["params"],
            },
            "frozen": self.lens.init(keys[1], jnp.zeros((1, 1)))["params"],
            "played": {"critic": jnp.zeros((), jnp.int32), "mean": jnp.zeros(())},
        }

    def unwrap(self, variables):
        return {"params": variables["params"]["generator"]}

    def seen(self, frozen, numbers):
        """A number and what the frozen network makes of it."""
        return jnp.concatenate([numbers, self.lens.apply({"params": frozen}, numbers)], -1)

    def fake(self, generator, count, rng):
        noise = jax.random.normal(rng, (count, LATENT))
        return self.model.apply({"params": generator}, noise)

    def scores(self, critic, frozen, numbers):
        return self.critic.apply({"params": critic}, self.seen(frozen, numbers))[:, 0]

    def critic_loss(self, critic, generator, frozen, real, rng):
        fake = self.fake(generator, len(real), rng)
        right = optax.losses.sigmoid_binary_cross_entropy(self.scores(critic, frozen, real), 1.0)
        wrong = optax.losses.sigmoid_binary_cross_entropy(self.scores(critic, frozen, fake), 0.0)
        return jnp.mean(right) + jnp.mean(wrong)

    def generator_loss(self, generator, critic, frozen, count, rng):
        scores = self.scores(critic, frozen, self.fake(generator, count, rng))
        return jnp.mean(optax.losses.sigmoid_binary_cross_entropy(scores, 1.0))

    def update(self, state, batch, rng, optimizer):
        params, frozen = state.params, state.model_state["frozen"]
        real = self.normalize(batch["image"]).reshape(-1, 1)
        keys = jax.random.split(rng, self.critic_steps + 1)

        def critic_step(carry, key):
            critic, opt_state = carry
            value, gradient = self.mean_over_devices(
                jax.value_and_grad(self.critic_loss)(
                    critic, params["generator"], frozen, real, key
                )
            )
            critic, opt_state, _ = optimizer["critic"].apply(
                gradient, opt_state, critic, value=value
            )
            return (critic, opt_state), value

        (critic, critic_state), values = jax.lax.scan(
            critic_step, (params["critic"], state.opt_state["critic"]), keys[:-1]
        )
        value, gradient = self.mean_over_devices(
            jax.value_and_grad(self.generator_loss)(
                params["generator"], critic, frozen, len(real), keys[-1]
            )
        )
        generator, generator_state, norm = optimizer["generator"].apply(
            gradient, state.opt_state["generator"], params["generator"], value=value
        )
        mean = self.mean_over_devices(jnp.mean(self.fake(generator, len(real), keys[-1])))
        played = {
            "critic": state.model_state["played"]["critic"] + self.critic_steps,
            "mean": 0.9 * state.model_state["played"]["mean"] + 0.1 * mean,
        }
        one = jnp.ones(())
        metrics = {
            "loss": Mean(value, one),
            "critic_loss": Mean(jnp.mean(values), one),
            "grad_norm": Mean(norm, one),
        }
        state = state.replace(
            params={"generator": generator, "critic": critic},
            opt_state={"generator": generator_state, "critic": critic_state},
            model_state={**state.model_state, "played": played},
        )
        return state, over_axis(metrics, self.axis_name)

    def evaluate(self, variables, batch):
        count = len(batch["mask"])
        fake = self.fake(variables["params"]["generator"], count, jax.random.key(0))
        real = self.normalize(batch["image"]).reshape(-1, 1)
        distance = jnp.abs(jnp.mean(fake) - jnp.mean(real)) * jnp.ones(count)
        return {
            "loss": Mean.of(distance, batch["mask"]),
            "remoteness": Mean.of(distance, batch["mask"], higher_is_better=False),
        }


def get_config():
    config = ConfigDict()
    config.seed = 0
    config.model = dict(name="tiny_mlp")
    config.data = dict(source="normal_numbers", batch_size=64, eval_batch_size=64)
    config.objective = dict(name="tiny_gan", critic_steps=3)
    config.optimizer = dict(
        generator=dict(name="adam", learning_rate=5e-3, b1=0.5),
        critic=dict(name="sgd", learning_rate=0.1, momentum=0.5),
    )
    config.schedule = dict(
        generator=dict(name="cosine", warmup_steps=5), critic=dict(name="constant")
    )
    config.train = dict(steps=60, ema_decay=0.9, log_every_steps=10, evaluate_every_steps=20)
    config.checkpoint = dict(every_steps=20, keep=4, best="val/remoteness")
    config.parallel = dict(devices=1)
    return config
'''
