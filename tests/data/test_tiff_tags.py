"""Tags of TIFF files that say how values are to be taken, and which pages are images."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from vitjax.data import DataError
from vitjax.data.image_files import measure, read_image
from vitjax.data.mask_files import read_mask

GREY = np.random.default_rng(0).integers(0, 256, (12, 20), dtype=np.uint8)
CLASSES = np.random.default_rng(1).integers(0, 4, (12, 20), dtype=np.uint8)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_masks_have_the_stored_values_and_images_those_that_are_shown(
    tmp_path, compression, white_is_zero
):
    file = tmp_path / "a.tif"
    photometric = "miniswhite" if white_is_zero else "minisblack"
    tifffile.imwrite(file, CLASSES, photometric=photometric, compression=compression)
    np.testing.assert_array_equal(tifffile.imread(file), CLASSES)
    np.testing.assert_array_equal(read_mask(file), CLASSES)
    shown = 255 - CLASSES if white_is_zero else CLASSES
    np.testing.assert_array_equal(read_image(file, 1)[..., 0], shown)


@pytest.mark.parametrize("white_is_zero", [False, True])
def test_sixteen_bits_of_which_zero_is_white(tmp_path, white_is_zero):
    file, values = tmp_path / "a.tif", GREY.astype(np.uint16) * 200
    tifffile.imwrite(file, values, photometric="miniswhite" if white_is_zero else "minisblack")
    np.testing.assert_array_equal(read_mask(file), values)
    shown = 65535 - values if white_is_zero else values
    found = read_image(file, 1, sixteen_bits=True)[..., 0]
    np.testing.assert_allclose(found, shown / np.float32(65535), rtol=1e-6)
    np.testing.assert_array_equal(read_image(file, 3)[..., 1], shown >> 8)


def test_twelve_bits_are_scaled_by_their_own_white(tmp_path):
    values = np.random.default_rng(0).integers(0, 4096, (6, 8)).astype(np.uint16)
    values[0, :2] = 0, 4095
    pairs = values.reshape(-1, 2).astype(int)
    packed = np.stack(
        [pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1
    ).astype(np.uint8)
    file = tmp_path / "twelve.tif"
    Image.fromarray(np.zeros((6, 8), np.uint16)).save(file)
    data = bytearray(file.read_bytes())
    with Image.open(file) as image:
        offset = image.tag_v2[273][0]
        directory = int.from_bytes(data[4:8], "little")
    for entry in range(int.from_bytes(data[directory : directory + 2], "little")):
        place = directory + 2 + 12 * entry
        if int.from_bytes(data[place : place + 2], "little") == 258:
            data[place + 8 : place + 10] = (12).to_bytes(2, "little")
    data[offset : offset + packed.size] = packed.tobytes()
    file.write_bytes(data)
    np.testing.assert_array_equal(read_mask(file), values)
    found = read_image(file, 1, sixteen_bits=True)[..., 0]
    np.testing.assert_allclose(found, values / np.float32(4095), rtol=1e-6)
    assert (found.max(), read_image(file, 1).max()) == (1, 255)
    assert measure(file).sixteen_bits


def test_masks_of_one_bit_are_as_they_are_shown(tmp_path):
    mask = CLASSES > 1
    for compression in ("raw", "group4"):  # fax compression stores white as 0
        Image.fromarray(mask).save(tmp_path / "a.tif", compression=compression)
        np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), mask)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 1)[..., 0], mask * 255)


def test_overviews_and_transparency_masks_are_not_pages(tmp_path):
    file = tmp_path / "a.tif"
    with tifffile.TiffWriter(file) as out:
        for page in range(3):
            out.write(GREY + page, subfiletype=0, photometric="minisblack", metadata=None)
            out.write((GREY + page)[::2, ::2], subfiletype=1, photometric="minisblack")
            out.write((GREY + page)[::4, ::4], subfiletype=1, photometric="minisblack")
            out.write(GREY > 99, subfiletype=4, photometric="minisblack")
    assert measure(file)[:2] == (3, GREY.shape)
    for page in range(3):
        np.testing.assert_array_equal(read_image(file, 1, page)[..., 0], GREY + page)
        np.testing.assert_array_equal(read_mask(file, page), GREY + page)
    # The other way to store them, which no reader of pages sees.
    with tifffile.TiffWriter(tmp_path / "b.tif") as out:
        out.write(GREY, subifds=1, photometric="minisblack")
        out.write(GREY[::2, ::2], subfiletype=1, photometric="minisblack")
    assert measure(tmp_path / "b.tif").pages == 1


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize(
    ("compression", "predictor"), [(None, False), ("zlib", False), ("zlib", True)]
)
def test_how_colours_are_stored_changes_nothing(tmp_path, planar, compression, predictor):
    colours = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    stored = colours if planar == "contig" else np.moveaxis(colours, -1, 0)
    tifffile.imwrite(
        tmp_path / "a.tif",
        stored,
        photometric="rgb",
        planarconfig=planar,
        compression=compression,
        predictor=predictor or None,
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 3), colours)


@pytest.mark.parametrize("pages", [1, 2])
@pytest.mark.parametrize("kind", ["assocalpha", "unassalpha"])
def test_transparent_pixels_are_white_on_every_page(tmp_path, kind, pages):
    colours = np.random.default_rng(0).integers(0, 256, (12, 20, 3)).astype(float)
    alpha = np.linspace(0, 1, 20)[None, :, None].repeat(12, axis=0)
    stored = colours * alpha if kind == "assocalpha" else colours
    four = np.concatenate([stored, alpha * 255], axis=-1).round().astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as out:
        for _ in range(pages):
            out.write(four, photometric="rgb", extrasamples=[kind])
    found = read_image(tmp_path / "a.tif", 3, pages - 1)
    expected = colours * alpha + 255 * (1 - alpha)
    assert np.abs(found - expected).max() <= 2


def test_a_palette_of_a_tiff(tmp_path):
    picture = Image.fromarray(CLASSES).convert("P")
    picture.putpalette([10, 20, 30, 200, 0, 0, 0, 200, 0, 0, 0, 200] + [0] * 756)
    picture.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), CLASSES)
    colours = np.array([(10, 20, 30), (200, 0, 0), (0, 200, 0), (0, 0, 200)])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 3), colours[CLASSES])


def test_jpeg_inside_of_a_tiff_is_refused_as_jpeg_is(tmp_path):
    Image.fromarray(CLASSES * 80).save(tmp_path / "a.tif", compression="jpeg")
    with pytest.raises(DataError, match=r"a.tif: .*TIFF file compressed with loss.*save it as PNG"):
        read_mask(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif", 1).shape == (12, 20, 1)
