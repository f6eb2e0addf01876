"""Damage that decoders pass over: PNG files that lack rows, and WebP files written in part.

Pillow accepts a PNG with too few rows, and libwebp decodes what was never written.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

PNG = b"\x89PNG\r\n\x1a\n"

_FEW_ZEROS = 128  # bytes
_INFLATED_AT_ONCE = 1 << 20  # bytes


def check_png(data: bytes, last_row: np.ndarray) -> None:
    """Checks the parts of a PNG, and that its data covers the image.

    Args:
        data: the content of the file.
        last_row: as Pillow decoded it; it leaves rows that are missing 0.

    Raises:
        ValueError: a part is damaged, or rows are missing.
    """
    compressed, place = [], len(PNG)
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        kind, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        if kind[:1].isupper():
            check = int.from_bytes(data[place + 8 + length : place + 12 + length], "big")
            if zlib.crc32(content, zlib.crc32(kind)) != check:
                raise ValueError(f"its part {kind.decode('latin-1')} is damaged (wrong checksum)")
        if kind == b"IDAT":
            compressed.append(content)
        if kind == b"IEND":
            break
        place += 12 + length
    interlaced = data[28] == 1
    if last_row.any() and not interlaced:
        return
    expected = _png_bytes(data, interlaced)
    inflate, found = zlib.decompressobj(), 0
    for part in compressed:
        # Of what follows the last row nothing is inflated: it can be any length.
        while found < expected and part:
            found += len(inflate.decompress(part, min(expected - found, _INFLATED_AT_ONCE)))
            part = inflate.unconsumed_tail
    if found < expected:
        raise ValueError(f"it has {found} of the {expected} bytes of its pixels")


def _png_bytes(data: bytes, interlaced: bool) -> int:
    """The bytes of the pixels of a PNG, as filtered rows."""
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    bits = data[24] * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[data[25]]
    passes = [(0, 0, 1, 1)]
    if interlaced:  # Adam7: first column and row, and steps
        passes = [
            (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
            (0, 1, 1, 2),
        ]  # fmt: skip
    total = 0
    for left, top, right, down in passes:
        columns, rows = -(-(width - left) // right), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def webp_parts(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each part of a WebP file."""
    place = 12
    while place + 8 <= len(data):
        length = int.from_bytes(data[place + 4 : place + 8], "little")
        yield data[place : place + 4], data[place + 8 : place + 8 + length]
        place += 8 + length + length % 2


def check_webp(data: bytes) -> None:
    """Checks that the pixels of a WebP file were written to their end.

    Raises:
        ValueError: a quarter of their data, at its end, is zeros. In the code of an area of one
            colour, a twentieth may be.
    """
    for kind, content in webp_parts(data):
        zeros = len(content) - len(content.rstrip(b"\0"))
        if kind in (b"VP8 ", b"VP8L") and zeros > max(_FEW_ZEROS, len(content) // 4):
            raise ValueError("a part of its data is zeros, which was never written")
