"""Configs of older formats mean the same in this version."""

import copy

import pytest

from vitjax.training import formats

SEGMENTATION = {
    "model": {"name": "unet"},
    "data": {
        "source": "masks",
        "train_transforms": "resize((96, 96)) | flip|resize(size=32,) | crop(16)",
        "eval_transforms": 'resize(64, "area") | resize(32, interpolation="bicubic")',
    },
    "objective": {"name": "segmentation"},
    "checkpoint": {"best": "val/iou_1", "keep": 1},
    "train": {"early_stopping": {"metric": "val/dice_12", "patience": 3}},
}
FEW_SHOT = {
    "model": {"name": "conv4_omniglot"},
    "data": {"source": "folder", "train_transforms": "resize(32) | random_crop(28)"},
    "objective": {"name": "maml", "tasks_at_once": 25},
    "checkpoint": {"best": "val/accuracy"},
    "train": {"steps": 5},
}


def test_segmentation_of_format_1():
    before = copy.deepcopy(SEGMENTATION)
    found = formats.upgrade(SEGMENTATION, 1)
    assert found == {
        "model": {"name": "unet"},
        "data": {
            "source": "masks",
            "train_transforms": 'resize((96, 96), interpolation="bilinear") | flip|resize(size=32,'
            ' interpolation="bilinear") | crop(16)',
            "eval_transforms": 'resize(64, "area") | resize(32, interpolation="bicubic")',
        },
        "objective": {"name": "segmentation"},
        "checkpoint": {"best": "val/iou_per_class/1", "keep": 1},
        "train": {"early_stopping": {"metric": "val/dice_per_class/12", "patience": 3}},
    }
    assert before == SEGMENTATION


def test_few_shot_of_format_1():
    assert formats.upgrade(FEW_SHOT, 1) == {
        **FEW_SHOT,
        "data": {"source": "folder", "train_transforms": "resize(32) | crop(28)"},
        "objective": {"name": "maml", "episodes_at_once": 25},
    }


@pytest.mark.parametrize("from_format", [1, formats.FORMAT])
@pytest.mark.parametrize(
    ("value", "word"),
    [
        *((value, "none") for value in (False, "False", "none")),
        *((value, "full") for value in (True, "true", "full")),
        ("dots", "dots"),
        (3, 3),
    ],
)
def test_remat_has_words(from_format, value, word):
    def config(value):
        section = {"name": "vit_ti16", "remat": value}
        return {
            "model": {"name": "unet_encoder", "encoder": section, "remat": value, "width": True},
            "objective": {"name": "maml", "remat": True},
        }

    before = config(value)
    assert formats.upgrade(before, from_format) == config(word)
    assert before == config(value)


@pytest.mark.parametrize("config", [SEGMENTATION, FEW_SHOT, {}, {"train": None}])
def test_this_format_is_left_alone(config):
    assert formats.upgrade(config, formats.FORMAT) == config


def test_sections_may_be_missing():
    assert formats.upgrade({"objective": None, "data": {}}, 1) == {"objective": None, "data": {}}


def test_metrics_of_a_checkpoint():
    old = {"val/iou": 0.5, "val/iou_0": 0.4, "val/iou_1": 0.6, "val/my_iou_1": 0.0}
    assert formats.metrics(old) == {
        **{"val/iou": 0.5, "val/iou_per_class/0": 0.4, "val/iou_per_class/1": 0.6},
        "val/my_iou_1": 0.0,
    }
