from pathlib import Path

import numpy as np
import pytest
from skimage.metrics import adapted_rand_error, variation_of_information
from sklearn.metrics import normalized_mutual_info_score

from vitjax.metrics import ObjectScores
from vitjax.metrics.objects import (
    OBJECT_MEASURES,
    THRESHOLDS,
    parts,
    pixel_error,
    segment,
    v_info,
    v_rand,
)


def cells(size=40, every=10):
    """Square cells (1) with membranes of one pixel (0) between them."""
    label = np.ones((size, size), np.int32)
    label[::every] = label[:, ::every] = 0
    return label


def labelings(seed):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 5, (20, 21)), generator.integers(1, 5, (20, 21))


def measured(images, names=tuple(OBJECT_MEASURES)):
    """The measures of all images, each of which is a batch with the map of another class."""
    scores = ObjectScores(names, foreground=1)
    parts = []
    for probability, label in images:
        likely = np.stack([1 - probability, probability], axis=-1)[None]
        parts.append(scores.reduce(scores.collect(likely, {"label": label[None]})))
    return scores.compute(scores.join(parts))


@pytest.fixture(scope="module")
def challenge():
    """Images and what the challenge's code says of each threshold; scripts/parity made it."""
    with np.load(Path(__file__).parent / "fixtures/isbi_measures.npz") as file:
        found = dict(file)
    probabilities = (found.pop("probabilities") + np.float32(0.5)) / 256
    return list(zip(probabilities, found.pop("labels").astype(np.int32), strict=True)), found


def test_measures_are_those_of_the_challenges_code(challenge):
    images, expected = challenge
    found = measured(images)
    assert found["pixel_error"] == pytest.approx(expected["pixel_error"][4], rel=1e-12)
    assert found["rand_error"] == pytest.approx(1 - expected["rand_score"].max(), rel=1e-12)
    assert found["rand_error_threshold"] == THRESHOLDS[expected["rand_score"].argmax()]
    for name, score in (("v_rand", v_rand), ("v_info", v_info)):
        assert found[name] == pytest.approx(expected[name].max(), abs=5e-4)
        assert found[f"{name}_threshold"] == THRESHOLDS[expected[name].argmax()]
        scores = [
            np.mean([score(parts(label == 1), segment(p, at)) for p, label in images])
            for at in THRESHOLDS
        ]
        # Wide borders have pixels as far from one cell as from the other: either may have them.
        np.testing.assert_allclose(scores, expected[name], atol=2.5e-3)
        np.testing.assert_allclose(scores[:5], expected[name][:5], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_any_labelings(seed):
    truth, segments = labelings(seed)
    inside = truth > 0
    # Pairs are drawn without putting back there.
    exact = 1 - adapted_rand_error(truth, segments)[0]
    assert v_rand(truth, segments) == pytest.approx(exact, abs=4 / inside.sum())
    reference = normalized_mutual_info_score(
        truth[inside], segments[inside], average_method="arithmetic"
    )
    assert v_info(truth, segments) == pytest.approx(reference)
    split, merged = variation_of_information(truth[inside], segments[inside])
    entropy = sum(
        variation_of_information(x[inside], np.ones(inside.sum(), int)).sum()
        for x in (truth, segments)
    )
    assert v_info(truth, segments) == pytest.approx(1 - (split + merged) / entropy)
    # Each pixel of a line is a segment of its own.
    lines = np.where(segments == 1, 0, segments)
    apart = np.where(segments == 1, 5 + np.arange(segments.size).reshape(segments.shape), segments)
    assert v_rand(truth, lines) == v_rand(truth, apart) < v_rand(truth, segments)
    assert v_info(truth, lines) == v_info(truth, apart) < 1


def test_the_rand_score_pixel_by_pixel():
    truth, segments = (x[:6, :6] for x in labelings(1))
    pairs = [(t, s) for t, s in zip(truth.ravel(), segments.ravel(), strict=True) if t]
    together = {"both": 0, "truth": 0, "segments": 0}
    for t, s in pairs:
        for other_t, other_s in pairs:
            together["truth"] += t == other_t
            together["segments"] += s == other_s
            together["both"] += t == other_t and s == other_s
    expected = together["both"] / (together["truth"] / 2 + together["segments"] / 2)
    assert v_rand(truth, segments) == pytest.approx(expected)


def test_parts_are_joined_by_sides():
    assert parts(np.eye(3, dtype=bool)).max() == 3
    assert parts(cells() == 1).max() == 16


def test_a_perfect_prediction_gives_one():
    label = cells()
    values = measured([((label == 1) * 1.0, label)])
    assert values["v_rand"] == values["v_info"] == 1
    assert values["rand_error"] == values["pixel_error"] == 0


def test_thick_boundaries_cost_nothing_and_a_hole_costs_much():
    label = cells()
    truth = parts(label == 1)
    thick = np.logical_and.reduce(
        [np.roll(label, step, axis) == 1 for step in (-1, 0, 1) for axis in (0, 1)]
    )
    assert v_rand(truth, segment(thick * 0.9, 0.5)) == 1
    assert pixel_error(thick * 0.9, label, 1) > 0.1
    hole = (label == 1).astype(float)
    hole[15, 10] = 1
    two, all_ = 2 * 81, 16 * 81
    objects = 16 * 81**2
    # Two of the sixteen cells are one segment.
    expected = objects / (objects / 2 + (objects + two**2 - 2 * 81**2) / 2)
    assert v_rand(truth, segment(hole, 0.5)) == pytest.approx(expected)
    assert v_rand(truth, segment(np.zeros_like(hole), 0.5)) == pytest.approx(
        objects / (objects / 2 + all_**2 / 2)
    )


def test_the_best_threshold_is_one_for_all_images():
    label = cells()
    leaky, faint = np.where(label == 1, 1.0, 0.55), np.where(label == 1, 0.65, 0.0)
    names = ("v_rand", "rand_error", "v_info")
    values = measured([(leaky, label), (faint, label)], names)
    assert list(values) == [
        "v_rand",
        "v_rand_threshold",
        "rand_error",
        "rand_error_threshold",
        "v_info",
        "v_info_threshold",
    ]
    # At 0.5 all cells of one image are one, and at 0.7 those of the other are nowhere.
    assert values["v_rand"] == values["v_info"] == 1
    assert values["rand_error"] == 0
    assert {values[f"{name}_threshold"] for name in ("v_rand", "v_info", "rand_error")} == {0.6}


def test_ignored_pixels_and_images_without_objects():
    label = cells()
    wrong = np.where(label == 1, 1.0, 0.0)
    wrong[:5] = 0
    label[:5] = -1
    assert pixel_error(wrong, label, 1) == 0
    empty = [(wrong, np.zeros_like(label)), (wrong, np.full_like(label, -1))]
    values = measured(empty)
    assert np.isnan([values["v_rand"], values["v_info"], values["rand_error"]]).all()
    assert values["pixel_error"] == wrong.mean()
    assert measured([*empty, (wrong, label)])["v_rand"] == 1


def test_what_an_image_is_filled_up_with_changes_nothing(challenge):
    images, _ = challenge
    larger = []
    for probability, label in images:
        # Whatever is predicted there joins all cells at the border.
        filled = np.pad(probability, ((0, 9), (0, 17)), constant_values=1)
        larger.append((filled, np.pad(label, ((0, 9), (0, 17)), constant_values=-1)))
    assert measured(larger) == measured(images)


def test_objects_of_one_pixel():
    one = np.zeros((4, 4), int)
    one[1, 1] = 1
    assert (v_rand(one, one), v_info(one, one)) == (1, 1)
    one[3, 3] = 2
    assert (v_rand(one, one), v_info(one, one)) == (1, 1)
