"""Damage that decoders pass over: JPEG and PNG files whose data does not cover the image.

libjpeg only warns where the data of a JPEG ends early, and Pillow accepts a PNG with too few rows.
Everything here follows from the structure of the file, so a file that is complete is never refused
for what its image shows.
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass, field

import numpy as np

PNG = b"\x89PNG\r\n\x1a\n"

# A marker that ends the data of a scan: neither a stuffed byte, nor a restart, nor a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_SOI, _EOI, _SOS, _DHT, _DRI = 0xD8, 0xD9, 0xDA, 0xC4, 0xDD
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1), 0xC2
_OTHER_FRAMES = frozenset((0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF))
_ZEROS = bytes(128)  # no encoder writes as many zeros, except for areas of one colour
_MIDDLE = (127, 128)  # of the values of a pixel: what is drawn where data is missing
_COEFFICIENTS = 64  # of a block of 8 x 8 pixels


@dataclass
class Jpeg:
    """The structure of a complete JPEG.

    Attributes:
        size: (height, width).
        components: the sampling factors (vertical, horizontal) of each component, by its id.
        end_bits: the bits of an area of middle grey at the end of the data, as text; None if this
            cannot be known.
        tail: the last bytes of the data.
    """

    size: tuple[int, int] = (0, 0)
    components: dict[int, tuple[int, int]] = field(default_factory=dict)
    end_bits: str | None = None
    tail: bytes = b""

    def unit(self) -> tuple[int, int]:
        """(height, width) in pixels of the unit that the data is made of."""
        if len(self.components) == 1:
            return 8, 8
        factors = np.asarray(list(self.components.values()))
        high, wide = (8 * factors.max(axis=0)).tolist()
        return high, wide

    def check_end(self, pixels: np.ndarray) -> None:
        """Checks that the data covers the image to its last pixel.

        A decoder draws middle grey where data is missing. If the image ends in middle grey, its
        data must end in the code of middle grey.

        Args:
            pixels: the decoded image, not turned: (height, width) or (height, width, channels).

        Raises:
            ValueError: the data ends before the image does.
        """
        if self.end_bits is None or not np.isin(pixels[-1, -1], _MIDDLE).all():
            return
        units = self._grey_units(pixels)
        if units < 2:
            return
        content = self.tail.replace(b"\xff\x00", b"\xff")
        bits = "".join(f"{byte:08b}" for byte in content)
        expected = self.end_bits * (units - 1)
        for padding in range(17):
            head, rest = bits[: len(bits) - padding], bits[len(bits) - padding :]
            if len(set(rest)) < 2 and head.endswith(expected):
                return
        raise ValueError("its data ends before the image does, so a part of it is missing")

    def _grey_units(self, pixels: np.ndarray) -> int:
        """How many of the last 3 units are of middle grey, from the last one."""
        high, wide = self.unit()
        rows, columns = -(-self.size[0] // high), -(-self.size[1] // wide)
        for count in range(min(3, rows * columns)):
            row, column = divmod(rows * columns - 1 - count, columns)
            part = pixels[row * high : (row + 1) * high, column * wide : (column + 1) * wide]
            if not np.isin(part, _MIDDLE).all():
                return count
        return min(3, rows * columns)


def check_jpeg(data: bytes) -> Jpeg | None:
    """The structure of a JPEG file; None if it is of a kind that is not checked.

    What follows the end of the image, such as the film of a motion photo, is not looked at.

    Raises:
        ValueError: the file is damaged: it has no end, lacks a part of the image, or a part of it
            was never written.
    """
    if data[:2] != b"\xff\xd8":
        return None
    reader = _JpegReader(data)
    return reader.jpeg if reader.read() else None


class _JpegReader:
    """Walks through the segments of a JPEG."""

    def __init__(self, data: bytes):
        self.data = data
        self.jpeg = Jpeg()
        self.progressive = False
        self.interval = 0  # of restarts, in units
        self.tables: dict[int, tuple[list[int], bytes]] = {}  # counts by length, and symbols
        # For each component, the bits still missing of each coefficient; 255 if it has none yet.
        self.missing: dict[int, np.ndarray] = {}

    def read(self) -> bool:
        """Whether the file is of a kind that is checked; raises ValueError if it is damaged."""
        data, place = self.data, 2
        while True:
            place = data.find(b"\xff", place)
            while place >= 0 and data[place + 1 : place + 2] == b"\xff":
                place += 1
            if place < 0 or place + 2 > len(data):
                raise ValueError("it ends before the end of the image (no end marker)")
            marker = data[place + 1]
            place += 2
            if marker == _EOI:
                self._check_coverage()
                return True
            if marker <= 1 or 0xD0 <= marker <= _SOI:
                continue
            length = int.from_bytes(data[place : place + 2], "big")
            segment = data[place + 2 : place + length]
            place += length
            if marker in _OTHER_FRAMES:
                return False
            if marker in _SEQUENTIAL or marker == _PROGRESSIVE:
                self.progressive = marker == _PROGRESSIVE
                if not self._frame(segment):
                    return False
            elif marker == _DHT:
                self._huffman(segment)
            elif marker == _DRI:
                self.interval = int.from_bytes(segment[:2], "big")
            elif marker == _SOS:
                end = _MARKER.search(data, place)
                if end is None:
                    raise ValueError("it ends before the end of the image (no end marker)")
                self._scan(segment, place, end.start())
                place = end.start()

    def _frame(self, segment: bytes) -> bool:
        height, width = (int.from_bytes(segment[at : at + 2], "big") for at in (1, 3))
        self.jpeg.size = height, width
        for at in range(6, 6 + 3 * segment[5], 3):
            number, factors = segment[at], segment[at + 1]
            self.jpeg.components[number] = factors & 15, factors >> 4
            self.missing[number] = np.full(_COEFFICIENTS, 255, np.uint8)
        return height > 0  # 0: the height stands after the data

    def _huffman(self, segment: bytes) -> None:
        at = 0
        while at + 17 <= len(segment):
            counts = list(segment[at + 1 : at + 17])
            self.tables[segment[at]] = counts, segment[at + 17 : at + 17 + sum(counts)]
            at += 17 + sum(counts)

    def _scan(self, header: bytes, start: int, end: int) -> None:
        count = header[0]
        chosen = [(header[1 + 2 * c], header[2 + 2 * c]) for c in range(count)]
        first, last, bits = header[1 + 2 * count : 4 + 2 * count]
        if not self.progressive:
            first, last, bits = 0, _COEFFICIENTS - 1, 0
        for number, _ in chosen:
            if number in self.missing:
                self.missing[number][first : last + 1] = bits & 15
        used = self._used_tables(chosen, first, last, refined=self.progressive and bits > 15)
        # In the code of an area of one colour, all bits may be 0.
        if (
            self.data.find(_ZEROS, start, end) >= 0
            and used is not None
            and not all(symbols[:1] and self._ends_block(symbols[0], first) for symbols in used)
        ):
            raise ValueError("a part of its data is zeros, which was never written")
        units = self._units([number for number, _ in chosen])
        if self.interval:
            restarts = len(_RESTART.findall(self.data, start, end))
            if restarts < -(-units // self.interval) - 1:
                raise ValueError("its data ends before the image does, so a part of it is missing")
        elif not self.progressive and count == len(self.jpeg.components):
            self.jpeg.end_bits = self._grey_bits(chosen)
            self.jpeg.tail = self.data[max(start, end - 256) : end]

    def _ends_block(self, symbol: int, first: int) -> bool:
        """Whether a code stands for no change of the colour, or for the end of a block."""
        return symbol & 15 == 0 if self.progressive and first else symbol == 0

    def _used_tables(
        self, chosen: list[tuple[int, int]], first: int, last: int, refined: bool
    ) -> list[bytes] | None:
        """The symbols of the tables that a scan reads; None if it also reads plain bits."""
        if refined:
            return None
        names = set()
        for _, tables in chosen:
            if first == 0:
                names.add(tables >> 4)
            if last > 0:
                names.add(0x10 | tables & 15)
        return [self.tables.get(name, ([], b""))[1] for name in names]

    def _units(self, numbers: list[int]) -> int:
        """The units in the data of a scan of the given components."""
        height, width = self.jpeg.size
        if len(numbers) == 1:
            factors = np.asarray(list(self.jpeg.components.values()))
            v, h = self.jpeg.components.get(numbers[0], (1, 1))
            high, wide = factors.max(axis=0).tolist()
            rows, columns = math.ceil(height * v / high), math.ceil(width * h / wide)
            return math.ceil(rows / 8) * math.ceil(columns / 8)
        high, wide = self.jpeg.unit()
        return math.ceil(height / high) * math.ceil(width / wide)

    def _grey_bits(self, chosen: list[tuple[int, int]]) -> str | None:
        """The bits of a unit of the same middle grey as the one before it."""
        bits = ""
        for number, tables in chosen:
            codes = [_code_of_zero(self.tables.get(n)) for n in (tables >> 4, 0x10 | tables & 15)]
            if None in codes or number not in self.jpeg.components:
                return None
            v, h = self.jpeg.components[number]
            blocks = 1 if len(chosen) == 1 else v * h
            bits += "".join(map(str, codes)) * blocks
        return bits

    def _check_coverage(self) -> None:
        missing = [number for number, left in self.missing.items() if left.any()]
        if missing or not self.missing:
            raise ValueError("it ends before the end of the image (parts of the image are missing)")


def _code_of_zero(table: tuple[list[int], bytes] | None) -> str | None:
    """The bits of the symbol 0 in a Huffman table."""
    if table is None:
        return None
    counts, symbols = table
    code = place = 0
    for length, count in enumerate(counts, 1):
        for symbol in symbols[place : place + count]:
            if symbol == 0:
                return f"{code:0{length}b}"
            code += 1
        place += count
        code <<= 1
    return None


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
        found += len(inflate.decompress(part))
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
