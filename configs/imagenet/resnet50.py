r"""ResNet-50 on ImageNet in 90 epochs with large batches: Goyal et al. 2017.

    vitjax train --config=configs/imagenet/resnet50.py --workdir=runs/imagenet_resnet50 \
        --config.data.data_dir=/data/tensorflow_datasets

The architecture of arXiv 1512.03385 (stride in the 3 x 3), trained as in arXiv 1706.02677, Section
5.1: a rate of 0.1 per 256 images, 5 epochs of warm-up, divided by 10 at epochs 30, 60 and 80, decay
1e-4 on kernels only, the last normalisation of each block initialised to zero. The paper: 76.4%
top-1 (its Table 1, batch 1024 to 8192). Not run in full yet.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.model = dict(name="resnet50", zero_init_residual=True, dtype="bfloat16")
    config.data = dict(
        source="tfds",
        dataset="imagenet2012",
        # TFDS calls the official validation images, on which all papers report, "validation".
        splits=dict(train="train[:99%]", val="train[99%:]", test="validation"),
        batch_size=1024,
        train_transforms="random_resized_crop(224) | flip | color_jitter(0.4, 0.4, 0.4)",
        eval_transforms="resize(256) | center_crop(224)",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        workers=16,
    )
    config.objective = dict(name="classification")
    config.optimizer = dict(
        name="sgd",
        learning_rate=0.4,
        momentum=0.9,
        nesterov=True,
        weight_decay=1e-4,
        weight_decay_factors=((r"kernel$", 1.0), (r".", 0.0)),
    )
    config.schedule = dict(
        name="step", boundaries_epochs=(30, 60, 80), factor=0.1, warmup_epochs=5, warmup_from=0.25
    )
    config.train = dict(epochs=90, log_every_steps=50, evaluate_every_epochs=1)
    config.checkpoint = dict(every_steps=1000, keep=2)
    return config
