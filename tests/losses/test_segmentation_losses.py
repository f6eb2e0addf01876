import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax
from sklearn.metrics import log_loss
from small_segmentation import CLASSES, batch, objective

from vitjax.core.errors import ConfigError
from vitjax.losses.segmentation import combine

SHAPE = (3, 5, 6)


def outputs(channels=CLASSES, seed=1):
    return np.random.default_rng(seed).normal(scale=2, size=(*SHAPE, channels)).astype(np.float32)


def examples(classes=CLASSES, **arguments):
    made = batch(3, 5, width=6, **arguments)
    made["label"] = np.where(made["label"] >= classes, 0, made["label"])
    return made


def of_images(logits, made, **arguments):
    return np.asarray(objective(**arguments).image_losses(jnp.asarray(logits), made))


def rows(logits, made, image):
    """The counted pixels of one image: logits, labels, weights."""
    counted = made["label"][image] != -1
    weight = made.get("weight", np.ones(SHAPE))
    return logits[image][counted], made["label"][image][counted], weight[image][counted]


@pytest.mark.parametrize("weights", [False, True])
def test_cross_entropy_is_that_of_scikit_learn(weights):
    logits, made = outputs(), examples(weights=weights)
    found = of_images(logits, made)
    for image in range(3):
        x, y, w = rows(logits, made, image)
        # Normalised there by the weights' sum, here by the number of pixels.
        mean = log_loss(y, softmax(x, axis=-1), labels=range(CLASSES), sample_weight=w)
        np.testing.assert_allclose(found[image], mean * w.mean(), rtol=1e-5)


@pytest.mark.parametrize("weights", [False, True])
def test_one_sigmoid_is_logistic_regression(weights):
    logits, made = outputs(1), examples(2, weights=weights)
    found = of_images(logits, made, num_classes=2, cross_entropy="sigmoid")
    for image in range(3):
        x, y, w = rows(logits, made, image)
        mean = log_loss(y, expit(x[:, 0]), sample_weight=w)
        np.testing.assert_allclose(found[image], mean * w.mean(), rtol=1e-5)


def test_sigmoids_add_up_over_classes():
    logits, made = outputs(), examples()
    found = of_images(logits, made, cross_entropy="sigmoid")
    for image in range(3):
        x, y, _ = rows(logits, made, image)
        total = sum(log_loss(y == c, expit(x[:, c])) for c in range(CLASSES))
        np.testing.assert_allclose(found[image], total, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2])
@pytest.mark.parametrize("alpha", [None, [0.2, 1.0, 3.0]])
def test_focal_loss_of_a_softmax(gamma, alpha):
    logits, made = outputs(), examples(weights=True)
    found = of_images(logits, made, losses={"focal": {"gamma": gamma, "alpha": alpha}})
    for image in range(3):
        x, y, w = rows(logits, made, image)
        log = log_softmax(x, axis=-1)[np.arange(len(y)), y]
        scale = np.asarray(alpha or [1.0] * CLASSES)[y]
        expected = np.mean(-w * scale * (1 - np.exp(log)) ** gamma * log)
        np.testing.assert_allclose(found[image], expected, rtol=1e-4)


@pytest.mark.parametrize("channels", [1, 2])
def test_focal_loss_of_sigmoids(channels):
    logits, made = outputs(channels), examples(2)
    losses = {"focal": {"gamma": 1.5, "alpha": 0.25}}
    found = of_images(logits, made, num_classes=2, cross_entropy="sigmoid", losses=losses)
    for image in range(3):
        x, y, _ = rows(logits, made, image)
        expected = 0
        for channel in range(channels):
            hit = y == (1 if channels == 1 else channel)
            p = np.where(hit, expit(x[:, channel]), 1 - expit(x[:, channel]))
            alpha = np.where(hit, 0.25, 0.75)
            expected += np.mean(-alpha * (1 - p) ** 1.5 * np.log(p))
        np.testing.assert_allclose(found[image], expected, rtol=1e-4)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize("classes", [None, [2, 0]])
def test_dice_loss(squared, smooth, classes):
    logits, made = outputs(), examples(weights=True)
    keywords = {"squared": squared, "smooth": smooth, "classes": classes}
    found = of_images(logits, made, losses={"dice": keywords})
    for image in range(3):
        x, y, _ = rows(logits, made, image)
        p = softmax(x, axis=-1)
        shares = []
        for c in classes or range(CLASSES):
            g = (y == c) * 1.0
            size = np.sum(p[:, c] ** (2 if squared else 1)) + np.sum(g)
            shares.append((2 * np.sum(p[:, c] * g) + smooth) / (size + smooth))
        np.testing.assert_allclose(found[image], 1 - np.mean(shares), rtol=1e-4)


def test_tversky_loss():
    logits, made = outputs(1), examples(2)
    keywords = {"alpha": 0.2, "beta": 0.9, "smooth": 0.5, "classes": [1], "weight": 3}
    found = of_images(
        logits, made, num_classes=2, cross_entropy="sigmoid", losses={"tversky": keywords}
    )
    for image in range(3):
        x, y, _ = rows(logits, made, image)
        p, g = expit(x[:, 0]), y == 1
        hit, false, missed = np.sum(p * g), np.sum(p * ~g), np.sum((1 - p) * g)
        share = (hit + 0.5) / (hit + 0.2 * false + 0.9 * missed + 0.5)
        np.testing.assert_allclose(found[image], 3 * (1 - share), rtol=1e-4)


def test_tversky_of_halves_is_dice():
    logits, made = outputs(), examples()
    halves = {"tversky": {"alpha": 0.5, "beta": 0.5, "smooth": 0.0}}
    plain = {"dice": {"squared": False, "smooth": 0.0}}
    np.testing.assert_allclose(
        of_images(logits, made, losses=halves), of_images(logits, made, losses=plain), rtol=1e-5
    )


def test_losses_are_weighted_and_added():
    logits, made = outputs(), examples()
    both = of_images(logits, made, losses={"cross_entropy": 0.5, "dice": {"weight": 2}})
    parts = [of_images(logits, made, losses={name: 1.0}) for name in ("cross_entropy", "dice")]
    np.testing.assert_allclose(both, 0.5 * parts[0] + 2 * parts[1], rtol=1e-5)


MIXED = {
    "softmax": {
        "cross_entropy": 1.0,
        "dice": 0.5,
        "focal": {"gamma": 0.5, "alpha": [0.3, 1, 2]},
        "tversky": {"weight": 2.0},
    },
    "sigmoid": {"cross_entropy": 1.0, "dice": 0.5, "focal": {"alpha": 0.25}, "tversky": 1.0},
}


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_gradients_are_finite_differences(activation):
    with jax.enable_x64(True):
        made = examples(weights=True)
        task = objective(losses=MIXED[activation], cross_entropy=activation)
        logits = jnp.asarray(outputs(), jnp.float64)
        loss = jax.jit(lambda x: jnp.sum(task.image_losses(x, made)))
        gradient = jax.grad(loss)(logits)
        assert not np.any(np.asarray(gradient)[made["label"] == -1])
        for seed in range(3):
            way = np.random.default_rng(seed).normal(size=logits.shape)
            slope = (loss(logits + 1e-5 * way) - loss(logits - 1e-5 * way)) / 2e-5
            np.testing.assert_allclose(jnp.sum(gradient * way), slope, rtol=1e-7)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_sure_outputs_give_finite_gradients(activation):
    """Right and wrong by 200 in the logits, and an image of ignored pixels alone."""
    made = examples()
    made["label"][2] = -1
    made["label"][1, 0] = -1
    logits = 200.0 * jax.nn.one_hot(made["label"], CLASSES) * np.sign(outputs(1))
    logits = logits.at[1, 0].set(jnp.inf)
    task = objective(losses=MIXED[activation], cross_entropy=activation)
    values, gradient = jax.value_and_grad(lambda x: jnp.sum(task.image_losses(x, made)[0]))(logits)
    assert np.isfinite(values)
    assert np.isfinite(gradient[0]).all()
    values = task.image_losses(logits, made)
    assert np.isfinite(values).all()


def test_a_perfect_prediction_loses_nothing():
    made = examples()
    logits = 60.0 * jax.nn.one_hot(made["label"], CLASSES)
    for name in MIXED["softmax"]:
        np.testing.assert_allclose(of_images(logits, made, losses={name: 1.0}), 0, atol=1e-5)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"dise": 1.0}, "unknown segmentation loss 'dise'; did you mean 'dice'"),
        ({"dice": {"smoth": 1.0}}, "losses.dice: unknown key 'smoth'; did you mean"),
        ({"dice": "much"}, "losses.dice: the weight is 'much'"),
        ({"dice": -1}, "losses.dice: the weight is -1"),
        ({"dice": {"smooth": -0.5}}, "losses.dice.smooth is -0.5"),
        ({"dice": {"classes": [3]}}, r"losses.dice.classes is \[3\]; .* 0..2"),
        ({"tversky": {"classes": []}}, r"losses.tversky.classes is \[\]"),
        ({"focal": {"gamma": -2.0}}, "losses.focal.gamma is -2.0"),
        ({"focal": {"alpha": [1.0, 2.0]}}, "losses.focal.alpha has 2 numbers for 3 classes"),
        ({"focal": {"alpha": 0.25}}, "with a softmax over 3 classes"),
        ({"focal": {"alpha": 1.25}}, r"focal.alpha is 1.25; it must be in \[0, 1\]"),
        ({"dice": 0}, "at least one loss must have a weight"),
        ({}, "at least one loss must have a weight"),
    ],
)
def test_mistakes_are_named(section, message):
    with pytest.raises(ConfigError, match=message):
        combine(section, CLASSES, "softmax")


def test_a_list_of_weights_is_for_a_softmax():
    with pytest.raises(ConfigError, match="it must be one number"):
        combine({"focal": {"alpha": [1.0, 2.0, 3.0]}}, CLASSES, "sigmoid")
