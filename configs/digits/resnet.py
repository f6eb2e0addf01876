"""A small ResNet on scikit-learn's 1,797 handwritten digits.

vitjax train --config=configs/digits/resnet.py --workdir=runs/digits_resnet

Test accuracy 99.4%, mean of seeds 0, 1 and 2 (99.4, 100.0, 98.9), each in 38 to 53 s of training
on two cores of an AMD EPYC (2026-11-23, jax 0.10.2). One of the 180 test images is 0.6%.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.model = dict(name="resnet20", stage_sizes=(2, 2), width=32, shortcut="projection")
    config.data = dict(
        source="digits",
        batch_size=128,
        eval_batch_size=180,
        train_transforms="random_affine(degrees=15, translate=0.13, scale=(0.85, 1.15), shear=10)",
        mean=(0.305,),
        std=(0.376,),
    )
    config.objective = dict(name="classification", label_smoothing=0.1)
    config.optimizer = dict(
        name="sgd",
        learning_rate=0.1,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        weight_decay_factors=((r"kernel$", 1.0), (r".", 0.0)),
    )
    config.schedule = dict(name="one_cycle")
    config.train = dict(epochs=60, ema_decay=0.99, evaluate_every_epochs=10)
    config.checkpoint = dict(keep=2)
    return config
