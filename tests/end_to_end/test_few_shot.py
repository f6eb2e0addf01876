"""A few-shot run from the command line: what it leaves, says, resumes to, and refuses."""

import csv
import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest
from PIL import Image
from whole_runs import assert_same_bits, final_state, wait_for_checkpoint

import vitjax as api
from vitjax import config as configs
from vitjax.cli import main
from vitjax.core.errors import ConfigError
from vitjax.training import experiment, loop, run_evaluation
from vitjax.training.logging import read

TINY = """
from ml_collections import ConfigDict

def get_config():
    config = ConfigDict()
    config.model = dict(name="conv4_omniglot", filters=8, depth=2)
    config.data = dict(
        source="glyphs", classes=30, image_size=16, batch_size=2, eval_batch_size=4,
        episodes=dict(ways=5, shots=1, queries=3, val_episodes=6, test_episodes=10),
    )
    config.objective = dict(name="maml", inner_steps=1, inner_learning_rate=0.5, test_steps=2)
    config.optimizer = dict(name="adam", learning_rate=1e-2)
    config.train = dict(steps=20, log_every_steps=5, evaluate_every_steps=5, report=False)
    config.checkpoint = dict(best="val/accuracy", keep_best=3, keep=2)
    return config
"""
MODE = {"accuracy", "ci95", "loss", "per_step", "per_step_ci95", "per_step_loss"}
PROTOCOL = {"ways": 5, "shots": 1, "queries": 3, "test_steps": 2}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "few_shot.py"
    path.write_text(TINY)
    return path


ALONE = "--config.parallel.devices=1"
# Started with the flags of the tests' own process, a program has its bits, and its compiled code.
ALIKE = {"XLA_FLAGS": os.environ["XLA_FLAGS"]}


@pytest.fixture(scope="module")
def trained(vitjax, config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    arguments = ("train", f"--config={config}", f"--workdir={workdir}", ALONE)
    status, output, errors = vitjax(*arguments, environment=ALIKE)
    assert status == 0, errors
    assert errors == ""
    return workdir, output


def summary(workdir):
    return json.loads((workdir / "summary.json").read_text())


def test_a_run_leaves_both_modes_every_step_and_pictures(trained):
    workdir, output = trained
    found = summary(workdir)
    for split, episodes in (("test", 10), ("val", 6)):
        assert set(found[split]) == {"transductive", "inductive", "episodes", *PROTOCOL}
        assert {key: found[split][key] for key in PROTOCOL} == PROTOCOL
        assert found[split]["episodes"] == episodes
        for mode in ("transductive", "inductive"):
            values = found[split][mode]
            assert set(values) == MODE
            assert len(values["per_step"]) == len(values["per_step_loss"]) == 3
            assert values["per_step"][-1] == values["accuracy"]
            assert f"{split}: {mode} {values['accuracy']:.2%} ± {values['ci95']:.2%}" in output
    # The numbers of the run's best step are those that validation had seen then.
    record = next(
        record
        for record in read(workdir / "metrics.jsonl")
        if record["split"] == "val" and record["step"] == found["checkpoint_step"]
    )
    assert record["accuracy"] == pytest.approx(found["val"]["transductive"]["accuracy"])
    assert record["accuracy_inductive"] == pytest.approx(found["val"]["inductive"]["accuracy"])
    for name in ("curves", "adaptation", "episode"):
        with Image.open(workdir / "figures" / f"{name}.png") as picture:
            assert min(picture.size) > 200
    assert output.splitlines()[-2:] == [
        f"Figures: {workdir / 'figures'}",
        f"To train longer: vitjax train --workdir={workdir} --config.train.steps=40",
    ]


def test_evaluate_gives_the_summary_s_numbers_and_the_ensemble_apart(capsys, trained):
    workdir, _ = trained
    found = summary(workdir)["test"]
    assert main(["evaluate", f"--workdir={workdir}", ALONE, "--ensemble=2"]) == 0
    record = json.loads((workdir / "evaluation" / "test-ensemble2.json").read_text())
    assert record["checkpoint_step"] == summary(workdir)["checkpoint_step"]
    values = record["results"]
    ensemble = values.pop("ensemble")
    # To the bit.
    assert values == found
    assert set(ensemble) == {"checkpoints", "transductive", "inductive"}
    assert ensemble["checkpoints"][0] == summary(workdir)["checkpoint_step"]
    scores = {
        record["step"]: record["accuracy"]
        for record in read(workdir / "metrics.jsonl")
        if record["split"] == "val"
    }
    first, second = (scores[step] for step in ensemble["checkpoints"])
    assert [first, second] == sorted(scores.values(), reverse=True)[:2]
    lines = capsys.readouterr().out.splitlines()
    steps = ", ".join(map(str, ensemble["checkpoints"]))
    for mode in ("transductive", "inductive"):
        shares = [f"{x[mode]['accuracy']:.2%} ± {x[mode]['ci95']:.2%}" for x in (found, ensemble)]
        assert f"test: {mode} {shares[0]} (10 episodes, 5-way 1-shot, 3 queries per class)" in lines
        assert f"test: ensemble of the checkpoints of steps {steps}: {mode} {shares[1]}" in lines
        assert any(line.startswith("    2 ") and shares[0] in line for line in lines)
        assert any(line.startswith(f"({mode}: ") for line in lines)


def test_evaluate_takes_other_episodes_and_steps(trained):
    more = [
        *(f"--config.data.episodes.{key}" for key in ("test_episodes=13", "queries=2")),
        "--config.objective.test_steps=1",
    ]
    said = []
    values = run_evaluation.evaluate(trained[0], overrides=[ALONE, *more], say=said.append).results
    assert (values["episodes"], values["queries"], values["test_steps"]) == (13, 2, 1)
    for change in ("data.episodes.test_episodes: 10 -> 13", "data.episodes.queries: 3 -> 2"):
        assert f"  changed since: config.{change}" in said
    assert len(said) == 1 + len(more)


def test_episodes_of_other_ways_say_what_the_head_fixes(capsys, trained):
    arguments = ["evaluate", f"--workdir={trained[0]}", ALONE, "--config.data.episodes.ways=3"]
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert "the head of maml fixes the ways: 5; the data's episodes have up to 3" in errors
    assert "another run" not in errors
    # What it advises works.
    assert main([*arguments, "--config.data.episodes.train_ways=5"]) == 0
    assert "3-way 1-shot" in capsys.readouterr().out


def test_an_evaluation_has_the_numbers_of_each_episode(trained, tmp_path):
    found = run_evaluation.evaluate(trained[0], "val", [ALONE], say=lambda text: None)
    found.write(tmp_path)
    record = json.loads((tmp_path / "val.json").read_text())
    assert record["results"] == summary(trained[0])["val"]
    with open(tmp_path / record["files"]["episodes"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * 2 * 3
    for mode in ("transductive", "inductive"):
        for step, mean in enumerate(record["results"][mode]["per_step"]):
            chosen = [row for row in rows if (row["mode"], row["step"]) == (mode, str(step))]
            assert [int(row["episode"]) for row in chosen] == list(range(6))
            assert np.mean([float(row["accuracy"]) for row in chosen]) == pytest.approx(mean)


def test_an_ensemble_of_others_than_the_best_is_refused(capsys, trained, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(trained[0], workdir)
    metrics = workdir / "metrics.jsonl"
    # As if a better state had not been kept.
    lost = {"step": 7, "split": "val", "accuracy": 1.0}
    metrics.write_text(f"{metrics.read_text()}{json.dumps(lost)}\n")
    assert main(["evaluate", f"--workdir={workdir}", ALONE, "--ensemble=2"]) == 2
    errors = capsys.readouterr().err
    assert "1 evaluated steps without a checkpoint (7) were better" in errors
    assert "config.checkpoint.keep_best = 2" in errors


def class_split(path, **splits):
    path.write_text(
        json.dumps({key: [f"glyph {n:03d}" for n in numbers] for key, numbers in splits.items()})
    )
    return f"--config.data.episodes.class_split={path}"


def test_classes_seen_in_training_are_not_evaluated(capsys, trained, tmp_path):
    other = class_split(
        tmp_path / "split.json", train=range(24, 30), val=range(5), test=range(17, 23)
    )
    arguments = ["evaluate", f"--workdir={trained[0]}", ALONE, other]
    assert main(arguments) == 2
    assert (
        "split 'test' has 2 classes ('glyph 017', 'glyph 018') that the run was trained on, of 6"
        in capsys.readouterr().err
    )
    class_split(tmp_path / "split.json", train=range(5, 19), val=range(5), test=range(19, 25))
    assert main(arguments) == 0


def test_a_run_goes_on_with_no_other_classes(capsys, config, trained, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(trained[0], workdir)
    # As if it had begun without one of them.
    data = json.loads((workdir / "data.json").read_text())
    number, _ = data["classes"]["train"].popitem()
    noted = json.dumps(data)
    (workdir / "data.json").write_text(noted)
    arguments = ["train", f"--config={config}", f"--workdir={workdir}", ALONE]
    assert main([*arguments, "--config.train.steps=21"]) == 2
    errors = capsys.readouterr().err
    assert "the classes of split 'train' are not those that the run started with" in errors
    assert f"1 class ('{data['class_names'][int(number)]}') new" in errors
    assert (workdir / "data.json").read_text() == noted


def test_a_killed_run_ends_as_one_never_killed(vitjax, config, trained, tmp_path):
    arguments = ("train", f"--config={config}", f"--workdir={tmp_path}", ALONE)
    process = vitjax.start(*arguments, environment=ALIKE)
    wait_for_checkpoint(process, tmp_path, 5)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    status, output, errors = vitjax(*arguments, environment=ALIKE)
    assert status == 0, errors
    assert "Resuming from the checkpoint of step" in output
    assert_same_bits(final_state(tmp_path, 20), final_state(trained[0], 20))
    for split in ("test", "val"):
        assert summary(tmp_path)[split] == summary(trained[0])[split]


# What these keep beside the model's parameters, and has to come back too.
KEPT = {
    "mamlpp": (
        {"inner_steps": 2, "multi_step_loss_steps": 40},
        ("['rates']['head']", "['norm']['norm1']", "['batch_stats']['norm1']", "opt_state"),
    ),
    "reptile": ({"inner_steps": 2, "inner_batch_size": 3}, ("['inner_optimizer']", "opt_state")),
}


@pytest.mark.parametrize("method", ["mamlpp", pytest.param("reptile", marks=pytest.mark.slow)])
def test_a_killed_run_of_other_methods_ends_as_one_never_killed(
    vitjax, config, tmp_path, monkeypatch, method
):
    # What is evaluated and drawn at the end follows from the state.
    monkeypatch.setattr(loop._Loop, "finish", lambda run, at_end: run.checkpoints.wait())
    fields, kept = KEPT[method]
    values = configs.load(config)
    values.model.depth = 1
    values.objective = dict(name=method, inner_learning_rate=0.05, **fields)
    values.train = {"steps": 100_000, "evaluate_every_steps": 100_000}
    values.checkpoint = {"every_steps": 2}
    values.parallel = {"devices": 1}
    endless = tmp_path / "endless.py"
    endless.write_text(
        "from ml_collections import ConfigDict\n\n"
        f"def get_config():\n    return ConfigDict({values.to_dict()!r})\n"
    )
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = vitjax.start("train", f"--config={endless}", f"--workdir={killed}", environment=ALIKE)
    wait_for_checkpoint(process, killed, 6)
    process.send_signal(signal.SIGKILL)
    process.communicate()

    reached = max(int(p.name) for p in killed.glob("checkpoints/*") if p.name.isdigit())
    values.train.steps = reached + 3
    built, said = experiment.build(values), []
    for folder in (killed, whole):
        loop.train(built, folder, said.append)
    assert [line for line in said if line.startswith("Resuming from")] == [
        f"Resuming from the checkpoint of step {reached}"
    ]
    states = [final_state(folder, reached + 3) for folder in (killed, whole)]
    assert_same_bits(*states)
    old, new = (
        {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
        for leaves in map(jax.tree.leaves_with_path, (built.initial_state(), states[0]))
    )
    for name in kept:
        of_it = [path for path in new if name in path]
        assert of_it
        assert any(np.any(old[path] != new[path]) for path in of_it), name


def test_data_says_the_protocol_and_draws_an_episode(capsys, config, tmp_path):
    picture = tmp_path / "episode.png"
    arguments = ["data", f"--config={config}", f"--output={picture}"]
    assert main([*arguments, "--config.data.episodes.rotations=classes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "split",
        *["classes", "images", "fewest", "images", "of", "a", "class"],
    ]
    assert [line.split() for line in lines[1:4]] == [
        ["train", "19", "380", "20"],
        ["val", "5", "100", "20"],
        ["test", "6", "120", "20"],
    ]
    assert "With rotations by quarter turns, each of these classes is 4 classes." in lines
    assert "train: 5-way 1-shot, 3 queries per class" in lines
    assert "test: 10 episodes, 5-way 1-shot, 3 queries per class" in lines
    with Image.open(picture) as drawn:
        assert min(drawn.size) > 200


SINUSOID = """
from ml_collections import ConfigDict

def get_config():
    config = ConfigDict()
    config.model = dict(name="mlp_sinusoid", hidden=(4,))
    config.data = dict(
        source="sinusoid", batch_size=8, eval_batch_size=8,
        episodes=dict(shots=5, queries=5, val_episodes=8, test_episodes=8),
    )
    config.objective = dict(name="maml", inner_steps=1, inner_learning_rate=0.01, test_steps=10)
    config.optimizer = dict(name="adam", learning_rate=1e-3)
    config.train = dict(steps=2)
    return config
"""


def test_a_regression_has_errors_and_draws_functions(capsys, tmp_path):
    config = tmp_path / "sinusoid.py"
    config.write_text(SINUSOID)
    workdir = f"--workdir={tmp_path / 'run'}"
    assert main(["train", f"--config={config}", workdir, "--config.checkpoint.best=val/loss"]) == 0
    found = summary(tmp_path / "run")["test"]
    assert set(found["inductive"]) == MODE - {"accuracy", "per_step_loss"}
    assert "ways" not in found
    for name in ("adaptation", "fits"):
        assert (tmp_path / "run" / "figures" / f"{name}.png").is_file()
    assert main(["data", f"--config={config}", f"--output={tmp_path / 'tasks.png'}"]) == 0
    assert "The first 3 training episodes" in capsys.readouterr().out
    assert main(["evaluate", workdir, "--ensemble=2"]) == 2
    assert "has no probabilities of queries" in capsys.readouterr().err


def test_new_classes_from_a_few_images_of_each(capsys, trained, tmp_path):
    workdir, _ = trained
    rng = np.random.default_rng(0)
    for name in ("support/vertical/1", "support/vertical/2", "support/level/1", "new/a", "new/b"):
        pixels = rng.integers(0, 60, (16, 16), dtype=np.uint8)
        pixels[:, 7:9] = 255
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.T if "level" in name or "b" in name else pixels).save(path)
    support, output = f"--support={tmp_path / 'support'}", f"--output={tmp_path / 'out'}"
    arguments = ["predict", f"--workdir={workdir}", str(tmp_path / "new"), support, output]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "Maml, 2 classes with 1 to 2 images each; inductive: each alone" in said.err
    assert said.out.count("%") == 4
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    found = [json.loads(line)["predictions"] for line in lines]
    assert all({p["class"] for p in each} == {"vertical", "level"} for each in found)
    assert [sum(p["probability"] for p in each) for each in found] == pytest.approx([1, 1])
    header = (tmp_path / "out" / "predictions.csv").read_text().splitlines()[0]
    assert header == "image,class,probability,class_2,probability_2"
    assert (tmp_path / "out" / "predictions.png").is_file()
    classifier = api.load(workdir, say=lambda text: None).adapt(tmp_path / "support")
    assert classifier.class_names == ("level", "vertical")
    again = classifier.predict([tmp_path / "new" / "a.png", tmp_path / "new" / "b.png"])
    assert [each["predictions"] for each in again] == found
    for number in range(4):
        shutil.copytree(tmp_path / "support" / "level", tmp_path / "support" / f"class{number}")
    assert main(arguments) == 2
    assert "6 classes, and the learned head of Maml was trained for at most 5" in (
        capsys.readouterr().err
    )
    with pytest.raises(ConfigError, match="folder of images for each class"):
        api.load(workdir, say=lambda text: None).predict(tmp_path / "new" / "a.png")


def test_mistakes_in_using_a_run_are_named(capsys, trained, tmp_path):
    workdir, _ = trained
    image = tmp_path / "one.png"
    Image.new("L", (16, 16)).save(image)
    for arguments, message in (
        (["predict", workdir, str(image)], "in few-shot learning the classes are those of a supp"),
        (["evaluate", workdir, "--ensemble=9"], "config.checkpoint.keep_best = 9"),
        (["evaluate", workdir, "--ensemble=1"], "ensemble=1: must be at least 2"),
        (["evaluate", workdir, "--ensemble=2", "--config.checkpoint.best=None"], "no metric to"),
        (["evaluate", workdir, "--ensembel=2"], "did you mean '--ensemble'"),
        (["evaluate", workdir, "--config.data.episodes.ways=7"], "ways is 7, but split 'val' has"),
        (["evaluate", workdir, "--config.model.filters=4"], "the checkpoint of step"),
    ):
        command, folder, *rest = arguments
        assert main([command, f"--workdir={folder}", *rest]) == 2, arguments
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.data.episodes.shotz=1", "'shotz'; did you mean 'shots'?"),
        ("--config.data.episode.shots=1", "'episode'; did you mean 'episodes'?"),
        ("--config.objective.inner_stepz=1", "'inner_stepz'; did you mean 'inner_steps'?"),
        ("--config.objective.name=mamml", "'mamml'; did you mean 'maml'?"),
        ("--config.objective.inner_optimizer.name=sdg", "did you mean 'sgd'?"),
        ("--config.objective.head=zero", "did you mean 'zeros'?"),
        ("--config.checkpoint.best=val/acuracy", "did you mean 'val/accuracy'?"),
    ],
)
def test_a_typo_fails_before_any_work(capsys, config, tmp_path, argument, message):
    workdir = tmp_path / "run"
    assert main(["train", f"--config={config}", f"--workdir={workdir}", argument]) == 2
    assert message in capsys.readouterr().err
    assert not workdir.exists()
