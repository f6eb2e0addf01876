import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, jaccard_score
from small_segmentation import CLASSES, Padded, Unpadded, batch, objective

from vitjax.core.errors import ConfigError
from vitjax.data.transforms.moving import mirrored
from vitjax.metrics import merge, numbers, values
from vitjax.objectives.segmentation import crop

KEY = jax.random.key(1)


def variables_of(task, made):
    return jax.jit(task.init)(jax.random.key(0), made)


def test_metrics_over_uneven_batches_are_those_of_scikit_learn():
    task = objective(losses={"cross_entropy": 1.0, "dice": 1.0})
    made = batch(11, seed=3, weights=True)
    variables = variables_of(task, made)
    evaluate = jax.jit(task.evaluate)
    predicted = np.argmax(jax.jit(task.predict)(variables, made), axis=-1)
    parts = []
    for start in (0, 4, 8):
        # The last batch is filled up, with pixels that would count if they were let.
        part = {k: np.concatenate([v[start:], v[:4]])[:4] for k, v in made.items()}
        part["mask"] = np.arange(4) < 11 - start
        parts.append(evaluate(variables, part))
    found = values(merge(jax.device_get(parts)))
    whole = values(evaluate(variables, made))
    assert found.keys() == whole.keys()
    for name in found:
        np.testing.assert_allclose(found[name], whole[name], rtol=1e-6)
    counted = made["label"] != -1
    truth, guess = made["label"][counted], predicted[counted]
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, guess))
    for name, score in (("iou", jaccard_score), ("dice", f1_score)):
        each = found[f"{name}_per_class"]
        assert each.shape == (CLASSES,)
        np.testing.assert_allclose(each, score(truth, guess, average=None), rtol=1e-6)
        assert found[name] == pytest.approx(score(truth, guess, average="macro"), rel=1e-6)


def test_pixels_are_counted_exactly_beyond_the_integers_of_float32():
    side = 2**12 + 1
    task = objective(num_classes=2, model=Padded(num_classes=2))
    made = {"label": jnp.zeros((1, side, side), jnp.int8), "mask": jnp.ones(1, bool)}
    found = task.metrics(jnp.zeros((1, side, side, 1), jnp.bfloat16), made)
    assert int(found["accuracy"].total) == int(found["iou"].total[0]) == side**2
    assert values(jax.device_get(found))["iou_per_class"][0] == 1


def test_a_class_that_occurs_nowhere_is_left_out():
    task = objective(num_classes=5, model=Padded(num_classes=5))
    made = batch()
    made["label"] = np.where(made["label"] > 0, 0, made["label"])
    logits = 9.0 * jax.nn.one_hot(made["label"].clip(0), 5)
    found = values(task.metrics(logits, made))
    for name in ("iou", "dice"):
        np.testing.assert_array_equal(found[f"{name}_per_class"], [1] + [np.nan] * 4)
    assert found["iou"] == found["dice"] == found["accuracy"] == 1
    nothing = values(task.metrics(logits, {**made, "mask": np.zeros(4, bool)}))
    assert np.isnan(nothing["iou"])


def test_what_is_masked_or_ignored_counts_nothing():
    task = objective(losses={"cross_entropy": 1.0, "dice": 1.0, "focal": 1.0, "tversky": 1.0})
    made = batch(6, masked=2, weights=True)
    made["label"][3] = -1
    variables = variables_of(task, made)
    step = jax.jit(jax.grad(task.loss, has_aux=True))
    params = variables["params"]
    gradient, (_, metrics) = step(params, {}, made, KEY)
    assert metrics["loss"].count == 3
    other = {name: value.copy() for name, value in made.items()}
    other["image"][4:] = np.inf
    other["label"][4:] = 1
    other["image"][3] *= 5
    other["weight"][made["label"] == -1] = 99
    changed, (_, same) = step(params, {}, {**made, **other, "image": made["image"]}, KEY)
    for a, b in zip(
        jax.tree.leaves((gradient, metrics)), jax.tree.leaves((changed, same)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    _, (_, same) = step(params, {}, other, KEY)
    for a, b in zip(jax.tree.leaves(metrics), jax.tree.leaves(same), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_micro_batches_add_up_to_the_loss_of_the_whole():
    task = objective(losses={"cross_entropy": 1.0, "dice": 1.0})
    made = batch(6, masked=1, ignored=0.5, weights=True)
    params = variables_of(task, made)["params"]
    step = jax.jit(jax.value_and_grad(task.loss, has_aux=True))
    (whole, _), gradient = step(params, {}, made, KEY)
    weights, losses, gradients = [], [], []
    for piece in (slice(0, 2), slice(2, 4), slice(4, 6)):
        (loss, (_, metrics)), slope = step(params, {}, {k: v[piece] for k, v in made.items()}, KEY)
        weights.append(metrics["loss"].count / 5)
        losses.append(loss)
        gradients.append(slope)
    np.testing.assert_allclose(np.dot(weights, losses), whole, rtol=1e-6)
    summed = jax.tree.map(
        lambda *g: sum(w * x for w, x in zip(weights, g, strict=True)), *gradients
    )
    for a, b in zip(jax.tree.leaves(summed), jax.tree.leaves(gradient), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


def test_deep_outputs_are_averaged():
    deep = objective(Padded(deep=True))
    made = batch()
    params = variables_of(deep, made)["params"]
    first, last = jax.jit(partial(deep.model.apply, train=True))({"params": params}, made["image"])
    expected = [deep.image_losses(x, made).mean() for x in (first, last)]
    loss, (_, metrics) = jax.jit(deep.loss)(params, {}, made, KEY)
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-6)
    right = np.argmax(last, axis=-1) == made["label"]
    assert numbers(metrics)["accuracy"] == pytest.approx(right[made["label"] != -1].mean())


def test_the_unpadded_form_predicts_every_pixel():
    task = objective(Unpadded())
    made = batch(2, 9, width=13)
    variables = variables_of(task, {"image": np.zeros((1, 20, 20, 2), np.float32)})
    probabilities = jax.jit(task.predict)(variables, made)
    assert probabilities.shape == (2, 9, 13, CLASSES)
    # NumPy's mirroring: 6 pixels before; behind as many, and what makes the size even.
    padded = np.pad(made["image"], ((0, 0), (6, 7), (6, 7), (0, 0)), mode="reflect")
    logits = jax.jit(task.model.apply)(variables, padded)[:, :9, :13]
    np.testing.assert_allclose(probabilities, jax.nn.softmax(logits), atol=1e-6)
    assert numbers(jax.jit(task.evaluate)(variables, made))["loss"] > 0


def test_labels_are_cropped_to_what_the_unpadded_form_gives_in_training():
    task = objective(Unpadded())
    made = batch(2, 20, ignored=0, weights=True)
    params = variables_of(task, made)["params"]
    loss, (_, metrics) = jax.jit(task.loss)(params, {}, made, KEY)
    logits = jax.jit(task.model.apply)({"params": params}, made["image"])
    assert logits.shape == (2, 8, 8, CLASSES)
    centre = {k: v[:, 6:14, 6:14] for k, v in made.items() if k in ("label", "weight")}
    np.testing.assert_allclose(
        loss, task.image_losses(logits, {**made, **centre}).mean(), rtol=1e-6
    )
    assert metrics["accuracy"].count == 2 * 8 * 8


def test_one_output_speaks_for_the_second_of_two_classes():
    task = objective(Padded(num_classes=1), num_classes=2, cross_entropy="sigmoid")
    made = batch()
    made["label"] = np.minimum(made["label"], 1)
    variables = variables_of(task, made)
    logits = jax.jit(task.model.apply)(variables, made["image"])
    probabilities = jax.jit(task.predict)(variables, made)
    np.testing.assert_allclose(probabilities[..., 1:], jax.nn.sigmoid(logits), rtol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-6)
    guess, counted = np.asarray(logits[..., 0] > 0), made["label"] != -1
    found = numbers(jax.jit(task.evaluate)(variables, made))
    assert found["accuracy"] == pytest.approx(np.mean((guess == made["label"])[counted]))
    data = type("Data", (), {"num_classes": 2})
    assert type(task).fewest_outputs(data, {"cross_entropy": "sigmoid"}) == 1
    assert type(task).fewest_outputs(data, {}) == 2


def test_the_iou_of_single_images():
    task = objective()
    made = batch(5, masked=1)
    variables = variables_of(task, made)
    guess = np.argmax(jax.jit(task.predict)(variables, made), axis=-1)
    found = jax.jit(task.image_iou)(variables, made)
    for image in range(4):
        counted = made["label"][image] != -1
        truth, predicted = made["label"][image][counted], guess[image][counted]
        expected = jaccard_score(truth, predicted, average="macro")
        np.testing.assert_allclose(found[image], expected, rtol=1e-6)
    assert np.isnan(found[4])  # no pixel of it counts


@pytest.mark.parametrize(
    ("length", "before", "after"), [(7, 3, 2), (4, 9, 11), (1, 2, 3), (5, 0, 0)]
)
def test_mirroring_is_that_of_numpy(length, before, after):
    row = np.arange(length)
    mode = "reflect" if length > 1 else "edge"
    expected = np.pad(row, (before, after), mode=mode)
    np.testing.assert_array_equal(row[mirrored(-before, before + length + after, length)], expected)


def test_the_centre_is_cropped():
    maps = jnp.arange(2 * 7 * 8).reshape(2, 7, 8)
    np.testing.assert_array_equal(crop(maps, (3, 2)), maps[:, 2:5, 3:5])


def test_fields_are_those_of_the_config():
    fields = {field.name for field in dataclasses.fields(objective())}
    assert fields >= {"losses", "cross_entropy", "measures", "foreground"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cross_entropy": "softmx"}, "did you mean 'softmax'"),
        ({"foreground": 3}, "foreground is 3; it must be a class, in 0..2"),
        ({"measures": ["v_rnd"]}, "unknown measure 'v_rnd'; did you mean 'v_rand'"),
        ({"measures": "v_rand"}, "must be a list of strings"),
        ({"losses": {"focus": 1.0}}, "unknown segmentation loss 'focus'"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        objective(**arguments)
