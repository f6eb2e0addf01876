"""From section ``data`` of a config to data: which kind it is, and what reads which key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vitjax.core.errors import ConfigError
from vitjax.core.paths import expanded
from vitjax.core.validation import call, check_keywords, keywords_of
from vitjax.data.class_order import ClassList, Match, match
from vitjax.data.dataset import Dataset
from vitjax.data.description import check as check_description
from vitjax.data.episodes.functions import FunctionEpisodes
from vitjax.data.episodes.images import ImageEpisodes
from vitjax.data.errors import on_one_line, with_warnings
from vitjax.data.images import KINDS
from vitjax.data.share import WHERE
from vitjax.data.sources.base import SOURCES, Source

# Parameters of a source that a config cannot set.
_OFFERED = frozenset(("run_classes",))


def create(
    seed: int = 0,
    *,
    run_classes: ClassList | None = None,
    all_classes: bool = False,
    **section: Any,
) -> Dataset:
    """Builds the data that section ``data`` of a config describes.

    Args:
        seed: of the order of training examples and their augmentation; or of training episodes.
        run_classes: the classes of a run, which the data's are matched to by name; labels are then
            the numbers of the run. None keeps the order of the source. Episodes number their
            classes themselves and are not matched. A constructor of a source that has a parameter
            ``run_classes`` receives them too, unless all are needed: the config of a run lists
            classes that other data may lack.
        all_classes: whether the data must have all classes of the run.
        **section: ``source``, the keywords of that source, and the keys of the kind of data, see
            `vitjax.data.settings`; with a section ``episodes`` inside, see
            `vitjax.data.episodes.settings`.

    Returns:
        Data of the kind that `vitjax.data.KINDS` has for the source's target; with a
        section ``episodes``, `vitjax.data.EpisodeData`.

    Raises:
        ConfigError: a key is unknown or missing, a value cannot be used, or the classes are not
            those of the run.
        DataError: the source cannot be read, or its images and a value do not go together.
    """
    parts = _sorted_out(expanded(section))
    check_keywords(parts.kind.settings_class, parts.own, where=WHERE)
    matching = run_classes is not None and not parts.kind.episodic and parts.kind.target != "none"
    offered: dict[str, Any] = dict.fromkeys(_OFFERED & set(keywords_of(parts.constructor)))
    if matching and not all_classes:
        offered = dict.fromkeys(offered, run_classes)
    with on_one_line():
        source = call(parts.constructor, parts.rest, where=WHERE, **offered)
    matched: Match | None = None
    if run_classes is not None and matching:
        matched = match(run_classes, source.class_list, complete=all_classes)
        if not matched.same or matched.own.names != matched.known.names:
            if parts.kind.target == "number":
                raise ConfigError(
                    f"{WHERE}: the run predicts the numbers {', '.join(run_classes.names)}, and the"
                    f" data has {', '.join(source.class_names)}; they must be the same, in this"
                    " order"
                )
            source = source.in_class_order(matched)
    notes = source.notes if isinstance(source, Source) else ()  # functions have none
    with on_one_line(), with_warnings(notes):
        data: Dataset = parts.kind(source, seed, **parts.own)
    data.matched = matched
    return data


def check(**section: Any) -> None:
    """Checks a section ``data`` as far as that is possible without reading anything.

    Args:
        **section: as in `create`.

    Raises:
        ConfigError: a name or a key is unknown, or a value cannot be used.
    """
    parts = _sorted_out(expanded(section))
    settings = call(parts.kind.settings_class, parts.own, where=WHERE)
    parts.kind.check_settings(settings)


def recall(
    description: Mapping[str, Any], seed: int = 0, *, where: str = "data.json", **section: Any
) -> Dataset:
    """Data of the sizes, names and transforms of a run, whose images are all blank.

    So a run can be evaluated on other images, or export its model, without its data.

    Args:
        description: the result of `Dataset.describe` of the run's data.
        seed: as in `create`.
        where: the file that ``description`` was read from, for errors.
        **section: as in `create`; the keywords of the source are not used.

    Raises:
        ConfigError: as of `create`; a value of the description cannot be used.
        DataError: a key of the description is missing, or its values contradict each other.
    """
    parts = _sorted_out(expanded(section))
    if parts.kind is FunctionEpisodes:  # which needs no files
        return create(seed, **section)
    check_description(description, where, parts.kind.described)
    data: Dataset = parts.kind.blank(description, seed=seed, **parts.own)
    return data


class _Parts(NamedTuple):
    kind: Any  # of data
    constructor: Callable[..., Any]  # of the source
    own: dict[str, Any]  # keys that the kind reads
    rest: dict[str, Any]  # keys that the source reads


def _sorted_out(section: Mapping[str, Any]) -> _Parts:
    constructor, given = SOURCES.from_section(section, WHERE, key="source")
    name = section["source"]
    kind = _kind_of(name, episodic=section.get("episodes") is not None)
    readable = set(keywords_of(kind.settings_class))
    keywords = {key: value for key, value in given.items() if (key, value) != ("episodes", None)}
    also = [*readable, "episodes", "source"]
    check_keywords(constructor, keywords, where=WHERE, given=_OFFERED, also=also)
    own = {key: value for key, value in keywords.items() if key in readable}
    # What both read goes to both: the source reads files, and so does prediction, without a source.
    sources = keywords_of(constructor)
    rest = {k: value for k, value in keywords.items() if k not in readable or k in sources}
    return _Parts(kind, constructor, own, rest)


def _kind_of(source: str, episodic: bool) -> Any:
    """The class for the data of ``source``, as single examples or as episodes."""
    facts = SOURCES.facts(source)
    target = facts.get("target", "class")
    if facts.get("episodic"):
        return FunctionEpisodes
    if target not in KINDS:
        raise ConfigError(
            f"{WHERE}.source: {source!r} is registered with target={target!r}; it must be one of"
            f" {', '.join(map(repr, KINDS))}"
        )
    if episodic and target != "class":
        raise ConfigError(
            f"{WHERE}.episodes: the source {source!r} has the target {target!r}, and episodes need"
            " images with one class each; leave the section out"
        )
    return ImageEpisodes if episodic else KINDS[target]
