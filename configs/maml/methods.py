"""Few-shot methods other than MAML, on the data of another config.

    vitjax train --config=configs/maml/methods.py:protonet --workdir=runs/protonet
    vitjax train --config=configs/maml/methods.py:fomaml,glyphs --workdir=runs/fomaml
    vitjax train --config=configs/maml/methods.py:anil,omniglot:20w1s --workdir=runs/anil

The argument gives a method, a function below, and after a comma the config that the rest comes
from, by default ``omniglot``.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def anil(config: ConfigDict) -> None:
    """ANIL, which adapts the head only: Raghu et al. 2020, arXiv 1909.09157."""
    config.objective.update(name="anil", inner_steps=5, inner_learning_rate=0.5, test_steps=5)


def boil(config: ConfigDict) -> None:
    """BOIL, which adapts all layers but the head: Oh et al. 2021, arXiv 2008.08882."""
    config.objective.name = "boil"


def fine_tuning(config: ConfigDict) -> None:
    """A network trained on all classes, with a new head for each episode.

    Chen et al. 2019, arXiv 1904.04232.
    """
    config.objective = dict(name="fine_tuning", test_steps=20, inner_learning_rate=0.1)


def fomaml(config: ConfigDict) -> None:
    """First-order MAML: Finn et al. 2017, arXiv 1703.03400, Sec. 5.2.

    Transductive accuracy on 600 test episodes of Omniglot with 15 queries per class, seed 0, after
    1,500 steps of 8 episodes (the command in ``docs/few_shot.md``): 90.71 +- 0.54%, in 226 s of
    processor time on one core of an AMD EPYC shared with other programs (2026-11-25, jax 0.10.2).
    """
    # With MAML's single large step, first order reaches 72% instead of 91%: it lacks the derivative
    # of that step by the features of the support set.
    config.objective.update(name="fomaml", inner_steps=5, inner_learning_rate=0.5, test_steps=5)


def imaml(config: ConfigDict) -> None:
    """iMAML, with implicit gradients: Rajeswaran et al. 2019, arXiv 1909.04630."""
    config.objective = dict(
        name="imaml",
        inner_steps=16,
        inner_learning_rate=0.5,
        test_steps=16,
        proximal=2.0,
        cg_steps=5,
    )


def mamlpp(config: ConfigDict) -> None:
    """MAML++: Antoniou et al. 2019, arXiv 1810.09502."""
    config.objective.update(name="mamlpp", inner_steps=5, inner_learning_rate=0.5, test_steps=5)
    config.schedule = dict(name="cosine")


def meta_sgd(config: ConfigDict) -> None:
    """Meta-SGD, with a learned rate for each parameter: Li et al. 2017, arXiv 1707.09835."""
    config.objective.name = "meta_sgd"


def nearest_centroid(config: ConfigDict) -> None:
    """A network trained on all classes, and nearest centroids.

    Wang et al. 2019, arXiv 1911.04623.
    """
    config.objective = dict(name="nearest_centroid")


def proto_maml(config: ConfigDict) -> None:
    """Proto-MAML, whose head starts at prototypes: Triantafillou et al. 2020, arXiv 1903.03096."""
    config.objective.update(head="prototypes", inner_learning_rate=0.4, test_steps=1)


def protonet(config: ConfigDict) -> None:
    """Prototypical networks: Snell et al. 2017, arXiv 1703.05175."""
    config.objective = dict(name="protonet")
    config.data.episodes.train_ways = 20
    config.data.batch_size = 4


def reptile(config: ConfigDict) -> None:
    """Reptile: Nichol et al. 2018, arXiv 1803.02999, App. A."""
    config.objective = dict(
        name="reptile",
        inner_steps=5,
        inner_batch_size=10,
        inner_learning_rate=1e-3,
        test_steps=50,
        test_batch_size=5,
    )
    config.data.batch_size = 5
    config.data.episodes.update(train_shots=10, train_queries=1)
    config.optimizer = dict(name="sgd", learning_rate=1.0)
    config.schedule = dict(name="linear")
    config.train.steps = 100_000


def vit(config: ConfigDict) -> None:
    """MAML with a small ViT in place of the convolutions.

    It learns slowly at first. On Omniglot, accuracy is at chance after 250 steps of 8 episodes and
    61.2 +- 1.0% after 1,000, on 600 test episodes (seed 0, about 20 minutes on one core of an AMD
    EPYC, 2026-11-25; the settings of the 14,000 steps in ``omniglot.py``, with the rate 1e-3). The
    convolutions reach 94% after 1,500. It was not trained to the end.
    """
    config.model = dict(
        name="vit_ti16",
        patch_size=4,
        width=64,
        depth=4,
        num_heads=4,
        mlp_width=128,
        pooling="mean",
        positions="sincos2d",
    )
    config.objective.update(inner_steps=5, inner_learning_rate=0.1, test_steps=5)


METHODS = {
    method.__name__: method
    for method in (
        *(anil, boil, fine_tuning, fomaml, imaml, mamlpp, meta_sgd, nearest_centroid),
        *(proto_maml, protonet, reptile, vit),
    )
}


def get_config(argument: str = "protonet") -> ConfigDict:
    method, _, base = argument.partition(",")
    name, _, variant = (base or "omniglot").partition(":")
    change = configs.variant(method, METHODS)
    path = Path(__file__).with_name(f"{name}.py")
    config = configs.load(f"{path}:{variant}" if variant else path)
    change(config)
    return config
