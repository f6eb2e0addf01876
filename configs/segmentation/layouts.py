r"""A U-Net for masks in the layout of a well-known data set.

    vitjax data  --config=configs/segmentation/layouts.py:drive --config.data.path=DRIVE
    vitjax train --config=configs/segmentation/layouts.py:drive --config.data.path=DRIVE \
        --workdir=runs/drive

The argument names the layout, a function below. ``docs/masks.md`` shows the folders of each. The
rest is as in ``masks.py``. Not run on the data sets themselves: tests read small copies of their
folders.
"""

from pathlib import Path

from ml_collections import ConfigDict

from vitjax import config as configs


def drive(data: ConfigDict) -> None:
    """DRIVE: retinal vessels, with the field of view of each image."""
    data.update(
        images="{split}/images/*.tif",
        masks="{split}/1st_manual/{stem[:2]}_manual1.gif",
        valid="{split}/mask/{stem}_mask.gif",
        splits={"train": "training", "test": "test"},
        # 1 in files that were saved again, with a palette of two colours.
        classes=(0, ((255,), (1,))),
        class_names=("background", "vessel"),
        val_fraction=0.2,
    )


# The colours of CamVid's 32 labels, by the 11 classes that are usually made of them.
CAMVID = {
    "sky": [(128, 128, 128)],
    "building": [(128, 0, 0), (192, 0, 128), (0, 128, 64), (64, 0, 64), (64, 192, 0)],
    "pole": [(192, 192, 128), (0, 0, 64)],
    "road": [(128, 64, 128), (128, 0, 192), (192, 0, 64)],
    "pavement": [(0, 0, 192), (64, 192, 128), (128, 128, 192)],
    "tree": [(128, 128, 0), (192, 192, 0)],
    "sign": [(192, 128, 128), (128, 128, 64), (0, 64, 64)],
    "fence": [(64, 64, 128)],
    "car": [(64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)],
    "pedestrian": [(64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)],
    "bicyclist": [(0, 128, 192), (192, 0, 192)],
}


def camvid(data: ConfigDict) -> None:
    """CamVid with masks in colour: ``train/*.png`` and ``train_labels/*_L.png``."""
    data.update(
        images="{split}/*.png",
        masks="{split}_labels/{stem}_L.png",
        classes=CAMVID,
        class_names=tuple(CAMVID),
        ignore=(0, 0, 0),
    )


def camvid_index(data: ConfigDict) -> None:
    """CamVid as SegNet has it: ``train.txt`` lists images and masks of indices."""
    data.update(
        lists="{split}.txt",
        classes=tuple(range(11)),
        class_names=tuple(CAMVID),
        ignore=11,
    )


def carvana(data: ConfigDict) -> None:
    """Carvana: cars, ``train/*.jpg`` and ``train_masks/*_mask.gif``."""
    data.update(
        images="train/*.jpg",
        masks="train_masks/{stem}_mask.gif",
        classes=(0, 1),
        class_names=("background", "car"),
        val_fraction=0.1,
    )


# The identifiers of the classes that Cityscapes evaluates.
CITYSCAPES = {
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17,
    "traffic light": 19, "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23,
    "person": 24, "rider": 25, "car": 26, "truck": 27, "bus": 28, "train": 31, "motorcycle": 32,
    "bicycle": 33,
}  # fmt: skip


def cityscapes(data: ConfigDict) -> None:
    """Cityscapes: fine masks of identifiers, of which 19 are classes. The test masks are hidden."""
    data.update(
        images="leftImg8bit/{split}/*/*_leftImg8bit.png",
        masks="gtFine/{split}/{parent}/{stem[:-12]}_gtFine_labelIds.png",
        splits={"train": "train", "val": "val"},
        classes=CITYSCAPES,
        class_names=tuple(CITYSCAPES),
        ignore="others",
    )


def cityscapes_train_ids(data: ConfigDict) -> None:
    """Cityscapes with masks of ``trainIds``, 0 to 18, which its own scripts write."""
    data.update(
        images="leftImg8bit/{split}/*/*_leftImg8bit.png",
        masks="gtFine/{split}/{parent}/{stem[:-12]}_gtFine_labelTrainIds.png",
        splits={"train": "train", "val": "val"},
        classes=tuple(range(19)),
        class_names=tuple(CITYSCAPES),
        ignore=255,
    )


VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa",
    "train", "tv monitor",
)  # fmt: skip


def voc(data: ConfigDict) -> None:
    """Pascal VOC: masks with a palette, whose borders do not count, and lists of stems."""
    data.update(
        images="JPEGImages/{stem}.jpg",
        masks="SegmentationClass/{stem}.png",
        lists="ImageSets/Segmentation/{split}.txt",
        classes=tuple(range(21)),
        class_names=VOC,
        ignore=255,
    )


LAYOUTS = {
    layout.__name__: layout
    for layout in (drive, camvid, camvid_index, carvana, cityscapes, cityscapes_train_ids, voc)
}


def get_config(layout: str = "drive") -> ConfigDict:
    change = configs.variant(layout, LAYOUTS)
    config = configs.load(Path(__file__).with_name("masks.py"))
    config.data.path = layout
    change(config.data)
    return config
