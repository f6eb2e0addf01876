"""Which values of masks are taken for classes, and which masks are doubted."""

from __future__ import annotations

import ast
import io

import cv2
import numpy as np
import pytest
from PIL import Image

from vitjax.data import IGNORE, DataError
from vitjax.data.sources import SOURCES
from vitjax.data.sources.mask_discovery import values_of

COUNT = 6


def discs(seed: int, values: tuple[int, ...], size: tuple[int, int] = (90, 120)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mask = np.full(size, values[0], np.uint8)
    for number in range(8):
        middle = (int(rng.integers(size[1])), int(rng.integers(size[0])))
        value = values[1 + (number + seed) % (len(values) - 1)]
        cv2.circle(mask, middle, int(rng.integers(8, 25)), int(value), -1)
    return mask


def vessels(seed: int, values: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mask = np.full((90, 120), values[0], np.uint8)
    for _ in range(10):
        ends = rng.integers(0, 90, (2, 2)).tolist()
        cv2.line(mask, *map(tuple, ends), int(values[-1]), int(rng.integers(1, 4)))
    return mask


def as_jpeg(quality: int):
    def save(mask):
        file = io.BytesIO()
        Image.fromarray(mask).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    return save


def resized(how, factor=0.6):
    return lambda mask: np.asarray(
        Image.fromarray(mask).resize([int(side * factor) for side in mask.shape[::-1]], how)
    )


def read(folder, masks, **keywords):
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for number, mask in enumerate(masks):
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
        Image.fromarray(mask.astype(np.uint8)).save(folder / "images" / f"{number}.png")
    return SOURCES.create("masks", path=str(folder), **keywords)


HARM = {
    "JPEG 75": as_jpeg(75),
    "JPEG 95": as_jpeg(95),
    "bilinear": resized(Image.Resampling.BILINEAR),
    "bicubic": resized(Image.Resampling.BICUBIC),
    "enlarged": resized(Image.Resampling.BICUBIC, 1.7),
    "smoothed": lambda mask: cv2.GaussianBlur(mask, (3, 3), 0.8),
}


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize(
    ("draw", "values"),
    [(discs, (0, 255)), (discs, (0, 80, 160, 240)), (discs, (0, 1, 2, 255)), (vessels, (0, 255))],
)
def test_masks_that_were_smoothed_are_refused(tmp_path, draw, values, harm):
    masks = [HARM[harm](draw(seed, values)) for seed in range(COUNT)]
    count = len(np.unique(np.concatenate([mask.ravel() for mask in masks])))
    with pytest.raises(DataError, match=rf"the masks have {count} values .*along the borders"):
        read(tmp_path, masks)


@pytest.mark.parametrize("values", [(0, 5), (0, 3), (1, 4)])
@pytest.mark.parametrize("harm", ["bilinear", "smoothed"])
def test_masks_of_small_numbers_that_were_smoothed_are_refused(tmp_path, values, harm):
    masks = [HARM[harm](discs(seed, values)) for seed in range(COUNT)]
    with pytest.raises(DataError, match=rf"along the borders .*classes=\({values[0]}, {values[1]}"):
        read(tmp_path, masks)


@pytest.mark.parametrize(("values", "two"), [((0, 255), True), ((0, 80, 160, 240), False)])
def test_two_classes_are_proposed_where_two_values_have_the_pixels(tmp_path, values, two):
    with pytest.raises(DataError) as caught:
        read(tmp_path, [HARM["smoothed"](discs(seed, values)) for seed in range(COUNT)])
    assert ("of two classes, classes=(0, 255)" in str(caught.value)) == two


@pytest.mark.parametrize(
    ("draw", "values"),
    [
        (discs, (0, 255)), (discs, (0, 1, 2, 255)), (discs, (0, 128, 255)), (vessels, (0, 255)),
        (discs, tuple(range(9))), (discs, (3, 50, 100, 150, 200)), (discs, (1, 2, 3)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("nearest", [False, True])
def test_masks_of_classes_are_trusted(tmp_path, draw, values, nearest):
    masks = [draw(seed, values) for seed in range(COUNT)]
    if nearest:
        masks = [resized(Image.Resampling.NEAREST)(mask) for mask in masks]
    assert read(tmp_path, masks).values == values


@pytest.mark.parametrize("border", [2, 255])
def test_a_border_that_is_a_class_of_its_own(tmp_path, border):
    """As in Pascal VOC and Oxford-IIIT Pet: thin, between two others."""
    masks = []
    for seed in range(COUNT):
        mask = discs(seed, (0, 1))
        inner = cv2.erode(mask, np.ones((3, 3), np.uint8))
        masks.append(np.where(inner != mask, np.uint8(border), mask))
    assert read(tmp_path, masks).values == (0, 1, border)


def test_listed_classes_are_trusted(tmp_path):
    mask = HARM["bicubic"](discs(0, (0, 255)))
    values = tuple(np.unique(mask).tolist())
    source = read(tmp_path, [mask] * 3, classes=values)
    np.testing.assert_array_equal(np.asarray(values)[source.split("train").read(0).mask], mask)


@pytest.mark.parametrize("kinds", [(127, 255), (128, 255), (1, 128), (1, 127, 255)])
def test_grey_beside_white_is_doubted(tmp_path, kinds):
    masks = [discs(seed, (0, kinds[seed % len(kinds)])) for seed in range(COUNT)]
    with pytest.raises(DataError, match=r"several ways to write") as caught:
        read(tmp_path, masks)
    text = str(caught.value)
    line = text[text.index("classes={") + len("classes=") : text.index("} reads") + 1]
    both = ast.literal_eval(line)
    source = SOURCES.create("masks", path=str(tmp_path), classes=both, val_count=0)
    for index, mask in enumerate(masks):
        np.testing.assert_array_equal(source.split("train").read(index).mask, mask > 0)


def test_two_ways_to_write_two_classes(tmp_path):
    masks = [discs(seed, (0, 1 if seed == 4 else 255)) for seed in range(COUNT)]
    with pytest.raises(DataError, match=r"5 masks have .* 0 and 255, and 1 have 0 and 1 \(.*4.png"):
        read(tmp_path, masks)
    path = str(tmp_path)
    both = {"background": 0, "cell": ((1,), (255,))}
    source = SOURCES.create("masks", path=path, classes=both, val_count=0)
    assert source.class_names == ("background", "cell")
    for index, mask in enumerate(masks):
        found = source.split("train").read(index).mask
        np.testing.assert_array_equal(found, mask > 0)
    # One mask with both shows that they are three classes.
    Image.fromarray(discs(0, (0, 1, 255))).save(tmp_path / "masks" / "0.png")
    assert SOURCES.create("masks", path=path).values == (0, 1, 255)


def test_too_many_values(tmp_path):
    mask = np.arange(300, dtype=np.uint16).reshape(15, 20)
    with pytest.raises(DataError, match=r"0.png: with it, masks have more than 256 values"):
        read(tmp_path, [mask])


ROAD, CAR, VOID = (128, 64, 128), (64, 0, 128), (0, 0, 0)


def in_colour(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A mask of the classes 0 and 1 and of 2, which does not count, and in colours."""
    label = discs(seed, (0, 1, 2))
    return label, np.array([ROAD, CAR, VOID], np.uint8)[label]


@pytest.fixture
def coloured(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for seed in range(COUNT):
        label, mask = in_colour(seed)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{seed}.png")
        Image.fromarray(label).save(tmp_path / "images" / f"{seed}.png")
    return str(tmp_path)


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        ({"road": ROAD, "car": CAR}, ("car", "road")),
        ({"road": [list(ROAD)], "car": (CAR, (9, 9, 9))}, ("car", "road")),
        ((CAR, ROAD), (str(CAR), str(ROAD))),
    ],
)
def test_classes_by_colour(coloured, classes, names):
    source = SOURCES.create("masks", path=coloured, classes=classes, ignore=VOID, val_count=0)
    assert source.class_names == names
    assert source.values is None
    assert source.class_colors == (CAR, ROAD)
    for seed in range(COUNT):
        expected = np.array([1, 0, IGNORE])[in_colour(seed)[0]]
        np.testing.assert_array_equal(source.split("train").read(seed).mask, expected)


def test_the_order_of_named_classes(coloured):
    classes = {"road": ROAD, "car": CAR, "void": VOID}
    order = ("void", "road", "car")
    source = SOURCES.create("masks", path=coloured, classes=classes, class_names=order)
    assert (source.class_names, source.class_colors) == (order, (VOID, ROAD, CAR))
    with pytest.raises(Exception, match=r"'cars'.*did you mean 'car'"):
        SOURCES.create("masks", path=coloured, classes=classes, class_names=("cars", *order[:2]))


def test_colours_that_are_found_are_to_be_named(coloured):
    with pytest.raises(DataError) as caught:
        SOURCES.create("masks", path=coloured)
    text = str(caught.value)
    counts = np.bincount(np.concatenate([in_colour(s)[0].ravel() for s in range(COUNT)]))
    for colour, count in zip((ROAD, CAR, VOID), counts, strict=True):
        assert f"{colour} {count / counts.sum():.2%}" in text
    line = text[text.index("classes={") + len("classes=") : text.rindex("}, and ignore") + 1]
    assert sorted(ast.literal_eval(line).values()) == sorted([ROAD, CAR, VOID])
    source = SOURCES.create("masks", path=coloured, classes={"road": ROAD, "car": CAR})
    with pytest.raises(DataError, match=r"has the colour \(0, 0, 0\) in \d+ pixels.*ignore=\(0, 0"):
        source.split("train").read(0)


@pytest.mark.parametrize("values", [(0, 1), (0, 1, 2, 255), (0, 255)])
def test_a_palette_of_greys_gives_none(tmp_path, values):
    """As `Image.convert("P")` and many programs make it: the grey of each value."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for seed in range(3):
        picture = Image.fromarray(discs(seed, values)).convert("P")
        picture.putpalette(np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes())
        picture.save(tmp_path / "masks" / f"{seed}.png")
        picture.convert("RGB").save(tmp_path / "images" / f"{seed}.png")
    source = SOURCES.create("masks", path=str(tmp_path))
    assert (source.values, source.class_colors) == (values, None)


def test_a_palette_gives_its_colours(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for seed in range(3):
        picture = Image.fromarray(discs(seed, (0, 1, 2))).convert("P")
        picture.putpalette([5, 5, 5, *ROAD, *CAR] + [0] * 759)
        picture.save(tmp_path / "masks" / f"{seed}.png")
        picture.convert("RGB").save(tmp_path / "images" / f"{seed}.png")
    source = SOURCES.create("masks", path=str(tmp_path))
    assert (source.values, source.class_colors) == ((0, 1, 2), ((5, 5, 5), ROAD, CAR))
    # The same masks, read by their colours.
    classes = {"a": (5, 5, 5), "b": ROAD, "c": CAR}
    again = SOURCES.create("masks", path=str(tmp_path), classes=classes)
    np.testing.assert_array_equal(
        again.split("train").read(0).mask, source.split("train").read(0).mask
    )


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"classes": {"a": 0, "b": ROAD}}, "values for some classes and colours for others"),
        ({"classes": {"a": 0, "b": (1, 2)}}, r"has \(1, 2\) for a class"),
        ({"classes": {"a": VOID, "b": (1, 2, 300)}}, r"\(1, 2, 300\); it must be three integers"),
        ({"classes": {"a": VOID, "b": [VOID]}}, "distinct"),
        ({"classes": (0, 1), "ignore": [VOID]}, r"it must be a value as classes are"),
        ({"classes": {"a": VOID, "b": ROAD}, "ignore": 3}, "it must be a colour as classes are"),
        ({"ignore": "others"}, "needs classes to be listed"),
        ({"ignore": "other"}, "ignore is 'other'"),
    ],
)
def test_classes_that_cannot_be(coloured, keywords, words):
    with pytest.raises(Exception, match=words):
        SOURCES.create("masks", path=coloured, **keywords)


@pytest.mark.parametrize("values", [(0,), (0, 1), (5, -3, 70_000)])
def test_values_are_counted(values):
    mask = np.random.default_rng(0).choice(values, (40, 50)).astype(np.int32)
    found, counts = values_of(mask)
    expected = np.unique(mask, return_counts=True)
    np.testing.assert_array_equal(found, expected[0])
    np.testing.assert_array_equal(counts, expected[1])
