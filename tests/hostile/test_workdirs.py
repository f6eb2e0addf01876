"""Files of a workdir that are damaged, of something else, or not files: answers in words."""

import contextlib
import json
import os
import shutil

import pytest
import small_workdirs
from damaging import assert_answered, damaged, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_workdirs import READERS, contents, make, one_line, train

from vitjax.core.atomic import write_json
from vitjax.core.errors import UserError
from vitjax.core.json_files import DamagedFileError, read_object
from vitjax.training import checkpoints, runs, workdir
from vitjax.training.checkpoint_files import CheckpointError, ReadableSteps
from vitjax.training.logging import read
from vitjax.training.workdir import WorkdirError

KINDS = {
    "classification": small_workdirs.CLASSIFICATION,
    "segmentation": small_workdirs.SEGMENTATION,
    "few_shot": small_workdirs.FEW_SHOT,
}
# JSON of another shape, and what is no JSON.
FOREIGN = [
    *(b"", b"null", b"[]", b"3", b'"x"', b"true", b"NaN", b"{}", b"\0" * 100, b"9" * 5000),
    *(b"[" * 100_000, b'{"a":' * 100_000, b'{"a":' * 900 + b"1" + b"}" * 900),
    *(b"\xff\xfe\x00", "{}".encode("utf-16"), b'{"seed": 1, "seed": 2}'),
]
JUNK = [
    *(None, True, 0, -1, 10**30, 1.5, float("nan"), float("inf"), "", "x", "\ud800", "a.b"),
    *([], {}, [1], ["a"], {"a": 1}, [[]], "float32"),
]
# Files that every command reads in the same way need one kind of run.
FILES = [
    *((kind, workdir.DATA) for kind in KINDS),
    *(("classification", name) for name in (workdir.CONFIG, workdir.ABOUT)),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {kind: make(folder / kind, config) for kind, config in KINDS.items()}


@pytest.fixture
def victim(made, tmp_path):
    """Copies a run into a folder that a test may damage."""

    def copied(kind="classification"):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        return shutil.copytree(made[kind], tmp_path / "run")

    return copied


def places(value, path=()):
    """The path of each value in JSON."""
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


def changed(document, place, how, junk):
    """``document`` with the value at ``place`` replaced, removed, or under another key."""
    if not place:
        return junk
    copy = json.loads(json.dumps(document))
    parent = copy
    for key in place[:-1]:
        parent = parent[key]
    if how == "removed":
        del parent[place[-1]]
    elif how == "renamed" and isinstance(parent, dict):
        parent[str(junk)] = parent.pop(place[-1])
    else:
        parent[place[-1]] = junk
    return copy


def answered(reader, folder, what):
    """Runs a reader, which may take the file or refuse it in one line."""
    said = ""
    try:
        reader(folder)
    except UserError as error:
        said = str(error)
    assert one_line(said), (what, said)


@pytest.mark.parametrize(("kind", "name"), FILES)
def test_every_reader_answers_in_words(victim, kind, name):
    folder = victim(kind)
    content = (folder / name).read_bytes()
    inputs = [(repr(each[:20]), each) for each in FOREIGN] + list(damaged(content, count=40))
    for number, (what, each) in enumerate(inputs):
        (folder / name).write_bytes(each)
        reader = READERS[number % len(READERS)]
        answered(reader, folder, (what, reader.__name__))
        if reader is train:
            folder = victim(kind)


@pytest.mark.parametrize(("kind", "name"), FILES[:4])
def test_every_reader_answers_values_of_another_kind(victim, made, kind, name):
    folder = victim(kind)
    document = json.loads((folder / name).read_text())
    places_ = list(places(document))

    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(
        place=st.sampled_from(places_),
        how=st.sampled_from(["removed", "renamed", "replaced", "replaced"]),
        junk=st.sampled_from(JUNK),
        reader=st.sampled_from(READERS[1:]),
    )
    def check(place, how, junk, reader):
        (folder / name).write_text(json.dumps(changed(document, place, how, junk)))
        answered(reader, folder, (place, how, junk, reader.__name__))

    check()


def test_damaged_metrics_are_read_as_far_as_they_can(victim):
    path = victim() / workdir.METRICS
    whole = list(read(path))
    for what, content in [*enumerate(FOREIGN), *damaged(path.read_bytes(), count=100)]:
        path.write_bytes(content)
        found = list(read(path))
        assert len(found) <= len(whole) + 1, what
        assert sum(record in whole for record in found) >= len(found) - 1, what


def put_directory(path):
    path.mkdir()


def put_pipe(path):
    os.mkfifo(path)


def put_link_to_nothing(path):
    path.symlink_to("nowhere")


def put_link_to_itself(path):
    path.symlink_to(path.name)


def put_large(path):
    with open(path, "wb") as file:
        file.truncate(2**25)


def put_ten_gigabytes(path):
    with open(path, "wb") as file:
        file.truncate(10**10)


NO_FILES = [
    *(put_directory, put_pipe, put_link_to_nothing, put_link_to_itself, put_ten_gigabytes),
]


@pytest.mark.parametrize("put", NO_FILES)
@pytest.mark.parametrize("name", [workdir.CONFIG, workdir.DATA, workdir.ABOUT, workdir.METRICS])
def test_what_is_no_file_is_named(victim, name, put):
    folder = victim()
    (folder / name).unlink()
    put(folder / name)
    readers = {workdir.METRICS: [train, small_workdirs.ensemble]}.get(name, READERS[:3])
    before = sorted(folder.rglob("*"))
    for reader in readers:
        with pytest.raises(UserError) as caught:
            reader(folder)
        assert str(folder / name) in str(caught.value)
        assert one_line(caught.value)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("put", NO_FILES)
def test_what_is_no_file_costs_nothing(tmp_path, put):
    put(tmp_path / "file.json")
    with pytest.raises(DamagedFileError, match=r"file\.json"):
        read_object(tmp_path / "file.json")


def test_a_key_that_occurs_twice_and_text_that_is_not_utf_8_are_named(tmp_path):
    file = tmp_path / "file.json"
    for content, reason in (
        (b'{"a": {"b": 1, "b": 2}}', r"the key 'b' occurs twice"),
        (b'{"a": "\xff"}', r"not UTF-8 at byte 7"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, r"more than 64 levels deep"),
    ):
        file.write_bytes(content)
        with pytest.raises(DamagedFileError, match=reason):
            read_object(file)


def test_a_size_that_a_description_claims_buys_nothing(victim):
    for kind, key, value in (
        ("classification", "image", {"shape": [2**20, 2**20, 3], "dtype": "uint8"}),
        ("segmentation", "sizes", {"train": [2**20] * 2, "val": [32, 32], "test": [32, 32]}),
        ("few_shot", "classes", {"train": {"0": 10**12}}),
    ):
        folder = victim(kind)
        description = json.loads((folder / workdir.DATA).read_text())
        (folder / workdir.DATA).write_text(json.dumps({**description, key: value}))
        with pytest.raises(UserError, match=r"data\.json"):
            small_workdirs.load(folder)


def test_the_metrics_of_a_run_are_made_again(victim):
    folder = victim()
    lines = (folder / workdir.METRICS).read_bytes().splitlines(keepends=True)
    (folder / workdir.METRICS).write_bytes(lines[0] + b"\0" * 2**25 + b"\n" + lines[1] + b"{")
    (folder / workdir.SUMMARY).write_bytes(b"\xff")
    train(folder)
    assert [record["step"] for record in read(folder / workdir.METRICS)] == [1, 2]


def test_a_damaged_file_is_named_by_the_command_line(victim, tmp_path):
    folder = victim()
    (folder / workdir.DATA).unlink()
    os.mkfifo(folder / workdir.DATA)
    ended = run("-m", "vitjax", "predict", f"--workdir={folder}", __file__)
    assert_answered(ended, folder / workdir.DATA, "FIFO")


ORBAX = ("_CHECKPOINT_METADATA", "metrics/metrics", "progress/metadata", "config/metadata")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", [*ORBAX, "state/_METADATA", "state/manifest.ocdbt"])
def test_of_two_checkpoints_every_reader_takes_the_one_that_is_not_damaged(
    victim, name, monkeypatch
):
    monkeypatch.setattr(checkpoints, "_REMOVAL_POLLS", 1)
    for how in (b"", b'{"a', b"null", b"[" * 100_000, os.mkfifo, put_directory, put_large):
        folder = victim()
        path = folder / workdir.CHECKPOINTS / "2" / name
        path.unlink()
        path.write_bytes(how) if isinstance(how, bytes) else how(path)
        # Orbax does without this file where it is no JSON.
        fine = (b"", b'{"a', b"null", put_directory)
        tolerated = name == "_CHECKPOINT_METADATA" and how in fine
        said = []
        run_ = runs.SavedRun(folder, say=said.append)
        with contextlib.closing(run_):
            step = run_.variables(None, said.append)[1]
        assert step == (2 if tolerated else 1), (name, how, said)
        assert any("step 2" in line and "is damaged" in line for line in said) != tolerated
        assert all(map(one_line, said))
        train(folder)
        assert (folder / "checkpoints_damaged" / "2").exists() != tolerated
        assert sorted(each.name for each in (folder / workdir.CHECKPOINTS).iterdir()) == (
            ["1", "2"] if tolerated else ["1"]
        )


@pytest.mark.parametrize("content", [b"", b'{"a', b"[" * 100_000])
def test_what_a_killed_run_left_half_written_is_no_damage(victim, content):
    folder = victim()
    half = folder / workdir.CHECKPOINTS / "3.orbax-checkpoint-tmp"
    others = folder / workdir.CHECKPOINTS / "notes" / "metrics"
    for path in (half / "_CHECKPOINT_METADATA", half / "metrics" / "metrics", others / "metrics"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    said = []
    with contextlib.closing(runs.SavedRun(folder, say=said.append)) as run_:
        assert run_.variables(None, said.append)[1] == 2
    assert not any("damaged" in line for line in said)
    small_workdirs.evaluate(folder)
    train(folder)
    assert not half.exists()
    assert (others / "metrics").read_bytes() == content
    assert not (folder / "checkpoints_damaged").exists()


def test_a_checkpoint_that_a_training_removes_while_it_is_listed_is_no_damage(victim, monkeypatch):
    folder, real = victim(), ReadableSteps.find_all

    def find_all(listed, path):
        found = list(real(listed, path))
        shutil.rmtree(folder / workdir.CHECKPOINTS / "1", ignore_errors=True)
        return iter(found)

    monkeypatch.setattr(ReadableSteps, "find_all", find_all)
    said = []
    with contextlib.closing(runs.SavedRun(folder, say=said.append)) as run_:
        assert run_.chosen("last", said.append)[1] == 2
    assert not any("damaged" in line for line in said)


def test_a_run_of_which_all_checkpoints_are_damaged_is_not_begun_again(victim):
    folder = victim()
    for step in "12":
        (folder / workdir.CHECKPOINTS / step / "metrics" / "metrics").write_bytes(b"")
    for reader, words in ((train, "Move the folder away"), (small_workdirs.load, "Restore")):
        with pytest.raises(CheckpointError, match=rf"can be read \(step 1: .*; step 2: .*{words}"):
            reader(folder)


@pytest.mark.parametrize(("kind", "with_values"), [("classification", 0), ("segmentation", 1)])
def test_exchanged_class_names_are_refused_by_every_reader(victim, kind, with_values):
    for key in ("class_names", "class_values")[: 1 + with_values]:
        folder = victim(kind)
        description = json.loads((folder / workdir.DATA).read_text())
        description[key].reverse()
        (folder / workdir.DATA).write_text(json.dumps(description))
        readers = [small_workdirs.load]
        # The data at hand decides which values masks have.
        readers += [train, small_workdirs.evaluate] if key == "class_names" else []
        for reader in readers:
            with pytest.raises(UserError, match=r"data\.json: the classes have other|wrong order"):
                reader(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_null_in_the_place_of_names_is_answered(victim, kind):
    for key in ("class_names", "classes"):
        folder = victim(kind)
        description = json.loads((folder / workdir.DATA).read_text())
        (folder / workdir.DATA).write_text(json.dumps({**description, key: None}))
        for reader in READERS[1:]:
            answered(reader, folder, (key, reader.__name__))


def test_a_run_without_its_description_takes_the_data_at_hand(victim):
    folder = victim()
    (folder / workdir.DATA).unlink()
    small_workdirs.evaluate(folder)
    train(folder)


def rewrite(folder, change, digest=False):
    """Changes the progress of all checkpoints, with the digest that belongs to it or without."""
    for path in (folder / workdir.CHECKPOINTS).glob("*/progress/metadata"):
        content = json.loads(path.read_text())
        content.pop("digest")
        change(content)
        if digest:
            config = json.loads((path.parents[1] / "config" / "metadata").read_text())
            content["digest"] = checkpoints._digest(content, config)
        path.write_text(json.dumps(content))


@pytest.mark.parametrize("best", [float("nan"), float("inf"), -float("inf"), 1.0, None])
def test_a_best_value_that_is_not_finite_is_no_damage(victim, best):
    folder = victim()
    rewrite(folder, lambda content: content.update(best=best), digest=True)
    train(folder)
    assert not (folder / "checkpoints_damaged").exists()


def test_progress_without_its_digest_is_damaged(victim):
    folder = victim()
    rewrite(folder, lambda content: content.update(next_batch=1))
    with pytest.raises(CheckpointError, match="its progress or config differs"):
        train(folder)


def test_limits_leave_room_for_the_description_of_many_classes(tmp_path):
    names = [f"a class with a name of some length {number}" for number in range(20_000)]
    colors = [[number % 256, number // 256, 255] for number in range(20_000)]
    path = tmp_path / workdir.DATA
    write_json(path, {"class_names": names, "class_colors": colors})
    assert workdir.read_data(tmp_path)["class_colors"] == colors
    path.write_text('{"class_names": [' + "[]," * 2**22 + "[]]}")
    with pytest.raises(WorkdirError, match="at most 8,388,608 are read"):
        workdir.read_data(tmp_path)


@pytest.mark.parametrize("content", [{"seed": 4}, {"model": {"name": "x"}}])
def test_a_config_without_its_sections_is_named_with_its_path(victim, content):
    folder = victim()
    (folder / workdir.CONFIG).write_text(json.dumps(content))
    for reader in (small_workdirs.load, train):
        with pytest.raises(UserError) as caught:
            reader(folder)
        assert str(folder / workdir.CONFIG) in str(caught.value)


def test_a_description_without_its_sections_is_named_with_its_path(victim):
    folder = victim()
    (folder / workdir.DATA).write_text('{"class_names": ["0", "1", "2"]}')
    with pytest.raises(UserError) as caught:
        small_workdirs.load(folder)
    assert str(folder / workdir.DATA) in str(caught.value)


def test_a_changed_metric_does_not_choose_another_checkpoint(victim, monkeypatch):
    monkeypatch.setattr(checkpoints, "_REMOVAL_POLLS", 1)
    folder = victim()
    path = folder / workdir.CHECKPOINTS / "1" / "metrics" / "metrics"
    assert json.loads(path.read_text()) == {"val/loss": 1.0}
    path.write_text('{"val/loss": 0.125}')
    with pytest.raises(CheckpointError, match="its metrics differ from those that were saved"):
        small_workdirs.load(folder)


REFUSED = [
    *("checkpoint.keep=0", "checkpoint.best=val/x", "train.steps=0", "train.accumulation_steps=7"),
    *("init.from_checkpoint=/nowhere", "parallel.devices=99", "optimizer.learning_rate=nan"),
    *("objective.name=segmentation", "data.source=digit"),
]


@pytest.mark.parametrize("value", REFUSED)
def test_a_refused_value_leaves_nothing_behind(tmp_path, value):
    config = small_workdirs.CLASSIFICATION
    with pytest.raises(UserError):
        train(tmp_path / "a" / "run", [f"--config.{value}"], config)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("value", [*REFUSED, "model.filters=3", "data.batch_size=3", "seed=2"])
def test_a_refused_value_leaves_an_old_run_as_it_was(victim, value):
    folder = victim()
    (folder / workdir.CHECKPOINTS / "3.orbax-checkpoint-tmp").mkdir()  # as a killed run leaves
    before = contents(folder)
    with pytest.raises(UserError):
        train(folder, [f"--config.{value}"], small_workdirs.CLASSIFICATION)
    assert contents(folder) == before


@pytest.mark.parametrize("locked", [True, False])
def test_a_refused_folder_is_left_as_it_was(tmp_path, locked):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / workdir.ABOUT).write_text('{"format": 99}')
    if locked:
        (folder / workdir.LOCK).write_text("process 1 on moon")
    before = contents(folder)
    with pytest.raises(WorkdirError, match="format 99"), workdir.lock(folder):
        raise AssertionError
    assert contents(folder) == before
