"""Reads every file of `claiming_files` in one process: python reading_claims.py FOLDER."""

import sys
from pathlib import Path

from claiming_files import CLAIMS, claiming

from vitjax import weights
from vitjax.core.errors import UserError


def main(folder):
    answered = 0
    for kind, changes, words in CLAIMS:
        path = claiming(folder / "w.safetensors", kind, changes)
        try:
            weights.convert(path, None, say=lambda words: None)
        except UserError as error:
            answered += words in str(error)
    print(len(CLAIMS), answered)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
