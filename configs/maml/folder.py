"""MAML on your own images: a folder for each class, and classes that training never sees.

    vitjax data --config=configs/maml/folder.py --config.data.path=things
    vitjax train --config=configs/maml/folder.py --workdir=runs/things --config.data.path=things

``things`` holds ``train/<class>/*.jpg``, ``val/<class>/`` and ``test/<class>/``, each with its own
classes. A class needs at least shots + queries images, the number that an episode draws. If all
classes are in one folder, give ``--config.data.episodes.class_split=split.json``, a file with
the class names of each split; ``vitjax class_split`` writes one.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.model = dict(name="conv4")
    config.data = dict(
        source="folder",
        path="things",
        classes="all",
        eval_transforms="resize(84) | center_crop(84)",
        mean=0.5,
        std=0.5,
        batch_size=4,
        eval_batch_size=10,
        episodes=dict(ways=5, shots=5, queries=10),
    )
    config.objective = dict(name="maml", inner_steps=5, inner_learning_rate=0.05, test_steps=10)
    config.optimizer = dict(name="adam", learning_rate=1e-3, clip_value=10.0)
    config.schedule = dict(name="cosine")
    config.train = dict(steps=5_000, evaluate_every_steps=250, log_every_steps=50)
    config.checkpoint = dict(best="val/accuracy_inductive")
    return config
