"""Image files that claim much, contradict themselves or are damaged: read, or told in words."""

from __future__ import annotations

import ast
import io
import itertools
import json
import os
import re
import struct
import subprocess
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitjax
from tests.helpers.damaging import MOST_BYTES, MOST_SECONDS, damaged, run
from tests.helpers.hostile_images import (
    READ,
    REFUSED,
    claims,
    deflated_zeros,
    largest,
    png,
    png_head,
    png_part,
    read_every_way,
    saved,
)
from vitjax.core.file_tree import IMAGE_SUFFIXES
from vitjax.data import CorruptImage, DataError
from vitjax.data.any_image import read_any_image
from vitjax.data.damage import check_png
from vitjax.data.image_files import decode_image, measure, read_image
from vitjax.data.image_formats import FORMATS
from vitjax.data.mask_files import measure_mask, palette_of, read_mask
from vitjax.tasks.reading import check_heads

Image.init()
ROOM = Path(vitjax.__file__).parent


@pytest.mark.parametrize("plugin", sorted(set(Image.OPEN) - set(FORMATS)))
def test_files_of_other_formats_are_never_opened(monkeypatch, tmp_path, plugin):
    opened = []

    def open_file(file, name):
        opened.append(plugin)
        raise SyntaxError

    monkeypatch.setitem(Image.OPEN, plugin, (open_file, lambda start: True))
    file = tmp_path / "a.png"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n" + bytes(64))
    for read in (lambda f: read_image(f, 3), read_mask, measure, measure_mask, palette_of):
        with pytest.raises(CorruptImage, match=r"a.png: cannot be decoded: .*of a kind that can"):
            read(file)
    assert not opened


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "ICNS", "PCX", "SGI", "DDS", "QOI"])
def test_an_image_of_another_format_starts_no_program(monkeypatch, kind):
    def start(*arguments, **options):
        raise AssertionError(arguments)

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(os, "system", start)
    content = saved(kind, (16, 16))
    for answer in read_every_way(content, "a.png"):
        assert str(answer).startswith("a.png: cannot be decoded: ")


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_documented_suffix_is_of_a_format_that_is_read(tmp_path, suffix):
    kind = Image.registered_extensions().get(suffix, "JPEG")
    assert kind in FORMATS
    file = tmp_path / f"a{suffix}"
    Image.fromarray(np.full((6, 5), 200, np.uint8)).save(file, kind)
    assert read_image(file, 3).shape == (6, 5, 3)
    table = (ROOM.parent / "docs" / "folders.md").read_text()
    assert f"`{suffix}`" in table


def test_one_place_opens_images():
    places = {
        (ast.unparse(node.func), file.relative_to(ROOM).as_posix())
        for file in ROOM.rglob("*.py")
        if re.search(r"Image\.open|imread|imdecode", text := file.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr in ("imread", "imreadmulti", "imdecode", "imdecodemulti")
        or ast.unparse(node.func) == "Image.open"
    }
    assert places == {
        ("Image.open", "data/image_formats.py"),
        ("cv2.imdecode", "data/image_files.py"),
    }


def test_files_that_claim_much_take_little():
    ended = run("-m", "tests.helpers.hostile_images")
    assert ended.status == 0, ended.errors
    # libtiff and libpng write lines there of their own; Python, nothing.
    assert not re.search(r"Traceback|\.py:\d+|ERROR", ended.errors)
    assert ended.peak_bytes < MOST_BYTES
    found = {name: (seconds, answers) for name, seconds, answers in
             map(json.loads, ended.output.splitlines())}  # fmt: skip
    wrong = []
    for name, _, readable in claims():
        seconds, answers = found[name]
        errors = [answer for answer in answers if isinstance(answer, str)]
        told = all(error.startswith(f"{name}: ") and "\n" not in error for error in errors)
        read = isinstance(answers[0], list)
        if not told or seconds > MOST_SECONDS / 4 or (readable is not None and read != readable):
            wrong.append((name, seconds, answers))
    assert not wrong
    assert {REFUSED, READ} <= {readable for _, _, readable in claims()}


@pytest.mark.slow
def test_the_largest_files_that_are_read_take_little(tmp_path):
    largest(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        ended = run("-m", "tests.helpers.hostile_images", path)
        assert ended.status == 0, ended.errors
        ((_, seconds, size),) = map(json.loads, ended.output.splitlines())
        assert size > 25_000_000, path.name
        assert seconds < MOST_SECONDS, (path.name, seconds)
        assert ended.peak_bytes < MOST_BYTES, (path.name, ended.peak_bytes)


@pytest.mark.parametrize(
    ("kind", "mode", "each"),
    [("WEBP", "RGB", 19), ("JPEG2000", "RGB", 22), ("TIFF", "RGBA", 11), ("AVIF", "RGB", 15)],
)
def test_of_kinds_that_take_more_memory_fewer_pixels_are_read(monkeypatch, kind, mode, each):
    content = saved(kind, (40, 30), mode)
    words = (
        rf"30x40 = 1,200 pixels, and at most [\d,]+ are read of its kind \({kind}, {mode}\), which"
    )
    monkeypatch.setattr("vitjax.data.image_formats.MAX_PIXELS", int(1200 * each / 6.5) - 1)
    with pytest.raises(CorruptImage, match=words + f" takes {each} bytes.*config.data.max_pixels"):
        decode_image(content, 3, "x", max_pixels=1200)
    assert decode_image(content, 3, "x", max_pixels=1200 * each).shape == (30, 40, 3)
    monkeypatch.setattr("vitjax.data.image_formats.MAX_PIXELS", int(1200 * each / 6.5) + 1)
    assert decode_image(content, 3, "x", max_pixels=1200).shape == (30, 40, 3)


def test_a_process_that_reads_an_image_keeps_its_settings():
    code = """
import io, logging, warnings
from PIL import Image
before = Image.MAX_IMAGE_PIXELS, logging.getLogger("PIL").level, list(warnings.filters)
from vitjax.data.image_files import decode_image
file = io.BytesIO()
Image.new("RGB", (9, 9)).save(file, "GIF")
decode_image(file.getvalue(), 3, "x")
ours = [each for each in warnings.filters if each not in before[2] and "PIL" in str(each)]
print(before[:2] == (Image.MAX_IMAGE_PIXELS, logging.getLogger("PIL").level), ours)
"""
    assert run("-c", code).output == "True []\n"


@pytest.mark.parametrize("complete", [True, False])
def test_a_large_jpeg_of_one_grey_is_looked_at_quickly(complete):
    file = io.BytesIO()
    Image.new("L", (4000, 4000), 128).save(file, "JPEG", quality=90)
    content = file.getvalue()
    began = time.process_time()
    if complete:
        assert decode_image(content, 1, "x").shape == (4000, 4000, 1)
    else:
        with pytest.raises(CorruptImage, match=r"its data ends before"):
            decode_image(content[:-5000] + b"\xff\xd9", 1, "x")
    assert time.process_time() - began < 1


def test_a_file_that_is_large_beside_its_pixels(tmp_path):
    file = tmp_path / "motion.jpg"
    file.write_bytes(saved("JPEG"))
    with open(file, "r+b") as opened:
        opened.truncate(90_000_000)
    assert read_image(file, 3).shape == (30, 40, 3)


KINDS = {
    "PNG": {},
    "PNG of a palette": {"mode": "P"},
    "PNG of 16 bits": {"mode": "I;16"},
    "PNG with transparency": {"mode": "RGBA"},
    "JPEG": {},
    "progressive JPEG": {"progressive": True},
    "CMYK JPEG": {"mode": "CMYK"},
    "MPO": {},
    "WEBP": {},
    "lossless WEBP": {"lossless": True},
    "BMP": {},
    "BMP of a palette": {"mode": "P"},
    "DIB": {},
    "TIFF": {},
    "LZW TIFF": {"compression": "tiff_lzw"},
    "deflated TIFF": {"compression": "tiff_adobe_deflate"},
    "JPEG TIFF": {"compression": "jpeg"},
    "fax TIFF": {"mode": "1", "compression": "group4"},
    "TIFF of 16 bits": {"mode": "I;16"},
    "TIFF of floats": {"mode": "F"},
    "TIFF of 32 bits": {"mode": "I"},
    "CMYK TIFF": {"mode": "CMYK"},
    "big TIFF": {"big_tiff": True},
    "GIF": {},
    "PPM": {},
    "TGA": {"compression": "tga_rle"},
    "JPEG2000": {},
    "AVIF": {},
}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_copies_are_read_or_named(kind, fuzz, capfd):
    plugin = next(word for word in kind.split() if word in (*FORMATS, "MPO"))
    content = saved(plugin, (24, 20), **KINDS[kind])
    answers = read_every_way(content, "whole")
    assert isinstance(answers[4], tuple), answers
    for what, copy in damaged(content, count=150 * fuzz, seed=len(kind)):
        for answer in read_every_way(copy, "damaged file"):
            if isinstance(answer, str):
                assert answer.startswith("damaged file: "), (what, answer)
                assert "\n" not in answer, (what, answer)
    # libjpeg and libtiff write a line there on some; Python, nothing.
    assert not re.search(r"Traceback|\.py:\d+|ERROR", capfd.readouterr().err)


def test_pillow_images_that_are_not_decoded_have_the_same_limit():
    content = png(png_head(30_000, 30_000))
    Image.MAX_IMAGE_PIXELS = None
    with (
        Image.open(io.BytesIO(content)) as image,
        pytest.raises(DataError, match=r"30000x30000 = 900,000,000 pixels.*config.data.max_pixels"),
    ):
        read_any_image(image, 3)


@pytest.mark.parametrize("kind", ["class", "mask", "episodes"])
def test_images_to_predict_have_the_limit_of_the_config(monkeypatch, tmp_path, kind):
    for split, value in itertools.product(("images", "masks"), range(4)):
        (tmp_path / split).mkdir(exist_ok=True)
        Image.new("L", (20, 20), value).save(tmp_path / split / f"{value}.png")
    sources = {
        "class": {"source": "folder", "eval_transforms": "resize(4) | center_crop(4)"},
        "mask": {"source": "masks", "eval_transforms": ""},
        "episodes": {"source": "folder", "episodes": {"ways": 2, "queries": 1}, "classes": "all",
                     "splits": {"train": "."}},
    }  # fmt: skip
    data = vitjax.data.create(path=str(tmp_path), max_pixels=400, batch_size=1, **sources[kind])
    assert data.max_pixels == 400
    large = tmp_path / "large.png"
    Image.new("L", (20, 21)).save(large)
    with pytest.raises(DataError, match=r"large.png: .*21x20 = 420 pixels, and at most 400"):
        check_heads([str(large)], data.max_pixels)
    check_heads([str(tmp_path / "images" / "0.png")], data.max_pixels)


def test_a_file_has_no_more_bytes_than_its_image_can_have(tmp_path):
    file = tmp_path / "sparse.png"
    file.write_bytes(saved("PNG"))
    assert read_image(file, 3).shape == (30, 40, 3)
    with open(file, "r+b") as opened:
        opened.truncate(1 << 40)  # which takes no place on the disk
    for read in (lambda f: read_image(f, 3), read_mask):
        with pytest.raises(CorruptImage, match=r"sparse.png: .*1,099,511,627,776 bytes, more than"):
            read(file)


@pytest.mark.parametrize("kind", [b"P4", b"P5", b"P6"])
@pytest.mark.parametrize("comment", [b"", b"# made here\n", b"#" + b"x y " * 10_000 + b"\n"])
def test_the_head_of_a_ppm_has_an_end(kind, comment):
    head = kind + b"\n" + comment + (b"2000 1000\n" if kind == b"P4" else b"200 1000\n255\n")
    pixels = np.random.default_rng(0).bytes({b"P4": 250, b"P5": 200, b"P6": 600}[kind] * 1000)
    width = 2000 if kind == b"P4" else 200
    assert decode_image(head + pixels, 3, "x").shape == (1000, width, 3)
    with pytest.raises(CorruptImage, match=r"x: cannot be decoded: its head is longer than 65,536"):
        decode_image(kind + b"\n#" + b"x y " * 20_000 + b"\n" + head + pixels, 3, "x")


@pytest.mark.parametrize("interlaced", [0, 1])
def test_what_follows_the_pixels_of_a_png_is_not_inflated(interlaced):
    head = png_head(4, 4, 8, 0, interlaced)
    content = png(head, png_part(b"IDAT", deflated_zeros(1 << 26)))
    tracemalloc.start()
    check_png(content, np.zeros((1, 4), np.uint8))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "CMYK", "1", "YCbCr"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_converted_in_strips_has_the_same_pixels(monkeypatch, mode, channels):
    content = saved("TIFF" if mode in ("CMYK", "1", "YCbCr") else "PNG", (37, 23), mode)
    expected = decode_image(content, channels, "x")
    monkeypatch.setattr("vitjax.data.image_files._PIXELS_AT_ONCE", 100)
    np.testing.assert_array_equal(decode_image(content, channels, "x"), expected)


@pytest.mark.parametrize("sides", [(0, 5), (5, 0), (0, 0)])
def test_an_image_without_pixels_is_told(sides):
    head = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, *sides, 24, 0)
    for answer in read_every_way(head + bytes(100), "a.tga"):
        assert str(answer).startswith("a.tga: cannot be decoded: ")
