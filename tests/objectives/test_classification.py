import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.core.errors import ConfigError
from vitjax.metrics import Mean, merge, numbers
from vitjax.models.protocol import Model
from vitjax.objectives import Classification, objectives


class Fixed(Model):
    """Gives the image's first values as logits."""

    def __call__(self, images, train=False):
        return images.reshape(len(images), -1)[:, :8]


def task(**arguments):
    return Classification(model=Fixed(), num_classes=8, **arguments)


@pytest.fixture
def examples():
    generator = np.random.default_rng(0)
    return {
        "image": jnp.asarray(generator.normal(size=(12, 4, 4, 1)), jnp.float32),
        "label": jnp.asarray(generator.integers(0, 8, 12)),
        "mask": jnp.arange(12) < 9,
    }


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def test_softmax_cross_entropy_by_hand(examples):
    logits = np.asarray(examples["image"]).reshape(12, -1)[:9, :8].astype(np.float64)
    labels = np.asarray(examples["label"])[:9]
    values = numbers(task().evaluate({}, examples))
    expected = -log_softmax(logits)[np.arange(9), labels].mean()
    assert values["loss"] == pytest.approx(expected, rel=1e-5)
    assert values["accuracy"] == pytest.approx((logits.argmax(-1) == labels).mean())
    top5 = np.argsort(-logits, axis=-1)[:, :5]
    assert values["accuracy_top5"] == pytest.approx((top5 == labels[:, None]).any(-1).mean())


def test_sigmoid_cross_entropy_by_hand(examples):
    logits = np.asarray(examples["image"]).reshape(12, -1)[:9, :8].astype(np.float64)
    onehot = np.eye(8)[np.asarray(examples["label"])[:9]]
    probability = 1 / (1 + np.exp(-logits))
    losses = -(onehot * np.log(probability) + (1 - onehot) * np.log(1 - probability)).sum(-1)
    values = numbers(task(cross_entropy="sigmoid").evaluate({}, examples))
    assert values["loss"] == pytest.approx(losses.mean(), rel=1e-5)


def test_label_smoothing_acts_in_training_alone(examples):
    smooth, plain = task(label_smoothing=0.2), task()
    rng = jax.random.key(0)
    logits = np.asarray(examples["image"]).reshape(12, -1)[:9, :8].astype(np.float64)
    soft = 0.8 * np.eye(8)[np.asarray(examples["label"])[:9]] + 0.2 / 8
    loss, _ = smooth.loss({}, {}, examples, rng)
    assert float(loss) == pytest.approx(-(soft * log_softmax(logits)).sum(-1).mean(), rel=1e-5)
    assert numbers(smooth.evaluate({}, examples)) == numbers(plain.evaluate({}, examples))


def test_soft_labels_equal_hard_ones(examples):
    soft = {**examples, "label": jax.nn.one_hot(examples["label"], 8)}
    assert numbers(task().evaluate({}, soft)) == numbers(task().evaluate({}, examples))


def test_few_classes_have_no_top5(examples):
    few = Classification(model=Fixed(), num_classes=5)
    metrics = few.metrics(jnp.zeros((2, 5)), jnp.eye(5)[:2], jnp.ones(2))
    assert set(metrics) == {"loss", "accuracy"}


def test_an_infinite_loss_on_padding_counts_nothing():
    mean = Mean.of(jnp.array([1.0, jnp.inf]), jnp.array([True, False]))
    assert numbers({"loss": mean}) == {"loss": 1.0}


def test_long_sums_lose_nothing():
    one = {"loss": Mean(np.float32(0.1), np.float32(1))}
    summed = merge([one] * 100_000)
    assert numbers(summed)["loss"] == pytest.approx(float(np.float32(0.1)), rel=1e-12)
    assert merge([]) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cross_entropy": "softmx"}, "did you mean 'softmax'"),
        ({"label_smoothing": 1.5}, "label_smoothing is 1.5"),
        ({"mixup": -1}, "mixup is -1"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        task(**arguments)


def test_the_registry_names_the_near_match():
    with pytest.raises(ConfigError, match="did you mean 'classification'"):
        objectives["clasification"]
