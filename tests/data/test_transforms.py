"""Each transform against what its paper, torchvision's documentation or arithmetic says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from vitjax.data import DataError, Sample
from vitjax.data.transforms import parse
from vitjax.data.transforms.geometry import RandomResizedCrop
from vitjax.data.transforms.policies import (
    RAND_AUGMENT,
    TRIVIAL_AUGMENT_WIDE,
    draw_step,
)

KEEP_SHAPE = [
    "flip",
    "color_jitter(0.4, 0.4, 0.4, 0.1)",
    "rand_augment(2, 30)",
    "rand_augment(3, 9, 'bilinear')",
    "trivial_augment",
    "trivial_augment('bilinear')",
    "random_erasing(1.0)",
    "random_erasing(1.0, value='random')",
    "random_affine(30, 0.2, (0.5, 2), 20, 7)",
    "invert",
]
TO_FIVE_BY_SEVEN = [
    "resize((5, 7))",
    "resize((5, 7), 'nearest')",
    "resize((5, 7), 'area')",
    "random_resized_crop((5, 7), interpolation='area')",
    "center_crop((5, 7))",
    "pad_and_crop((5, 7), 4, 'constant')",
    "random_resized_crop((5, 7))",
    "resize((9, 9)) | crop((5, 7))",
    "resize((9, 9)) | pad_and_crop((5, 7), 3)",
]


def run(text: str, image: np.ndarray, seed: int = 0) -> np.ndarray:
    return parse(text)(Sample(image), np.random.default_rng(seed)).image


def picture(height=32, width=32, channels=3, seed=0, dtype=np.uint8) -> np.ndarray:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, channels))
    return image.astype(dtype)


images = st.builds(
    picture,
    height=st.integers(3, 40),
    width=st.integers(3, 40),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 9),
)


@settings(max_examples=20)
@given(image=images, seed=st.integers(0, 99))
@pytest.mark.parametrize("text", KEEP_SHAPE)
def test_shape_dtype_and_input_are_kept(text, image, seed):
    before = image.copy()
    out = run(text, image, seed)
    assert (out.shape, out.dtype) == (image.shape, image.dtype)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(out, run(text, image, seed))


@settings(max_examples=20)
@given(image=images, seed=st.integers(0, 99), dtype=st.sampled_from([np.uint8, np.float32]))
@pytest.mark.parametrize("text", TO_FIVE_BY_SEVEN)
def test_the_asked_for_size_comes_out(text, image, seed, dtype):
    out = run(text, image.astype(dtype), seed)
    assert out.shape == (5, 7, image.shape[-1])
    assert out.dtype == dtype


@pytest.mark.parametrize(
    "text", ["flip", "random_erasing(1.0, value='random')", "random_affine(9)"]
)
def test_floats_and_many_channels_can_be_moved(text):
    image = picture(channels=6, dtype=np.float32)
    out = run(text, image)
    assert (out.shape, out.dtype) == (image.shape, np.float32)


def test_colour_wants_bytes():
    with pytest.raises(DataError, match="rand_augment works on uint8 images with 1 or 3"):
        run("rand_augment", picture(dtype=np.float32))


def test_resize_takes_the_shorter_side_and_is_pillows():
    image = picture(20, 31)
    out = run("resize(10)", image)
    assert out.shape == (10, 15, 3)
    pillow = Image.fromarray(image).resize((15, 10), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(out, np.asarray(pillow))
    assert run("resize(10)", picture(31, 20)).shape == (15, 10, 3)
    assert run("resize(20)", image) is image
    floats = run("resize(10, 'bilinear')", image.astype(np.float32))
    assert np.abs(floats - run("resize(10, 'bilinear')", image)).max() <= 1.01


def test_center_crop_is_centred_and_pads():
    image = picture(10, 13)
    np.testing.assert_array_equal(run("center_crop((4, 5))", image), image[3:7, 4:9])
    out = run("center_crop(14)", image)
    np.testing.assert_array_equal(out[2:12, :13], image)
    assert out.sum() == image.sum()


def test_flip_mirrors_with_its_probability():
    image = picture(4, 5)
    np.testing.assert_array_equal(run("flip(1.0)", image), image[:, ::-1])
    assert run("flip(0.0)", image) is image
    step, rng = parse("flip"), np.random.default_rng(0)
    sample = Sample(image)
    flipped = sum(step(sample, rng) is not sample for _ in range(2000))
    assert abs(flipped - 1000) < 4 * math.sqrt(2000 / 4)


def test_pad_and_crop_cuts_from_the_mirrored_image():
    image = picture(8, 8, 1)
    for mode in ("reflect", "constant"):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode=mode)
        windows = {padded[t : t + 8, x : x + 8].tobytes() for t in range(5) for x in range(5)}
        seen = {run(f"pad_and_crop(8, 2, {mode!r})", image, s).tobytes() for s in range(400)}
        assert seen == windows
    with pytest.raises(DataError, match=r"cannot take 13x13 out of an image of 8x8 .*resize\(13\)"):
        run("pad_and_crop(13, 2)", image)


def test_padding_mirrors_again_beyond_the_far_edge():
    image = picture(4, 4, 1)
    padded = np.pad(image, ((9, 9), (9, 9), (0, 0)), mode="reflect")
    windows = {padded[t : t + 8, x : x + 8].tobytes() for t in range(15) for x in range(15)}
    assert {run("pad_and_crop(8, 9)", image, s).tobytes() for s in range(60)} <= windows


@pytest.mark.parametrize("size", [(60, 90), (90, 60)])
def test_inception_boxes_are_uniform_in_area_and_in_the_ratios_logarithm(size):
    crop, rng = RandomResizedCrop(8, scale=(0.1, 0.3)), np.random.default_rng(0)
    boxes = np.array([crop.box(*size, rng) for _ in range(4000)])
    left, top, right, bottom = boxes.T
    assert left.min() >= 0
    assert top.min() >= 0
    assert right.max() <= size[1]
    assert bottom.max() <= size[0]
    areas = (right - left) * (bottom - top) / (size[0] * size[1])
    ratios = np.log((right - left) / (bottom - top))
    for values, low, high in ((areas, 0.1, 0.3), (ratios, math.log(3 / 4), math.log(4 / 3))):
        assert values.min() > low - 0.07
        assert values.max() < high + 0.07
        shares = np.histogram(values, bins=5, range=(low, high))[0] / len(values)
        assert np.abs(shares - 0.2).max() < 0.04


def test_inception_box_falls_back_to_the_middle():
    box = RandomResizedCrop(8, scale=(1.0, 1.0)).box(10, 100, np.random.default_rng(0))
    assert box == (43, 0, 56, 10)  # ratio 4/3, rounded


def test_erasing_stays_within_its_bounds_and_fills():
    image = np.full((50, 40, 3), 7, np.uint8)
    for seed in range(200):
        erased = (run("random_erasing(1.0, value=(1, 2, 3))", image, seed) != image).all(-1)
        rows, columns = np.flatnonzero(erased.any(1)), np.flatnonzero(erased.any(0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert erased.sum() == height * width
        assert 0.015 < height * width / 2000 < 0.35
        assert 0.25 < height / width < 4
    out = run("random_erasing(1.0, value=(1, 2, 3))", image)
    assert {tuple(p) for p in out.reshape(-1, 3).tolist()} == {(7, 7, 7), (1, 2, 3)}
    with pytest.raises(DataError, match="2 values for images of 3 channels"):
        run("random_erasing(1.0, value=(1, 2))", image)


def test_affine_does_nothing_turns_and_shifts():
    image = picture(9, 9)
    np.testing.assert_array_equal(run("random_affine", image), image)
    spot = np.zeros((9, 9, 1), np.uint8)
    spot[4, 4] = 200
    np.testing.assert_array_equal(run("random_affine(180, shear=30)", spot)[4, 4], [200])
    centres = []
    for seed in range(200):
        out = run("random_affine(translate=0.3)", spot, seed)[..., 0].astype(float)
        centres.append([(out.sum(1) @ np.arange(9)), (out.sum(0) @ np.arange(9))] / out.sum())
    centres = np.array(centres) - 4
    assert 2.5 < np.abs(centres).max() < 2.72  # 0.3 of 9 pixels
    assert np.abs(centres.mean(0)).max() < 0.5
    assert (run("random_affine(scale=(3, 3))", np.full((9, 9, 1), 50, np.uint8)) == 50).all()


def test_jitter_brightness_is_a_factor_within_its_range():
    image = np.full((4, 4, 3), 100, np.uint8)
    values = np.array([run("color_jitter(brightness=0.4)", image, s)[0, 0, 0] for s in range(300)])
    assert 59 <= values.min() < 65
    assert 135 < values.max() <= 140
    grey = picture(channels=1)
    np.testing.assert_array_equal(run("color_jitter(saturation=1.0, hue=0.5)", grey), grey)


def test_jitter_hue_turns_red_into_its_neighbours():
    red = np.full((2, 2, 3), (255, 0, 0), np.uint8)
    for seed in range(50):
        r, g, b = run("color_jitter(hue=0.1)", red, seed)[0, 0].tolist()
        assert r == 255
        assert 0 in (g, b)
        assert max(g, b) <= 0.1 * 6 * 255 + 6  # a sixth of the circle is full yellow or magenta


def test_grayscale_weighs_colours_as_pillow_does():
    image = picture()
    grey = np.asarray(Image.fromarray(image).convert("L"))[..., None]
    assert np.abs(run("grayscale", image).astype(int) - grey).max() <= 1
    assert run("grayscale", grey) is grey
    floats = picture(dtype=np.float32) / 255
    assert np.abs(run("grayscale", floats) * 255 - grey).max() < 1
    with pytest.raises(DataError, match="1 or 3 channels"):
        run("grayscale", picture(channels=2))


def test_invert_gives_the_negative():
    assert run("invert", np.array([[[0], [255], [9]]], np.uint8)).tolist() == [[[255], [0], [246]]]
    out = run("invert", np.array([[[0], [1], [0.25]]], np.float32))
    assert out.tolist() == [[[1], [0], [0.75]]]
    assert out.dtype == np.float32


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_area_is_the_mean_of_what_a_pixel_covers(channels):
    # Omniglot's 105 pixels become 28: each covers 3.75, the outer ones in part.
    image = picture(105, 105, channels)
    edges = np.arange(106)
    ends = np.linspace(0, 105, 29)
    shares = np.minimum(edges[1:], ends[1:, None]) - np.maximum(edges[:-1], ends[:-1, None])
    shares = np.maximum(shares, 0) / 3.75
    exact = np.einsum("ij,jkc,lk->ilc", shares, image, shares)
    assert np.abs(run("resize((28, 28), 'area')", image) - exact).max() <= 0.501
    assert run("resize((105, 105), 'area')", image) is image


def test_area_is_bilinear_where_a_side_grows():
    image = picture(8, 8)
    for size in ((16, 16), (4, 16)):
        np.testing.assert_array_equal(
            run(f"resize({size}, 'area')", image), run(f"resize({size}, 'bilinear')", image)
        )


def test_pipelines_know_whether_they_are_random():
    assert not parse("").random
    assert not parse("grayscale | resize((28, 28), 'area') | center_crop(20) | invert").random
    assert not parse("gray_to_rgb").random
    for text in (*KEEP_SHAPE[:-1], "pad_and_crop(8)", "crop(3)", "resize(9) | flip(0.0)"):
        assert parse(text).random, text


def test_gray_to_rgb():
    grey = picture(channels=1)
    np.testing.assert_array_equal(run("gray_to_rgb", grey), np.concatenate([grey] * 3, -1))
    colour = picture()
    assert run("gray_to_rgb", colour) is colour
    with pytest.raises(DataError, match="1 or 3 channels"):
        run("gray_to_rgb", picture(channels=2))


# torchvision's documented tables, at magnitudes 0, 9, 15 and 30 for images of 331 x 331 pixels.
RAND_TABLE = {
    "shear_x": (0, 0.09, 0.15, 0.3),
    "shear_y": (0, 0.09, 0.15, 0.3),
    "translate_x": (0, 45, 75, 150),
    "translate_y": (0, 45, 75, 150),
    "rotate": (0, 9, 15, 30),
    "brightness": (0, 0.27, 0.45, 0.9),
    "color": (0, 0.27, 0.45, 0.9),
    "contrast": (0, 0.27, 0.45, 0.9),
    "sharpness": (0, 0.27, 0.45, 0.9),
    "posterize": (8, 7, 6, 4),
    "solarize": (255, 178.5, 127.5, 0),
}
WIDE_TABLE = {
    "shear_x": (0, 0.297, 0.495, 0.99),
    "translate_y": (0, 9.6, 16, 32),
    "rotate": (0, 40.5, 67.5, 135),
    "contrast": (0, 0.297, 0.495, 0.99),
    "posterize": (8, 6, 5, 2),
    "solarize": (255, 178.5, 127.5, 0),
}


@pytest.mark.parametrize(
    ("operations", "table"), [(RAND_AUGMENT, RAND_TABLE), (TRIVIAL_AUGMENT_WIDE, WIDE_TABLE)]
)
def test_strengths_are_torchvisions(operations, table):
    assert len(operations) == 14
    for name, expected in table.items():
        found = [operations[name].magnitude(step, (331, 331)) for step in (0, 9, 15, 30)]
        assert found == pytest.approx(expected), name
        assert operations[name].signed == (name not in ("posterize", "solarize"))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operations", [RAND_AUGMENT, TRIVIAL_AUGMENT_WIDE])
def test_operations_do_nothing_at_magnitude_zero(operations, channels):
    image = picture(channels=channels).clip(0, 254)  # solarizing at 255 inverts pure white
    pillow = Image.fromarray(image[..., 0] if channels == 1 else image)
    for name, operation in operations.items():
        if name in ("auto_contrast", "equalize"):  # these know no magnitude
            continue
        _, strength = draw_step(operation, 0, pillow.size, np.random.default_rng(0))
        out = operation.apply(pillow, strength, Image.Resampling.NEAREST)
        np.testing.assert_array_equal(np.asarray(out), np.asarray(pillow), err_msg=name)


def operate(name: str, image: np.ndarray, strength: float) -> np.ndarray:
    pillow = Image.fromarray(image)
    return np.asarray(RAND_AUGMENT[name].apply(pillow, strength, Image.Resampling.NEAREST))


def test_operations_do_what_they_are_called():
    image = picture(8, 8)
    shifted = operate("translate_x", image, 3)
    np.testing.assert_array_equal(shifted[:, 3:], image[:, :-3])
    assert not shifted[:, :3].any()
    np.testing.assert_array_equal(operate("translate_y", image, -2)[:-2], image[2:])
    np.testing.assert_array_equal(operate("rotate", image, 90), np.rot90(image))
    np.testing.assert_array_equal(operate("posterize", image, 4), image & 0xF0)
    np.testing.assert_array_equal(
        operate("solarize", image, 178.5), np.where(image < 178.5, image, 255 - image)
    )
    np.testing.assert_array_equal(
        operate("brightness", image, -0.5), np.asarray(Image.fromarray(image // 2))
    )
    grey = np.asarray(Image.fromarray(image).convert("L").convert("RGB"))
    np.testing.assert_array_equal(operate("color", image, -1), grey)
    np.testing.assert_array_equal(
        operate("equalize", image, 0), np.asarray(ImageOps.equalize(Image.fromarray(image)))
    )
    slanted = operate(
        "shear_x", image, 0.5
    )  # row y shows what was 0.5 y to the right, 0 at the top
    np.testing.assert_array_equal(slanted[0], image[0])
    np.testing.assert_array_equal(slanted[4, :5], image[4, 2:7])


def test_policies_draw_every_operation():
    image = picture()
    outputs = {run("rand_augment(1, 30)", image, s).tobytes() for s in range(300)}
    # 14 operations; 9 have two signs: 23 outcomes, of which solarize at 0 is one and all differ.
    assert 20 <= len(outputs) <= 23
    assert len({run("trivial_augment", image, s).tobytes() for s in range(300)}) > 100
    assert run("rand_augment(0, 30)", image).tobytes() == image.tobytes()
