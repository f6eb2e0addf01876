"""The structure of JPEG files, which tells those that are damaged.

libjpeg only warns where the data ends early, and OpenCV and Pillow pass over that. Everything here
follows from the structure of the file, so a file that is complete is never refused for what its
image shows.
"""

from __future__ import annotations

import io
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from vitjax.data.image_formats import opened

# A marker that ends the data of a scan: neither a stuffed byte, nor a restart, nor a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_SOI, _EOI, _SOS, _DHT, _DRI = 0xD8, 0xD9, 0xDA, 0xC4, 0xDD
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1), 0xC2
_OTHER_FRAMES = frozenset((0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF))
_ZEROS = bytes(128)  # no encoder writes as many zeros, except for areas of one colour
_MIDDLE = (127, 128)  # of the values of a pixel: what is drawn where data is missing
_BORDER = 2  # pixels of a unit that are blended with others, where colours have fewer pixels
_BLENDED = 24  # how far a pixel at the border of missing data is from middle grey at most
# An encoder makes about ten scans; each takes time, also if it holds nothing.
_FEW_SCANS = 64
_MOST_SCANNED = 1 << 30  # pixels, of all scans
_COEFFICIENTS = 64  # of a block of 8 x 8 pixels
_BEHIND = bytes(range(1, 250))  # no marker is in it, and most bits change colours
_ROWS = 256  # of an image, looked at together
_UNITS = 1 << 14  # compared together


# The rows of a decoded image from one to another: (rows, width) or (rows, width, channels).
Rows = Callable[[int, int], np.ndarray]


@dataclass(frozen=True)
class _Scan:
    """The data of the last part of a JPEG, after the last restart.

    Attributes:
        data: the bytes of the file.
        start: the first byte of the scan.
        end: the byte after it.
        tables: for each block of a unit, the tables of its first coefficient and of the others.
        units: how many it should have.
        pixels: of the image.
    """

    data: bytes
    start: int
    end: int
    tables: Sequence[tuple[_Table, _Table]]
    units: int
    pixels: int

    def flat_end(self, most: int) -> int:
        """How many of the last units, up to ``most``, are coded as the one before them."""
        codes = [table.code_of_zero for pair in self.tables for table in pair]
        if None in codes:
            return 0
        unit = np.asarray([bit == "1" for code in codes for bit in str(code)], np.uint8)
        # A stuffed byte is two: so many bytes hold the units, and what fills the last byte.
        start = max(0, self.end - most * len(unit) // 4 - 32)
        content = self.data[max(self.start, start) : self.end].replace(b"\xff\x00", b"\xff")
        best = 0
        # What fills the last byte is of one kind of bit, and a byte of 1s may follow.
        for padding in range(17):
            end = 8 * len(content) - padding
            if end >= 0 and len(set(_bits(content, end, 8 * len(content)).tolist())) < 2:
                best = max(best, _repeated(content, end, unit, most))
        return best

    def is_complete(self) -> bool:
        """Whether the data holds all units.

        A decoder that lacks data takes what follows for it. So the image is decoded once more with
        other bytes behind its data: nothing of an image that is complete changes.
        """
        return self._decoded(b"") == self._decoded(_BEHIND)

    def _decoded(self, behind: bytes) -> int:
        """A checksum of the image, with ``behind`` after the data of the scan."""
        content = b"".join((memoryview(self.data)[: self.end], behind, b"\xff\xd9"))
        checksum = 0
        with opened(io.BytesIO(content), self.pixels, result=4) as image:
            image.load()
            for top in range(0, image.height, _ROWS):
                rows = image.crop((0, top, image.width, min(top + _ROWS, image.height)))
                checksum = zlib.crc32(rows.tobytes(), checksum)
        return checksum


def _bits(content: bytes, start: int, end: int) -> np.ndarray:
    """The bits of ``content`` from one place to another, uint8."""
    some = np.frombuffer(content, np.uint8, -(-end // 8) - start // 8, start // 8)
    return np.unpackbits(some)[start % 8 : start % 8 + end - start]


def _repeated(content: bytes, end: int, unit: np.ndarray, most: int) -> int:
    """How often the bits ``unit`` stand before the bit ``end``, one after the other."""
    count = 0
    while count < most:
        some = min(most - count, _UNITS, end // len(unit))
        if not some:
            break
        bits = _bits(content, end - some * len(unit), end).reshape(some, len(unit))
        alike = np.asarray((bits == unit).all(axis=1))[::-1]
        if not alike.all():
            return count + int(np.argmin(alike))
        count, end = count + some, end - some * len(unit)
    return count


class _Table:
    """A Huffman table: the number of codes of each length, and the symbols in order."""

    def __init__(self, counts: Sequence[int], symbols: bytes):
        self.counts, self.symbols = counts, symbols

    def _codes(self) -> Iterator[tuple[int, int, int]]:
        """Code, length and symbol."""
        code = place = 0
        for length, count in enumerate(self.counts, 1):
            for symbol in self.symbols[place : place + count]:
                yield code, length, symbol
                code += 1
            place += count
            code <<= 1

    @property
    def code_of_zero(self) -> str | None:
        """The bits of the symbol 0."""
        return next((f"{code:0{n}b}" for code, n, symbol in self._codes() if symbol == 0), None)


@dataclass
class Jpeg:
    """The structure of a complete JPEG.

    Attributes:
        size: (height, width).
        components: the sampling factors (vertical, horizontal) of each component, by its id.
        gaps: whether bytes that mean nothing stand between its parts.
        scan: its data, after the last restart; None if it is progressive, or each component has
            its own.
    """

    size: tuple[int, int] = (0, 0)
    components: dict[int, tuple[int, int]] = field(default_factory=dict)
    gaps: bool = False
    scan: _Scan | None = None

    def unit(self) -> tuple[int, int]:
        """(height, width) in pixels of the unit that the data is made of."""
        if len(self.components) == 1:
            return 8, 8
        factors = np.asarray(list(self.components.values()))
        high, wide = (8 * factors.max(axis=0)).tolist()
        return high, wide

    def check_end(self, rows: Rows) -> None:
        """Checks that the data covers the image to its last pixel.

        A decoder draws middle grey where data is missing. So only an image that ends in middle grey
        is looked at. Its data must end in as many units without a change of colour, or else hold
        all units.

        Args:
            rows: the decoded image, not turned.

        Raises:
            ValueError: the data ends before the image does.
        """
        if self.scan is None or not self._ends_in_grey(rows):
            return
        grey = min(self._grey_units(rows), self.scan.units)
        flat = self.scan.flat_end(grey + 1)
        # The first grey unit has a change, unless it is the first of all.
        expected = flat in (grey - 1, grey) if grey == self.scan.units else flat == grey - 1
        if not (expected and flat) and not self.scan.is_complete():
            raise ValueError("its data ends before the image does, so a part of it is missing")

    def _ends_in_grey(self, rows: Rows) -> bool:
        """Whether the last unit is of middle grey."""
        last = rows(self.size[0] - 1, self.size[0])[-1, -1]
        near = np.abs(last.astype(int) - _MIDDLE[1]).max() <= _BLENDED
        if not near:
            return False
        height, width = (
            (side - 1) % unit + 1 for side, unit in zip(self.size, self.unit(), strict=True)
        )
        unit = rows(self.size[0] - height, self.size[0])[:, -width:]
        inner = unit[_BORDER:, _BORDER:]
        if inner.size:
            return bool(np.isin(inner, _MIDDLE).all())
        brightness = unit.astype(float).mean(axis=-1) if unit.ndim == 3 else unit
        return bool(np.ptp(brightness) <= _BLENDED)

    def _grey_units(self, rows: Rows) -> int:
        """How many of the last units are of middle grey."""
        (height, width), (high, wide) = self.size, self.unit()
        columns, found = math.ceil(width / wide), 0
        for top in range((math.ceil(height / high) - 1) * high, -1, -high):
            pixels = rows(top, min(top + high, height))
            grey: np.ndarray = np.isin(pixels, _MIDDLE)
            if grey.ndim == 3:
                grey = np.asarray(grey.all(axis=-1))
            whole = np.ones((high, columns * wide), bool)
            whole[: grey.shape[0], :width] = grey
            units = whole.reshape(high, columns, wide)[_BORDER:, :, _BORDER:]
            alike = np.asarray(units.all(axis=(0, 2)))[::-1]
            if not alike.all():
                return found + int(np.argmin(alike))
            found += columns
        return found


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
    try:
        return reader.jpeg if reader.read() else None
    except (
        IndexError
    ):  # a segment is shorter than it should be: the decoder knows whether it matters
        return None


class _JpegReader:
    """Walks through the segments of a JPEG."""

    def __init__(self, data: bytes):
        self.data = data
        self.jpeg = Jpeg()
        self.checked = True
        self.progressive = False
        self.scans = 0
        self.interval = 0  # of restarts, in units
        self.tables: dict[int, _Table] = {}
        # For each component, the bits still missing of each coefficient; 255 if it has none yet.
        self.missing: dict[int, np.ndarray] = {}

    def read(self) -> bool:
        """Whether the file is of a kind that is checked; raises ValueError if it is damaged."""
        data, place = self.data, 2
        while True:
            before, place = place, data.find(b"\xff", place)
            self.jpeg.gaps |= place > before
            while place >= 0 and data[place + 1 : place + 2] == b"\xff":
                place += 1
            if place < 0 or place + 2 > len(data):
                if not self.checked:
                    return False
                raise ValueError("it ends before the end of the image (no end marker)")
            marker = data[place + 1]
            place += 2
            if marker == _EOI:
                if self.checked:
                    self._check_coverage()
                return self.checked
            if marker <= 1 or 0xD0 <= marker <= _SOI:
                continue
            length = int.from_bytes(data[place : place + 2], "big")
            segment = data[place + 2 : place + length]
            place += length
            if marker in _OTHER_FRAMES:  # whose scans are counted alone
                self._frame(segment)
                self.checked = False
            elif marker in _SEQUENTIAL or marker == _PROGRESSIVE:
                self.progressive = marker == _PROGRESSIVE
                self.checked = self._frame(segment)
            elif marker == _DHT:
                self._huffman(segment)
            elif marker == _DRI:
                self.interval = int.from_bytes(segment[:2], "big")
            elif marker == _SOS:
                end = _MARKER.search(data, place)
                self._count_scan()
                if end is None:
                    if not self.checked:
                        return False
                    raise ValueError("it ends before the end of the image (no end marker)")
                if self.checked:
                    self._scan(segment, place, end.start())
                place = end.start()

    def _count_scan(self) -> None:
        """Raises ValueError if the image is decoded again and again, by scans that add nothing."""
        self.scans += 1
        height, width = self.jpeg.size
        if self.scans > _FEW_SCANS and self.scans * height * width > _MOST_SCANNED:
            raise ValueError(
                f"it has more than {self.scans - 1} scans of {height}x{width} pixels, which would"
                " take too long to decode; an image has about ten"
            )

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
            self.tables[segment[at]] = _Table(counts, segment[at + 17 : at + 17 + sum(counts)])
            at += 17 + sum(counts)

    def _scan(self, header: bytes, start: int, end: int) -> None:
        count = header[0]
        chosen = [(header[1 + 2 * c], header[2 + 2 * c]) for c in range(count)]
        first, last, bits = (header[1 + 2 * count + place] for place in range(3))
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
        intervals = math.ceil(units / self.interval) if self.interval else 1
        if self.interval:
            restarts = [found.end() for found in _RESTART.finditer(self.data, start, end)]
            if len(restarts) < intervals - 1:
                raise ValueError("its data ends before the image does, so a part of it is missing")
            # Each interval is coded as if it were the first.
            start = restarts[intervals - 2] if intervals > 1 else start
            units -= self.interval * (intervals - 1)
        pairs = self._pairs(chosen)
        if not self.progressive and count == len(self.jpeg.components) and pairs is not None:
            self.jpeg.scan = _Scan(self.data, start, end, pairs, units, math.prod(self.jpeg.size))

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
        return [self.tables[name].symbols if name in self.tables else b"" for name in names]

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

    def _pairs(self, chosen: list[tuple[int, int]]) -> list[tuple[_Table, _Table]] | None:
        """For each block of a unit, its two tables; None if one does not exist."""
        pairs = []
        for number, tables in chosen:
            first, others = (self.tables.get(name) for name in (tables >> 4, 0x10 | tables & 15))
            if first is None or others is None or number not in self.jpeg.components:
                return None
            v, h = self.jpeg.components[number]
            pairs += [(first, others)] * (1 if len(chosen) == 1 else v * h)
        return pairs

    def _check_coverage(self) -> None:
        missing = [number for number, left in self.missing.items() if left.any()]
        if missing or not self.missing:
            raise ValueError("it ends before the end of the image (parts of the image are missing)")
