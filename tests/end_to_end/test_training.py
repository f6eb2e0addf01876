import json
import shutil
import signal

import jax
import numpy as np
import pytest
from PIL import Image
from whole_runs import assert_same_bits, final_state, wait_for_checkpoint

from vitjax.cli import main
from vitjax.training.logging import read


def test_a_run_leaves_what_the_readme_says(trained):
    workdir, output, errors = trained
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["test"]["examples"] == summary["val"]["examples"] == 180
    assert 0 <= summary["test"]["accuracy"] <= 1
    assert summary["steps"] == 60
    assert summary["parameters"] > 1000
    assert summary["examples_per_second"] > 0
    assert summary["seed"] == 1
    assert "CPU" in summary["device"]
    assert summary["versions"]["jax"] == jax.__version__
    assert json.loads((workdir / "config.json").read_text())["optimizer"]["name"] == "adamw"
    for name in ("curves", "confusion_matrix", "mistakes"):
        with Image.open(workdir / "figures" / f"{name}.png") as picture:
            assert min(picture.size) > 200
    assert any((workdir / "tensorboard").iterdir())
    records = list(read(workdir / "metrics.jsonl"))
    assert [r["step"] for r in records if r["split"] == "train"] == [10, 20, 30, 40, 50, 60]
    assert [r["step"] for r in records if r["split"] == "val"] == [20, 40, 60]
    assert all(np.isfinite(r["loss"]) for r in records)
    assert "Training on CPU" in output
    assert "accuracy" in output.splitlines()[-4]
    assert str(workdir / "figures") in output.splitlines()[-2]
    assert "vitjax train --workdir=" in output.splitlines()[-1]
    # Without a terminal, a line per report.
    reports = [line for line in output.splitlines() if "train loss" in line]
    assert [line.split("/")[0] for line in reports] == [f"step {n}" for n in range(10, 70, 10)]
    # No warning, scary or not, on a machine without an accelerator.
    assert errors == ""


@pytest.mark.parametrize("step", [10, pytest.param(40, marks=pytest.mark.slow)])
def test_a_killed_run_ends_as_one_never_killed(vitjax, config, trained, tmp_path, step):
    arguments = ("train", f"--config={config}", f"--workdir={tmp_path}")
    process = vitjax.start(*arguments)
    wait_for_checkpoint(process, tmp_path, step)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    status, output, errors = vitjax(*arguments)
    assert status == 0, errors
    assert "Resuming from the checkpoint of step" in output
    assert_same_bits(final_state(tmp_path), final_state(trained[0]))
    held_out = [
        [record for record in read(folder / "metrics.jsonl") if record["split"] == "val"]
        for folder in (tmp_path, trained[0])
    ]
    assert held_out[0] == held_out[1]


def test_sigterm_writes_a_checkpoint_before_leaving(vitjax, config, trained, tmp_path):
    arguments = ("train", f"--config={config}", f"--workdir={tmp_path}")
    process = vitjax.start(*arguments)
    wait_for_checkpoint(process, tmp_path, 10)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert "Stopped by SIGTERM after step" in errors
    step = int(errors.split("after step ")[1].split(";")[0])
    assert (tmp_path / "checkpoints" / str(step) / "state").is_dir()
    status, output, _ = vitjax(*arguments)
    assert status == 0
    assert f"Resuming from the checkpoint of step {step}" in output
    assert_same_bits(final_state(tmp_path), final_state(trained[0]))


def test_a_finished_run_trains_no_further(vitjax, config, trained):
    workdir, _, _ = trained
    before = (workdir / "summary.json").read_text()
    status, output, _ = vitjax("train", f"--config={config}", f"--workdir={workdir}")
    assert status == 0
    assert "Resuming from the checkpoint of step 60" in output
    assert json.loads(before) == json.loads((workdir / "summary.json").read_text())


def test_a_damaged_checkpoint_is_made_again(vitjax, config, trained, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(trained[0], workdir)
    for file in (workdir / "checkpoints" / "60" / "state" / "d").iterdir():
        file.write_bytes(b"damaged")
    status, output, errors = vitjax("train", f"--config={config}", f"--workdir={workdir}")
    assert status == 0, errors
    assert "step 60" in output
    assert "is damaged" in output
    assert "Resuming from the checkpoint of step 50" in output
    assert_same_bits(final_state(workdir), final_state(trained[0]))
    assert (workdir / "checkpoints_damaged" / "60").is_dir()


def test_two_runs_in_one_folder_the_second_refuses(capsys, vitjax, config, tmp_path):
    arguments = ("train", f"--config={config}", f"--workdir={tmp_path}")
    first = vitjax.start(*arguments)
    wait_for_checkpoint(first, tmp_path, 10)
    # Stopped, but not gone: it keeps the folder, however long the second takes to ask for it.
    first.send_signal(signal.SIGSTOP)
    assert main([*arguments]) == 2
    assert f"another run (process {first.pid}" in capsys.readouterr().err
    assert first.poll() is None
    first.kill()
    first.communicate()


def test_another_config_is_refused_and_nothing_overwritten(capsys, config, trained):
    workdir, _, _ = trained
    before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file() and p.name != ".lock"}
    arguments = ["train", f"--config={config}", f"--workdir={workdir}"]
    assert main([*arguments, "--config.model.mlp_width=48"]) == 2
    errors = capsys.readouterr().err
    assert "mlp/" in errors
    assert "config.model.mlp_width is 32 there and 48 here" in errors
    after = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file() and p.name != ".lock"}
    assert before == after


STANDING_STILL = """
from ml_collections import ConfigDict

def get_config():
    config = ConfigDict()
    config.model = dict(name="mlp_sinusoid", hidden=(4,))
    config.data = dict(source="sinusoid", batch_size=8, eval_batch_size=8,
                       episodes=dict(shots=5, queries=5, val_episodes=8, test_episodes=8))
    config.objective = dict(name="fomaml", inner_steps=1, inner_learning_rate=0.01)
    config.optimizer = dict(name="sgd", learning_rate=0.0)
    config.train = dict(steps=60, evaluate_every_steps=3)
    config.train.early_stopping = dict(patience=2, metric="val/loss")
    config.parallel = dict(devices=1)
    return config
"""


def test_patience_runs_out(capsys, tmp_path):
    config = tmp_path / "standing_still.py"
    config.write_text(STANDING_STILL)
    workdir = tmp_path / "run"
    assert main(["train", f"--config={config}", f"--workdir={workdir}"]) == 0
    assert "Stopped early at step 9" in capsys.readouterr().out
    assert json.loads((workdir / "summary.json").read_text())["steps"] == 9


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.optimizer.learning_rat=1", "'learning_rat'; did you mean 'learning_rate'?"),
        ("--config.optimzer.learning_rate=1", "'optimzer'; did you mean 'optimizer'?"),
        ("--config.model.name=vit_ti61", "'vit_ti61'; did you mean 'vit_ti16'?"),
        ("--config.model.patchsize=2", "'patchsize'; did you mean 'patch_size'?"),
        ("--config.data.source=digit", "'digit'; did you mean 'digits'?"),
        ("--config.data.batchsize=2", "'batchsize'; did you mean 'batch_size'?"),
        ("--config.objective.mixupp=1", "'mixupp'; did you mean 'mixup'?"),
        ("--config.schedule.name=cosinus", "'cosinus'; did you mean 'cosine'?"),
        ("--config.train.epocs=1", "'epocs'; did you mean 'epochs'?"),
        ("--config.train.epochs=1", "exactly one of 'steps' and 'epochs'"),
        ("--config.checkpoint.keeps=1", "'keeps'; did you mean 'keep'?"),
        ("--config.parallel.mode=pmapp", "'pmapp'; did you mean 'pmap'?"),
        ("--config.seed=one", "config.seed is 'one'; it must be an integer"),
        ("--config.data.batch_size=100", "8 devices with 1 micro-batches each"),
        ("--wrkdir=x", "'--wrkdir=x'; did you mean '--workdir'?"),
    ],
)
def test_a_typo_fails_before_any_work(capsys, config, tmp_path, argument, message):
    workdir = tmp_path / "run"
    assert main(["train", f"--config={config}", f"--workdir={workdir}", argument]) == 2
    assert message in capsys.readouterr().err
    assert not workdir.exists()
