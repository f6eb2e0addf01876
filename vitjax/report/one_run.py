"""The page about one run."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from markupsafe import Markup

from vitjax.analysis.summary import summarise
from vitjax.core.errors import UserError
from vitjax.core.text import Say, printable, say_nothing, shortened
from vitjax.report import about
from vitjax.report.blocks import Checkpoint, Drawer
from vitjax.report.maps import Maps
from vitjax.report.numbers import count, number, seconds
from vitjax.report.page import Card, Note, Page
from vitjax.report.saved import SPLITS, SavedFiles
from vitjax.training import finite, workdir
from vitjax.training.evaluation import Evaluator
from vitjax.training.experiment import Experiment
from vitjax.training.loop import Finished
from vitjax.training.page import Part, Score
from vitjax.training.progress import noted_if_long
from vitjax.training.runs import SavedRun

# Seconds after which the end of a run begins no further part.
_BUDGET = 3.0
_PATIENCE = 2.0  # seconds after which a part is named that is being computed
_SCORES = 4  # at the top of the page


def page(folder: str | Path, overrides: Sequence[str] = (), say: Say = print) -> Page:
    """The page about the run in a folder, with everything that can be shown of it.

    Without its checkpoints or its data it has what the other files say, and the reason.

    Args:
        folder: the run's folder.
        overrides: ``--config.`` arguments on the saved config, such as the data's new path.
        say: receives what was loaded and what cannot be shown.

    Raises:
        WorkdirError: the folder holds no run, or a file is damaged.
        ConfigError: an override cannot be used.
    """
    files = SavedFiles.read(folder)
    for warning in files.damage:
        say(warning)
    with contextlib.ExitStack() as stack:
        try:
            run = stack.enter_context(contextlib.closing(SavedRun(folder, overrides, say=say)))
            variables, step = run.chosen(None, say)
        except (UserError, OSError) as error:
            if overrides:
                raise
            say(f"warning: the report has only what the run's files say: {error}")
            return _of_files(files, Note(f"What needs the model is left out: {error}"))
        experiment = run.experiment
        evaluator = Evaluator(experiment, say)
        results: Mapping[str, Any] = files.results
        notes = []
        if not results or files.summary.get("checkpoint_step") != step:
            try:
                results = _evaluated(evaluator, variables)
                text = f"The results are those of the checkpoint of step {step:,}: evaluated here."
            except (UserError, OSError) as error:
                say(f"warning: the checkpoint of step {step:,} cannot be evaluated: {error}")
                text = f"The checkpoint of step {step:,} cannot be evaluated: {error}"
            notes.append(Note(text))
        kept = [
            Checkpoint(each, functools.partial(_variables, run, each))
            for each in run.checkpoints.steps()
        ]
        drawer = Drawer(Maps(experiment), variables, kept)
        made = _begun(files, experiment, results, notes)
        _add_parts(made, _parts(evaluator, variables, results, say), drawer, say)
        _finish(made, files, experiment, say)
        return made


def at_end(finished: Finished) -> None:
    """Writes the page about a run that has just ended, without what takes long.

    What compiles, or evaluates again, is left out, and what begins after `_BUDGET` seconds too;
    the page says so. On several hosts the first writes what needs no other.
    """
    if jax.process_index() > 0 or not finished.evaluator.experiment.settings.report:
        return
    start = time.perf_counter()
    files = SavedFiles.read(finished.folder)
    experiment = finished.evaluator.experiment
    made = _begun(files, experiment, files.results, [])
    parts = _parts(finished.evaluator, finished.variables, files.results, finished.say)
    alone = jax.process_count() == 1
    left_out: list[str] = []

    def fits(part: Part) -> bool:
        quick = alone and not part.slow and time.perf_counter() - start < _BUDGET
        if not quick:
            left_out.append(part.title)
        return quick

    _add_parts(made, filter(fits, parts), Drawer(), finished.say)
    made.add("Time", about.time(files))
    made.add("What was run", about.run(files))
    made.notes.append(
        Note(
            "This page was written at the end of the run. What takes longer is left out:"
            f" {shortened([*left_out, 'layers of the model', 'maps of what it looks at'], 12)}."
            " This command adds it:",
            f"vitjax report --workdir={finished.folder}",
        )
    )
    path = made.write(finished.folder / workdir.REPORT)
    finished.say(f"Report: {path}")


def _begun(
    files: SavedFiles, experiment: Experiment, results: Mapping[str, Any], notes: Iterable[Note]
) -> Page:
    """A page with the results and the curves."""
    scores = {split: scores_of(experiment, found) for split, found in results.items()}
    model = experiment.config.get("model", {}).get("name", "?")
    made = Page(
        f"{experiment.objective.task.replace('_', ' ')} run", files.name, _subtitle(files, model)
    )
    made.cards = _cards(files, scores)
    made.notes = [*notes, *_state(files)]
    made.add("Results", about.results(scores))
    declared = {**experiment.declarations, **experiment.final_declarations}
    made.add("Curves", about.curves(files, declared))
    return made


def _of_files(files: SavedFiles, note: Note) -> Page:
    """A page of what the run's files say, whose metrics have no declared direction."""
    made = Page("run", files.name, _subtitle(files, files.config.get("model.name", "?")))
    scores = {split: scores_of(None, found) for split, found in files.results.items()}
    made.cards = _cards(files, scores)
    made.notes = [note, *_state(files)]
    made.add("Results", about.results(scores))
    made.add("Curves", about.curves(files, None))
    made.add("Time", about.time(files))
    made.add("What was run", about.run(files))
    return made


def scores_of(experiment: Experiment | None, results: Mapping[str, Any]) -> list[Score]:
    """The results of a split as its task declares them; without it, all numbers among them."""
    if experiment is not None:
        # The file that they come from may have been changed by hand.
        with contextlib.suppress(LookupError, TypeError, ValueError, ArithmeticError):
            return experiment.task.scores(results)
    return plain_scores(results)


def plain_scores(results: Mapping[str, Any]) -> list[Score]:
    """The numbers among results of which nothing is declared."""
    return [
        Score(key, float(value))
        for key, value in results.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]


def _subtitle(files: SavedFiles, model: Any) -> str:
    objective = files.config.get("objective.name", "?")
    source = files.config.get("data.source", "?")
    dataset = files.config.get("data.dataset")
    data = f"{source} {dataset}" if dataset else f"{source}"
    return f"{model} on {data}, objective {objective}"


def _cards(files: SavedFiles, scores: Mapping[str, Sequence[Score]]) -> list[Card]:
    found = []
    for split, each in list(scores.items())[:1]:
        for score in each[:_SCORES]:
            note = ""
            if score.low is not None and score.high is not None:
                ends = (number(end, score.fraction) for end in (score.low, score.high))
                note = f"95%: {' to '.join(ends)}"
            found.append(Card(f"{split} {score.name}", number(score.value, score.fraction), note))
    found.append(Card("steps", number(files.number("steps") or files.steps)))
    if parameters := files.number("parameters"):
        found.append(Card("parameters", count(parameters)))
    if (trained := files.number("seconds")) is not None:
        speed = files.number("examples_per_second")
        note = f"{number(speed)} per second" if speed else ""
        found.append(Card("training", seconds(trained), note))
    return found


def _state(files: SavedFiles) -> Iterator[Note]:
    """Remarks on a run with damaged files, and on one that has not ended."""
    yield from damage_of(files)
    if not files.summary:
        yield Note(
            f"The run has not ended: its last report is of step {files.steps:,}. To resume it:",
            workdir.resume_command(files.folder),
        )


def damage_of(files: SavedFiles) -> Iterator[Note]:
    """Remarks on what could not be read."""
    for warning in files.damage:
        yield Note(f"{warning.removeprefix('warning: ')}; the page lacks them.")


def _evaluated(evaluator: Evaluator, variables: Any) -> dict[str, Any]:
    """The results of the splits that a summary has."""
    experiment = evaluator.experiment
    found = {
        split: experiment.task.evaluate(evaluator, variables, split)
        for split in SPLITS
        if split in experiment.data.splits
    }
    declared = {**experiment.declarations, **experiment.final_declarations}
    for split, each in found.items():
        finite.check_results(
            each, f"the evaluation on {split}", experiment.objective.model, declared
        )
    return found


def _variables(run: SavedRun, step: int) -> Any:
    return run.variables(step, say_nothing, changes=False)[0]


def _parts(
    evaluator: Evaluator, variables: Any, results: Mapping[str, Any], say: Say
) -> Sequence[Part]:
    """What the task declares; nothing, with a warning, where that fails."""
    try:
        parts: Sequence[Part] = evaluator.experiment.task.parts(evaluator, variables, results)
        return parts
    except Exception as error:
        say(f"warning: the report lacks the parts of the task: {type(error).__name__}: {error}")
        return []


def _add_parts(made: Page, parts: Iterable[Part], drawer: Drawer, say: Say) -> None:
    """Adds parts; one that fails says why, and the others follow."""
    for part in parts:
        made.add(part.title, _drawn(part.title, part.blocks, drawer, say))


def _drawn(
    title: str, blocks: Callable[[], Iterable[Any]], drawer: Drawer, say: Say
) -> list[Markup]:
    try:
        with _noted(title, say):
            return [drawer(block) for block in blocks()]
    except Exception as error:
        say(f"warning: the report's part {title!r} cannot be shown: {error}")
        text = f"This part cannot be shown: {type(error).__name__}: {printable(error)}"
        return [Markup("<p class=warning>{}</p>").format(text)]


def _noted(title: str, say: Say) -> contextlib.AbstractContextManager[None]:
    """Says which part is computed, if that takes long: most do if they compile."""
    return noted_if_long(say, f"The report's part {title!r} is being computed", _PATIENCE)


def _finish(made: Page, files: SavedFiles, experiment: Experiment, say: Say) -> None:
    """Adds what stands at the end of each page."""
    made.add("Time", about.time(files))
    try:
        model, shape = experiment.objective.model, experiment.data.image_shape
        with _noted("Model", say):
            made.add("Model", list(about.layers(summarise(model, shape))))
    except Exception as error:
        say(f"warning: the layers of the model cannot be shown: {error}")
    made.add("What was run", about.run(files))
