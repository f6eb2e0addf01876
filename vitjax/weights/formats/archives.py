"""Zip archives, the containers of ``.npz`` files and of PyTorch's checkpoints."""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from vitjax.weights.errors import WeightsError

# Weights hardly compress. An archive that exceeds both limits is made to fill the memory.
_MOST_BYTES = 2**30
_MOST_GROWTH = 100
# A record's data begins at a multiple of this, so that it can be mapped into memory.
_ALIGNMENT = 64


@contextlib.contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive at ``path``, for reading.

    Raises:
        WeightsError: its list of records is cut short or damaged, or it would unpack to far more
            bytes than the file has.
    """
    size = path.stat().st_size
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise WeightsError(
            f"is cut short or damaged: it begins as a zip archive, but its {size:,} bytes have no"
            f" end of one ({error})"
        ) from error
    with archive:
        check_growth(size, sum(record.file_size for record in archive.infolist()))
        yield archive


def check_growth(size: int, unpacked: int) -> None:
    """Raises WeightsError if a file of ``size`` bytes would unpack to far more than weights do."""
    if unpacked > max(_MOST_BYTES, _MOST_GROWTH * size):
        raise WeightsError(
            f"refused: its {size:,} bytes would unpack to {unpacked:,}, which weights never do"
        )


@contextlib.contextmanager
def reading(record: str) -> Iterator[None]:
    """Reports whatever zipfile and NumPy raise for a damaged record in one sentence.

    Raises:
        WeightsError: the record cannot be read.
    """
    try:
        yield
    except WeightsError:
        raise
    except (
        *(zipfile.BadZipFile, EOFError, MemoryError, OSError),
        *(NotImplementedError, RuntimeError, ValueError),
    ) as error:
        raise WeightsError(f"is damaged: {record} cannot be read ({error})") from error


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
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
