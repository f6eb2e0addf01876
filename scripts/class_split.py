"""Writes a class split: which classes of a source are for training, validation and testing.

    python scripts/class_split.py flowers.json source=folder path=/data/flowers
    python scripts/class_split.py finn.json --counts 1100 100 423 --seed 1 \
        source=tfds dataset=omniglot data_dir=/data/tfds       # the stored omniglot_finn

The names are sorted, shuffled by Python's random.Random(seed), and dealt out. The file is what
config.data.episodes.class_split takes; keep it with the experiment.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

from vitjax.data.sources import SOURCES

SHARES = (0.64, 0.16)  # of miniImageNet's 100 classes for training and validation


def deal(names: list[str], counts: list[int], seed: int) -> dict[str, list[str]]:
    """Which names go to which split, sorted within it."""
    names = sorted(names)
    random.Random(seed).shuffle(names)
    ends = [0, counts[0], counts[0] + counts[1], sum(counts)]
    parts = [sorted(names[start:end]) for start, end in pairwise(ends)]
    return dict(zip(("train", "val", "test"), parts, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--counts", type=int, nargs=3, metavar=("TRAIN", "VAL", "TEST"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("section", nargs="+", help="key=value: the source and its own keywords")
    arguments = parser.parse_args()
    section: dict[str, Any] = dict(pair.split("=", 1) for pair in arguments.section)
    for key, value in section.items():
        try:
            section[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            continue  # text
    names = list(SOURCES.create(section.pop("source"), **section).class_names)
    counts = arguments.counts
    if counts is None:
        counts = [round(share * len(names)) for share in SHARES]
        counts.append(len(names) - sum(counts))
    if sum(counts) > len(names) or min(counts) < 0 or not counts[0]:
        parser.error(f"counts are {counts}, and there are {len(names)} classes")
    split = deal(names, counts, arguments.seed)
    about = f"{len(names)} classes, sorted, shuffled by random.Random({arguments.seed})"
    arguments.file.write_text(json.dumps({"about": about, **split}, indent=1) + "\n")
    print(f"{arguments.file}: {', '.join(f'{len(n)} {s}' for s, n in split.items())}")


if __name__ == "__main__":
    main()
