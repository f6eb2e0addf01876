"""Class weights in training losses, against PyTorch's formulas in NumPy."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
import small_classifiers
import small_segmentation

from vitjax import models
from vitjax.core.errors import ConfigError
from vitjax.metrics import numbers
from vitjax.objectives import HeadOnly
from vitjax.objectives.state import FROZEN, TrainState
from vitjax.optim.optimizer import Optimizer
from vitjax.parallel import create
from vitjax.training.step import make_train_step

WEIGHTS = [0.5, 2.0, 1.0, 4.0, 0.25, 3.0, 1.5]
NAMES = tuple("abcdefg")


def classifier(dtype="float32", **arguments):
    arguments.setdefault("class_weights", WEIGHTS)
    return small_classifiers.objective(dtype, class_names=NAMES, **arguments)


def segmenter(**arguments):
    arguments.setdefault("class_weights", [0.5, 2.0, 4.0])
    return small_segmentation.objective(class_names=NAMES[:3], **arguments)


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def pytorch(logits, labels, weights, smoothing=0.0):
    """``cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)`` of PyTorch.

    Its documentation and ATen's ``cross_entropy_loss_label_smoothing``: both parts are divided by
    the sum of the weights of the labels. Verified with torch 2.13.
    """
    logs, weights = log_softmax(np.asarray(logits, np.float64)), np.asarray(weights)
    total = weights[labels].sum()
    own = -(weights[labels] * logs[np.arange(len(labels)), labels]).sum() / total
    spread = -(weights * logs).sum() / total
    return (1 - smoothing) * own + smoothing / logits.shape[-1] * spread


def losses_of(task, batch):
    """The loss and the metrics of a batch, and the outputs of the model in evaluation."""
    variables = task.init(jax.random.key(0), batch)
    loss, (_, metrics) = task.loss(variables["params"], {}, batch, jax.random.key(1))
    return float(loss), numbers(metrics), task.outputs(variables, batch["image"])


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_classification_is_pytorch_s_weighted_cross_entropy(smoothing):
    batch = small_classifiers.batch(masked=3)
    loss, metrics, logits = losses_of(classifier(label_smoothing=smoothing), batch)
    expected = pytorch(logits[:13], batch["label"][:13], WEIGHTS, smoothing)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert metrics["loss"] == pytest.approx(expected, rel=1e-5)
    plain = losses_of(classifier(label_smoothing=smoothing, class_weights=None), batch)
    assert metrics["accuracy"] == plain[1]["accuracy"]
    assert abs(plain[0] - expected) > 0.05


def test_weights_matter_by_their_ratios_and_equal_ones_not_at_all():
    batch = small_classifiers.batch()
    found = [
        losses_of(classifier(label_smoothing=0.1, class_weights=weights), batch)[0]
        for weights in (WEIGHTS, [10 * w for w in WEIGHTS], None, [3.0] * 7)
    ]
    assert found[1] == pytest.approx(found[0], rel=1e-6)
    assert found[3] == pytest.approx(found[2], rel=1e-6)


def test_a_mixed_example_has_the_weights_of_both_parts():
    task = classifier(mixup=0.4, label_smoothing=0.2)
    batch = small_classifiers.batch()
    images, labels, weights = task.prepare_weighted(batch, jax.random.key(1))
    onehot = np.eye(7)[batch["label"]]
    # The fraction of each example, and not of the one before it, from the mixed images.
    apart = batch["image"][1] - batch["image"][0]
    lam = np.vdot(images[1] - batch["image"][0], apart) / np.vdot(apart, apart)
    assert 0.01 < lam < 0.99
    mixed = lam * onehot + (1 - lam) * np.roll(onehot, 1, axis=0)
    np.testing.assert_allclose(weights, mixed @ WEIGHTS, rtol=1e-4)
    np.testing.assert_allclose(labels, 0.8 * mixed + 0.2 / 7, rtol=1e-4, atol=1e-6)
    variables = task.init(jax.random.key(0), batch)
    logs = log_softmax(np.asarray(task.model.apply(variables, images), np.float64))
    expected = -(np.asarray(labels) * WEIGHTS * logs).sum() / np.asarray(weights).sum()
    loss = task.loss(variables["params"], {}, batch, jax.random.key(1))[0]
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_a_sigmoid_weighs_the_example_by_its_class():
    batch = small_classifiers.batch(masked=3)
    loss, _, logits = losses_of(classifier(cross_entropy="sigmoid"), batch)
    onehot, weights = np.eye(7)[batch["label"]], np.array(WEIGHTS)[batch["label"]]
    likely = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    each = -(onehot * np.log(likely) + (1 - onehot) * np.log(1 - likely)).sum(axis=-1)
    assert loss == pytest.approx((weights * each)[:13].sum() / weights[:13].sum(), rel=1e-5)


@pytest.mark.parametrize("cached", [False, True])
def test_a_head_alone_has_the_same_weighted_loss(cached):
    fields = {"patch_size": 2, "width": 4, "depth": 1, "num_heads": 1, "mlp_width": 4}
    model = models.create("vit_ti16", num_classes=7, **fields)
    arguments = {"class_weights": WEIGHTS, "class_names": NAMES, "label_smoothing": 0.3}
    task = HeadOnly(model, 7, cache_features=cached, **arguments)
    batch = small_classifiers.batch(masked=3)
    variables = task.init(jax.random.key(0), batch)
    frozen = {FROZEN: variables[FROZEN]}
    head = jax.tree.map(
        lambda leaf: leaf + 0.5 * np.cos(np.arange(leaf.size)).reshape(leaf.shape),
        variables["params"],
    )
    logits = task.logits({**variables, "params": head}, batch)
    given = batch
    if cached:
        given = {**batch, "features": task.features(variables, batch["image"])}
        del given["image"]
    loss = task.loss(head, frozen, given, jax.random.key(1))[0]
    expected = pytorch(logits[:13], batch["label"][:13], WEIGHTS, 0.3)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_weights_follow_the_counts_of_the_training_data():
    counts = np.array([6, 4, 2, 1, 1, 1, 1])
    task = classifier(class_weights="inverse", class_counts=lambda: counts)
    np.testing.assert_allclose(task.weights_of_classes, 16 / (7 * counts), rtol=1e-6)
    # Outputs that are no class of the data weigh 1.
    wider = dataclasses.replace(task, num_classes=9, class_weights={"b": 3.0})
    assert list(wider.weights_of_classes) == [1, 3, 1, 1, 1, 1, 1, 1, 1]


def test_evaluation_is_not_weighted():
    batch = small_classifiers.batch(masked=3)
    weighted, plain = classifier(), classifier(class_weights=None)
    variables = plain.init(jax.random.key(0), batch)
    assert numbers(weighted.evaluate(variables, batch)) == numbers(plain.evaluate(variables, batch))
    batch = small_segmentation.batch(masked=1)
    weighted, plain = segmenter(), segmenter(class_weights=None)
    variables = plain.init(jax.random.key(0), batch)
    assert numbers(weighted.evaluate(variables, batch)) == numbers(plain.evaluate(variables, batch))


@pytest.mark.parametrize("deep", [False, True])
def test_segmentation_is_pytorch_s_weighted_cross_entropy_over_all_pixels(deep):
    batch = small_segmentation.batch(ignored=0, masked=1)
    task = segmenter(model=small_segmentation.Padded(deep=deep))
    variables = task.init(jax.random.key(0), batch)
    loss, _ = task.loss(variables["params"], {}, batch, jax.random.key(1))
    outputs = task.model.apply(variables, batch["image"], train=True)
    labels = batch["label"][:3].ravel()
    expected = np.mean(
        [
            pytorch(np.asarray(logits)[:3].reshape(-1, 3), labels, [0.5, 2.0, 4.0])
            for logits in (outputs if deep else (outputs,))
        ]
    )
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_ignored_pixels_weight_maps_and_other_losses():
    batch = small_segmentation.batch(ignored=0.2, weights=True)
    weights = np.array([0.5, 2.0, 4.0])
    task = segmenter(losses={"cross_entropy": 1.0, "dice": 0.5})
    loss, _, logits = losses_of(task, batch)
    dice = segmenter(losses={"dice": 0.5}, class_weights=None).image_losses(logits, batch)
    logs = log_softmax(np.asarray(logits, np.float64))
    images, importance = [], []
    for i in range(4):
        counted = batch["label"][i] >= 0
        labels = batch["label"][i][counted]
        each = -logs[i][counted][np.arange(len(labels)), labels] * batch["weight"][i][counted]
        images.append((weights[labels] * each).sum() / weights[labels].sum() + dice[i])
        importance.append(weights[labels].mean())
    assert loss == pytest.approx(np.average(images, weights=importance), rel=1e-5)


def updated(task, batch, mode, devices, accumulation_steps):
    """Parameters and loss after one step."""
    way = create(mode=mode, devices=devices)
    optimizer = Optimizer(
        optax.with_extra_args_support(optax.sgd(1.0)), accumulation_steps=accumulation_steps
    )
    variables = task.init(jax.random.key(0), batch)
    state = TrainState.create(variables, optimizer.init(variables["params"]), seed=0, ema=False)
    over = task.over_axis(way.axis_name) if way.axis_name else task
    step = way.compile(make_train_step(over, optimizer), state=state)
    state, metrics = step(way.place_state(state), way.place_batch(batch))
    return way.to_host(state.params), numbers(way.to_host(metrics))["loss"]


@pytest.mark.parametrize("kind", ["classification", "segmentation"])
@pytest.mark.parametrize(
    ("mode", "devices", "pieces"), [("jit", 1, 4), ("jit", 4, 2), ("pmap", 4, 2)]
)
def test_devices_and_accumulation_give_the_loss_of_one_batch(kind, mode, devices, pieces):
    # Labels in order: parts of the batch have other classes, and so other weights.
    if kind == "classification":
        task, batch = classifier(label_smoothing=0.1), small_classifiers.batch(masked=3)
        batch["label"] = np.sort(batch["label"])
    else:
        task = segmenter(losses={"cross_entropy": 1.0, "dice": 1.0})
        batch = small_segmentation.batch(16, masked=3)
        batch["label"] = np.minimum(batch["label"], np.arange(16)[:, None, None] // 5)
    expected = updated(task, batch, "jit", 1, 1)
    found = updated(task, batch, mode, devices, pieces)
    assert found[1] == pytest.approx(expected[1], rel=1e-5)
    for one, other in zip(*(jax.tree.leaves(x[0]) for x in (expected, found)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_weights_of_other_classes_are_refused_for_training():
    with pytest.raises(ConfigError, match="class_weights has 2 weights"):
        classifier(class_weights=[1, 2]).check_training()
    with pytest.raises(ConfigError, match="'z' is not a class"):
        segmenter(class_weights={"z": 1}).check_training()
    segmenter(class_weights={"a": 1}).check_training()
    with pytest.raises(ConfigError, match=r"class_weights\[1\] is -1; it must be above 0"):
        segmenter(class_weights=[1, -1, 1])
    with pytest.raises(ConfigError, match="class_weights is 3; it must be 'inverse' or"):
        segmenter(class_weights=3)
