"""Tables of text and Parquet files as rows whose cells know their place."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitjax.core.regular_files import kind_of, read_text
from vitjax.core.text import near_match, shortened
from vitjax.data.errors import DataError

TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
PARQUET_SUFFIXES = (".parquet", ".pq")
_SHOWN, _LONG = 10, 50  # names of columns in a message, and characters of one
_MOST_ROWS_PER_BYTE = 10  # of a Parquet file, which can repeat a row for nothing
_DELIMITERS = ",\t;|"


@dataclass(frozen=True)
class Table:
    """A table in memory.

    Attributes:
        path: its file.
        columns: their names, in order.
        rows: the cells of each row as text, without spaces around it.
        lines: the line of each row in the file; of a Parquet file, its number from 1.
    """

    path: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    lines: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[str]:
        """The cells of a column."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def where(self, row: int, column: str) -> str:
        """The place of a cell, for errors: file, line and column."""
        kind = "row" if Path(self.path).suffix.lower() in PARQUET_SUFFIXES else "line"
        return f"{self.path}, {kind} {self.lines[row]}, column {column!r}"


def read_table(path: str) -> Table:
    """Reads a table with a head of column names.

    The cells of a text file are separated by commas, tabs, semicolons or bars, whichever its first
    line has most of; its text is UTF-8.

    Args:
        path: a file whose suffix is one of `TEXT_SUFFIXES` or `PARQUET_SUFFIXES`.

    Raises:
        DataError: it does not exist, is of another kind, or is damaged; the message names the line.
    """
    suffix = Path(path).suffix.lower()
    if os.path.isdir(path):
        raise DataError(f"{path} is a folder, which source='folder' reads")
    if not os.path.exists(path):
        folder = Path(path).parent
        siblings = [str(p) for p in sorted(folder.iterdir())] if folder.is_dir() else []
        raise DataError(f"{path} does not exist{near_match(str(path), siblings)}")
    if (kind := kind_of(path)) is not None:
        raise DataError(f"{path}: cannot be read: it is {kind}, not a file")
    if suffix in PARQUET_SUFFIXES:
        return _checked(_read_parquet(path))
    if suffix not in TEXT_SUFFIXES:
        kinds = ", ".join((*TEXT_SUFFIXES, *PARQUET_SUFFIXES))
        raise DataError(f"{path}: a table is a file of the kind {kinds}")
    try:
        return _checked(_read_text(path, read_text(path)))
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: is not UTF-8 text; save the table as UTF-8"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read_text(path: str, text: str) -> Table:
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}, line {line}: has a NUL byte, so it is not a text file")
    head = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(_DELIMITERS, key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, lines = [], []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if any(cells):
                rows.append(cells)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    if not rows:
        raise DataError(f"{path} is empty; its first line must name the columns")
    columns = tuple(rows[0])
    for cells, line in zip(rows[1:], lines[1:], strict=True):
        if len(cells) != len(columns):
            raise DataError(
                f"{path}, line {line}: has {len(cells)} cells, and the first line names"
                f" {len(columns)} columns ({_listed(columns)})"
            )
    return Table(path, columns, rows[1:], lines[1:])


def _read_parquet(path: str) -> Table:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            f"{path}: Parquet files need the package pyarrow: pip install 'vitjax[parquet]'"
        ) from error
    try:
        rows_claimed = pyarrow.parquet.read_metadata(path).num_rows
        if rows_claimed > _MOST_ROWS_PER_BYTE * os.path.getsize(path):
            raise DataError(
                f"{path}: has {rows_claimed:,} rows in {os.path.getsize(path):,} bytes, which are"
                " too few for a file in each row"
            )
        table = pyarrow.parquet.read_table(path)
        cells = [["" if x is None else str(x) for x in column.to_pylist()] for column in table]
    except DataError:
        raise
    except Exception as error:  # of many types of pyarrow's own
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read as Parquet: {reason}") from error
    rows = [[cell.strip() for cell in row] for row in zip(*cells, strict=True)]
    return Table(path, tuple(table.column_names), rows, range(1, len(rows) + 1))


def _checked(table: Table) -> Table:
    twice = sorted({name for name in table.columns if table.columns.count(name) > 1})
    if twice:
        raise DataError(f"{table.path}: two columns are called {twice[0]!r}")
    if not len(table):
        raise DataError(f"{table.path} has no rows (columns: {_listed(table.columns)})")
    return table


def find_column(
    table: Table, given: str | None, usual: Collection[str], key: str, *, needed: bool
) -> str | None:
    """The name of a column of ``table``.

    Args:
        table: the table.
        given: the name that the config gives; None to recognise it.
        usual: the names to recognise; case, spaces and punctuation do not matter.
        key: the config's key, for errors.
        needed: whether there must be one.

    Raises:
        DataError: it does not exist, is missing, or two columns have usual names.
    """
    known = _listed(table.columns)
    if given is not None:
        if given not in table.columns:
            raise DataError(
                f"{table.path}: {key} is {given!r}, which is not a"
                f" column{near_match(given, table.columns)} (columns: {known})"
            )
        return given
    found = [name for name in table.columns if _plain(name) in usual]
    if len(found) > 1:
        raise DataError(
            f"{table.path}: {' and '.join(map(repr, found))} can both be meant; {key} says which"
        )
    if needed and not found:
        raise DataError(
            f"{table.path}: none of its columns ({known}) is called {', '.join(sorted(usual))}; the"
            f" first line names the columns, and {key} says which is meant"
        )
    return found[0] if found else None


def _listed(columns: Sequence[str]) -> str:
    """The names of columns, as many and as much of each as a message can have."""
    cut = [name if len(name) <= _LONG else f"{name[:_LONG]}..." for name in columns[:_SHOWN]]
    return shortened([*cut, *columns[_SHOWN:]], _SHOWN)


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def numbers(table: Table, column: str) -> list[float]:
    """The cells of ``column`` as finite numbers.

    Raises:
        DataError: one is none; the message names its place.
    """
    values = []
    for row, cell in enumerate(table.column(column)):
        try:
            value = float(cell)
        except ValueError:
            value = float("nan")
        if not abs(value) < float("inf"):
            raise DataError(f"{table.where(row, column)}: {cell!r} is not a finite number")
        values.append(value)
    return values
