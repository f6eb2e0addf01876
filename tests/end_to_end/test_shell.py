"""What a shell hands over: paths in the home folder, terminals of any encoding, closed pipes."""

import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitjax
from vitjax import data, weights
from vitjax.analysis import probing
from vitjax.cli import arguments, entry, main
from vitjax.data.episodes import dealing
from vitjax.tasks import exporting

# Beyond Latin-1, a control sequence, and bytes that are not UTF-8.
NAMES = ("grün 日本", "red\x1b[31m", os.fsdecode(b"bad\xff"))
SHOWN = {
    "ascii": (rb"gr\xfcn \u65e5\u672c", rb"red\x1b[31m", rb"bad\udcff"),
    "latin-1": (b"gr\xfcn \\u65e5\\u672c", rb"red\x1b[31m", rb"bad\udcff"),
    "utf-8": ("grün 日本".encode(), rb"red\x1b[31m", rb"bad\udcff"),
}
CONFIG = """
from ml_collections import ConfigDict

def get_config():
    config = ConfigDict()
    config.model = dict(name="vit_ti16", patch_size=4, width=8, mlp_width=8, depth=1, num_heads=1)
    config.data = dict(source="folder", path="~/photos", batch_size=3, on_corrupt="skip")
    config.optimizer = dict(name="sgd", learning_rate=0.1)
    config.train = dict(steps=1)
    config.parallel = dict(devices=1)
    return config
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home folder with photos and with a run, which the Python interface trained there."""
    folder = tmp_path_factory.mktemp("home")
    generator = np.random.default_rng(0)
    for name in NAMES:
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(4):
            pixels = generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{number}.png")
        (folder / "photos" / name / "notes.txt").write_text("no image")
    (folder / "config.py").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        vitjax.train("~/config.py", "~/run", say=lambda text: None)
        yield folder


@pytest.fixture
def at_home(home, monkeypatch, tmp_path):
    """The home folder, while another is the current one."""
    monkeypatch.chdir(tmp_path)
    yield home
    assert list(tmp_path.iterdir()) == []  # no folder called ~


def test_a_run_saves_paths_as_they_were_written(home):
    assert json.loads((home / "run" / "config.json").read_text())["data"]["path"] == "~/photos"
    assert (home / "run" / "summary.json").is_file()


def test_functions_take_paths_in_the_home_folder(at_home):
    image = f"~/photos/{NAMES[0]}/0.png"
    assert vitjax.evaluate("~/run", say=str)["examples"] == 1
    assert vitjax.predict("~/run", [image], "~/predicted", say=str)[0]["image"].startswith("/")
    assert (at_home / "predicted" / "predictions.jsonl").is_file()
    model, variables, preprocess = vitjax.load(Path("~/run"), say=str)
    assert model.apply(variables, preprocess(image)).shape == (1, 3)
    assert exporting.export("~/run", "timm", say=str).is_file()
    exporting.export("~/run", "safetensors", "~/exported", say=str)
    weights.convert("~/exported.safetensors", "~/converted", say=str)
    assert weights.load("~/converted.safetensors", model, say=str)
    vitjax.train("~/config.py", "~/more", ["--config.init.from_checkpoint=~/run"], say=str)
    dealing.write("~/split.json", {"source": "folder", "path": "~/photos"}, counts=(3, 0, 0))
    assert (at_home / "split.json").is_file()
    photos = {"source": "folder", "path": "~/photos", "batch_size": 2}
    assert data.create(**photos).num_classes == 3
    episodes = {"ways": 2, "shots": 1, "queries": 1, "class_split": "~/split.json"}
    assert data.create(**photos, episodes=episodes).num_train_classes == 3
    probing.probe(["~/run"], method="knn", k=(1,), say=str)
    assert (at_home / "run" / "probes" / "knn.json").is_file()
    with pytest.raises(data.DataError, match=rf"no folder '{at_home}/nowhere'"):
        data.create(**{**photos, "path": "~/nowhere"})


def _value(action, place):
    """A value for an argument, which is ``place`` if it may be a path; None if it cannot be."""
    if action.nargs == 0:
        return None
    if action.type is arguments.assignment:
        return f"path={place}"
    return place if action.type in (None, arguments.path) and action.choices is None else None


@pytest.mark.parametrize("command", entry.COMMANDS, ids=lambda command: command.name)
def test_every_argument_of_every_command_is_expanded(monkeypatch, command):
    monkeypatch.setenv("HOME", "/home/one")
    received = []

    def run(parsed, overrides):
        received.append(parsed)
        return 0

    monkeypatch.setattr(entry, "COMMANDS", (dataclasses.replace(command, run=run),))
    actions = entry._parser()._subparsers._group_actions[0].choices[command.name]._actions
    line, expected = [command.name], 0
    for action in actions:
        assert action.help, f"{command.name} {action.dest} has no help"
        value = _value(action, "~/x/y.png")
        if value is not None:
            line += [f"{action.option_strings[0]}={value}"] if action.option_strings else [value]
            expected += 1
        else:
            assert not action.required
    assert main(line) == 0
    found = [str(value) for value in vars(received[0]).values()]
    assert not [value for value in found if "~" in value]
    assert sum("/home/one/x/y.png" in value for value in found) == expected


def capture(monkeypatch, encoding):
    """Standard output and error as files of an encoding that refuses what it lacks."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding, errors="strict") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    return [stream.buffer for stream in streams]


@pytest.mark.parametrize("encoding", SHOWN)
def test_every_command_prints_names_in_any_encoding(at_home, monkeypatch, encoding, tmp_path):
    photo = f"~/photos/{NAMES[2]}/0.png"
    lines = {
        "data": ["data", "--config=~/config.py", "--output=~/batch.png"],
        "evaluate": [
            *("evaluate", "--workdir=~/run", "--split=train"),
            "--config.objective.measures=('confusion_matrix',)",
        ],
        "predict": ["predict", "--workdir=~/run", photo],
        "train": [
            *("train", "--config=~/config.py", f"--workdir=~/train {encoding}"),
            "--config.objective.class_weights=inverse",
        ],
    }
    if encoding != "ascii":
        del lines["train"]
    for name, line in lines.items():
        output, errors = capture(monkeypatch, encoding)
        assert main(line) == 0, errors.getvalue()
        assert b"\x1b" not in output.getvalue() + errors.getvalue()
        if name != "evaluate":
            for shown in SHOWN[encoding]:
                assert shown in output.getvalue(), (name, shown)
    # An error too, and JSON, which is ASCII and has no surrogates.
    output, errors = capture(monkeypatch, encoding)
    assert main(["predict", "--workdir=~/run", f"~/photos/{NAMES[0]}\x1b/9.png"]) == 2
    assert SHOWN[encoding][0] + rb"\x1b/9.png" in errors.getvalue()
    output, _ = capture(monkeypatch, encoding)
    assert main(["predict", "--workdir=~/run", "--json", photo]) == 0
    assert json.loads(output.getvalue())["image"] == rf"{at_home}/photos/bad\udcff/0.png"


def start(command, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "vitjax", *command], stderr=subprocess.PIPE, **options
    )


@pytest.mark.parametrize("command", [["models", "vit_ti"], ["data", "--config=~/config.py"]])
def test_a_closed_pipe_ends_a_command_without_a_traceback(at_home, command):
    environment = {**os.environ, "HOME": str(at_home)}
    if command[0] == "data":
        command = [*command, "--output=~/piped.png"]
    process = start(command, stdout=subprocess.PIPE, env=environment)
    process.stdout.close()
    errors = process.communicate(timeout=300)[1].decode()
    # As a shell reports a program that SIGPIPE ended.
    assert process.returncode == 141, errors
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


def test_a_full_disk_behind_the_output_is_reported():
    with open("/dev/full", "w") as full:
        process = start(["models", "vit_ti"], stdout=full)
        assert process.communicate(timeout=300)[1] == b"vitjax: No space left on device\n"
    assert process.returncode == 2


def test_a_run_needs_no_output(at_home):
    command = f"exec {sys.executable} -m vitjax train --config=~/config.py --workdir=~/silent"
    environment = {**os.environ, "HOME": str(at_home)}
    done = subprocess.run(["sh", "-c", f"{command} >&- 2>&-"], env=environment, timeout=300)
    assert done.returncode == 0
    assert json.loads((at_home / "silent" / "summary.json").read_text())["steps"] == 1
