"""The one table of docs/benchmarks.md, from the rows that the programs of this folder append.

    python scripts/bench/tables.py rows.jsonl                            # prints it
    python scripts/bench/tables.py rows.jsonl --docs docs/benchmarks.md  # writes it there

Of several rows of one case and batch the last counts. In a page the table takes the place between
the lines ``<!-- table -->`` and ``<!-- end of the table -->``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timing  # type: ignore[import-not-found]

from vitjax.core.atomic import new_file

KINDS = {
    "training": "Training",
    "few-shot": "Few-shot learning",
    "inference": "Inference",
    "start-up": "Start-up",
    "checkpoint": "Checkpoints",
    "input": "Input pipelines",
}
BEGIN, END = "<!-- table -->", "<!-- end of the table -->"


def one_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Machine, table and commands; rows in the order of kinds, cases as measured, and batches."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    kinds = list(KINDS)
    shown = sorted(
        (row for row in rows if row["kind"] in KINDS),
        key=lambda row: (kinds.index(row["kind"]), cases.index(row["case"]), row["batch"] or 0),
    )
    commands = dict.fromkeys(row["command"] for row in shown)
    numbers = {command: number for number, command in enumerate(commands, start=1)}
    head = "| case | batch | unit | vitjax | others | ratio | share of peak | command |"
    lines = [timing.heading(shown), "", head, "|---|---:|---|---:|---|---|---:|---:|"]
    kind = None
    for row in shown:
        if row["kind"] != kind:
            kind = row["kind"]
            lines.append(f"| **{KINDS[kind]}** | | | | | | | |")
        cells = [*timing.cells(row), str(numbers[row["command"]])]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "The commands:", ""]
    lines += [f"{number}. `{command}`" for command, number in numbers.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("rows", help="a file of JSON lines")
    parser.add_argument("--docs", type=Path, help="a page that gets the table")
    arguments = parser.parse_args()
    table = one_table(timing.latest(arguments.rows))
    if arguments.docs is None:
        print(table)
        return
    page = arguments.docs.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"{arguments.docs} lacks the lines {BEGIN} and {END}")
    with new_file(arguments.docs) as unfinished:
        Path(unfinished).write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
