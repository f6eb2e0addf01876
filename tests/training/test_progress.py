"""What long work reports: how far an evaluation is, and that a step is being compiled."""

import io
import sys
import time

import pytest

from vitjax.core.text import duration
from vitjax.meta import evaluation
from vitjax.meta.maml import Maml
from vitjax.training import progress
from vitjax.training.interruption import Interrupted
from vitjax.training.workdir import resume_command


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (99, "99 s"), (180, "3 min"), (7800, "2 h 10 min"), (200 * 3600, "200 h")],
)
def test_durations_are_in_units_that_people_use(seconds, text):
    assert duration(seconds) == text


def over(count, every):
    said = []
    shown = progress.Progress(said.append, every=every)
    assert list(shown.over(iter(range(count)), count, "evaluating test")) == list(range(count))
    return said


def test_lines_without_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    said = over(4, every=0)
    assert [line.split(",")[0] for line in said] == [
        f"evaluating test: {done} of 4 batches" for done in (1, 2, 3)
    ]
    assert over(4, every=60) == []
    assert sys.stderr.getvalue() == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert over(4, every=0) == []
    assert "evaluating test" in sys.stderr.getvalue()


def test_only_long_work_is_noted():
    said = []
    with progress.noted_if_long(said.append, "compiling", seconds=10):
        pass
    assert said == []
    with progress.noted_if_long(said.append, "compiling", seconds=0.01):
        deadline = time.monotonic() + 10
        while not said and time.monotonic() < deadline:
            time.sleep(0.005)
    assert said == ["compiling"]


def hint(**fields):
    objective = object.__new__(Maml)
    for name, value in {"unroll": True, "remat": False, "inner_steps": 20, **fields}.items():
        object.__setattr__(objective, name, value)
    return objective.compilation_hint


def test_the_hint_names_the_key_where_it_helps():
    assert "config.objective.unroll=1 compiles one inner step in place of 20" in hint()
    assert hint(unroll=1) == hint(remat=True) == hint(inner_steps=1) == ""


def test_a_stopped_run_names_the_command_that_resumes_it(tmp_path):
    command = resume_command(tmp_path / "my runs" / "a")
    assert command == f"vitjax train '--workdir={tmp_path}/my runs/a'"
    assert f"To resume from it: {command}" in str(Interrupted(15, 7, command))


def results(*per_step, inductive=None):
    def mode(values):
        return {"accuracy": values[-1], "ci95": 0.01, "per_step": values}

    return {
        "transductive": mode(list(per_step)),
        "inductive": mode(list(per_step if inductive is None else inductive)),
        "queries": 5,
        "test_steps": len(per_step) - 1,
    }


def test_all_steps_are_printed_when_the_last_is_not_the_best():
    assert evaluation.best_steps(results(0.2, 0.5, 0.9)) == []
    (line,) = evaluation.best_steps(results(0.2, 0.9, 0.5))
    assert line == (
        "accuracy after 0 to 2 steps: 20.00%, 90.00%, 50.00%; step 1 is the best, not the last"
    )
    assert line in evaluation.describe(results(0.2, 0.9, 0.5))
    (line,) = evaluation.best_steps(results(0.2, 0.5, inductive=(0.4, 0.3)))
    assert line.startswith("inductive accuracy after 0 to 1 steps")
    assert evaluation.best_steps(results(0.5)) == []
