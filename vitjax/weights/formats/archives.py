"""Zip archives, the containers of ``.npz`` files and of PyTorch's checkpoints."""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from vitjax.core.text import shortened
from vitjax.weights.errors import WeightsError
from vitjax.weights.formats import damage, limits

# NumPy and PyTorch write these. Others can ask for gigabytes before the first byte (LZMA).
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_OTHERS = {zipfile.ZIP_BZIP2: " (bzip2)", zipfile.ZIP_LZMA: " (LZMA)"}
_ENCRYPTED = 0x1
_MOST_RECORDS = 2**16
# A record's data begins at a multiple of this, so that it can be mapped into memory.
_ALIGNMENT = 64


@contextlib.contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive at ``path``, for reading.

    Raises:
        WeightsError: its list of records is cut short or damaged, has a name twice or one that
            cannot be shown, or it would unpack to far more bytes than the file has.
    """
    size = path.stat().st_size
    with damage.blamed(
        f"is cut short or damaged: it begins as a zip archive, but its {size:,} bytes have no end"
        " of one"
    ):
        archive = zipfile.ZipFile(path)
    with archive:
        records = archive.infolist()
        if len(records) > _MOST_RECORDS:
            limits.refuse(f"it has {len(records):,} records, of at most {_MOST_RECORDS:,}")
        for record in records:
            limits.check_name(record.filename)
        if twice := [name for name, n in Counter(archive.namelist()).items() if n > 1]:
            raise WeightsError(f"is damaged: it has several records named {shortened(twice, 3)}")
        limits.check_growth(size, sum(record.file_size for record in records))
        yield archive


@contextlib.contextmanager
def reading(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    """The record ``name`` of an archive, open for reading; reports its damage in words.

    Raises:
        WeightsError: the record does not exist or cannot be read.
    """
    with damage.blamed(f"is damaged: {name} cannot be read"):
        try:
            info = archive.getinfo(name)
        except KeyError:
            raise WeightsError(f"is incomplete: it has no record {name}") from None
        if info.flag_bits & _ENCRYPTED:
            raise WeightsError(f"is encrypted: {name} needs a password; write it without one")
        if info.compress_type not in _COMPRESSIONS:
            raise WeightsError(
                f"refused: {name} is compressed by method {info.compress_type}"
                f"{_OTHERS.get(info.compress_type, '')}; only stored and deflated records are read"
            )
        with archive.open(name) as file:
            yield file


def content(archive: zipfile.ZipFile, name: str) -> bytes:
    """All bytes of a record; raises as `reading`."""
    with reading(archive, name) as file:
        return file.read()


def record(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """The header of the record to be written next: uncompressed, aligned, of a fixed date.

    The same records give the same file, byte for byte.
    """
    info = zipfile.ZipInfo(name)  # of 1980, the earliest date of a zip archive
    info.external_attr = 0o644 << 16
    assert archive.fp is not None
    # Before the data are 30 bytes, the name, and extra fields of 4 bytes and their content:
    # zipfile's of 20 bytes for the sizes, and one of padding.
    begin = archive.fp.tell() + 30 + len(name.encode()) + 20 + 4
    padding = -begin % _ALIGNMENT
    info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
    return info


def comment(metadata: Mapping[str, str] | None) -> bytes:
    """``metadata`` as the comment of an archive.

    Raises:
        WeightsError: it is longer than a comment can be.
    """
    text = json.dumps(dict(metadata)).encode() if metadata else b""
    if len(text) > zipfile.ZIP_MAX_COMMENT:
        raise WeightsError(
            f"the metadata have {len(text):,} bytes; a zip archive has room for"
            f" {zipfile.ZIP_MAX_COMMENT:,}"
        )
    return text


def metadata(archive: zipfile.ZipFile) -> dict[str, str]:
    """The inverse of `comment`; empty if the comment is something else."""
    try:
        found = json.loads(archive.comment)
    except (ValueError, RecursionError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
