r"""U-Net on electron microscopy of neurons: ISBI 2012, arXiv 1505.04597, Sec. 3 and 4.

    vitjax train --config=configs/segmentation/isbi2012.py --workdir=runs/isbi2012 \
        --config.data.path=DIR

``DIR`` has the challenge's slices in ``images/`` and ``labels/``, as single files or as the two
TIFF stacks; 255 is a cell and 0 a membrane. The last five slices are held out. Weight map and
elastic deformation are the paper's; the network is the padded form with a quarter of its channels
and batch normalisation, which learns from tiles of 256 pixels in minutes. The paper's own network
is ``--config.model.name=unet_valid --config.model.filters=64``, with tiles of 572 pixels one at a
time.

On the five slices, seed 0, after 1,058 s of training on one core of an AMD EPYC (2026-11-25, jax
0.10.2): foreground-restricted V_rand 0.914, V_info 0.951, Dice of the membranes 0.793, mean IoU
76.8%. Without weight map (``--config.data.weight_map=None``) V_rand 0.914, V_info 0.960, Dice
0.804, IoU 79.0%; docs/segmentation.md has the table.
"""

from ml_collections import ConfigDict


def get_config(model: str = "unet") -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.model = dict(name=model, filters=16, depth=4, norm="batch")
    config.data = dict(
        source="masks",
        path="isbi2012",
        classes=(0, 255),
        class_names=("membrane", "cell"),
        val_last=5,
        batch_size=2,
        eval_batch_size=1,
        train_transforms="crop(256) | elastic(10) | dihedral | brightness | contrast",
        weight_map=dict(w0=10, sigma=5),
        mean=0.5,
        std=0.2,
    )
    config.objective = dict(
        name="segmentation",
        measures=("v_rand", "v_info", "rand_error", "pixel_error"),
    )
    config.optimizer = dict(name="adam", learning_rate=2e-3)
    config.schedule = dict(name="cosine", warmup_fraction=0.05)
    config.train = dict(steps=2_000, evaluate_every_steps=200, log_every_steps=20)
    config.checkpoint = dict(best="val/iou")
    return config
