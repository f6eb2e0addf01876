"""Evaluations and predictions that are NaN or infinite end in words, with nothing written."""

import dataclasses
import functools
import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import vitjax
from vitjax.core.errors import UserError
from vitjax.metrics import Declaration, Mean
from vitjax.models.registry import MODELS
from vitjax.objectives import objectives
from vitjax.objectives.classification import Classification
from vitjax.training import finite

# Inputs of about 1e5: float16 ends at 65504.
OVERFLOW = ("--config.data.std=1e-5", "--config.model.dtype=float16")
WORDS = r"float16, which overflows above 65504: --config\.model\.dtype=bfloat16 or float32"
CONFIG = {
    "model": {"name": "mlp_omniglot"},
    "data": {"source": "digits", "batch_size": 256},
    "optimizer": {"name": "sgd", "learning_rate": 1e-3},
    "train": {"steps": 1},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    vitjax.train(CONFIG, folder, say=lambda text: None)
    return folder


def quiet(text):
    del text


def test_an_evaluation_that_overflows_is_told_and_writes_nothing(run, tmp_path):
    with pytest.raises(finite.NotFiniteError, match=rf"evaluation on val is not finite.*{WORDS}"):
        vitjax.evaluate(run, "val", OVERFLOW, output=tmp_path / "numbers", say=quiet)
    assert not (tmp_path / "numbers").exists()
    results = vitjax.evaluate(run, "val", OVERFLOW[:1], say=quiet)
    assert math.isfinite(results["loss"])


def test_a_prediction_that_overflows_is_told(run, tmp_path):
    image = tmp_path / "black.png"
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(image)
    with pytest.raises(UserError, match=rf"black\.png: .*NaN or infinite.*{WORDS}"):
        vitjax.predict(run, [image], tmp_path / "out", OVERFLOW, say=quiet)
    assert not list((tmp_path / "out").rglob("*.json*"))


def test_a_training_whose_evaluation_overflows_writes_no_summary(tmp_path):
    data = {**CONFIG["data"], "std": 1e-5}
    model = {**CONFIG["model"], "dtype": "float16"}
    with pytest.raises(UserError, match="loss is nan"):
        vitjax.train({**CONFIG, "data": data, "model": model}, tmp_path, say=quiet)
    assert not (tmp_path / "summary.json").exists()


def model(dtype):
    return MODELS["mlp_omniglot"](num_classes=2, dtype=dtype)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "results",
    [{"loss": None}, {"inductive": {"loss": None}, "ways": 5}, {"ensemble": {"a": {"loss": None}}}],
)
def test_a_loss_at_any_depth_is_checked(results, value):
    found = json.loads(json.dumps(results).replace("null", json.dumps(value)))
    with pytest.raises(finite.NotFiniteError, match=r"on test is not finite: .*loss is"):
        finite.check_results(found, "the evaluation on test", model("float32"))


def test_what_may_be_nan_passes():
    finite.check_results({"loss": 1.0, "iou": math.nan}, "x", model("float16"))
    # No image of the split can be read.
    finite.check_results({"loss": math.nan, "examples": 0}, "x", model("float16"))
    # Nor is any labelled, or none of one mode is there.
    nothing = Mean.of(jnp.ones(2), jnp.zeros(2)).compute()
    assert math.isnan(nothing)
    finite.check_results({"loss": nothing, "examples": 2}, "x", model("float16"))
    finite.check_results(
        {"a": {"loss": 1.0}, "b": {"loss": math.nan, "examples": 0}}, "x", model("float16")
    )


def test_results_without_a_loss_are_checked_by_their_metrics_with_a_direction():
    declared = {name: Declaration(True) for name in ("auc", "recall")} | {"n": Declaration(None)}
    check = functools.partial(finite.check_results, what="x", model=model("float32"))
    with pytest.raises(finite.NotFiniteError, match=r"x is not finite: auc is nan"):
        check({"auc": math.nan, "recall": math.inf, "n": 1.0}, declared=declared)
    check({"auc": math.nan, "recall": 0.5, "n": 1.0}, declared=declared)
    check({"n": math.nan}, declared=declared)


def test_a_split_in_which_nothing_counts_is_no_divergence(tmp_path):
    @objectives.register("test_unlabelled")
    @dataclasses.dataclass(frozen=True)
    class Unlabelled(Classification):
        """Classification of images of which none has a label where it is evaluated."""

        def evaluate(self, variables, batch):
            return super().evaluate(variables, {**batch, "mask": 0 * batch["mask"]})

    summary = vitjax.train(
        {**CONFIG, "objective": {"name": "test_unlabelled"}}, tmp_path, say=quiet
    )
    assert math.isnan(summary["test"]["loss"])
    assert json.loads((tmp_path / "summary.json").read_text())["val"]["loss"] is None
