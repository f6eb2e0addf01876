"""Sources: what they read, how they split it, and what they say when they cannot."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from vitjax.core.errors import UserError
from vitjax.data import CorruptImage, DataError
from vitjax.data.sources import SOURCES, decode_image, hold_out


def test_digits_are_whole_and_split_evenly():
    source = SOURCES.create("digits")
    assert {n: len(s) for n, s in source.splits.items()} == {"train": 1437, "val": 180, "test": 180}
    images = np.concatenate([s.images for s in source.splits.values()])
    assert images.dtype == np.uint8
    assert images.shape == (1797, 8, 8, 1)
    assert images.max() == 255
    for split in source.splits.values():
        counts = np.bincount(split.labels, minlength=10) / len(split)
        assert np.abs(counts - 0.1).max() < 0.006
    # The split is part of the data set: these are the first labels of its test split for good.
    from sklearn.datasets import load_digits

    raw = load_digits()
    everything = {(np.round(i * 255 / 16).astype(np.uint8).tobytes()) for i in raw.images}
    assert {i.tobytes() for i in images} == everything


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    share=st.floats(0, 1),
    seed=st.integers(0, 5),
)
def test_hold_out_is_exact_stratified_and_disjoint(sizes, share, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.random.default_rng(seed).permutation(labels)
    count = int(share * (len(labels) - len(sizes)))
    kept, held = hold_out(labels, count, seed)
    assert len(held) == count
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(len(labels)))
    assert np.bincount(labels[kept], minlength=len(sizes)).min() >= 1
    np.testing.assert_array_equal(held, hold_out(labels, count, seed)[1])
    if min(sizes) * (1 - count / len(labels)) > 1:
        exact = count * np.array(sizes) / len(labels)
        assert np.abs(np.bincount(labels[held], minlength=len(sizes)) - exact).max() < 1 + 1e-9


def test_hold_out_says_how_many_can_go():
    with pytest.raises(DataError, match=r"cannot hold out 9 .* 0 to 8 can go"):
        hold_out([0, 1] * 5, 9, 0)


def test_synthetic_is_repeatable_and_learnable():
    one, two = (SOURCES.create("synthetic", image_size=8, examples=50) for _ in range(2))
    train = one.split("train")
    np.testing.assert_array_equal(train.images, two.split("train").images)
    means = np.stack([train.images[train.labels == c].mean(0) for c in range(10)])
    val = one.split("val")
    distances = np.square(val.images[:, None] - means[None]).sum((2, 3, 4))
    assert (distances.argmin(1) == val.labels).mean() > 0.9
    with pytest.raises(UserError, match="examples is 0"):
        SOURCES.create("synthetic", examples=0)


@pytest.fixture
def write_npz(tmp_path):
    def write(**arrays) -> str:
        good = {
            "x_train": np.zeros((20, 4, 4), np.uint8),
            "y_train": np.arange(20) % 2,
            "x_test": np.zeros((4, 4, 4), np.uint8),
            "y_test": np.arange(4)[:, None] % 2,
        }
        merged = {k: v for k, v in {**good, **arrays}.items() if v is not None}
        np.savez(tmp_path / "data.npz", **merged)
        return str(tmp_path / "data.npz")

    return write


def test_npz_reads_grey_images_and_column_labels(write_npz):
    source = SOURCES.create("npz", path=write_npz())
    assert list(source.splits) == ["train", "test"]
    sample = source.split("test").read(1)
    image, label = sample.image, sample.label
    assert image.shape == (4, 4, 1)
    assert label == 1
    assert source.class_names == ("0", "1")


def test_npz_holds_out_val(write_npz):
    source = SOURCES.create("npz", path=write_npz(), val_fraction=0.2)
    assert {n: len(s) for n, s in source.splits.items()} == {"train": 16, "val": 4, "test": 4}
    assert np.bincount(source.split("val").labels).tolist() == [2, 2]
    assert len(SOURCES.create("npz", path=write_npz(), val_examples=6).split("val")) == 6


def test_npz_keeps_floats_and_names(write_npz):
    x = np.random.default_rng(0).normal(size=(20, 4, 4, 2))
    path = write_npz(x_train=x, x_test=None, y_test=None, class_names=np.array(["cat", "dog"]))
    source = SOURCES.create("npz", path=path)
    assert source.split("train").images.dtype == np.float32
    assert source.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y_train": None}, r"lacks the array 'y_train'; did you mean"),
        ({"y_test": None}, r"lacks the array 'y_test'"),
        ({"x_train": np.zeros((20, 4), np.uint8)}, r"x_train is uint8 of shape \(20, 4\)"),
        ({"x_train": np.zeros((20, 3, 8, 8), np.uint8)}, r"channels first.*transpose"),
        ({"x_train": np.zeros((20, 4, 4), np.int64)}, r"int64.*astype\(numpy.uint8\)"),
        ({"x_train": np.full((20, 4, 4), np.nan)}, r"NaN"),
        ({"y_train": np.zeros(19, int)}, r"\(19,\), but x_train has 20"),
        ({"y_train": np.zeros((20, 2), int)}, r"labels are integers"),
        ({"y_train": np.zeros(20)}, r"float64.*labels are integers"),
        ({"y_train": np.arange(20) - 1}, r"holds -1"),
        ({"y_test": np.full(4, 7)}, r"y_test holds class 7, but y_train knows only 0 to 1"),
    ],
)
def test_npz_says_what_is_wrong(write_npz, arrays, message):
    with pytest.raises(DataError, match=message):
        SOURCES.create("npz", path=write_npz(**arrays))


def test_npz_files_and_shares(write_npz, tmp_path):
    path = write_npz()
    with pytest.raises(DataError, match=r"no file .*dat.npz'; did you mean '.*data.npz'"):
        SOURCES.create("npz", path=str(tmp_path / "dat.npz"))
    with pytest.raises(DataError, match="not both"):
        SOURCES.create("npz", path=path, val_fraction=0.1, val_examples=2)
    with pytest.raises(UserError, match=r"val_fraction is 1.5"):
        SOURCES.create("npz", path=path, val_fraction=1.5)
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(DataError, match=r"text.npz cannot be read as an .npz file"):
        SOURCES.create("npz", path=str(tmp_path / "text.npz"))
    with_val = write_npz(x_val=np.zeros((2, 4, 4), np.uint8), y_val=np.array([0, 1]))
    with pytest.raises(DataError, match="has x_val already"):
        SOURCES.create("npz", path=with_val, val_fraction=0.1)


def test_folder_splits_a_flat_directory(image_folder):
    source = SOURCES.create(
        "folder", path=str(image_folder), val_fraction=1 / 3, test_fraction=1 / 6
    )
    assert {n: len(s) for n, s in source.splits.items()} == {"train": 6, "val": 4, "test": 2}
    assert source.class_names == ("cat", "dog")
    names = [s.name(i) for s in source.splits.values() for i in range(len(s))]
    assert len(set(names)) == 12
    for split in source.splits.values():
        assert np.bincount(split.labels).tolist() == [len(split) // 2] * 2
        for index in range(len(split)):
            sample = split.read(index)
            assert sample.image.shape == (12, 10, 3)
            assert (sample.image[0, 0, 0] >= 100) == sample.label


def test_folder_reads_split_folders(image_folder, tmp_path, write_image):
    root = tmp_path / "root"
    root.mkdir()
    image_folder.rename(root / "train")
    write_image(root / "validation" / "dog" / "deeper" / "x.PNG")
    source = SOURCES.create("folder", path=str(root), channels=1)
    assert {n: len(s) for n, s in source.splits.items()} == {"train": 12, "val": 1}
    assert source.split("val").labels.tolist() == [1]
    assert source.split("val").read(0).image.shape == (12, 10, 1)
    kept = SOURCES.create("folder", path=str(root), val_fraction=0.5)
    assert {n: len(s) for n, s in kept.splits.items()} == {"train": 12, "val": 1}
    assert "val_fraction=0.5 is not used: the split 'val' exists" in kept.notes
    write_image(root / "validation" / "dgo" / "x.png")
    with pytest.raises(DataError, match=r"class 'dgo', which 'train' lacks; did you mean 'dog'"):
        SOURCES.create("folder", path=str(root))
    assert SOURCES.create("folder", path=str(root), classes="all").class_names == (
        "cat",
        "dgo",
        "dog",
    )


def test_folder_says_what_is_wrong(image_folder, tmp_path):
    with pytest.raises(DataError, match=r"no folder '.*picture'; did you mean '.*pictures'"):
        SOURCES.create("folder", path=str(tmp_path / "picture"))
    with pytest.raises(DataError, match="no class folders"):
        SOURCES.create("folder", path=str(image_folder / "cat"))
    with pytest.raises(UserError, match="channels is 2"):
        SOURCES.create("folder", path=str(image_folder), channels=2)
    with pytest.raises(UserError, match="classes is 'some'"):
        SOURCES.create("folder", path=str(image_folder), classes="some")
    (image_folder / "bird").mkdir()
    with pytest.raises(DataError, match="bird has no image"):
        SOURCES.create("folder", path=str(image_folder))


def test_mini_imagenet(test_data):
    root = str(test_data / "miniimagenet")
    with pytest.raises(DataError, match='classes="all"'):
        SOURCES.create("folder", path=root)
    source = SOURCES.create("folder", path=root, classes="all")
    assert len(source.class_names) == 80
    assert {n: len(s) for n, s in source.splits.items()} == {"train": 3200, "val": 800}
    assert not set(source.split("train").labels) & set(source.split("val").labels)
    for index in range(0, 3200, 800):
        image = source.split("train").read(index).image
        assert image.shape == (84, 84, 3)
        with Image.open(source.split("train").name(index)) as picture:
            pillow = np.asarray(picture.convert("RGB"))
        np.testing.assert_array_equal(image, pillow)  # OpenCV's pixels are Pillow's


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(height: int = 6, width: int = 9) -> np.ndarray:
    return np.linspace(0, 255, height * width * 3).reshape(height, width, 3).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_lossless_kinds_come_back_as_they_were(kind):
    data = encode(Image.fromarray(gradient()), kind, lossless=True)
    np.testing.assert_array_equal(decode_image(data, 3, "x"), gradient())


def test_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rows become columns
    data = encode(Image.fromarray(gradient()), "JPEG", exif=exif, quality=95)
    upright = np.rot90(gradient(), -1)
    assert decode_image(data, 3, "x").shape == (9, 6, 3)
    assert np.abs(decode_image(data, 3, "x").astype(int) - upright).mean() < 5


def test_sixteen_bits_become_eight():
    wide = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    image = decode_image(encode(Image.fromarray(wide), "PNG"), 1, "x")
    np.testing.assert_array_equal(image[..., 0], wide >> 8)
    assert decode_image(encode(Image.fromarray(wide), "PNG"), 3, "x").shape == (8, 8, 3)


def test_transparent_pixels_become_white():
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (9, 8, 7, 255)
    image = decode_image(encode(Image.fromarray(rgba), "PNG"), 3, "x")
    assert image[0, 0].tolist() == [9, 8, 7]
    assert (image[1] == 255).all()


def test_palette_bilevel_and_cmyk():
    palette = Image.fromarray(gradient()).quantize(256)
    image = decode_image(encode(palette, "PNG"), 3, "x")
    np.testing.assert_array_equal(image, np.asarray(palette.convert("RGB")))
    bilevel = Image.fromarray(np.eye(4, dtype=bool))
    np.testing.assert_array_equal(
        decode_image(encode(bilevel, "PNG"), 1, "x")[..., 0], np.eye(4, dtype=np.uint8) * 255
    )
    red = Image.new("RGB", (8, 8), (200, 30, 30)).convert("CMYK")
    image = decode_image(encode(red, "JPEG", quality=95), 3, "x")
    assert np.abs(image.astype(int) - (200, 30, 30)).max() < 12


def png_parts(data: bytes) -> list[bytes]:
    parts, place = [], 8
    while place < len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4])
        parts.append(data[place:end])
        place = end
    return parts


@pytest.mark.parametrize(
    ("save", "channels"),
    [
        ({}, 3),
        ({"dpi": (72, 72)}, 3),
        ({"pnginfo": "text"}, 3),
        ({"exif": 6}, 3),
        ({"transparency": (9, 9, 9)}, 3),
        ({}, 1),
    ],
)
def test_what_rides_in_a_png_changes_nothing(save, channels):
    # OpenCV reads the plain ones, found by the names of their parts, and Pillow the others.
    options = dict(save)
    turned = "exif" in options
    if turned:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = save["exif"]
    if "pnginfo" in options:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("comment", "x" * 50)
    data = encode(Image.fromarray(gradient()), "PNG", **options)
    image = decode_image(data, channels, "x")
    if channels == 1:
        grey = np.asarray(Image.fromarray(gradient()).convert("L"))
        np.testing.assert_array_equal(image[..., 0], grey)
    else:
        np.testing.assert_array_equal(image, np.rot90(gradient(), -1) if turned else gradient())


def test_a_png_whose_end_is_missing_is_left_to_pillow():
    data = encode(Image.fromarray(gradient()), "PNG")
    *parts, end = png_parts(data)
    assert end[4:8] == b"IEND"
    for cut in (data[:-12], data[:-20], b"".join([data[:8], *parts[:1], end])):
        try:
            image = decode_image(cut, 3, "x")
        except CorruptImage:
            continue
        np.testing.assert_array_equal(image, gradient())  # all pixels were there


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_files_cut_short_are_never_read_in_part(kind, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), kind)
    with pytest.raises(CorruptImage, match=r"^here.img: cannot be decoded"):
        decode_image(data[: int(share * len(data))], 3, "here.img")


OMNIGLOT = """
import sys
import numpy as np
import vitjax.data
data = vitjax.data.create(
    source="tfds", dataset="omniglot", data_dir=sys.argv[1], batch_size=8,
    splits={"train": "train[:90%]", "val": "train[90%:]", "test": "test"},
    train_transforms="resize(28)", eval_transforms="resize(28)",
)
assert [data.num_examples(s) for s in data.splits] == [17352, 1928, 13180]
assert data.num_classes == 1623 and data.class_names[0] == "Arcadian/character01"
labels = data.labels("test")
assert (np.unique(labels, return_counts=True)[1] == 20).all() and len(set(labels)) == 659
with data.train_batches() as batches:
    batch = next(batches)
assert batch["image"].shape == (8, 28, 28, 3)
first = next(data.eval_batches("test"))
assert (first["label"] == labels[:8]).all()
assert "tensorflow" not in sys.modules, "TensorFlow was imported"
"""


def test_omniglot_without_tensorflow(test_data):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", OMNIGLOT, str(test_data / "tfds")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"dataset": "omniglt"}, r"did you mean 'omniglot'.*prepared there: omniglot:3.0.0"),
        ({"dataset": "mnist"}, r"tfds build mnist --data_dir=.* --file_format=array_record"),
        ({"dataset": "omniglot:1.0.0"}, r"did you mean 'omniglot:3.0.0'"),
        ({"splits": {"train": "train", "val": "train"}}, r"'train' is 'train' and 'val'; parts of"),
        ({"splits": {"train": "trian"}}, r"'trian' .*did you mean 'train'"),
        ({"image_key": "imag"}, r"'imag' \(image_key\); did you mean 'image'"),
        ({"label_key": "image"}, r"not one class index"),
        ({"image_key": "label"}, r"not a grey or RGB image"),
        ({"splits": ["train"]}, r"splits is \['train'\]; it must be a section"),
        ({"splits": 3}, r"splits is 3; it must be a section"),
    ],
)
def test_tfds_says_what_is_wrong(test_data, keywords, message):
    settings = {"dataset": "omniglot", "data_dir": str(test_data / "tfds"), **keywords}
    with pytest.raises(UserError, match=message):
        SOURCES.create("tfds", **settings)


def test_tfds_takes_another_feature_and_the_usual_splits(test_data):
    source = SOURCES.create(
        "tfds", dataset="omniglot", data_dir=str(test_data / "tfds"), label_key="alphabet_char_id"
    )
    assert list(source.splits) == ["train", "test"]
    sample = source.split("train").read(0)
    image, label = sample.image, sample.label
    assert image.shape == (105, 105, 3)
    assert label == source.split("train").labels[0]
    assert source.class_names[0] == "0"


@pytest.mark.parametrize("seed", range(5))
def test_groups_of_one_example_are_held_out_as_without_groups(seed):
    labels = np.random.default_rng(seed).integers(0, 4, 60)
    groups = np.random.default_rng(seed).permutation(60)
    for held, expected in zip(
        hold_out(labels, 13, seed, groups), hold_out(labels, 13, seed), strict=True
    ):
        np.testing.assert_array_equal(held, expected)


@pytest.mark.parametrize("repeats", ["twice", "some", "across classes"])
@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_groups_are_held_out_as_a_whole(repeats, count):
    labels = np.arange(40) % 4
    if repeats == "twice":  # as two annotators do
        labels, groups = np.tile(labels, 2), np.tile(np.arange(40), 2)
    elif repeats == "some":  # one class four times
        extra = np.flatnonzero(labels == 0)
        groups = np.concatenate([np.arange(40), *[extra] * 3])
        labels = np.concatenate([labels, *[labels[extra]] * 3])
    else:  # a class that is another one
        extra = np.flatnonzero(labels == 0)
        groups = np.concatenate([np.arange(40), extra])
        labels = np.concatenate([labels, np.full(len(extra), 4)])
    largest = np.bincount(groups).max()
    for seed in range(5):
        kept, held = hold_out(labels, count, seed, groups)
        assert sorted([*kept, *held]) == list(range(len(labels)))
        assert not set(groups[kept]) & set(groups[held])
        assert len(held) > 0
        assert abs(len(held) - count) < largest
        assert set(labels[kept]) == set(labels)


def test_the_examples_of_a_class_with_one_group_stay():
    kept, held = hold_out([0] * 6 + [1] * 6, 4, 0, np.asarray([0] * 6 + list(range(1, 7))))
    assert set(kept) >= set(range(6))
    assert len(held) == 4
