"""The folder of results: nothing is overwritten there but what an earlier command wrote."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from vitjax import figures
from vitjax.core.atomic import new_file
from vitjax.core.errors import ConfigError
from vitjax.core.paths import check_writable, expanded
from vitjax.core.text import portable, shortened

# The files that commands have written to a folder, with their content's hash, one per line.
RECORD = ".predicted"
JSON_LINES, CSV, FIGURE = "predictions.jsonl", "predictions.csv", "predictions.png"


class OutputFolder(os.PathLike[str]):
    """A folder for results, which knows the files that earlier commands wrote there.

    A file is one of these if its name is in the folder's record and its content is the one that was
    written: a mask that was corrected by hand since then is not.
    """

    def __init__(self, folder: str | os.PathLike[str], *, overwrite: bool = False):
        """Reads the record; creates nothing.

        Args:
            folder: its path; ``~`` is the home folder.
            overwrite: whether files of any origin may be replaced.

        Raises:
            ConfigError: the path is a file.
        """
        self.path = Path(expanded(folder))
        self._overwrite = overwrite
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"output: {self.path} is a file; it must be a folder, or not exist")
        self._hashes = self._read()

    @classmethod
    def of(cls, output: str | os.PathLike[str] | None) -> OutputFolder | None:
        """``output`` as an output folder; None stays None."""
        return output if output is None or isinstance(output, cls) else cls(output)

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def written(self) -> list[Path]:
        """The files in the record."""
        return [self.path / name for name in self._hashes]

    def check(self, names: Iterable[str]) -> None:
        """Checks that files can be written without loss, before any of them is.

        Args:
            names: relative to the folder.

        Raises:
            ConfigError: one exists and is not of an earlier command, or the folder cannot be
                written or made.
        """
        check_writable(self.path, self.path)
        if self._overwrite:
            return
        strange = [name for name in names if not self._free(name)]
        if strange:
            several = f"{len(strange)} files exist" if len(strange) > 1 else "the file exists"
            raise ConfigError(
                f"output: {self.path} has {shortened(strange)}: {several} already, and no earlier"
                " command wrote what is there. Choose another folder, or add --overwrite"
                " (overwrite=True) to replace it"
            )

    def discard(self, names: Iterable[str]) -> None:
        """Removes files that an earlier command wrote, unless they have changed since then."""
        for name in names:
            if name in self._hashes and self._free(name):
                (self.path / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yields the path for a file to be written completely, and then notes it in the record."""
        self.check([name])
        path = self.path / name
        yield path
        self._hashes[name] = _hash(path)
        with open(self.path / RECORD, "a", encoding="utf-8") as record:
            record.write(json.dumps([name, self._hashes[name]]) + "\n")

    @contextlib.contextmanager
    def results(
        self, row_of: Callable[[Mapping[str, Any]], Mapping[str, Any]], *, errors: bool = False
    ) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """Yields a function that writes a result to `JSON_LINES` and to `CSV`.

        The files exist when all results are written; nothing is left after an error.

        Args:
            row_of: the values of a result by column.
            errors: whether results may be of images that cannot be read: a column ``error``.
        """
        self.check((JSON_LINES, CSV))
        above = [self.path, *self.path.parents]
        created = [folder for folder in above if not folder.exists()]
        try:
            with (
                self.writing(JSON_LINES) as lines_path,
                self.writing(CSV) as table_path,
                new_file(lines_path) as unfinished_lines,
                new_file(table_path) as unfinished_table,
                open(unfinished_lines, "w", encoding="utf-8") as lines,
                # Names of files may have bytes that are not UTF-8.
                open(
                    unfinished_table, "w", encoding="utf-8", errors="backslashreplace", newline=""
                ) as table,
            ):
                rows = _Table(table, row_of, ["error"] if errors else [])

                def write(result: Mapping[str, Any]) -> None:
                    lines.write(json.dumps(portable(result)) + "\n")
                    rows.add(result)

                yield write
                rows.close()
        except BaseException:
            for folder in created:
                with contextlib.suppress(OSError):  # it is not empty
                    folder.rmdir()
            raise

    def _free(self, name: str) -> bool:
        path = self.path / name
        if not os.path.lexists(path):
            return True
        return path.is_file() and name in self._hashes and _hash(path) == self._hashes[name]

    def _read(self) -> dict[str, str]:
        found: dict[str, str] = {}
        with contextlib.suppress(OSError), open(self.path / RECORD, encoding="utf-8") as record:
            for line in record:
                with contextlib.suppress(ValueError, TypeError):  # cut short by a power failure
                    name, content = json.loads(line)
                    found[name] = content
        return found


def result_names(images: Sequence[tuple[str, str]]) -> list[str]:
    """The beginning of the names of each image's results, different for all.

    It is the stem of the image's file. Where two files have one stem, the results of all lie in
    folders like those of the images; where that does not help, as for ``a.png`` and ``a.tif``, the
    suffix stays in the name.

    Args:
        images: the path of each image's file, and what follows the stem, such as its page.

    Raises:
        ConfigError: an image is given twice.
    """
    paths = [Path(os.path.abspath(path)) for path, _ in images]
    ends = [end for _, end in images]
    stems = [path.stem for path in paths]
    names = [stem + end for stem, end in zip(stems, ends, strict=True)]
    if len(set(names)) < len(names):
        common = Path(os.path.commonpath([path.parent for path in paths]))
        places = [path.relative_to(common) for path in paths]
        names = [
            os.fspath(place.with_suffix("")) + end for place, end in zip(places, ends, strict=True)
        ]
        if len(set(names)) < len(names):
            names = [os.fspath(place) + end for place, end in zip(places, ends, strict=True)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ConfigError(f"the image {twice[0]!r} is given twice; its results would be one file")
    return names


@contextlib.contextmanager
def figure(folder: OutputFolder, name: str) -> Iterator[Path]:
    """Yields the path of a figure; an error is as of `vitjax.figures.optional`."""
    with figures.optional(str(folder.path / name)), folder.writing(name) as path:
        yield path


class _Table:
    """Rows of a CSV file; images that cannot be read have their error in the last column."""

    def __init__(
        self,
        file: TextIO,
        row_of: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        last: Sequence[str],
    ):
        self._file, self._row_of, self._last = file, row_of, last
        self._writer: csv.DictWriter[str] | None = None
        self._waiting: list[Mapping[str, Any]] = []  # until a row names the columns

    def add(self, result: Mapping[str, Any]) -> None:
        if self._writer is None and "error" in result:
            self._waiting.append(result)
            return
        row = result if "error" in result else self._row_of(result)
        if self._writer is None:
            self._begin(row)
        assert self._writer is not None
        self._writer.writerow(row)

    def close(self) -> None:
        if self._writer is None:
            self._begin({"image": ""})

    def _begin(self, row: Mapping[str, Any]) -> None:
        columns = [name for name in row if name not in self._last]
        self._writer = csv.DictWriter(self._file, [*columns, *self._last], extrasaction="ignore")
        self._writer.writeheader()
        self._writer.writerows(self._waiting)


def _hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
