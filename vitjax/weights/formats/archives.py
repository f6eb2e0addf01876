"""Zip archives, which ``.npz`` files and PyTorch's checkpoints are: opened with care, written."""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from vitjax.weights.errors import WeightsError

# Weights hardly compress; what grows beyond both is made to fill the memory.
_MOST_BYTES = 2**30
_MOST_GROWTH = 100
# Where a record's data begins, so that it can be used where it lies in the file.
_ALIGNMENT = 64


@contextlib.contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive at ``path``, for reading.

    Raises:
        WeightsError: it is cut short or damaged, as far as its list of records tells, or would
            take much more space than the file does.
    """
    size = path.stat().st_size
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise WeightsError(
            f"{path}: is cut short or damaged: it begins as a zip archive, and after {size:,} bytes"
            f" there is no end of one ({error})"
        ) from error
    with archive:
        unpacked = sum(record.file_size for record in archive.infolist())
        if unpacked > max(_MOST_BYTES, _MOST_GROWTH * size):
            raise WeightsError(
                f"{path}: refused: its {size:,} bytes would unpack to {unpacked:,}, which no"
                " weights do"
            )
        yield archive


def damaged(path: Path, record: str, error: BaseException) -> WeightsError:
    """What to raise where ``record`` of the archive at ``path`` cannot be read."""
    return WeightsError(f"{path}: is damaged: {record} cannot be read ({error})")


def record(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """A record to be written next: not compressed, its data aligned, of no date.

    The same records give the same file, byte for byte.
    """
    info = zipfile.ZipInfo(name)  # of 1980, the first year that a zip archive knows
    info.external_attr = 0o644 << 16
    assert archive.fp is not None
    # Before the data stand 30 bytes, the name, and fields of an own 4 bytes and their content:
    # zipfile's of 20 bytes for the sizes, and one of padding.
    begin = archive.fp.tell() + 30 + len(name.encode()) + 20 + 4
    padding = -begin % _ALIGNMENT
    info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
    return info


def comment(metadata: Mapping[str, str] | None) -> bytes:
    """``metadata`` as an archive's comment.

    Raises:
        WeightsError: there is more of it than a comment may hold.
    """
    text = json.dumps(dict(metadata)).encode() if metadata else b""
    if len(text) > zipfile.ZIP_MAX_COMMENT:
        raise WeightsError(
            f"the metadata take {len(text):,} bytes; a zip archive has room for"
            f" {zipfile.ZIP_MAX_COMMENT:,}"
        )
    return text


def metadata(archive: zipfile.ZipFile) -> dict[str, str]:
    """What `comment` made the comment of; nothing where that is another's."""
    try:
        found = json.loads(archive.comment)
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
