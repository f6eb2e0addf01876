"""The files of an evaluation: its results as JSON, its classes and examples as CSV.

All files of an evaluation begin with the same stem. It is the name of the split; what differs from
a plain evaluation of the run is appended, so that another checkpoint, an ensemble or another config
has files of its own.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitjax.config.values import flatten
from vitjax.core.atomic import finite, new_file
from vitjax.core.text import portable
from vitjax.training.task import Table

# Keys that change how an evaluation is computed, but not its results.
_NO_MATTER = ("parallel.", "checkpoint.", "train.", "data.workers.", "data.eval_batch_size.")


def changes(trained: Mapping[str, Any], used: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The config keys whose values differ from the run's: dotted key -> [the run's, used].

    Keys that do not change results, such as ``parallel``, are left out.
    """
    before, after = flatten(dict(trained)), flatten(dict(used))
    return {
        key: [before.get(key), after.get(key)]
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key) and not f"{key}.".startswith(_NO_MATTER)
    }


def stem(
    split: str,
    checkpoint: str | int | None,
    ensemble: int | None,
    changed: Mapping[str, list[Any]],
) -> str:
    """The beginning of the names of an evaluation's files, such as ``"test"``.

    Args:
        split: the split.
        checkpoint: the checkpoint that was asked for; None for the run's choice.
        ensemble: the size of an ensemble, or None.
        changed: the result of `changes`.
    """
    parts = [split]
    if checkpoint is not None:
        parts.append(str(checkpoint))
    if ensemble is not None:
        parts.append(f"ensemble{ensemble}")
    if changed:
        values = {key: new for key, (_, new) in changed.items()}
        text = json.dumps(values, sort_keys=True, default=str)
        parts.append(hashlib.sha256(text.encode()).hexdigest()[:8])
    return "-".join(parts)


def write(
    folder: Path, name: str, record: Mapping[str, Any], tables: Mapping[str, Table]
) -> list[Path]:
    """Writes the tables and the record, which names them, all or none; returns the paths.

    Args:
        folder: the folder; it is created.
        name: the result of `stem`.
        record: JSON values.
        tables: each is written as ``<name>_<its own name>.csv``.
    """
    paths = {key: folder / f"{name}_{key}.csv" for key in tables}
    files = {key: path.name for key, path in paths.items()}
    text = json.dumps(finite(portable({**record, "files": files})), indent=2) + "\n"
    with contextlib.ExitStack() as stack:
        # The last one replaces its old file first, so the record, which is opened first, is last.
        stack.enter_context(new_file(folder / f"{name}.json")).write_text(text, encoding="utf-8")
        for key, table in tables.items():
            # Names that are not UTF-8 are written with escapes in place of their bytes.
            content = _csv(table).encode("utf-8", errors="backslashreplace")
            stack.enter_context(new_file(paths[key])).write_bytes(content)
    return [folder / f"{name}.json", *paths.values()]


def rows(table: Table) -> list[dict[str, Any]]:
    """The rows of a table as JSON objects."""
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def _csv(table: Table) -> str:
    """A table as CSV; None and NaN are empty cells."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    for row in table.rows:
        writer.writerow(
            "" if value is None or (isinstance(value, float) and math.isnan(value)) else value
            for value in row
        )
    return text.getvalue()
