"""Sources of images and masks: what they read, how they split it, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitjax.core.errors import ConfigError, UserError
from vitjax.core.text import near_match
from vitjax.data import IGNORE, CorruptImage, DataError
from vitjax.data.sources import SOURCES, cells


def picture(seed: int = 0, size: tuple[int, int] = (8, 10), mode: str = "L") -> Image.Image:
    shape = size if mode == "L" else (*size, 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def halves(size: tuple[int, int] = (8, 10), values: tuple[int, int] = (0, 255)) -> Image.Image:
    mask = np.full(size, values[0], np.uint8)
    mask[:, size[1] // 2 :] = values[1]
    return Image.fromarray(mask)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pairs; numbers in stems without leading zeros."""
    for name in ("images", "masks"):
        (tmp_path / "set" / name).mkdir(parents=True)
    for i in range(12):
        picture(i).save(tmp_path / "set" / "images" / f"slice{i}.png")
        halves().save(tmp_path / "set" / "masks" / f"slice{i}.png")
    return tmp_path / "set"


def read(path, **keywords):
    return SOURCES.create("masks", path=str(path), **keywords)


def sizes(source) -> dict[str, int]:
    return {name: len(split) for name, split in source.splits.items()}


def test_a_folder_of_pairs(folder):
    source = read(folder, class_names=("membrane", "cell"))
    assert sizes(source) == {"train": 11, "val": 1}
    assert source.class_names == ("membrane", "cell")
    pair = source.split("train").read(0)
    assert pair.image.shape == (8, 10, 1)
    assert pair.mask.dtype == np.int32
    np.testing.assert_array_equal(pair.mask, np.tile(np.repeat([0, 1], 5), (8, 1)))
    assert source.split("train").size(0) == (8, 10)
    assert read(folder, channels=3).split("train").read(0).image.shape == (8, 10, 3)


def test_files_are_in_natural_order_and_the_last_can_be_held_out(folder):
    source = read(folder, val_last=3, test_fraction=0.25)
    names = {
        split: [Path(source.split(split).name(i)).stem for i in range(len(source.split(split)))]
        for split in source.splits
    }
    assert names["val"] == ["slice9", "slice10", "slice11"]
    assert names["test"] == ["slice6", "slice7", "slice8"]
    assert names["train"] == [f"slice{i}" for i in range(6)]


@pytest.mark.parametrize("keywords", [{"val_count": 4}, {"val_fraction": 1 / 3}])
def test_what_is_held_out_follows_from_the_seed(folder, keywords):
    def held(seed: int) -> list[str]:
        source = read(folder, split_seed=seed, **keywords)
        assert sizes(source) == {"train": 8, "val": 4}
        names = [source.split(s).name(i) for s in source.splits for i in range(sizes(source)[s])]
        assert len(set(names)) == 12
        return names

    assert held(0) == held(0) != held(1)


def test_folders_of_splits(tmp_path, folder):
    for split in ("train", "valid", "test"):
        for name, save in (("images", picture), ("labels", halves)):
            place = tmp_path / "parted" / split / name / "deeper"
            place.mkdir(parents=True)
            save().save(place / "a.png")
    assert sizes(read(tmp_path / "parted")) == {"train": 1, "val": 1, "test": 1}
    with pytest.raises(DataError, match="folder of the split val: leave out val_count"):
        read(tmp_path / "parted", val_count=1)


def test_pages_of_a_stack(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    images = [picture(i) for i in range(5)]
    images[0].save(tmp_path / "images/train-volume.tif", save_all=True, append_images=images[1:])
    masks = [halves((8, 10), (0, 255 if i % 2 else 9)) for i in range(5)]
    masks[0].save(tmp_path / "labels/train-labels.tif", save_all=True, append_images=masks[1:])
    source = read(tmp_path, val_last=2, classes=(0, 255, 9))
    assert sizes(source) == {"train": 3, "val": 2}
    for i in range(2):
        pair = source.split("val").read(i)
        np.testing.assert_array_equal(pair.image[..., 0], np.asarray(images[3 + i]))
        assert pair.mask.max() == (1, 2)[i]
    assert source.split("val").name(0).endswith("train-volume.tif, page 3")
    masks[0].save(tmp_path / "labels/train-labels.tif", save_all=True, append_images=masks[1:4])
    with pytest.raises(DataError, match=r"train-volume.tif has 5 pages and its mask .* has 4"):
        read(tmp_path)


def test_sixteen_bits_are_floats_of_which_one_is_white(folder):
    values = np.array([[0, 65535, 32768, 1]] * 8, np.uint16).repeat(3, axis=1)[:, :10]
    Image.fromarray(values).save(folder / "images/slice3.png")
    Image.fromarray(values).save(folder / "images/slice4.tif")
    (folder / "images/slice4.png").unlink()
    source = read(folder, val_last=1)
    for index in (3, 4):
        image = source.split("train").read(index).image
        assert image.dtype == np.float32
        np.testing.assert_allclose(image[..., 0], values / 65535, rtol=1e-6)
    # All images of one set are of one kind.
    eight = source.split("train").read(0).image
    np.testing.assert_allclose(eight[..., 0], np.asarray(picture(0)) / np.float32(255), rtol=1e-6)


def test_masks_with_a_palette_of_one_bit_of_sixteen_bits_and_grey_rgb(folder):
    label = (np.asarray(halves()) > 0).astype(np.uint8)
    palette = Image.fromarray(label).convert("P")
    palette.putpalette([200, 10, 10, 10, 200, 10] + [0] * 762)
    palette.putdata(label.ravel().tolist())
    palette.save(folder / "masks/slice0.png")
    Image.fromarray(label.astype(bool)).save(folder / "masks/slice1.png")
    Image.fromarray(label.astype(np.uint16)).save(folder / "masks/slice2.png")
    Image.fromarray(np.repeat(label[..., None], 3, axis=-1)).save(folder / "masks/slice3.png")
    split = read(folder, classes=(0, 1), val_last=1).split("train")
    for index in range(4):
        np.testing.assert_array_equal(split.read(index).mask, label)
    with pytest.raises(DataError, match=r"slice4.png: has the value 255 in 40 pixels.*ignore=255"):
        split.read(4)


def test_an_ignored_value(folder):
    source = read(folder, classes=(7, 0), ignore=255)
    label = source.split("train").read(0).mask
    assert (label[:, :5] == 1).all()
    assert (label[:, 5:] == IGNORE).all()


@pytest.mark.parametrize(
    ("change", "keywords", "message"),
    [
        (lambda f: (f / "masks/slice2.png").rename(f / "masks/silce2.png"), {},
         r"images/slice2.png: this image has no mask: no .*slice2\.\*; did you mean '\w+'"),
        (lambda f: (f / "images/slice2.png").unlink(), {}, r"masks/slice2.png: this mask has no"),
        (lambda f: halves((9, 10)).save(f / "masks/slice2.png"), {},
         r"images/slice2.png is 8x10 .* masks/slice2.png is 9x10|slice2.png is 8x10.*is 9x10"),
        (lambda f: halves().save(f / "images/slice2.tif"), {}, r"slice2.* have the same stem"),
        (lambda f: (f / "masks").rename(f / "msks"), {}, r"has no folder of masks"),
        (lambda f: (f / "images").rename(f / "image"), {}, r"did you mean 'image'"),
        (lambda f: [p.unlink() for p in (f / "images").iterdir()], {}, r"images has no files"),
        (lambda f: [halves((8, 10), (3, 3)).save(p) for p in (f / "masks").iterdir()], {},
         r"only the values \[3\]"),
        (lambda f: [(f / d / "slice2.png").write_bytes(b"no") for d in ("images", "masks")], {},
         r"masks/slice2.png: cannot be decoded: it is not an image"),
        (None, {"channels": 2}, r"channels is 2"),
        (None, {"classes": (0, 0)}, r"classes is \(0, 0\)"),
        (None, {"classes": (0, 255), "ignore": 255}, r"ignore is 255, which classes has too"),
        (None, {"class_names": ("a",)}, r"class_names is \('a',\); there are 2 classes"),
        (None, {"val_last": 2, "val_count": 2}, r"val_count and val_last both give"),
        (None, {"val_last": 12}, r"12 examples of val and 0 of test leave none of 12"),
        (None, {"val_count": -1}, r"val_count is -1"),
    ],
)  # fmt: skip
def test_errors_name_the_file_and_what_was_found(folder, change, keywords, message):
    if change:
        change(folder)
    with pytest.raises(UserError, match=message):
        read(folder, **keywords)


def test_errors_at_reading(folder):
    picture(0, mode="RGB").save(folder / "masks/slice0.png")
    (folder / "images/slice1.png").write_bytes((folder / "images/slice1.png").read_bytes()[:60])
    split = read(folder, classes=(0, 255), val_last=1).split("train")
    with pytest.raises(CorruptImage, match=r"slice0.png: .*one value per pixel.*in colour"):
        split.read(0)
    with pytest.raises(CorruptImage, match=r"slice1.png: cannot be decoded"):
        split.read(1)
    picture(0).save(folder / "masks/slice2.jpg")
    (folder / "masks/slice2.png").unlink()
    with pytest.raises(DataError, match=r"slice2.jpg: a mask cannot be a JPEG file"):
        read(folder)


def test_a_folder_that_is_not_there(folder):
    with pytest.raises(DataError, match=f"no folder .*{near_match('sett', ['set'])[:12]}"):
        read(folder.parent / "sett")


def test_electron_microscopy(test_data):
    path = test_data / "isbi2012"
    if not path.is_dir():
        pytest.skip(f"no {path}")
    source = read(path, val_last=5, classes=(0, 255), class_names=("membrane", "cell"))
    assert sizes(source) == {"train": 20, "val": 5}
    pair = source.split("val").read(0)
    assert source.split("val").name(0).endswith("20.png")
    assert pair.image.shape == (512, 512, 1)
    assert 0.7 < pair.mask.mean() < 0.85  # cells
    assert pair.image[pair.mask == 1].mean() > pair.image[pair.mask == 0].mean() + 20


def threshold_iou(pair) -> float:
    """The best mean IoU of any threshold, chosen in hindsight for this one image."""
    best = 0.0
    for threshold in range(0, 256, 4):
        guess = (pair.image[..., 0] >= threshold).astype(int)
        for label in (pair.mask, 1 - pair.mask):
            shared = [((guess == c) & (label == c)).sum() for c in (0, 1)]
            either = [((guess == c) | (label == c)).sum() for c in (0, 1)]
            best = max(best, float(np.mean(np.divide(shared, either))))
    return best


def test_cells_are_the_same_each_time_and_not_for_a_threshold():
    source = SOURCES.create("cells", size=64, train=6, val=2, test=1)
    assert sizes(source) == {"train": 6, "val": 2, "test": 1}
    pairs = [source.split("train").read(i) for i in range(6)]
    again = SOURCES.create("cells", size=64, train=9).split("train")
    for index, pair in enumerate(pairs):
        np.testing.assert_array_equal(pair.image, again.read(index).image)
        np.testing.assert_array_equal(pair.instances, again.read(index).instances)
        assert pair.image.dtype == np.uint8
        np.testing.assert_array_equal(pair.mask, pair.instances > 0)
        assert set(np.unique(pair.instances)) >= set(range(1, pair.instances.max() + 1))
        assert 0.3 < pair.mask.mean() < 0.75
    other = SOURCES.create("cells", size=64, tissue=1).split("train").read(0)
    for stranger in (source.split("val").read(0), other, pairs[1]):
        assert (stranger.image != pairs[0].image).mean() > 0.5
    assert np.mean([threshold_iou(pair) for pair in pairs]) < 0.75


def test_no_two_cells_touch():
    for index in range(3):
        pair = cells.draw(np.random.default_rng(index), 96)
        for axis in (0, 1):
            one, next_ = (
                np.moveaxis(pair.instances, axis, 0)[s] for s in (slice(-1), slice(1, None))
            )
            assert (one == next_)[(one > 0) & (next_ > 0)].all()
        # Membranes are darker than what they are between.
        dark = np.percentile(pair.image[pair.mask == 0], 10)
        assert dark < np.percentile(pair.image[pair.mask == 1], 10)


def test_cells_refuse_numbers_that_are_too_small():
    with pytest.raises(ConfigError, match=r"'cells': size is 8; .* in \[32, 4096\]"):
        SOURCES.create("cells", size=8)
