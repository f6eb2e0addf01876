"""Probes on features: against scikit-learn, NumPy and formulas written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier

from vitjax.analysis import probes
from vitjax.analysis.logistic import Logistic
from vitjax.analysis.probes import Examples, Sets, few_shot, knn, linear
from vitjax.core.errors import ConfigError
from vitjax.core.validation import check_keywords

CLASSES = 4
NAMES = ("ant", "bee", "cat", "dog")


def examples(count, width=6, seed=0, noise=1.0):
    """Points around a centre for each class; every class is there."""
    centres = np.random.default_rng(99).normal(size=(CLASSES, width))
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(count) % CLASSES).astype(np.int32)
    points = 5 + 3 * (centres[labels] + noise * generator.normal(size=(count, width)))
    return Examples(points.astype(np.float32), labels)


def sets(train=80, test=60, held_out=40, **how):
    return Sets(
        train=examples(train, seed=1, **how),
        test=examples(test, seed=2, **how),
        held_out=examples(held_out, seed=3, **how) if held_out else None,
        class_names=NAMES,
    )


# ------------------------------------------------------------------------------------------ linear


def standardised(train, *others):
    mean, deviation = train.features.mean(axis=0), train.features.std(axis=0)
    return [(one.features - mean) / deviation for one in (train, *others)]


@pytest.mark.parametrize("l2", [300.0, 0.3, 1e-4])
def test_logistic_regression_is_that_of_scikit_learn(l2):
    given = sets(noise=2.0)
    ours = Logistic(given.train.features, given.train.labels)
    for strength in (1e4, l2):  # the second fit starts from the first
        ours.fit(strength)
    assert ours.converged
    (x,) = standardised(given.train)
    theirs = LogisticRegression(C=1 / l2, max_iter=10_000, tol=1e-10)
    theirs.fit(x.astype(np.float64), given.train.labels)
    # Nothing holds the biases' mean.
    bias = np.asarray(ours.bias) - np.mean(ours.bias)
    scale = np.max(np.abs(theirs.coef_))
    np.testing.assert_allclose(np.asarray(ours.kernel).T, theirs.coef_, atol=3e-3 * scale)
    # Of a loss near log(4), float32 tells no less than 1e-7, to which this is the root's scale.
    expected = theirs.intercept_ - theirs.intercept_.mean()
    np.testing.assert_allclose(bias, expected, atol=3e-3 * scale + 1e-3)


def test_classes_without_examples_are_none_that_is_guessed():
    given = sets()
    some = given.train.labels != 1
    probe = Logistic(given.train.features[some], given.train.labels[some])
    probe.fit(1.0)
    assert probe.converged
    assert set(probe.predict(given.test.features)) == {0, 2, 3}


def test_the_linear_probe_takes_the_l2_that_is_best_on_held_out_examples():
    given = sets(noise=2.5)
    found = linear(given)["linear"]
    x, held_out, test = standardised(given.train, given.held_out, given.test)
    grid = 10.0 ** np.arange(-6, 6.1, 1)

    def accuracy(l2, features, labels):
        model = LogisticRegression(C=1 / l2, max_iter=1000, tol=1e-6)
        return model.fit(x, given.train.labels).score(features, labels)

    best = max(accuracy(l2, held_out, given.held_out.labels) for l2 in grid)
    assert found["held_out_accuracy"] >= best - 1.01 / len(held_out)
    assert found["held_out_accuracy"] == accuracy(found["l2"], held_out, given.held_out.labels)
    assert found["accuracy"] == accuracy(found["l2"], test, given.test.labels)
    # It lies on the grid of eight steps a decade.
    assert np.log10(found["l2"]) * 8 == pytest.approx(round(np.log10(found["l2"]) * 8))
    # Test examples decide nothing.
    other = Sets(given.train, examples(10, seed=9), given.held_out, NAMES)
    assert linear(other)["linear"]["l2"] == found["l2"]


def test_without_held_out_examples_a_fifth_of_the_training_set_chooses():
    given = sets(held_out=0, noise=2.0)
    learned, held_out = probes._divided(given.train)
    assert (len(learned.labels), len(held_out.labels)) == (64, 16)
    assert np.bincount(held_out.labels).tolist() == [4] * CLASSES
    rows = np.concatenate([learned.features, held_out.features])
    assert {row.tobytes() for row in rows} == {row.tobytes() for row in given.train.features}
    found = linear(given)["linear"]
    # And then all of it is learned from.
    assert found["accuracy"] == linear(given, l2=found["l2"])["linear"]["accuracy"]
    assert "held_out_accuracy" not in linear(given, l2=0.1)["linear"]


def test_a_refitted_linear_probe_has_learned_from_the_held_out_examples_too():
    given = sets(train=40, held_out=200, noise=2.0)
    joined = Examples(
        np.concatenate([given.train.features, given.held_out.features]),
        np.concatenate([given.train.labels, given.held_out.labels]),
    )
    whole = linear(Sets(joined, given.test, None, NAMES), l2=2.0)["linear"]["accuracy"]
    assert linear(given, l2=2.0, refit=True)["linear"]["accuracy"] == whole
    assert linear(given, l2=2.0)["linear"]["accuracy"] != whole


def test_features_that_never_change_are_harmless():
    given = sets()
    dead = {
        name: Examples(np.pad(one.features, ((0, 0), (0, 2))), one.labels)
        for name, one in (("train", given.train), ("test", given.test), ("held", given.held_out))
    }
    padded = Sets(dead["train"], dead["test"], dead["held"], NAMES)
    for probe in (linear, knn, few_shot):
        assert probe(padded) == probe(given)


def test_what_makes_no_linear_probe_is_told():
    given = sets()
    one = Examples(given.train.features, np.full(80, 2, np.int32))
    with pytest.raises(ConfigError, match="all 80 training examples are of class 'cat'"):
        linear(Sets(one, given.test, given.held_out, NAMES))
    with pytest.raises(ConfigError, match="l2 is 0; it must be above 0"):
        check_keywords(linear, {"l2": 0}, where="probe", given=["sets"])
    with pytest.raises(ConfigError, match="--refit: the data has no held-out"):
        linear(sets(held_out=0), refit=True)
    with pytest.raises(ConfigError, match="no class has two training examples; --l2=1"):
        linear(sets(train=4, held_out=0))


# ------------------------------------------------------------------------------ nearest neighbours


@pytest.mark.parametrize("chunk", [None, 7])
def test_neighbours_vote_as_in_scikit_learn(chunk, monkeypatch):
    given = sets(noise=2.0)
    if chunk:
        monkeypatch.setattr(probes, "_CHUNK_BYTES", 4 * 80 * chunk)
    found = knn(given, k=(1, 5, 80))
    for k in (1, 5, 80):
        model = KNeighborsClassifier(
            k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
        )
        model.fit(given.train.features.astype(np.float64), given.train.labels)
        assert found[f"k={k}"]["accuracy"] == model.score(given.test.features, given.test.labels)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.01, 100))
def test_neighbours_do_not_depend_on_the_length_of_features(seed, scale):
    drawn = sets(train=12, test=8, held_out=0)
    factors = np.random.default_rng(seed).uniform(0.1, scale + 0.1, (8, 1)).astype(np.float32)
    longer = Examples(drawn.test.features * factors, drawn.test.labels)
    assert knn(Sets(drawn.train, longer, None, NAMES), k=(3,)) == knn(drawn, k=(3,))


def test_as_many_neighbours_as_there_are():
    given = sets(train=20)
    assert list(knn(given)) == ["k=10", "k=20"]
    assert list(knn(sets(train=8))) == ["k=1"]
    with pytest.raises(ConfigError, match="--k=21: must be at most 20"):
        knn(given, k=(21,))
    with pytest.raises(ConfigError, match=r"k\[0\] is 0; it must be at least 1"):
        check_keywords(knn, {"k": (0,)}, where="probe", given=["sets"])


# --------------------------------------------------------------------------------------- few shots


@pytest.mark.parametrize("width", [6, 60])
def test_least_squares_are_those_of_scikit_learn(width):
    few, queries = examples(20, width, seed=4), examples(50, width, seed=5, noise=2.0)
    mean, deviation = few.features.mean(axis=0), few.features.std(axis=0) + 1e-5
    x, z = (
        np.pad((one.features - mean) / deviation, ((0, 0), (0, 1)), constant_values=100)
        for one in (few, queries)
    )
    model = Ridge(alpha=7.0, fit_intercept=False, solver="cholesky")
    model.fit(x.astype(np.float64), 2.0 * np.eye(CLASSES)[few.labels] - 1)
    expected = np.argmax(model.predict(z), axis=1)
    found = probes._least_squares(few, queries.features, CLASSES, 7.0)
    np.testing.assert_array_equal(found, expected)


def test_shots_are_so_many_of_each_class_and_the_same_in_every_run(monkeypatch):
    given, seen = sets(noise=2.0), []
    real = probes._least_squares
    monkeypatch.setattr(
        probes, "_least_squares", lambda few, *rest: seen.append(few) or real(few, *rest)
    )
    found = few_shot(given, shots=(1, 5), draws=3)
    assert [np.bincount(few.labels).tolist() for few in seen] == [[1] * 4, [5] * 4] * 3
    for one, five in zip(seen[::2], seen[1::2], strict=True):
        rows = {row.tobytes() for row in five.features}
        assert {row.tobytes() for row in one.features} <= rows
        assert len(rows) == 20
    assert len({few.features.tobytes() for few in seen}) == 6
    accuracies = [
        np.mean(real(few, given.test.features, CLASSES, 1024.0) == given.test.labels)
        for few in seen[1::2]
    ]
    assert found["5-shot"]["accuracy"] == pytest.approx(np.mean(accuracies))
    assert found["5-shot"]["ci95"] == pytest.approx(1.96 * np.std(accuracies, ddof=1) / np.sqrt(3))
    assert few_shot(given, shots=(1, 5), draws=3) == found
    assert few_shot(given, shots=(5,), draws=1)["5-shot"]["ci95"] is None


def test_too_few_shots_are_told():
    given = sets(train=10)
    with pytest.raises(ConfigError, match="--shots=3: class 'cat' has 2 examples to learn from"):
        few_shot(given, shots=(1, 3))
    for keywords, message in (
        ({"shots": (0,)}, r"shots\[0\] is 0; it must be at least 1"),
        ({"shots": ()}, "shots is .*; it must be .* at least 1 item"),
        ({"draws": 0}, "draws is 0; it must be at least 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_keywords(few_shot, keywords, where="probe", given=["sets"])
