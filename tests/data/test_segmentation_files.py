"""Image files and mask files of all kinds, whole and damaged, and those that are written."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from PIL import Image

import vitjax.data
from vitjax.data import CorruptImage, DataError
from vitjax.data.image_files import measure, read_image
from vitjax.data.mask_files import decode_mask, read_mask
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


def turned(image: Image.Image, place: str, orientation: int, file) -> None:
    """Saves with an EXIF orientation, before or after the pixels of a PNG or in a TIFF."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    if place != "after the pixels":
        image.save(file, exif=exif.tobytes())
        return
    image.save(file)
    data, content = file.read_bytes(), exif.tobytes().removeprefix(b"Exif\0\0")
    part = b"eXIf" + content
    chunk = len(content).to_bytes(4, "big") + part + zlib.crc32(part).to_bytes(4, "big")
    end = data.rindex(b"IEND") - 4
    file.write_bytes(data[:end] + chunk + data[end:])


@pytest.mark.parametrize("place", ["png", "after the pixels", "tif", "jpg"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_one_rule_for_the_orientation(tmp_path, place, orientation):
    grey = np.zeros((16, 24), np.uint8)
    grey[:8, :8] = 200
    turn = {1: 0, 3: 2, 6: -1, 8: 1}[orientation]
    file = tmp_path / f"a.{'png' if place == 'after the pixels' else place}"
    turned(Image.fromarray(grey), place, orientation, file)
    expected = np.rot90(grey, turn)
    found = read_image(file, 1)
    assert np.abs(found[..., 0].astype(int) - expected).max() <= (20 if place == "jpg" else 0)
    np.testing.assert_array_equal(read_image(file, 1, sixteen_bits=True), found)
    assert measure(file) == (1, expected.shape, False, orientation)
    if place != "jpg":
        np.testing.assert_array_equal(read_mask(file), expected)


def test_a_turned_image_and_its_turned_mask_go_together(tmp_path):
    for name, values in (("images", (10, 200)), ("masks", (0, 1))):
        (tmp_path / name).mkdir()
        for number, orientation in enumerate((1, 6, 8)):
            picture = Image.fromarray(np.asarray(values, np.uint8)[LABEL])
            turned(picture, "png", orientation, tmp_path / name / f"{number}.png")
    split = SOURCES.create("masks", path=str(tmp_path), val_last=1).split("train")
    for number in range(2):
        sample = split.read(number)
        assert split.size(number) == sample.size == sample.mask.shape
        np.testing.assert_array_equal(sample.image[..., 0] == 200, sample.mask == 1)
    assert split.read(1).size == LABEL.shape[::-1]


def test_eight_and_sixteen_bits_are_read_as_asked(tmp_path):
    page(0, "16 bits").save(tmp_path / "a.png")
    floats = read_image(tmp_path / "a.png", 3, sixteen_bits=True)
    assert floats.dtype == np.float32
    bytes_ = read_image(tmp_path / "a.png", 3)
    assert bytes_.dtype == np.uint8
    np.testing.assert_allclose(floats * 255, bytes_, atol=1.01)
    with pytest.raises(CorruptImage, match=r"gone.png: cannot be read: No such file"):
        read_image(tmp_path / "gone.png", 1)


def test_bytes_of_a_mask_are_read_by_the_rules_of_its_file(tmp_path):
    picture, exif = mask((0, 7)), Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    picture.save(tmp_path / "turned.png", exif=exif)
    content = (tmp_path / "turned.png").read_bytes()
    found = decode_mask(content, "set[3], mask")
    np.testing.assert_array_equal(found, read_mask(tmp_path / "turned.png"))
    assert found.shape == LABEL.shape[::-1]
    with pytest.raises(CorruptImage, match=r"^set\[3\], mask: cannot be decoded: "):
        decode_mask(content[:50], "set[3], mask")
