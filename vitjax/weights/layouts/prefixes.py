"""Networks that are a part of a file: the beginnings of their names, such as ``net.``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts.layout import Arrays, Layout
from vitjax.weights.layouts.recognition import Candidate

_SEPARATOR = re.compile(r"[./]")
# A file with more candidates is of names that only look like a layout's.
_MOST = 16
# A name may have a separator after every letter; models in models are a few deep.
_DEEPEST = 16


def networks_in(
    arrays: Arrays, layouts: Sequence[Layout], recognised: Callable[[Arrays], Candidate]
) -> dict[str, Candidate]:
    """The networks in a file whose names begin with a prefix, by the prefix.

    Only networks of which every array is explained are returned: what is a part of a larger network
    of the same kind is not one.

    Args:
        arrays: of the file.
        layouts: those that may be in it.
        recognised: as `vitjax.weights.layouts.recognition.recognise` for some arrays.
    """
    found: dict[str, Candidate] = {}
    for prefix in _candidates(arrays, layouts)[:_MOST]:
        # The head of a network may stand beside its backbone, so the outermost prefix is best.
        for outer in _ancestors(prefix):
            if outer in found:
                break
            try:
                candidate = recognised(under(arrays, outer))
            except WeightsError:
                continue
            if not candidate.unknown:
                found[outer] = candidate
                break
    return found


def under(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with ``prefix``, named by the rest."""
    return {name[len(prefix) :]: a for name, a in arrays.items() if name.startswith(prefix)}


def _candidates(arrays: Arrays, layouts: Sequence[Layout]) -> list[str]:
    """Prefixes before names that all required patterns of a layout match."""
    ends = [
        (name, match.end())
        for name in arrays
        for match in itertools.islice(_SEPARATOR.finditer(name), _DEEPEST)
    ]
    found: dict[str, None] = {}
    for layout in layouts:
        patterns = [re.compile(pattern) for pattern in layout.required]
        prefixes = [
            {name[:end] for name, end in ends if pattern.fullmatch(name, end)}
            for pattern in patterns
        ]
        common = set.intersection(*prefixes) if prefixes else set()
        found |= dict.fromkeys(sorted(common, key=lambda prefix: (len(prefix), prefix)))
    return list(found)


def _ancestors(prefix: str) -> list[str]:
    """``prefix`` and those that it begins with, the shortest first."""
    return [prefix[: match.end()] for match in _SEPARATOR.finditer(prefix)]
