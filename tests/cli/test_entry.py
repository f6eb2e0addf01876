"""Arguments in any order: overrides with spaces, and images on both sides of options."""

import dataclasses
import io
import types

import pytest

from vitjax.cli import entry, main, process
from vitjax.core.file_lists import find_images

NOTHING = types.SimpleNamespace(results=[])


@pytest.fixture
def called(monkeypatch):
    """The arguments and overrides with which a command was run; none computes."""
    calls = []

    def run(parsed, overrides):
        calls.append((parsed, list(overrides)))
        return 0

    monkeypatch.setattr(
        entry, "COMMANDS", tuple(dataclasses.replace(each, run=run) for each in entry.COMMANDS)
    )
    return calls


TRANSFORMS = "--config.data.eval_transforms=resize(28) | center_crop(28)"
REQUIRED = {
    "train": ["--workdir=run"],
    "evaluate": ["--workdir=run"],
    "predict": ["--workdir=run"],
    "probe": ["--workdir=run"],
    "data": ["--config=c.py"],
}


@pytest.mark.parametrize("name", REQUIRED)
def test_an_override_with_a_space_is_one_in_any_place(called, name):
    for arguments in ([TRANSFORMS, *REQUIRED[name]], [*REQUIRED[name], TRANSFORMS]):
        assert main([name, *arguments, "--config.seed=1"]) == 0
        assert called.pop()[1] == [TRANSFORMS, "--config.seed=1"]
    assert main([TRANSFORMS, name, *REQUIRED[name]]) == 0
    assert called.pop()[1] == [TRANSFORMS]


@pytest.mark.parametrize(
    ("arguments", "images"),
    [
        (["a", "b", "--top=1", "c"], ["a", "b", "c"]),
        (["--top=1", "a", "--tta", "b c", TRANSFORMS, "d"], ["a", "b c", "d"]),
        (["--top", "1", "a"], ["a"]),
        (["a", "--top=1", "--", "-b.png", "--config.png"], ["a", "-b.png", "--config.png"]),
        (["--top=1", "--", "-b.png", "--", "c"], ["-b.png", "--", "c"]),
        (["a", "--"], ["a"]),
        ([], []),
    ],
)
def test_images_stand_on_both_sides_of_options(called, arguments, images):
    assert main(["predict", *REQUIRED["predict"], *arguments]) == 0
    parsed, overrides = called.pop()
    assert parsed.images == images
    assert overrides == [argument for argument in arguments if argument == TRANSFORMS]


def test_names_from_standard_input_are_no_lists(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "@a.png").touch()
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(b"@a.png\0")))
    taken = []
    monkeypatch.setattr(
        "vitjax.tasks.prediction.start",
        lambda workdir, named, *arguments, **options: taken.append(find_images(named)) or NOTHING,
    )
    assert main(["predict", "--workdir=run", "@-", "--json"]) == 0
    assert taken == [["./@a.png"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "--workdir=run", "a", "--topp=1"], "no argument '--topp=1'; did you mean"),
        (["predict", "--workdir=run", "a", "--tta", "b", "-x"], "predict has no argument '-x'"),
        (["train", "--workdir=run", "more"], "train has no argument 'more'"),
        (["models", "--config.seed=1"], "models has no argument '--config.seed=1'"),
    ],
)
def test_what_is_no_argument_is_named(called, capsys, arguments, message):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not called


@pytest.mark.parametrize("reason", ["", "[Errno 28] No space left\nmore", "\x1b[31mred"])
def test_a_cache_that_cannot_be_written_is_one_warning(reason, capsys):
    show = process._CacheWarnings(lambda *arguments: None)
    for _ in range(2):
        show(f"Error writing persistent compilation cache entry for 'jit_f': {reason}")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "\x1b" not in said
