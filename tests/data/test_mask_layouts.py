"""Folders of masks as people have them: small copies of known layouts, patterns and lists."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitjax.data
from vitjax import config as configs
from vitjax.core.errors import ConfigError, UserError
from vitjax.data import IGNORE, DataError
from vitjax.data.sources import SOURCES
from vitjax.data.sources.mask_patterns import Pattern
from vitjax.figures import overlay
from vitjax.objectives.segmentation import Segmentation
from vitjax.training.checks import trainable

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "segmentation" / "layouts.py"
SIZE = (16, 24)


def label(seed: int, classes: int = 2) -> np.ndarray:
    """Classes in stripes that differ from image to image."""
    columns = (np.arange(SIZE[1]) // 3 + seed) % classes
    return np.broadcast_to(columns, SIZE).astype(np.uint8)


def save(array: np.ndarray, path: Path, palette: list[int] | None = None, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette is not None:
        image = image.convert("P")
        image.putpalette(palette + [0] * (768 - len(palette)))
    image.save(path, **options)


def photo(seed: int, path: Path) -> None:
    """An image whose first pixel tells which one it is."""
    array = np.full((*SIZE, 3), 10 * seed + 5, np.uint8)
    save(array, path)


def create(layout: str, folder: Path, **changes) -> vitjax.data.Dataset:
    data = configs.load(f"{CONFIG}:{layout}").data.to_dict()
    return vitjax.data.create(
        **{**data, "path": str(folder), "batch_size": 1, "train_transforms": None, **changes}
    )


def check(data, split: str, seeds: list[int], truth) -> None:
    """Whether a split has the images of ``seeds`` in this order, with their masks."""
    assert data.num_examples(split) == len(seeds)
    for index, seed in enumerate(seeds):
        image = data.example(split, index)
        assert abs(int(image[0, 0, 0]) - (10 * seed + 5)) <= 3, data.name(split, index)
        np.testing.assert_array_equal(data.truth(split, index), truth(seed))


def test_drive(tmp_path):
    field = np.zeros(SIZE, np.uint8)
    field[2:14, 3:20] = 255
    for folder, seeds in (("training", range(1, 6)), ("test", range(6, 8))):
        for seed in seeds:
            stem = f"{seed:02d}"
            photo(seed, tmp_path / folder / "images" / f"{stem}_{folder}.tif")
            save(
                label(seed) * 255,
                tmp_path / folder / "1st_manual" / f"{stem}_manual1.gif",
                optimize=seed % 2 > 0,
            )
            save(255 - label(seed) * 255, tmp_path / folder / "2nd_manual" / f"{stem}_manual2.gif")
            save(field, tmp_path / folder / "mask" / f"{stem}_{folder}_mask.gif")
    data = create("drive", tmp_path)
    assert (data.splits, data.class_names) == (("train", "val", "test"), ("background", "vessel"))

    def truth(seed):
        return np.where(field > 0, label(seed).astype(np.int32), IGNORE)

    check(data, "test", [6, 7], truth)
    names = [data.name(s, i) for s in ("train", "val") for i in range(data.num_examples(s))]
    assert sorted(Path(name).name for name in names) == [
        f"{i:02d}_training.tif" for i in range(1, 6)
    ]
    inside = int((field > 0).sum())
    assert sum(data.class_pixels("test")) == 2 * inside
    expected = sum(int(label(seed)[field > 0].sum()) for seed in (6, 7))
    assert data.class_pixels("test")[1] == expected
    # The test masks are often not there.
    (tmp_path / "test" / "1st_manual" / "07_manual1.gif").unlink()
    with pytest.raises(DataError, match=r"07_test.tif: no .*07_manual1.gif.*did you mean '06_man"):
        create("drive", tmp_path)
    for path in (tmp_path / "test" / "1st_manual").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"--config.data.splits.test=None leaves the split out"):
        create("drive", tmp_path)
    with pytest.raises(DataError, match=r"config.data.splits = {'train': 'training'} leaves"):
        create("drive", tmp_path, splits=None)
    only = create("drive", tmp_path, splits={"train": "training", "test": None})
    assert only.splits == ("train", "val")


def test_camvid_in_colour(tmp_path):
    colours = np.array([(128, 128, 128), (64, 192, 0), (0, 0, 0), (128, 128, 192)], np.uint8)
    classes = np.array([0, 1, IGNORE, 4])  # sky, wall (a building), void, road shoulder (pavement)
    for folder, seeds in (("train", (0, 1, 10)), ("val", (2,)), ("test", (3,))):
        for seed in seeds:
            photo(seed, tmp_path / folder / f"s{seed}.png")
            save(colours[label(seed, 4)], tmp_path / f"{folder}_labels" / f"s{seed}_L.png")
    data = create("camvid", tmp_path)
    assert data.num_classes == 11
    assert data.class_names[:5] == ("sky", "building", "pole", "road", "pavement")
    for split, seeds in (("train", [0, 1, 10]), ("val", [2]), ("test", [3])):
        check(data, split, seeds, lambda seed: classes[label(seed, 4)])
    assert data.class_colors[3] == (128, 64, 128)
    assert data.class_values == tuple(range(11))


def test_camvid_as_indices_in_lists(tmp_path):
    for folder, seeds in (("train", (1, 0)), ("val", (2,)), ("test", (3,))):
        lines = []
        for seed in seeds:
            photo(seed, tmp_path / folder / f"s{seed}.png")
            save(label(seed, 12), tmp_path / f"{folder}annot" / f"s{seed}.png")
            # As SegNet's lists have them: paths of another machine.
            lines.append(
                f"/SegNet/CamVid/{folder}/s{seed}.png /SegNet/CamVid/{folder}annot/s{seed}.png"
            )
        (tmp_path / f"{folder}.txt").write_text("\n".join(lines) + "\n")
    data = create("camvid_index", tmp_path)

    def truth(seed):
        return np.where(label(seed, 12) == 11, IGNORE, label(seed, 12).astype(np.int32))

    for split, seeds in (("train", [1, 0]), ("val", [2]), ("test", [3])):
        check(data, split, seeds, truth)


def test_carvana(tmp_path):
    for seed in range(20):
        photo(seed, tmp_path / "train" / f"car{seed}_01.jpg")
        save(label(seed), tmp_path / "train_masks" / f"car{seed}_01_mask.gif", [0] * 3 + [255] * 3)
    data = create("carvana", tmp_path)
    assert (data.num_examples("train"), data.num_examples("val")) == (18, 2)
    for split in ("train", "val"):
        for index in range(data.num_examples(split)):
            seed = int(Path(data.name(split, index)).stem[3:-3])
            np.testing.assert_array_equal(data.truth(split, index), label(seed))
    assert data.class_colors == ((0, 0, 0), (255, 255, 255))


def test_cityscapes(tmp_path):
    # license plate (-1, 255 as a byte), ego vehicle, road, bicycle, bus
    identifiers = np.array([255, 1, 7, 33, 28], np.uint8)
    classes = np.array([IGNORE, IGNORE, 0, 18, 15])
    place = 0
    for split, cities in (
        ("train", ("aachen", "bochum")),
        ("val", ("frankfurt",)),
        ("test", ("x",)),
    ):
        for city in cities:
            for _ in range(2):
                stem = f"{city}_000{place:03d}_000019"
                photo(place, tmp_path / f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png")
                mask = identifiers[label(place, 5)] if split != "test" else label(0) * 0
                truth = tmp_path / f"gtFine/{split}/{city}"
                save(mask, truth / f"{stem}_gtFine_labelIds.png")
                trained = np.array([255, 255, 0, 18, 15], np.uint8)[label(place, 5)]
                save(trained, truth / f"{stem}_gtFine_labelTrainIds.png")
                save(label(1), truth / f"{stem}_gtFine_instanceIds.png")
                (truth / f"{stem}_gtFine_polygons.json").write_text("{}")
                place += 1
    names = []
    for layout in ("cityscapes", "cityscapes_train_ids"):
        data = create(layout, tmp_path)
        assert (data.splits, data.num_classes) == (("train", "val"), 19)
        check(data, "train", [0, 1, 2, 3], lambda seed: classes[label(seed, 5)])
        check(data, "val", [4, 5], lambda seed: classes[label(seed, 5)])
        names.append(data.class_names)
    assert names[0] == names[1]


def test_voc(tmp_path):
    values = np.array([0, 15, 255, 20], np.uint8)
    palette = [0, 0, 0, 128, 0, 0, 0, 128, 0] + [7] * 36 + [192, 128, 128] + [3] * 12 + [0, 64, 128]
    for seed in range(4):
        photo(seed, tmp_path / "JPEGImages" / f"2007_00003{seed}.jpg")
        save(
            values[label(seed, 4)],
            tmp_path / "SegmentationClass" / f"2007_00003{seed}.png",
            palette,
        )
    photo(9, tmp_path / "JPEGImages" / "2008_without_a_mask.jpg")
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000033\n2007_000031\n2007_000030\n")
    (lists / "val.txt").write_text("2007_000032\n")
    (lists / "trainval.txt").write_text("2007_000030\n2007_000032\n")
    data = create("voc", tmp_path)
    assert (data.splits, data.num_classes) == (("train", "val"), 21)
    classes = np.array([0, 15, IGNORE, 20])
    check(data, "train", [3, 1, 0], lambda seed: classes[label(seed, 4)])
    check(data, "val", [2], lambda seed: classes[label(seed, 4)])
    (lists / "val.txt").write_text("2007_000032\n2007_00003\n")
    with pytest.raises(DataError, match=r"val.txt, line 2: no .*2007_00003.jpg.*did you mean"):
        create("voc", tmp_path)


def test_an_unknown_layout_is_named():
    with pytest.raises(ConfigError, match="'camvd'; did you mean 'camvid'"):
        configs.load(f"{CONFIG}:camvd")


@pytest.fixture
def mixed(tmp_path):
    """Images and masks in one folder, ``im0.png`` beside ``im0_mask.png``."""
    for seed in range(12):
        photo(seed, tmp_path / f"im{seed}.png")
        save(label(seed) * 255, tmp_path / f"im{seed}_mask.png")
    return tmp_path


def stems(source, split: str = "train") -> list[str]:
    found = source.split(split)
    return [Path(found.name(index)).stem for index in range(len(found))]


@pytest.mark.parametrize("masks", ["{stem}_mask.png", "{stem}_mask.*", "./{stem}_m?sk.png"])
def test_images_beside_their_masks(mixed, masks):
    source = SOURCES.create("masks", path=str(mixed), images="*.png", masks=masks, val_last=2)
    assert stems(source) == [f"im{i}" for i in range(10)]
    assert stems(source, "val") == ["im10", "im11"]
    for seed in range(10):
        np.testing.assert_array_equal(source.split("train").read(seed).mask, label(seed))


@pytest.mark.parametrize(
    "text",
    [
        "image,mask,split\nim3.png,im3_mask.png,train\nim1.png,im1_mask.png,Valid\n"
        "im2.png,im2_mask.png,TEST\nim0.png,im0_mask.png,train\n",
        "# kept by hand\nsplit;mask;weight;image\ntrain;im3_mask.png;1;im3.png\n"
        "\nval;im1_mask.png;2;im1.png\ntest;im2_mask.png;1;im2.png\ntrain;im0_mask.png;1;im0.png\n",
    ],
)
def test_a_csv_file_of_pairs_and_splits(mixed, text):
    (mixed / "pairs.csv").write_text(text)
    source = SOURCES.create("masks", path=str(mixed), lists="pairs.csv")
    assert {split: stems(source, split) for split in source.splits} == {
        "train": ["im3", "im0"], "val": ["im1"], "test": ["im2"],
    }  # fmt: skip
    np.testing.assert_array_equal(source.split("test").read(0).mask, label(2))


def test_a_list_of_stems_or_of_paths_and_a_field_of_view(mixed):
    save(np.eye(*SIZE, dtype=np.uint8), mixed / "view.png")
    (mixed / "all.txt").write_text("im1 im1_mask.png view.png\n./im2.png im2_mask.png view.png\n")
    keywords = {"path": str(mixed), "val_count": 0}
    source = SOURCES.create("masks", **keywords, lists="all.txt", images="{stem}.png")
    for index, seed in enumerate((1, 2)):
        expected = np.where(np.eye(*SIZE) > 0, label(seed).astype(int), IGNORE)
        np.testing.assert_array_equal(source.split("train").read(index).mask, expected)
    (mixed / "images.txt").write_text("im4.png\nim2.png\n")
    source = SOURCES.create("masks", **keywords, lists="images.txt", masks="{stem}_mask.png")
    assert stems(source) == ["im4", "im2"]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"images": "*.png"}, r"images is given and masks is not"),
        ({"images": "*.jpg", "masks": "{stem}.png"}, r"no file matches images='\*.jpg'"),
        ({"images": "im?.png", "masks": "{stem}_msk.png"}, r"im0.png: no .*im0_msk.png.*did you "
                                                           r"mean 'im0_mask.png'.*\(9 more"),
        ({"images": "im?.png", "masks": "{stem}*.png"}, r"must match one file for it.* 2"),
        ({"images": "*.png", "masks": "{stm}_mask.png"}, r"\{stm\} cannot .*did you mean 'stem'"),
        ({"images": "*.png", "masks": "{stem[1:2:3]}.png"}, r"\{stem\[1:2:3\]\} cannot stand"),
        ({"images": "*.png", "masks": "{stem.upper()}"}, r"\{stem.upper\(\)\} cannot stand"),
        ({"images": "*.png", "masks": "{__import__('os')}"}, r"cannot stand in it"),
        ({"images": "*.png", "masks": "{stem_mask.png"}, r"a bracket \{ stands alone"),
        ({"images": "{stem}.png", "masks": "{stem}_mask.png"}, r"images .*\{stem\} cannot stand"),
        ({"images": "*.png", "masks": "a.png", "splits": {"train": "a"}},
         r"images has no \{split\}"),
        ({"images": "{split}/*.png", "masks": "{stem}.png"}, r"no images of the split train"),
        ({"images": "*0.png", "masks": "{stem}.png"}, r"im0.png: is its own mask by .*1 more"),
        ({"images": "im?.png", "masks": "im0_mask.png"},
         r"im0.png and .*im1.png have the same mask .*im0_mask.png"),
        ({"images": "im1?.png", "masks": "{stem[:3]}_mask.png"}, r"im10.png and .*im11.png have"),
        ({"lists": "own.txt"}, r"im1.png: is its own mask by .*own.txt, line 1"),
        ({"lists": "same.csv"}, r"im1.png and .*im2.png have the same mask .*im1_mask.png"),
        ({"images": "{split}?.png", "masks": "{stem}_mask.png",
          "splits": {"train": "im", "val": "im"}}, r"\{split\} is 'im' for 'train' and for 'val'"),
        ({"images": "{split}/*.png", "masks": "{stem}.png", "splits": {"train": "training"}},
         r"no file matches images.*for the split train \(\{split\} is 'training'\)"),
        ({"lists": "gone.txt"}, r"gone.txt: cannot be read: No such file"),
        ({"lists": "{split}.txt"}, r"no file lists='\{split\}.txt'"),
        ({"lists": "list.txt"}, r"list.txt, line 1: names no mask"),
        ({"lists": "bad.txt"}, r"bad.txt, line 2: no file 'im99.png'"),
        ({"lists": "split.csv"}, r"split.csv, line 2: 'tset' is not a split; did you mean 'test'"),
        ({"lists": "list.txt", "images": "*.png"}, r"with lists it must have \{stem\}"),
    ],
)  # fmt: skip
def test_layouts_that_cannot_be_say_why(mixed, keywords, message):
    (mixed / "list.txt").write_text("im1.png\n")
    (mixed / "own.txt").write_text("im1.png im1.png\n")
    (mixed / "same.csv").write_text(
        "image,mask,split\nim1.png,im1_mask.png,train\nim2.png,./im1_mask.png,test\n"
    )
    (mixed / "bad.txt").write_text("im1.png im1_mask.png\nim99.png im1_mask.png\n")
    (mixed / "split.csv").write_text("image,mask,split\nim1.png,im1_mask.png,tset\n")
    with pytest.raises(UserError, match=message):
        SOURCES.create("masks", path=str(mixed), **keywords)


def test_what_was_understood_is_said(mixed):
    given = {"images": "im?.png", "masks": "{stem}_mask.png", "path": str(mixed), "val_count": 3}
    said = SOURCES.create("masks", **given).notes
    assert said == (
        "2 files match masks='{stem}_mask.png' and belong to no image"
        f" ({mixed}/im10_mask.png, {mixed}/im11_mask.png)",
        f"train = {mixed}/im?.png (10 images)",
        "val: 3 of 10 examples are held out of train",
        "2 classes, by the values of masks, which were all read: 0, 255",
    )
    classes = {"a": ((0,), (9,)), "b": 255}
    said = SOURCES.create("masks", **given, classes=classes, ignore="others").notes
    assert said[-1] == (
        "2 classes, by the values of masks: a = (0, 9), b = 255; ignored: all others"
    )


@pytest.mark.parametrize(
    ("train", "test", "images"),
    [
        ("Train", "Test", "{split}/images/*.png"),
        ("training_set", "test_set", "{split}/images/*.png"),
        ("seg_train", "seg_test", "./{split}/*/*.png"),
        ("TRAIN", "EVAL", "**/{split}/images/*.png"),
        ("train2017", "val2017", "{split}/images/{split}_*.png"),
    ],
)
def test_the_names_of_splits_in_patterns(tmp_path, train, test, images):
    for seed, split in enumerate((train, test, f"{train}_labels", ".train")):
        photo(seed, tmp_path / split / "images" / f"{split}_{seed}.png")
        save(label(seed), tmp_path / split / "truth" / f"{split}_{seed}.png")
    source = SOURCES.create(
        "masks", path=str(tmp_path), images=images, masks="{split}/truth/{stem}.png"
    )
    second = "val" if test.startswith("val") else "test"
    assert {split: stems(source, split) for split in source.splits} == {
        "train": [f"{train}_0"], second: [f"{test}_1"],
    }  # fmt: skip


def test_the_names_of_splits_in_names_of_files(mixed):
    for place, name in enumerate(("Train", "Valid", "trainval")):
        (mixed / f"my_{name}.txt").write_text(f"im{place}.png im{place}_mask.png\n")
        (mixed / f"im{place}.png").rename(mixed / f"{name}_a_{place}.png")
        (mixed / f"im{place}_mask.png").rename(mixed / f"{name}_mask_{place}.png")
    keywords = {"images": "{split}_a_*.png", "masks": "{split}_mask_{stem[-1]}.png"}
    source = SOURCES.create("masks", path=str(mixed), **keywords)
    assert {split: stems(source, split) for split in source.splits} == {
        "train": ["Train_a_0"], "val": ["Valid_a_1"],
    }  # fmt: skip
    (mixed / "my_training.txt").write_text("im1.png\n")
    with pytest.raises(DataError, match=r"Train and training both exist"):
        SOURCES.create("masks", path=str(mixed), lists="my_{split}.txt")


@pytest.mark.parametrize("above", ["", "a/b"])
@pytest.mark.parametrize("splits", [(), ("Train", "test"), ("test",)])
def test_folders_around_masks_and_a_test_set_alone(tmp_path, above, splits):
    for split in splits or ("",):
        photo(0, tmp_path / above / split / "images" / "0.png")
        save(label(0), tmp_path / above / split / "masks" / "0.png")
    (tmp_path / "docs").mkdir()
    section = {"source": "masks", "path": str(tmp_path), "channels": 3, "batch_size": 1}
    data = vitjax.data.create(**section, val_fraction=0, classes=(0, 1))
    there = tuple(split.lower() for split in splits) or ("train",)
    assert data.splits == there
    found = f"{tmp_path / above} is read"
    assert (found in data.notes[0]) == bool(above)
    assert data.example_batch()["image"].shape[-1] == 3
    assert vitjax.data.recall(data.describe(), **section).splits == there
    if there == ("test",):
        with pytest.raises(ConfigError, match="no split 'train' to learn from"):
            trainable(data, Segmentation)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{stem}", "21_training"), ("{stem[:2]}", "21"), ("{stem[3:]}", "training"),
        ("{stem[-3:]}", "ing"), ("{stem[:-9]}", "21"), ("{stem[0]}", "2"), ("{stem[-1]}", "g"),
        ("a/{parent}/{split}_{stem[:1]}.gif", "a/DR*VE/val_2.gif"), ("x", "x"),
    ],
)  # fmt: skip
def test_a_pattern_is_filled(text, expected):
    pattern = Pattern.parse(text, "masks")
    assert pattern.fill(stem="21_training", parent="DR*VE", split="val") == expected


def test_brackets_and_wildcards_in_names_are_taken_as_they_are(tmp_path):
    folder = tmp_path / "set [1]"
    for seed, stem in enumerate(("a[b]", "c*d", "e")):
        photo(seed, folder / "in [x]" / f"{stem}.png")
        save(label(seed), folder / "out [y]" / f"{stem} [1].png")
    source = SOURCES.create(
        "masks", path=str(folder), images="in [x]/*.png", masks="out [y]/{stem} [1].*", val_count=0
    )
    assert stems(source) == ["a[b]", "c*d", "e"]
    for seed in range(3):
        np.testing.assert_array_equal(source.split("train").read(seed).mask, label(seed))


def test_a_near_match_ends_what_it_belongs_to(tmp_path):
    photo(0, tmp_path / "Images" / "0.png")
    photo(0, tmp_path / "label" / "0.png")
    with pytest.raises(DataError, match=r"\(it has: Images, label; did you mean 'Images'\?\); fil"):
        SOURCES.create("masks", path=str(tmp_path))


def test_names_with_a_rule_are_seen(tmp_path):
    for seed in range(3):
        photo(seed, tmp_path / "images" / f"im{seed}.jpg")
        save(label(seed), tmp_path / "masks" / f"im{seed}_mask.png")
    with pytest.raises(DataError) as caught:
        SOURCES.create("masks", path=str(tmp_path))
    assert 'with images="images/*.jpg" and masks="masks/{stem}_mask.*" they go' in str(caught.value)
    keywords = {"images": "images/*.jpg", "masks": "masks/{stem}_mask.*"}
    assert len(SOURCES.create("masks", path=str(tmp_path), **keywords).splits) == 2


@pytest.mark.parametrize("suffix", ["gif", "png", "tif", "bmp", "webp", "ppm", "tga"])
def test_kinds_of_files_of_masks(tmp_path, suffix):
    mask = label(0, 3)
    photo(0, tmp_path / "images" / "a.png")
    array = np.repeat(mask[..., None], 3, axis=-1) if suffix in ("webp", "ppm") else mask
    save(array, tmp_path / "masks" / f"a.{suffix}", **{"webp": {"lossless": True}}.get(suffix, {}))
    source = SOURCES.create("masks", path=str(tmp_path), val_count=0, classes=(0, 1, 2))
    np.testing.assert_array_equal(source.split("train").read(0).mask, mask)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_kinds_of_files_that_blur(tmp_path, suffix):
    photo(0, tmp_path / "images" / "a.png")
    save(label(0), tmp_path / "masks" / f"a.{suffix}")
    with pytest.raises(DataError, match=rf"a.{suffix}: a mask cannot be a \w+ file, which blurs"):
        SOURCES.create("masks", path=str(tmp_path), val_count=0, classes=(0, 1), ignore=9)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("side", ["square", "oblong"])
def test_masks_drawn_on_images_as_they_are_stored(tmp_path, orientation, side, caplog):
    mask = label(0, 3)[:, : 16 if side == "square" else None].copy()
    mask[:4] = 2
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(mask * 90, tmp_path / "images" / "a.png", exif=exif)
    save(mask, tmp_path / "masks" / "a.png")
    keywords = {"path": str(tmp_path), "val_count": 0, "classes": (0, 1, 2)}
    turned = SOURCES.create("masks", **keywords, mask_orientation="image").split("train")
    sample = turned.read(0)
    assert turned.size(0) == sample.size == sample.mask.shape
    np.testing.assert_array_equal(sample.image[..., 0], sample.mask * 90)
    assert not caplog.messages
    if side == "oblong" and orientation >= 5:
        with pytest.raises(
            DataError, match=r'is 24x16 .* is 16x24.*mask_orientation="image" turns'
        ):
            SOURCES.create("masks", **keywords)
        return
    with caplog.at_level(logging.WARNING):
        own = SOURCES.create("masks", **keywords).split("train").read(0)
    np.testing.assert_array_equal(own.mask, mask)
    assert len(caplog.messages) == (orientation > 1)
    # A mask that says its own orientation is right as it is.
    save(mask, tmp_path / "masks" / "a.png", exif=exif)
    for how in ("own", "image"):
        sample = SOURCES.create("masks", **keywords, mask_orientation=how).split("train").read(0)
        np.testing.assert_array_equal(sample.image[..., 0], sample.mask * 90)


def test_sides_that_are_exchanged_without_a_tag(tmp_path):
    photo(0, tmp_path / "images" / "a.png")
    save(label(0).T, tmp_path / "masks" / "a.png")
    with pytest.raises(DataError, match=r"is 24x16; they must .* height and width are exchanged"):
        SOURCES.create("masks", path=str(tmp_path), val_count=0)


def test_colours_are_recalled_and_drawn(tmp_path):
    colours = np.array([(128, 128, 128), (128, 64, 128)], np.uint8)
    for seed in range(3):
        photo(seed, tmp_path / "images" / f"{seed}.png")
        save(colours[label(seed)], tmp_path / "masks" / f"{seed}.png")
    section = {
        "source": "masks", "path": str(tmp_path), "channels": 3, "batch_size": 1,
        "classes": {"sky": (128, 128, 128), "road": (128, 64, 128)}, "class_names": ("sky", "road"),
    }  # fmt: skip
    data = vitjax.data.create(**section)
    described = json.loads(json.dumps(data.describe()))
    assert vitjax.data.recall(described, **section).class_colors == data.class_colors
    del described["class_colors"]  # of a run of before
    assert vitjax.data.recall(described, **section).class_colors is None
    grey = np.full((*SIZE, 3), 100, np.uint8)
    found = overlay(grey, label(0), 2, np.asarray(data.class_colors, np.uint8))
    np.testing.assert_array_equal(found, (3 * 100 + 2 * colours[label(0)].astype(int) + 2) // 5)
