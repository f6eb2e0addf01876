"""Small image files that claim much, take long to read, or contradict themselves."""

import functools
import io
import json
import struct
import sys
import time
import zlib

import numpy as np
from PIL import Image

from vitjax.data.image_formats import MAX_PIXELS

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BIG = 30_000  # pixels of a side: far more than is read


def png_part(kind, content):
    """A part of a PNG file, with its checksum."""
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png_head(width, height, bits=8, colour=2, interlaced=0):
    """The IHDR part of a PNG file."""
    return png_part(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced))


def png(*parts):
    """A PNG file of the given parts."""
    return _SIGNATURE + b"".join(parts) + png_part(b"IEND", b"")


@functools.cache
def deflated_zeros(length):
    """At least ``length`` zeros, compressed to a thousandth: one block again and again."""
    compressor = zlib.compressobj(9)
    block = compressor.compress(bytes(1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    head, block, count = block[:2], block[2:], -(-length >> 20)
    adler = ((count << 20) % 65521) << 16 | 1
    return head + block * count + b"\3\0" + struct.pack(">I", adler)


def saved(kind, size=(40, 30), mode="RGB", **options):
    """The content of a small image of noise, saved as Pillow does."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0], bands) if bands > 1 else size[::-1]
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    image = Image.fromarray(noise) if mode in ("L", "RGB", "RGBA") else None
    image = image or Image.fromarray(noise[..., :3] if bands > 1 else noise).convert(mode)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(entries, *, order="<", next_page=0, data=b""):
    """A TIFF of one page whose ``data`` begins at byte 8.

    Args:
        entries: (tag, type, count, value) each.
        order: "<" or ">".
        next_page: where the page says that the next one is; -1 for its own place.
        data: before the page.
    """
    place = 8 + len(data)
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(f"{order}HI", 42, place) + data
    page = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in sorted(entries):
        short = kind == 3 and count == 1
        page += struct.pack(
            f"{order}HHI{'HH' if short else 'I'}",
            tag,
            kind,
            count,
            *((value, 0) if short else (value,)),
        )
    return head + page + struct.pack(f"{order}I", place if next_page == -1 else next_page)


def grey_page(width, height, compression=1, strip=(8, 16), **more):
    """The entries of a grey page of 8 bits, for `tiff`; ``more`` as ``t<tag>=(type, n, value)``."""
    given = {int(name[1:]): value for name, value in more.items()}
    entries = {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, 1, 8),
        259: (3, 1, compression),
        262: (3, 1, 1),
        273: (4, 1, strip[0]),
        277: (3, 1, 1),
        278: (4, 1, height),
        279: (4, 1, strip[1]),
        **given,
    }
    return [(tag, *entry) for tag, entry in entries.items() if entry is not None]


def _bmp(width, height, compression, data, bits=8):
    palette = bytes(4 * 256)
    start = 54 + len(palette)
    head = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, 256, 256
    )
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + head + palette + data


def _webp(kind, content):
    part = kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(part)) + b"WEBP" + part


def _gif_frames(count):
    """A GIF of many frames of one pixel each."""
    frame = b"\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0"
    return b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff" + frame * count + b";"


def _png_frames(count):
    pixels = zlib.compress(b"\0\0")
    control = struct.pack(">IIIIHHBB", 1, 1, 0, 0, 1, 10, 0, 0)
    frames = [png_part(b"acTL", struct.pack(">II", count + 1, 0))]
    frames += [png_part(b"fcTL", struct.pack(">I", 0) + control), png_part(b"IDAT", pixels)]
    for number in range(count):
        frames.append(png_part(b"fcTL", struct.pack(">I", 2 * number + 1) + control))
        frames.append(png_part(b"fdAT", struct.pack(">I", 2 * number + 2) + pixels))
    return png(png_head(1, 1, 8, 0), *frames)


def _webp_frames(count):
    still = saved("WEBP", (1, 1), lossless=True)[12:]
    frame = struct.pack("<HBHBHBHBHBB", 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0) + still
    frame = b"ANMF" + struct.pack("<I", len(frame)) + frame
    head = b"VP8X" + struct.pack("<I", 10) + b"\2" + bytes(9)
    head += b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    body = b"WEBP" + head + frame * count
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _jpeg_scans(count, size=(1024, 1024)):
    """A progressive JPEG that refines one colour again and again."""
    file = io.BytesIO()
    Image.new("L", size, 200).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + b"\xff\xd9"


def _jpeg_segments(count, marker, content):
    data = saved("JPEG")
    segment = b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content
    return data[:2] + segment * count + data[2:]


def _claimed(kind, find, at, form, *values, **options):
    """A file in which the numbers ``at`` bytes after ``find`` are others."""
    data = bytearray(saved(kind, **options))
    struct.pack_into(form, data, data.index(find) + at, *values)
    return bytes(data)


def _jpeg2000(size, header=None):
    """A JPEG 2000 file whose codestream claims a ``size``, and its header another."""
    data = bytearray(saved("JPEG2000"))
    start = data.index(b"\xff\x4f\xff\x51") + 8
    struct.pack_into(">II", data, start, *size)
    struct.pack_into(">II", data, start + 16, *size)  # of one tile
    if header is not None:
        struct.pack_into(">II", data, data.index(b"ihdr") + 4, *header[::-1])
    return bytes(data)


# Of each: whether it can be read, or None where either will do.
REFUSED, READ, EITHER = False, True, None


def claims():
    """Name, content, and whether it can be read, of files of at most a few megabytes."""
    big, page = _BIG, grey_page
    one = zlib.compress(bytes(1 + 3))
    yield (
        "rgb 30000x30000.png",
        png(png_head(big, big), png_part(b"IDAT", deflated_zeros((3 * big + 1) * big))),
        REFUSED,
    )
    yield "head 30000x30000.png", png(png_head(big, big), png_part(b"IDAT", one)), REFUSED
    yield "most sides.png", png(png_head(2**31 - 1, 2**31 - 1), png_part(b"IDAT", one)), REFUSED
    yield (
        "second head.png",
        png(png_head(1, 1), png_head(big, big), png_part(b"IDAT", one)),
        REFUSED,
    )
    yield (
        "head after pixels.png",
        png(png_head(1, 1), png_part(b"IDAT", one), png_head(big, big)),
        EITHER,
    )
    yield (
        "pixels go on.png",
        png(png_head(4, 4, 8, 0), png_part(b"IDAT", deflated_zeros(1 << 26))),
        EITHER,
    )
    yield (
        "pixels go on, interlaced.png",
        png(png_head(4, 4, 8, 0, 1), png_part(b"IDAT", deflated_zeros(1 << 26))),
        EITHER,
    )
    for kind, start in (("zTXt", b"a\0\0"), ("iCCP", b"a\0\0"), ("iTXt", b"a\0\1\0\0\0")):
        text = png_part(kind.encode(), start + deflated_zeros(1 << 30))
        yield f"{kind} of 1 GB.png", png(png_head(1, 1), text, png_part(b"IDAT", one)), EITHER
    many = png_part(b"zTXt", b"a\0\0" + deflated_zeros(1 << 20)) * 70
    yield "70 texts.png", png(png_head(1, 1), many, png_part(b"IDAT", one)), EITHER
    yield (
        "empty parts.png",
        png(png_head(1, 1), png_part(b"IDAT", one), png_part(b"IDAT", b"") * 20_000),
        EITHER,
    )
    yield "30000 frames.png", _png_frames(30_000), READ
    yield "30000 frames.gif", _gif_frames(30_000), READ
    yield "30000 frames.webp", _webp_frames(30_000), EITHER
    yield (
        "frame larger than its screen.gif",
        (b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff\x2c\0\0\0\0\xff\xff\xff\xff\0\2\2\x44\1\0;"),
        REFUSED,
    )
    yield "claimed canvas.webp", _webp(b"VP8X", bytes(4) + b"\xff\xff\xff" * 2), REFUSED
    yield "claimed size.webp", _webp(b"VP8L", b"\x2f" + b"\xff" * 8), REFUSED
    yield "scans.jpg", _jpeg_scans(1000, (4000, 4000)), REFUSED
    yield "scans of few pixels.jpg", _jpeg_scans(1000, (8, 8)), EITHER
    yield (
        "arithmetic scans.jpg",
        _jpeg_scans(1000, (4000, 4000)).replace(b"\xff\xc2", b"\xff\xca", 1),
        REFUSED,
    )
    yield "claimed size.jpg", _claimed("JPEG", b"\xff\xc0", 5, ">HH", 65500, 65500), REFUSED
    yield "50000 comments.jpg", _jpeg_segments(50_000, 0xFE, b"x"), READ
    yield "profiles.jpg", _jpeg_segments(255, 0xE2, b"ICC_PROFILE\0\1\xff" + bytes(60_000)), EITHER
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\3\xff\xff\xff\xff\0\0\0\0" * 5000
    yield "exif.jpg", _jpeg_segments(30, 0xE1, exif), EITHER
    restarts = saved("JPEG", (1000, 1000), "L", quality=1, restart_marker_blocks=1)
    yield "restarts.jpg", restarts[:-2] + b"\xff\xd0" * 20_000 + b"\xff\xd9", EITHER
    yield "page loop.tif", tiff(page(4, 4), next_page=-1, data=bytes(16)), READ
    runs = _bmp(13_300, 13_300, 1, (b"\xff\0" * 52 + b"\x28\0\0\0") * 13_300 + b"\0\1")
    yield "runs.bmp", runs, REFUSED
    yield "runs.dib", runs[14:], REFUSED
    yield "claimed size.tif", tiff(page(big, big), data=bytes(16)), REFUSED
    yield "zero size.tif", tiff(page(0, 4), data=bytes(16)), REFUSED
    for compression in (1, 5, 7, 8, 32773, 34925, 50000, 50001):
        yield (
            f"claimed strip {compression}.tif",
            tiff(page(4000, 4000, compression, (8, 2**31 - 1)), data=bytes(16)),
            REFUSED,
        )
        yield (
            f"claimed tile {compression}.tif",
            tiff(
                page(
                    4,
                    4,
                    compression,
                    t273=None,
                    t279=None,
                    t278=None,
                    t322=(4, 1, 2**31 - 16),
                    t323=(4, 1, 2**31 - 16),
                    t324=(4, 1, 8),
                    t325=(4, 1, 16),
                ),
                data=bytes(16),
            ),
            REFUSED,
        )
        yield (
            f"large tile {compression}.tif",
            tiff(
                page(
                    4,
                    4,
                    compression,
                    t273=None,
                    t279=None,
                    t278=None,
                    t322=(4, 1, 65536),
                    t323=(4, 1, 65536),
                    t324=(4, 1, 8),
                    t325=(4, 1, 16),
                ),
                data=bytes(16),
            ),
            REFUSED,
        )
    yield (
        "many strips.tif",
        tiff(page(4, 4, t273=(4, 2**31 - 1, 8), t279=(4, 2**31 - 1, 8)), data=bytes(16)),
        REFUSED,
    )
    yield (
        "samples.tif",
        tiff(page(4, 4, t277=(3, 1, 65535), t258=(3, 65535, 8)), data=bytes(16)),
        REFUSED,
    )
    tags = [(1000 + number, 1, 1 << 20, 8) for number in range(10_000)]
    yield "shared tags.tif", tiff([*page(4, 4), *tags], data=bytes(1 << 20)), EITHER
    yield "overlapping pages.tif", _overlapping_pages(), REFUSED
    yield "50000 pages.tif", _empty_pages(50_000), EITHER
    yield "big count.tif", b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**60) + bytes(64), REFUSED
    yield "most count.tif", b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**64 - 1), REFUSED
    yield "claimed size.bmp", _bmp(big, big, 0, b"", 24), REFUSED
    yield "negative height.bmp", _bmp(4, -4, 0, bytes(16)), READ
    yield "negative claimed.bmp", _bmp(big, -big, 0, b"", 24), REFUSED
    yield "least height.bmp", _bmp(4, -(2**31), 0, bytes(16)), REFUSED
    yield "negative width.bmp", _bmp(-4, 4, 0, bytes(16)), EITHER
    yield "wide runs.bmp", _bmp(2**27, 1, 1, b"\0\2\xff\xff" * 100), EITHER
    yield "line ends.bmp", _bmp(12_000, 12_000, 1, b"\1\0\0\0" * 12_000), EITHER
    yield "deltas.bmp", _bmp(12_000, 12_000, 1, b"\0\2\0\1" * 12_000), EITHER
    yield "maxval.ppm", b"P6 4 4 99999999999999999999 " + bytes(48), REFUSED
    yield "claimed size.ppm", b"P6 30000 30000 255 ", REFUSED
    yield "digits.ppm", b"P6 " + b"9" * 500_000, REFUSED
    yield "long comment.ppm", b"P6 #" + b"x" * 500_000, REFUSED
    yield "plain.ppm", b"P3 30000 5000 255 " + b"1 " * 300_000, REFUSED
    yield "scaled.ppm", b"P5 12000 12000 100 " + bytes(1000), REFUSED
    yield "floats.ppm", b"Pf 4 4 -1.0 " + bytes(64), REFUSED
    yield (
        "claimed size.tga",
        struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, 65535, 65535, 24, 0) + bytes(64),
        REFUSED,
    )
    yield "claimed size.jp2", _jpeg2000((big, big), (big, big)), REFUSED
    yield "other size.jp2", _jpeg2000((12_000, 12_000)), REFUSED
    yield "larger size.jp2", _jpeg2000((60_000, 60_000)), REFUSED
    yield "most size.jp2", _jpeg2000((2**32 - 1, 2**32 - 1)), REFUSED
    yield "claimed size.avif", _claimed("AVIF", b"ispe", 8, ">II", big, big), REFUSED
    yield "other size.avif", _claimed("AVIF", b"ispe", 8, ">II", 4000, 4000), EITHER


def _overlapping_pages():
    """A TIFF of a megabyte whose pages of 65535 entries begin at every other byte."""
    size = 1 << 20
    data = bytearray(b"II" + struct.pack("<HI", 42, 8) + b"\xff" * size)
    # Each page begins with 0xffff entries; the next one is named after these.
    length = 2 + 0xFFFF * 12
    for place in range(8, size - length - 4, 8):
        data[place + length : place + length + 4] = struct.pack("<I", place + 8)
    return bytes(data)


def _empty_pages(count):
    """A TIFF of pages that have no entry, after one that is an image."""
    first = tiff(grey_page(4, 4), next_page=0, data=bytes(16))
    start = len(first)
    chain = b"".join(struct.pack("<HI", 0, start + 6 * number) for number in range(1, count))
    return first[:-4] + struct.pack("<I", start) + chain + struct.pack("<HI", 0, 0)


def read_every_way(content, name="image"):
    """Reads the content of an image file as an image, as a mask, and its head.

    Returns:
        The answer of each: an array's shape, what the head says, or the text of the error.
    """
    from vitjax.data import DataError
    from vitjax.data.image_files import decode_image, measure_opened
    from vitjax.data.mask_files import decode_mask

    answers = []
    for read in (
        lambda: decode_image(content, 3, name).shape,
        lambda: decode_image(content, 1, name, sixteen_bits=True).shape,
        lambda: decode_mask(content, name).shape,
        lambda: decode_mask(content, name, colours=True).shape,
        lambda: measure_opened(io.BytesIO(content), name),
    ):
        try:
            answers.append(read())
        except DataError as error:
            answers.append(str(error))
    return answers


def largest(folder):
    """Writes files of as many pixels as are read, of each kind that takes memory of its own."""

    def side(each):
        return int((MAX_PIXELS * 6.5 / max(each, 6.5)) ** 0.5)

    def zeros(name, bands, bits=8, colour=2, interlaced=0, each=7):
        n = side(each)
        rows = deflated_zeros(n * (bands * bits // 8 * n + 1) + interlaced * n * 16)
        head = png_head(n, n, bits, colour, interlaced)
        (folder / name).write_bytes(png(head, png_part(b"IDAT", rows)))

    def flat(name, each, mode="RGB", value=128, **options):
        value = value if len(Image.new(mode, (1, 1)).getbands()) == 1 else (value,) * len(mode)
        Image.new(mode, (side(each),) * 2, value).save(folder / name, **options)

    zeros("rgb.png", 3)
    zeros("rgba.png", 4, colour=6)
    zeros("grey of 16 bits.png", 1, 16, 0)
    zeros("interlaced.png", 4, 16, 6, 1, each=11)
    flat("grey.jpg", 7, "L", quality=90)
    flat("rgb.jpg", 7, quality=90)
    flat("progressive.jpg", 9, value=9, progressive=True, subsampling=0)
    flat("cmyk.jpg", 15, "CMYK", 9, progressive=True)
    flat("lossless.webp", 19, value=9, lossless=True)
    flat("a.webp", 19, value=9, method=0)
    flat("a.jp2", 22)
    flat("a.avif", 15, speed=10)
    flat("rgb.tif", 10, compression="tiff_lzw")
    flat("rgba.tif", 11, "RGBA", compression="tiff_lzw")
    flat("a.gif", 7, "L")
    flat("a.tga", 8, compression="tga_rle")
    flat("a.bmp", 7, "L")
    flat("mask.png", 8, value=9)


if __name__ == "__main__":  # reads files, in a process that a test measures
    from vitjax.core.silence import silence_pillow

    silence_pillow()
    read_every_way(b"")  # which imports what reads
    if sys.argv[1:]:
        from vitjax.data.image_files import read_image
        from vitjax.data.mask_files import read_mask

        for path in sys.argv[1:]:
            began = time.process_time()
            read = read_mask(path) if "mask" in path else read_image(path, 3)
            print(json.dumps([path, time.process_time() - began, read.size]))
    for file_name, file_content, _ in claims() if not sys.argv[1:] else ():
        started = time.process_time()
        found = read_every_way(file_content, file_name)
        print(json.dumps([file_name, time.process_time() - started, found]))
