"""Which layout a file of weights has: every layout is scored, and the best one is taken."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vitjax.core.errors import UserError
from vitjax.core.text import shortened
from vitjax.weights.errors import WeightsError
from vitjax.weights.layouts.layout import Arrays, Description, Layout

Grid = tuple[int, int] | None

# A layout that explains less of a file than this is not the file's, whatever names it shares.
_ENOUGH = 0.5
# Scores that differ by less are close: the runner-up is reported.
_CLOSE = 0.01
_LISTED = 4
# What a layout raises for a file of something else.
_STUMBLES = (UserError, KeyError, IndexError, TypeError, ValueError, ZeroDivisionError)
# Names that PyTorch code gives to a head, with more layers than the project's own: fc.1.weight.
_HEAD = re.compile(
    r"(?!classifier\.0\.convs\.)"  # of a decoder (DeepLab)
    r"(fc|(cls_|classification_|projection_|proj_)?heads?|classifier|linear|last_linear|last_layer"
    r"|outc|segmentation_head|logits|output|arcface|cosface|projector|prototypes)\d*([./]|$)"
    r"|cls[./]"  # without more it is a class token
)
# Arrays of training beside a network: of a loss, of metrics, of an average, of an optimizer.
_EXTRA = re.compile(
    r"(n_averaged|initted|step|epoch|global_step|pos_weight|class_weights?)$"
    r"|(.+\.)?_extra_state$"  # what a module of PyTorch stores beside its parameters
    r"|(\w+_)?(criterion|criterions|loss|losses|loss_fn|loss_func|metric|metrics|accuracy|acc)"
    r"(_\w+)?[./]"
    r"|(optim\w*|opt_state|lr_\w+|schedulers?|callbacks?|scaler)[./]",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One layout, compared with a file.

    Attributes:
        layout: the layout.
        arrays: the file's, in the layout's form.
        required: the fraction of the layout's required patterns that match.
        score: the arrays that the layout explains, as a fraction of those that the file has and
            those that it should have.
        description: of the model; None if the layout cannot describe it.
        reason: why the file is not of this layout; empty if it may be.
        heads: names of arrays of a head that is none of the layout's.
        extras: names of arrays of training, without influence on the outputs.
        unknown: names of all other arrays that the layout does not explain.
    """

    layout: Layout
    arrays: Mapping[str, np.ndarray]
    required: float
    score: float = 0.0
    description: Description | None = None
    reason: str = ""
    heads: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The format and the models that it stores."""
        return f"{self.layout.name} ({'/'.join(each.__name__ for each in self.layout.modules)})"


def recognise(
    arrays: Arrays,
    layouts: Sequence[Layout],
    describe: Callable[[Layout, Arrays], Description],
    say: Callable[[str], None],
) -> Candidate:
    """The layout that explains a file best.

    Args:
        arrays: of the file.
        layouts: those to compare; of several that explain the same, the first is taken.
        describe: as `Layout.describe`, with what is known besides the arrays.
        say: receives the runner-up, if it explains nearly as much and describes another model.

    Raises:
        WeightsError: no layout fits. The message lists the nearest ones with the reasons, and is
            empty if no layout shares a required name.
    """
    candidates = [_compare(layout, arrays, describe) for layout in layouts]
    if not any(each.required for each in candidates):
        raise WeightsError("")
    # Of several with the same score, sorted keeps the order of the layouts.
    best, *others = sorted(candidates, key=lambda each: (-each.score, bool(each.reason)))
    # A part of a refused network, such as its encoder, may be another layout's network.
    if best.reason or best.description is None:
        raise WeightsError(_reasons(candidates))
    close = [each for each in others if not each.reason and each.score > best.score - _CLOSE]
    for other in close:
        if not _alike(best, other):
            say(
                f"read as {best.title}, which explains {best.score:.1%} of the arrays;"
                f" {other.title} explains {other.score:.1%}: format={other.layout.name!r} reads it"
                " so"
            )
            break
    # The file may be of any project that stores these arrays, and so of its siblings.
    siblings = [e.description.siblings for e in (best, *close) if e.description is not None]
    words = next(filter(None, siblings), "")
    return dataclasses.replace(
        best, description=dataclasses.replace(best.description, siblings=words)
    )


def _compare(
    layout: Layout, arrays: Arrays, describe: Callable[[Layout, Arrays], Description]
) -> Candidate:
    try:
        prepared = layout.prepare(arrays)
    except (WeightsError, TypeError) as error:
        # A prefix is removed only if the names after it are the layout's.
        return Candidate(layout, arrays, 1.0, reason=str(error))
    missing = [
        pattern
        for pattern in layout.required
        if not any(re.fullmatch(pattern, name) for name in prepared)
    ]
    required = 1 - len(missing) / len(layout.required)
    if required == 0:
        return Candidate(layout, prepared, required, reason="none of its names")
    reason = _forbidden(layout, prepared)
    if missing:
        shown = missing[0].replace("\\", "").replace("|", " or ")
        reason = reason or f"has no array named {shown}"
        return Candidate(layout, prepared, required, reason=reason)
    # A head of another form may keep a layout from describing the rest.
    body = {name: array for name, array in prepared.items() if not _HEAD.match(name)}
    try:
        try:
            description = describe(layout, prepared)
            score, rest = _score(layout, prepared, description)
        except _STUMBLES:
            if len(body) == len(prepared):
                raise
            with contextlib.suppress(*_STUMBLES):
                description = describe(layout, body)
                score, rest = _score(layout, body, description)
                rest += [name for name in prepared if name not in body]
                return _candidate(layout, prepared, required, reason, description, score, rest)
            raise
    except _STUMBLES as error:
        reason = reason or _stumbled(error)
        return Candidate(layout, prepared, required, reason=reason)
    return _candidate(layout, prepared, required, reason, description, score, rest)


def _candidate(
    layout: Layout,
    prepared: Arrays,
    required: float,
    reason: str,
    description: Description,
    score: float,
    rest: Sequence[str],
) -> Candidate:
    """The candidate of a layout that can describe a file, and explains all but ``rest`` of it."""
    heads = tuple(name for name in rest if _HEAD.match(name))
    extras = tuple(
        name
        for name in rest
        if name not in heads and (_EXTRA.match(name) or _is_number(name, prepared[name]))
    )
    unknown = tuple(name for name in rest if name not in {*heads, *extras})
    if score < _ENOUGH:
        some = shortened(unknown, 3)
        reason = reason or f"explains {score:.0%} of the arrays; unknown are {some}"
    return Candidate(layout, prepared, required, score, description, reason, heads, extras, unknown)


def is_beside(name: str, array: np.ndarray) -> bool:
    """Whether an array is of a head or of training, by its name alone."""
    return bool(_HEAD.match(name) or _EXTRA.match(name)) or _is_number(name, array)


def _is_number(name: str, array: np.ndarray) -> bool:
    """Whether an array is one number that no layer has, such as a counter of steps."""
    return array.ndim == 0 and not re.search(r"[./]", name)


def _forbidden(layout: Layout, arrays: Arrays) -> str:
    """What the file has and networks of the layout do not, with the first array of it."""
    for pattern, words in layout.forbidden.items():
        if name := next((name for name in arrays if re.search(pattern, name)), None):
            models = " or ".join(each.__name__ for each in layout.modules)
            return f"has {words}, which vitjax's {models} does not have: {name}"
    return ""


def _stumbled(error: Exception) -> str:
    """Why a layout cannot describe a file that has its names."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, KeyError):
        return f"missing in the file: {error.args[0]}"
    # Layouts index the axes of arrays that each of their files has.
    return f"arrays that describe its model have unexpected axes: {error}"


def _score(layout: Layout, arrays: Arrays, found: Description) -> tuple[float, list[str]]:
    """The explained fraction of the arrays, and the names of the others."""
    module = found.model(**{**found.fields, **found.placeholders})
    entries = layout.entries_at(module, arrays, found.grid)
    for entry in entries:
        if entry.optional and all(name in arrays for name in entry.theirs):
            entry.read(*(arrays[name] for name in entry.theirs))  # raises for another form
    wanted = {name for entry in entries for name in entry.theirs}
    lacking = {
        name
        for entry in entries
        for name in entry.theirs
        if name not in arrays and not entry.optional
    }
    unknown = [
        name
        for name in arrays
        if not (name in wanted or layout.is_ignored(name) or layout.is_companion(name))
    ]
    # A head of another form, and what training left, say nothing against the layout.
    counted = [name for name in unknown if not (_HEAD.match(name) or _EXTRA.match(name))]
    total = len(arrays) - (len(unknown) - len(counted))
    return (total - len(counted)) / (total + len(lacking)), unknown


def _alike(one: Candidate, other: Candidate) -> bool:
    """Whether two candidates describe the same model."""
    a, b = one.description, other.description
    return a is not None and b is not None and (a.model, a.fields) == (b.model, b.fields)


def _reasons(candidates: Sequence[Candidate]) -> str:
    """Why the layouts that share a required name do not fit, the nearest first."""
    near = [each for each in candidates if each.required > 0]
    complete = [each for each in near if each.required == 1 and each.reason]
    by_reason: dict[str, list[str]] = {}
    for each in complete or sorted(near, key=lambda each: -each.required):
        by_reason.setdefault(each.reason, []).append(each.title)
    lines = [f"read as {' or '.join(dict.fromkeys(t))}: {words}" for words, t in by_reason.items()]
    if len(lines) == 1:
        return f", {lines[0]}"
    return "\n  ".join([": is of no network that vitjax has:", *lines[:_LISTED]])
