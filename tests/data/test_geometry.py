"""One geometry moves all fields of a sample: a painted object is moved with its mask and box."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitjax.data import Sample
from vitjax.data.transforms import TRANSFORMS, Photometric, parse

# Every transform that moves pixels, with strengths that keep the object in the image.
MOVING = {
    "resize": ["resize(70)", "resize((30, 90))", "resize((48, 48), 'area')"],
    "pad_to_multiple": ["pad_to_multiple(32)"],
    "center_crop": ["center_crop(40)", "center_crop((80, 40))"],
    "crop": ["crop(44)", "crop((50, 52))"],
    "pad_and_crop": ["pad_and_crop(48, 6)", "pad_and_crop(44, 4, 'constant')"],
    "random_resized_crop": ["random_resized_crop(50, scale=(0.8, 1), ratio=(0.9, 1.1))"],
    "flip": ["flip(1)", "flip"],
    "flips": ["flips"],
    "dihedral": ["dihedral"],
    "shift": ["shift(5)"],
    "elastic": ["elastic(2)"],
    "rotate": ["rotate(90)"],
    "scale": ["scale((0.9, 1.2))"],
    "random_affine": ["random_affine(20, 0.05, (0.9, 1.1), 5)", "random_affine(fill=9)"],
    "rand_augment": ["rand_augment(3, 9)", "rand_augment(2, 8, 'bilinear')"],
    "trivial_augment": [],
}
BOX = (16, 20, 33, 31)  # x1, y1, x2, y2 of the object, far from the borders of 48 x 48


def painted(box=BOX, size=(48, 48)) -> Sample:
    """A white rectangle on black, as image, second image, mask, instances, weight and box."""
    x1, y1, x2, y2 = box
    mask = np.zeros(size, np.int32)
    mask[y1:y2, x1:x2] = 1
    image = (mask * 255).astype(np.uint8)[..., None]
    return Sample(
        image,
        mask=mask,
        instances=mask * 7,
        boxes=np.float32([box]),
        box_labels=np.int32([3]),
        weight=mask.astype(np.float32),
        second_image=255 - image,
    )


def run(text: str, sample: Sample, seed: int = 0) -> Sample:
    return parse(text)(sample, np.random.default_rng(seed))


def box_of(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.float32([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


TEXTS = [text for texts in MOVING.values() for text in texts]


def test_every_transform_that_moves_pixels_is_tested():
    moving = [name for name in TRANSFORMS if not issubclass(TRANSFORMS[name], Photometric)]
    # The transforms inside two_views move pixels; it makes the second image itself.
    assert set(moving) - {"two_views"} == set(MOVING)


@pytest.mark.parametrize("text", TEXTS)
def test_the_box_moves_with_the_mask(text):
    sample = painted()
    for seed in range(8):
        moved = run(text, sample, seed)
        assert moved.mask.shape == moved.image.shape[:2]
        assert moved.boxes.dtype == np.float32
        np.testing.assert_allclose(moved.boxes, [box_of(moved.mask == 1)], atol=1.01)
        assert moved.box_labels.tolist() == [3]


@pytest.mark.parametrize("text", TEXTS)
def test_all_arrays_show_the_same_place(text):
    sample = painted()
    for seed in range(4):
        moved = run(text, sample, seed)
        np.testing.assert_array_equal(moved.instances == 7, moved.mask == 1)
        inside = moved.mask == 1
        assert (np.abs(moved.weight - inside) < 0.5).mean() > 0.98
        if "augment" not in text:  # whose colours change
            assert ((moved.image[..., 0] > 127) == inside).mean() > 0.97
            counted = moved.weight + (moved.mask == 0)
            second = moved.second_image[..., 0] < 127
            assert (second == inside)[counted > 0.9].mean() > 0.97


def test_the_given_sample_stays_as_it_is():
    sample, same = painted(), painted()
    for text in TEXTS:
        run(text, sample)
    for field in dataclasses.fields(same):
        name, value = field.name, getattr(same, field.name)
        np.testing.assert_array_equal(getattr(sample, name), value, err_msg=name)


def test_boxes_are_clipped_and_dropped_with_their_labels():
    boxes = np.float32([[0, 0, 10, 10], [8, 8, 30, 20], [40, 40, 48, 48]])
    sample = painted().replace(boxes=boxes, box_labels=np.int32([0, 1, 2]))
    made = run("center_crop(32)", sample)  # from 8 to 40
    np.testing.assert_array_equal(made.boxes, [[0, 0, 2, 2], [0, 0, 22, 12]])
    assert made.box_labels.tolist() == [0, 1]
    none = run("center_crop(2)", sample)
    assert none.boxes.shape == (0, 4)
    assert none.box_labels.shape == (0,)


def test_a_pipeline_means_the_same_for_images_alone_and_with_all_fields():
    sample = painted()
    for text in ("flip | resize(64) | crop(32)", *TEXTS):
        for seed in range(3):
            alone, full = run(text, Sample(sample.image), seed), run(text, sample, seed)
            np.testing.assert_array_equal(alone.image, full.image)


def test_what_comes_from_outside_is_mirrored_or_does_not_count():
    sample = painted((0, 20, 6, 30))
    mirrored = run("crop((48, 96))", sample, 3)
    assert set(np.unique(mirrored.mask)) == {0, 1}
    for text in ("center_crop(60)", "random_affine(translate=0.4)"):
        black = run(text, sample, 1)
        assert (black.mask == -1).any()
        assert (black.weight[black.mask == -1] == 0).all()
        assert (black.image[black.mask == -1] < 200).all()


def test_large_instance_numbers_survive_resampling():
    sample = painted()
    sample = sample.replace(instances=sample.instances * 100_000)
    for text in ("rotate(30)", "random_affine(30)", "elastic(2)", "resize(31)"):
        assert set(np.unique(run(text, sample).instances)) == {0, 700_000}


boxes = st.tuples(
    st.integers(0, 30), st.integers(0, 20), st.integers(2, 30), st.integers(2, 30)
).map(lambda b: (b[0], b[1], min(b[0] + b[2], 40), min(b[1] + b[3], 32)))


@settings(max_examples=60, deadline=None)
@given(
    box=boxes,
    seed=st.integers(0, 999),
    text=st.sampled_from(
        [
            "flip | resize(64) | crop(32)",
            "flips | dihedral",
            "center_crop((20, 50))",
            "pad_and_crop((32, 40), 7, 'constant')",
            "random_resized_crop((24, 30))",
            "dihedral | random_resized_crop(40, scale=(0.3, 0.6), interpolation='nearest')",
        ]
    ),
)
def test_any_box_is_that_of_its_mask(box, seed, text):
    moved = run(text, painted(box, (32, 40)), seed)
    mask = moved.mask == 1
    if not mask.any():
        assert len(moved.boxes) == 0 or (moved.boxes[:, 2:] - moved.boxes[:, :2]).min() < 1.6
        return
    # Pixels that the box covers by less than half are not in a mask resampled by nearest neighbour.
    np.testing.assert_allclose(moved.boxes, [box_of(mask)], atol=1.01)


@pytest.mark.parametrize("factors", ["(0.005, 2)", "(0.001, 0.001)", "(1000, 1000)"])
def test_factors_that_leave_little_of_an_image_work(factors):
    move = parse(f"scale({factors}) | random_affine(scale={factors})")
    moved = move(Sample(np.full((8, 8, 1), 7, np.uint8)), np.random.default_rng(0))
    assert moved.image.shape == (8, 8, 1)
    assert moved.image.max() <= 7
