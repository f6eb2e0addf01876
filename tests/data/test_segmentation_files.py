"""Image files and mask files of all kinds, whole and damaged, and those that are written."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import vitjax.data
from vitjax.data import CorruptImage, DataError
from vitjax.data.image_files import read_image
from vitjax.data.mask_files import read_mask
from vitjax.data.sources import SOURCES
from vitjax.data.sources.mask_classes import Classes
from vitjax.data.writing import probability_file, write_mask

PAGES = 4
LABEL = np.repeat([0, 1], 16)[None].repeat(24, axis=0)


def page(number: int, kind: str) -> Image.Image:
    grey = np.random.default_rng(number).integers(0, 256, LABEL.shape, dtype=np.uint8)
    arrays = {
        "8 bits": grey,
        "16 bits": grey.astype(np.uint16) * 257,
        "colour": np.repeat(grey[..., None], 3, axis=-1),
        "floats": grey / np.float32(255),
        "32 bits": grey.astype(np.int32),
    }
    return Image.fromarray(arrays[kind])


def mask(values: tuple[int, int], dtype: type = np.uint8, palette: bool = False) -> Image.Image:
    picture = Image.fromarray(np.asarray(values, dtype)[LABEL])
    if palette:
        picture = picture.convert("P")
        picture.putpalette([200, 0, 0, 0, 200, 0] + [9] * 762)
    return picture


@pytest.fixture
def stacks(tmp_path):
    """Writes stacks as ISBI 2012 ships them; gives the source's keywords, and both files."""

    def write(images: list[Image.Image], masks: list[Image.Image]):
        files = (tmp_path / "images/train-volume.tif", tmp_path / "labels/train-labels.tif")
        for file, pages in zip(files, (images, masks), strict=True):
            file.parent.mkdir(exist_ok=True)
            pages[0].save(file, save_all=True, append_images=pages[1:])
        return {"path": str(tmp_path), "val_last": 1}, *files

    return write


def eight(count: int = PAGES) -> list[Image.Image]:
    return [page(number, "8 bits") for number in range(count)]


@pytest.mark.parametrize("kind", ["8 bits", "16 bits", "colour"])
def test_pages_of_images(stacks, kind):
    images = [page(number, kind) for number in range(PAGES)]
    section, *_ = stacks(images, [mask((0, 255))] * PAGES)
    split = SOURCES.create("masks", **section).split("train")
    assert len(split) == PAGES - 1
    for number in range(PAGES - 1):
        pair = split.read(number)
        grey = np.asarray(page(number, "8 bits"))
        assert pair.image.dtype == (np.float32 if kind == "16 bits" else np.uint8)
        np.testing.assert_allclose(
            pair.image[..., 0], grey / 255 if kind == "16 bits" else grey, rtol=1e-6
        )
        np.testing.assert_array_equal(pair.mask, LABEL)


@pytest.mark.parametrize(
    ("made", "values"),
    [
        (mask((0, 255)), (0, 255)),
        (mask((7, 40_000), np.uint16), (7, 40_000)),
        (mask((0, 65_535), np.int32), (0, 65_535)),
        (mask((0, 1), bool), (0, 1)),
        (mask((0, 1), palette=True), (0, 1)),
    ],
    ids=["8 bits", "16 bits", "32 bits", "1 bit", "palette"],
)
def test_pages_of_masks(stacks, made, values):
    section, *_ = stacks(eight(), [made] * PAGES)
    source = SOURCES.create("masks", **section)
    assert source.values == values
    np.testing.assert_array_equal(source.split("val").read(0).mask, LABEL)


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        (None, [mask((0, 255))] * 3, r"volume.tif has 4 pages and its mask .*labels.tif has 3"),
        ([page(0, "floats")] * 4, None, r"volume.tif: .*floats of 32 bits.*save it with 8 or 16"),
        ([page(0, "32 bits")] * 4, None, r"volume.tif: .*integers of 32 bits"),
        (None, [page(0, "floats")] * 4, r"labels.tif: .*integers, and this image float32"),
        (None, [mask((0, 70_000), np.int32)] * 4, r"value 70000; a mask's are 0 to 65535"),
        (None, [mask((-3, 9), np.int32)] * 4, r"value -3; a mask's are 0 to 65535"),
        (None, [mask((0, 255)).resize((9, 9))] * 4, r"volume.tif is 24x32 .*labels.tif is 9x9"),
    ],
)
def test_pages_that_cannot_be(stacks, images, masks, message):
    section, *_ = stacks(images or eight(), masks or [mask((0, 255))] * PAGES)
    with pytest.raises(DataError, match=message):
        SOURCES.create("masks", **section).split("train").read(0)


def test_a_page_with_a_value_that_is_no_class(stacks):
    section, *_ = stacks(eight(), [mask((0, 255)), mask((0, 254)), *[mask((0, 255))] * 2])
    split = SOURCES.create("masks", classes=(0, 255), **section).split("train")
    split.read(0)
    with pytest.raises(DataError, match=r"labels.tif, page 1: has the value 254 in 384 pixels"):
        split.read(1)


# Where Pillow finds that a directory of the TIFF is cut short, it warns.
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
@pytest.mark.parametrize("which", ["volume", "labels"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.4, 0.8, 0.98])
def test_a_stack_that_is_cut_short(stacks, which, share):
    section, *files = stacks(eight(), [mask((0, 255))] * PAGES)
    file = files[which == "labels"]
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(DataError, match=rf"train-{which}.tif"):
        vitjax.data.create(source="masks", batch_size=2, **section).class_pixels("train")


def test_a_damaged_mask_while_classes_are_looked_for(stacks):
    section, _, file = stacks(eight(), [mask((0, 255))] * PAGES)
    # The pixels of the first page are ahead of what describes them.
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"labels.tif: .*all masks are read.*on_corrupt='skip'"):
        SOURCES.create("masks", **section)
    assert SOURCES.create("masks", classes=(0, 255), **section).values == (0, 255)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_garbage(tmp_path, content):
    for suffix in ("png", "tif"):
        file = tmp_path / f"bad.{suffix}"
        file.write_bytes(content)
        for read in (read_mask, lambda path: read_image(path, 1)):
            with pytest.raises(CorruptImage, match=rf"bad.{suffix}: cannot be "):
                read(file)


@pytest.mark.parametrize("values", [(0, 1, 2), (0, 255, 9), (5, 300, 65_535)])
def test_written_masks_are_read_again(tmp_path, values):
    label = np.random.default_rng(0).integers(0, 3, (11, 7)).astype(np.uint8)
    palette = np.array([(1, 2, 3), (40, 50, 60), (200, 210, 220)], np.uint8)
    write_mask(tmp_path / "new" / "a.png", label, palette, values)
    found = read_mask(tmp_path / "new" / "a.png")
    np.testing.assert_array_equal(found, np.asarray(values)[label])
    np.testing.assert_array_equal(Classes(values).indices(found, "a.png"), label)
    with Image.open(tmp_path / "new" / "a.png") as picture:
        assert picture.mode == ("P" if max(values) < 256 else "I;16")
        if picture.mode == "P":
            np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), palette[label])


def test_probabilities_are_written_row_by_row(tmp_path):
    whole = np.random.default_rng(0).random((9, 5, 3), np.float32)
    with probability_file(tmp_path / "a.npz", whole.shape) as write:
        for rows in (whole[:4], whole[4:5], whole[5:]):
            write(rows)
        assert not (tmp_path / "a.npz").exists()
    with np.load(tmp_path / "a.npz") as file:
        np.testing.assert_array_equal(file["probabilities"], whole)
        assert file["probabilities"].dtype == np.float32
    with (
        pytest.raises(ValueError, match="could not convert"),
        probability_file(tmp_path / "b.npz", whole.shape) as write,
    ):
        write("no rows")
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]
