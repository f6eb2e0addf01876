"""Damaged JPEG and PNG files are refused, and complete ones of odd kinds are read."""

from __future__ import annotations

import io
import itertools
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from vitjax.data import CorruptImage
from vitjax.data.image_files import _is_plain_png, decode_image, read_image
from vitjax.data.mask_files import decode_mask

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def smooth(height: int = 120, width: int = 168, channels: int = 3) -> np.ndarray:
    """An image with detail everywhere, and no middle grey at its end."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    image = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    image = image.reshape(height, width, channels)
    image[-16:, -16:] = np.random.default_rng(1).integers(150, 256, (16, 16, channels))
    return image


def jpeg(array: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    mode = options.pop("mode", None)
    image = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    (image.convert(mode) if mode else image).save(file, "JPEG", **options)
    return file.getvalue()


def part(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(
    array: np.ndarray, rows: int | None = None, kind: int = 2, extra: bytes = b"", bits: int = 8
) -> bytes:
    """A PNG without filters that has the first ``rows`` only, its checksums right."""
    lines = array.reshape(len(array), -1)
    packed = b"".join(b"\0" + line.astype(">u2" if bits == 16 else "u1").tobytes()
                      for line in lines[:rows])  # fmt: skip
    head = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], bits, kind, 0, 0, 0)
    return (
        SIGNATURE
        + part(b"IHDR", head)
        + extra
        + part(b"IDAT", zlib.compress(packed))
        + part(b"IEND", b"")
    )


def zeros(data: bytes) -> bytes:
    """``data`` whose second half was never written."""
    return data[: len(data) // 2] + bytes(len(data) - len(data) // 2)


def closed(data: bytes, share: float = 0.5) -> bytes:
    """A JPEG that ends early, with an end marker."""
    head = data.index(b"\xff\xda")
    return data[: head + int(share * (len(data) - head))].rstrip(b"\xff") + b"\xff\xd9"


def holed(data: bytes) -> bytes:
    """A JPEG with zeros in the middle of its data."""
    middle = (data.index(b"\xff\xda") + len(data)) // 2
    return data[:middle] + bytes(400) + data[middle + 400 :]


JPEGS = {
    "baseline": {},
    "best": {"quality": 95, "subsampling": 0},
    "own tables": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 7},
    "restarts by row": {"restart_marker_rows": 1},
    "grey": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
    "4:2:2": {"subsampling": 1},
}


@pytest.mark.parametrize("how", [zeros, closed, holed, lambda data: data[:-2]])
@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_damaged_jpeg_is_refused(tmp_path, kind, how, channels):
    data = jpeg(smooth(), **JPEGS[kind])
    assert decode_image(data, channels, "whole").shape == (120, 168, channels)
    file = tmp_path / "damaged.jpg"
    file.write_bytes(how(data))
    with pytest.raises(CorruptImage, match=r"damaged.jpg: cannot be decoded: .*(ends|zeros)"):
        read_image(file, channels)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("kind", ["baseline", "best", "own tables", "grey", "restarts"])
def test_a_jpeg_that_is_closed_early_anywhere(kind, share):
    with pytest.raises(CorruptImage, match="part of it is missing"):
        decode_image(closed(jpeg(smooth(), **JPEGS[kind]), share), 3, "x")


@pytest.mark.parametrize("kind", ["baseline", "best", "restarts", "grey", "CMYK"])
@pytest.mark.parametrize("colour", [128, 255])
def test_a_jpeg_that_is_closed_within_an_area_of_one_colour(kind, colour):
    array = smooth()
    array[16:80] = colour
    data = jpeg(array, **JPEGS[kind])
    assert decode_image(data, 3, "x").shape == array.shape
    # The areas take few bytes: in some of these the cut is within them.
    for share in np.linspace(0.1, 0.6, 26):
        with pytest.raises(CorruptImage, match="part of it is missing"):
            decode_image(closed(data, share), 3, "x")


GREY = np.full((96, 80, 3), 128, np.uint8)
FRAMED = smooth(96, 80)
FRAMED[40:], FRAMED[:, 60:] = 128, 128


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize(
    "array",
    [GREY, FRAMED, GREY * 0, GREY * 0 + 255, GREY[:3, :5], smooth(97, 83), GREY[:96, :75]],
    ids=["grey", "framed", "black", "white", "tiny", "odd sides", "odd grey"],
)
def test_a_complete_jpeg_is_read_whatever_it_shows(kind, array):
    data = jpeg(array, **JPEGS[kind])
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode_image(data, 3, "x"), expected)


def test_a_large_image_of_one_colour_may_be_zeros():
    data = jpeg(np.zeros((1200, 1600, 3), np.uint8), optimize=True)
    assert bytes(200) in data
    assert not decode_image(data, 3, "x").any()


@pytest.mark.parametrize(
    "more", [bytes(64), b"\0\0\0\x18ftypmp42" + bytes(300), b"\xff\xd8\xff\xe0 a preview", b"\n"]
)
def test_bytes_after_the_end_of_a_jpeg(more):
    data = jpeg(smooth())
    np.testing.assert_array_equal(decode_image(data + more, 3, "x"), decode_image(data, 3, "x"))
    with pytest.raises(CorruptImage):
        decode_image(closed(data) + more, 3, "x")


def test_a_jpeg_with_a_preview_and_several_images():
    thumbnail = jpeg(smooth(16, 16))
    application = b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    data = jpeg(smooth())
    np.testing.assert_array_equal(
        decode_image(data[:2] + application + data[2:], 3, "x"), decode_image(data, 3, "x")
    )
    file = io.BytesIO()
    first, second = (Image.fromarray(smooth(64, 80 + i)) for i in range(2))
    first.save(file, "MPO", save_all=True, append_images=[second])
    with Image.open(file) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
        expected = np.asarray(image)
    np.testing.assert_array_equal(decode_image(file.getvalue(), 3, "x"), expected)


TEXT = part(b"tEXt", b"Comment\0made here")


@pytest.mark.parametrize("extra", [b"", TEXT], ids=["plain", "with text"])
@pytest.mark.parametrize("kind", ["RGB", "grey", "palette", "16 bits"])
def test_a_png_with_half_of_its_rows(tmp_path, kind, extra):
    colours = smooth(40, 50)
    number, bits, array = {
        "RGB": (2, 8, colours),
        "grey": (0, 8, colours[..., 0]),
        "palette": (3, 8, colours[..., 0]),
        "16 bits": (0, 16, colours[..., 0].astype(np.uint16) * 257),
    }[kind]
    if kind == "palette":
        extra += part(b"PLTE", bytes(range(256)) * 3)
    file = tmp_path / "half.png"
    file.write_bytes(png(array, None, number, extra, bits))
    whole = read_image(file, 3)
    assert whole.shape == (40, 50, 3)
    if kind != "palette":
        expected = colours if kind == "RGB" else np.repeat(colours[..., :1], 3, axis=-1)
        np.testing.assert_array_equal(whole, expected)
    file.write_bytes(png(array, 20, number, extra, bits))
    for channels in (1, 3):
        with pytest.raises(CorruptImage, match=r"half.png: cannot be decoded"):
            read_image(file, channels)
    if kind != "RGB":
        with pytest.raises(CorruptImage, match=r"half.png: .*it has \d+ of the \d+ bytes"):
            decode_mask(file.read_bytes(), str(file))
    file.write_bytes(zeros(png(array, None, number, extra, bits)))
    with pytest.raises(CorruptImage, match=r"half.png: cannot be decoded"):
        read_image(file, 3)


def test_a_changed_byte_of_a_mask_is_found():
    mask = np.random.default_rng(0).integers(0, 200, (30, 40), dtype=np.uint8)
    data = bytearray(png(mask, None, 3, part(b"PLTE", bytes(range(256)) * 3)))
    np.testing.assert_array_equal(decode_mask(bytes(data), "x"), mask)
    data[data.index(b"IEND") - 5] ^= 4  # in the checksum of the pixels
    with pytest.raises(CorruptImage, match="IDAT is damaged"):
        decode_mask(bytes(data), "x")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95, 1.0])
def test_a_changed_byte_of_a_png_is_named_by_the_error_alone(capfd, channels, share):
    """No decoder writes to stderr, where nothing tells of which file it speaks."""
    data = bytearray(png(smooth(channels=channels), kind=2 if channels == 3 else 0))
    start = data.index(b"IDAT") + 4
    end = data.index(b"IEND") - 5  # within the checksum
    data[start + int(share * (end - start))] ^= 0x41
    with pytest.raises(CorruptImage, match=r"a.png: cannot be decoded"):
        decode_image(bytes(data), channels, "a.png")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_the_checksums_of_a_png_in_parts(parts):
    array = smooth()
    whole = png(array)
    start = whole.index(b"IDAT") - 4
    size = int.from_bytes(whole[start : start + 4], "big")
    content = whole[start + 8 : start + 8 + size]
    cuts = np.linspace(0, size, parts + 1).astype(int)
    pixels = b"".join(part(b"IDAT", content[a:b]) for a, b in itertools.pairwise(cuts))
    data = whole[:start] + pixels + part(b"IEND", b"")
    assert _is_plain_png(data, 3)
    np.testing.assert_array_equal(decode_image(data, 3, "a.png"), array)


@pytest.mark.parametrize("background", [0, 7])
def test_a_complete_png_is_read_whatever_it_shows(background):
    mask = np.full((21, 30), background, np.uint8)
    mask[3:9, 4:12] = 1
    for options in ({}, {"interlace": 1}, {"bits": 4}, {"optimize": True}):
        file = io.BytesIO()
        picture = Image.fromarray(mask).convert("P")
        if "bits" in options:
            picture.putpalette(list(range(16)) * 3)
        picture.save(file, "PNG", **options)
        np.testing.assert_array_equal(decode_mask(file.getvalue(), "x"), mask)


def test_the_first_frame_of_an_animated_png():
    file = io.BytesIO()
    frames = [Image.fromarray(smooth(20, 24) // (i + 1)) for i in range(3)]
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    assert b"acTL" in file.getvalue()
    np.testing.assert_array_equal(decode_image(file.getvalue(), 3, "x"), np.asarray(frames[0]))


@pytest.mark.parametrize("kind", ["GIF", "BMP", "WEBP", "TIFF", "PPM", "TGA"])
def test_other_kinds_that_are_cut_short(kind):
    file = io.BytesIO()
    options = {"WEBP": {"lossless": True}, "TIFF": {"compression": "tiff_lzw"}}.get(kind, {})
    Image.fromarray(smooth(40, 50)[..., 0]).convert("L" if kind != "WEBP" else "RGB").save(
        file, kind, **options
    )
    data = file.getvalue()
    assert decode_image(data, 1, "x").shape == (40, 50, 1)
    with pytest.raises(CorruptImage, match="x: cannot be decoded"):
        decode_image(data[: len(data) // 2], 1, "x")


@pytest.mark.parametrize("lossless", [False, True])
def test_a_webp_that_was_written_in_part(lossless):
    file = io.BytesIO()
    Image.fromarray(smooth()).save(file, "WEBP", lossless=lossless, exif=b"Exif" + bytes(300))
    data = file.getvalue()
    assert decode_image(data, 3, "x").shape == (120, 168, 3)  # whose EXIF data are zeros
    file = io.BytesIO()
    Image.fromarray(smooth()).save(file, "WEBP", lossless=lossless)
    with pytest.raises(CorruptImage, match=r"x: cannot be decoded: .*zeros"):
        decode_image(zeros(file.getvalue()), 3, "x")
    file = io.BytesIO()
    Image.new("RGB", (1500, 900), "red").save(file, "WEBP", lossless=lossless)
    assert decode_image(file.getvalue(), 3, "x").shape == (900, 1500, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif", [bytes(60), b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12", b"Exif\0\0nothing"]
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_exif_data_that_cannot_be_read_is_passed_over(kind, exif):
    exif = exif if exif.startswith(b"Exif\0\0") else b"Exif\0\0" + exif
    file, plain = io.BytesIO(), io.BytesIO()
    Image.fromarray(smooth()).save(file, kind, exif=exif)
    Image.fromarray(smooth()).save(plain, kind)
    found = decode_image(file.getvalue(), 3, "x")
    np.testing.assert_array_equal(found, decode_image(plain.getvalue(), 3, "x"))


def limits(size, limit, kind="PNG"):
    file = io.BytesIO()
    Image.new("L", size).save(file, kind)
    return decode_image(file.getvalue(), 1, "large", max_pixels=limit)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP"])
def test_one_limit_of_pixels_for_all_kinds(kind):
    assert limits((30, 20), 600, kind).shape == (20, 30, 1)
    with pytest.raises(
        CorruptImage, match=r"large: .*20x30 = 600 pixels.*at most 599.*config.data.max_pixels"
    ):
        limits((30, 20), 599, kind)


def test_the_default_limit_is_read_from_the_head():
    # The head of a PNG of 900 million pixels, without any.
    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    data = SIGNATURE + part(b"IHDR", head) + part(b"IDAT", b"") + part(b"IEND", b"")
    for read in (lambda: decode_image(data, 3, "x"), lambda: decode_mask(data, "x")):
        with pytest.raises(CorruptImage, match=r"900,000,000 pixels, and at most"):
            read()
