"""Metrics do not depend on how examples are divided, and declare direction and unit."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from vitjax import metrics
from vitjax.core.errors import ConfigError
from vitjax.metrics import (
    MEASURES,
    CalibrationError,
    Collected,
    ConfusionMatrix,
    Declaration,
    Mean,
    Measure,
    PerClass,
    create_measures,
)
from vitjax.objectives.base import collect

CLASSES = 3


@dataclasses.dataclass(frozen=True)
class Median(Measure):
    """The median of the largest probability: no mean of batches' medians equals it."""

    higher_is_better = False
    unit = "furlongs"

    def collect(self, outputs, batch):
        return jnp.max(outputs, axis=-1)

    def compute(self, examples):
        return float(np.median(examples))


def of_batch(probabilities, labels, mask):
    """One of each kind."""
    right = jnp.argmax(probabilities, axis=-1) == labels
    hits = jax.nn.one_hot(labels, CLASSES) * (right & mask)[:, None]
    each = jax.nn.one_hot(labels, CLASSES) * mask[:, None]
    measures = {
        "calibration_error": CalibrationError(),
        "confusion_matrix": ConfusionMatrix(num_classes=CLASSES),
        "median": Median(),
    }
    return {
        "loss": Mean.of(-jnp.log(probabilities[:, 0]), mask, higher_is_better=False, unit="nats"),
        "recall": PerClass(hits.sum(0), each.sum(0), higher_is_better=True, unit="fraction"),
        **{
            n: Collected(m.collect(probabilities, {"label": labels}), mask, m)
            for n, m in measures.items()
        },
    }


def examples(seed, count):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(CLASSES), count).astype(np.float32)
    return probabilities, rng.integers(0, CLASSES, count)


def padded(arrays, size):
    """Arrays of ``size`` rows, the further ones full of NaN or nonsense, and the mask."""
    probabilities, labels = arrays
    count = len(labels)
    rows = np.full((size, CLASSES), np.nan, np.float32)
    rows[:count] = probabilities
    classes = np.full(size, CLASSES - 1)
    classes[:count] = labels
    return rows, classes, np.arange(size) < count


@hypothesis.given(
    cuts=st.lists(st.integers(1, 12), min_size=1, max_size=5), seed=st.integers(0, 100)
)
@hypothesis.settings(max_examples=15)
def test_values_do_not_depend_on_batches_and_padding(cuts, seed):
    probabilities, labels = examples(seed, sum(cuts))
    complete = metrics.values(of_batch(probabilities, labels, np.ones(len(labels), bool)))
    parts, start = [], 0
    for cut in cuts:
        part = slice(start, start + cut)
        batch = of_batch(*padded((probabilities[part], labels[part]), 12))
        parts.append({name: metric.reduce() for name, metric in batch.items()})
        start += cut
    found = metrics.values(metrics.merge(parts))
    assert found.keys() == complete.keys()
    for name, value in complete.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-6, err_msg=name)


def test_values_do_not_depend_on_devices():
    probabilities, labels = examples(0, 8)
    mask = np.arange(8) != 5
    complete = metrics.values(of_batch(probabilities, labels, mask))
    split = jax.tree.map(lambda x: x.reshape(8, 1, *x.shape[1:]), (probabilities, labels, mask))
    over = jax.pmap(
        lambda p, y, m: metrics.over_axis(of_batch(p, y, m), "devices"), axis_name="devices"
    )(*split)
    found = metrics.values(jax.tree.map(lambda x: np.asarray(x[0]), over))
    for name, value in complete.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-6, err_msg=name)


def test_values_are_those_of_other_libraries():
    probabilities, labels = examples(3, 200)
    found = metrics.values(of_batch(probabilities, labels, np.ones(200, bool)))
    guesses = probabilities.argmax(-1)
    expected = confusion_matrix(labels, guesses)
    np.testing.assert_array_equal(found["confusion_matrix"], expected)
    np.testing.assert_allclose(found["recall_per_class"], expected.diagonal() / expected.sum(1))
    assert found["recall"] == pytest.approx(np.mean(found["recall_per_class"]))
    # Equation 3 of arXiv:1706.04599, bin by bin.
    confidence, right = probabilities.max(-1).astype(np.float64), guesses == labels
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert found["calibration_error"] == pytest.approx(error, rel=1e-6)


def test_perfect_confidence_has_no_calibration_error():
    labels = np.array([0, 1, 2, 1])
    found = CalibrationError().collect(jnp.eye(CLASSES)[labels], {"label": labels})
    assert CalibrationError().compute(jax.device_get(found)) == 0


def test_a_class_that_does_not_occur_is_not_averaged():
    metric = PerClass(jnp.array([1.0, 0.0, 0.0]), jnp.array([2.0, 4.0, 0.0]))
    values = metric.values("iou")
    assert values["iou"] == 0.25
    np.testing.assert_array_equal(values["iou_per_class"], [0.5, 0.0, np.nan])
    nothing = PerClass(jnp.zeros(2), jnp.zeros(2)).values("iou")["iou"]
    assert np.isnan(nothing)


def test_declarations_are_known_without_computing():
    shapes = jax.eval_shape(of_batch, *padded(examples(0, 4), 4))
    assert metrics.declarations(shapes) == {
        "loss": Declaration(False, "nats"),
        "recall": Declaration(True, "fraction"),
        "recall_per_class": Declaration(True, "fraction", (CLASSES,), per_class=True),
        "calibration_error": Declaration(False, "fraction"),
        "confusion_matrix": Declaration(None, "examples", (CLASSES, CLASSES), per_class=True),
        "median": Declaration(False, "furlongs"),
    }


def test_the_loss_is_lower_is_better_by_its_role():
    undeclared = {"loss": Mean.of(jnp.ones(2)), "height": Mean.of(jnp.ones(2))}
    found = metrics.declarations(undeclared)
    assert found["loss"].higher_is_better is False
    assert found["height"].higher_is_better is None


def test_declared_shapes_are_those_of_the_values():
    computed = of_batch(*padded(examples(0, 4), 4))
    found = metrics.values(jax.device_get(computed))
    for name, declaration in metrics.declarations(computed).items():
        assert np.shape(found[name]) == declaration.shape, name


def test_entries_of_lists_have_the_index_in_their_names():
    values = {"iou": 0.5, "iou_per_class": [0.25, 0.75], "matrix": [[1, 2], [3, 4]], "empty": []}
    assert metrics.entries(values) == {"iou": 0.5, "iou_per_class/0": 0.25, "iou_per_class/1": 0.75}


def test_values_are_written_in_their_unit():
    assert Declaration(True, "fraction").text(0.98333) == "98.33%"
    assert Declaration(False, "nats").text(0.07123) == "0.0712"


@pytest.mark.usefixtures("forgotten_after_the_test")
def test_a_measure_of_outputs_that_are_no_probabilities():
    @dataclasses.dataclass(frozen=True)
    class Recall(Measure):
        """Retrieval: the fraction of examples whose nearest other example is of their place."""

        higher_is_better = True

        def collect(self, outputs, batch):
            return {"embedding": outputs["embedding"], "place": batch["place"]}

        def compute(self, examples):
            a = examples["embedding"]
            distances = np.linalg.norm(a[:, None] - a[None], axis=-1) + np.diag([np.inf] * len(a))
            return float(np.mean(examples["place"][distances.argmin(1)] == examples["place"]))

    MEASURES.register("recall_at_1", target="place")(Recall)
    measures = create_measures(("recall_at_1",), "place", where="config.x")
    batch = {"place": np.array([0, 0, 1, 1]), "mask": np.array([True, True, True, False])}
    outputs = {"embedding": np.array([[0.0], [0.1], [5.0], [5.1]])}
    found = metrics.values(collect(measures, lambda: outputs, batch))
    # Without the last example the third has no neighbour of its place.
    assert found == {"recall_at_1": pytest.approx(2 / 3)}
    assert collect({}, lambda: 1 / 0, batch) == {}


def test_measures_of_one_constructor_share_their_work():
    made = create_measures(
        ("v_rand", "pixel_error", "v_info"), "mask", where="config.x", foreground=2, num_classes=3
    )
    assert list(made) == ["v_rand, pixel_error, v_info"]
    (measure,) = made.values()
    assert (measure.names, measure.foreground) == (("v_rand", "pixel_error", "v_info"), 2)


@pytest.mark.parametrize(
    ("names", "target", "words"),
    [
        (("v_rnd",), "mask", "config.x: unknown measure 'v_rnd'; did you mean 'v_rand'"),
        (("v_rand",), "class", "one mask per example; for one class per example use: cal"),
    ],
)
def test_what_cannot_be_measured_is_named(names, target, words):
    with pytest.raises(ConfigError) as error:
        create_measures(names, target, where="config.x", num_classes=2)
    assert words in str(error.value)


def test_every_measure_declares_its_data():
    assert all(MEASURES.facts(name)["target"] in ("class", "mask") for name in MEASURES)
