"""Common corruptions: what all keep, how strong each is, and patches that are moved or hidden."""

import io
import itertools
import pickle

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vitjax.core.errors import ConfigError
from vitjax.data import DataError
from vitjax.data.corruptions import CORRUPTIONS, corrupt, drop_patches, patch_shuffle
from vitjax.data.corruptions.blur import streaked
from vitjax.data.corruptions.patches import occlusion_grid
from vitjax.data.corruptions.weather import fractal
from vitjax.data.sample import Sample
from vitjax.data.transforms import parse

PUBLISHED = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog"),
    *("brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)


def rng(seed=0):
    return np.random.default_rng(seed)


def photo(side, channels=3):
    """A dark image of smooth areas and of edges."""
    made = cv2.GaussianBlur(rng(1).normal(size=(side, side, channels)), (0, 0), side / 16)
    made = made.reshape(side, side, channels)
    made = (made - made.min()) / np.ptp(made)
    made[side // 4 : side // 2, side // 3 : 2 * side // 3] *= 0.3
    return np.rint(made * 150).astype(np.uint8)


def test_the_corruptions_are_those_of_the_paper_in_its_order():
    assert CORRUPTIONS.names() == PUBLISHED
    kinds = [CORRUPTIONS.facts(name)["kind"] for name in PUBLISHED]
    assert [kinds.count(kind) for kind in ("noise", "blur", "weather", "digital")] == [3, 4, 4, 4]


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(PUBLISHED),
    severity=st.integers(1, 5),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from([1, 3]),
    filling=st.sampled_from(["noise", 0, 255]),
    seed=st.integers(0, 2**32),
)
def test_any_image_keeps_its_shape_and_type(name, severity, height, width, channels, filling, seed):
    shape = (height, width, channels)
    image = rng(seed).integers(0, 256, shape, np.uint8)
    if filling != "noise":
        image[:] = filling
    before = image.copy()
    made = corrupt(image, name, severity, rng(seed))
    assert (made.shape, made.dtype) == (shape, np.uint8)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(made, corrupt(image, name, severity, rng(seed)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_strongest_changes_most(name):
    for side in (32, 100):
        image = photo(side)
        distances = [
            np.mean(
                [np.abs(corrupt(image, name, s, rng(i)) - image.astype(float)) for i in range(3)]
            )
            for s in (1, 5)
        ]
        assert min(distances) > 0.2
        # Published elastic deformations become finer rather than larger.
        if name != "elastic_transform":
            assert distances[0] < distances[1]


@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "snow", "frost", "fog"])
def test_another_seed_gives_another_image(name):
    image = photo(24)
    assert np.any(corrupt(image, name, 3, rng(0)) != corrupt(image, name, 3, rng(1)))


@pytest.mark.parametrize("side", [32, 224])
def test_noise_is_as_strong_as_published(side):
    grey = np.full((side, side, 3), 128, np.uint8)
    deviation = {32: 0.04, 224: 0.08}[side]
    noisy = corrupt(grey, "gaussian_noise", 1, rng()) / 255 - 128 / 255
    assert noisy.std() == pytest.approx(deviation, rel=0.05)
    photons = {32: 50, 224: 3}[side]
    light = np.full((side, side, 3), 64, np.uint8)
    shot = corrupt(light, "shot_noise", 5, rng()) / 255
    # Of Poisson noise the variance is the mean; of 3 photons 255 is never exceeded by much.
    assert shot.var() == pytest.approx(64 / 255 / photons, rel=0.12)
    fraction = {32: 0.07, 224: 0.27}[side]
    impulses = corrupt(grey, "impulse_noise", 5, rng())
    assert np.mean(impulses == 0) == pytest.approx(fraction / 2, rel=0.2)
    assert np.mean(impulses == 255) == pytest.approx(fraction / 2, rel=0.2)


@pytest.mark.parametrize(
    "name", ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "elastic_transform"]
)
def test_what_only_moves_light_leaves_a_plain_image(name):
    plain = np.tile(np.uint8([[[200, 100, 30]]]), (31, 45, 1))
    np.testing.assert_array_equal(corrupt(plain, name, 4, rng()), plain)


def test_a_streak_goes_one_way_from_a_point():
    point = np.zeros((9, 9, 1), np.float32)
    point[4, 4] = 1
    found = streaked(point, 1.0, 1.0, 0)[..., 0]
    weights = np.exp(-(np.arange(3) ** 2) / 2)
    expected = np.zeros((9, 9))
    expected[4, 2:5] = (weights / weights.sum())[::-1]  # each pixel sees those to its right
    np.testing.assert_allclose(found, expected, atol=1e-6)
    down = streaked(point, 1.0, 1.0, 90)[..., 0]
    np.testing.assert_allclose(down, expected.T, atol=1e-6)


def test_brightness_contrast_and_pixelation_by_hand():
    image = photo(32)
    values = image.astype(float) / 255
    top = values.max(-1, keepdims=True)
    brighter = values / np.maximum(top, 1e-9) * np.minimum(top + 0.15, 1)
    made = corrupt(image, "brightness", 3, rng())
    np.testing.assert_allclose(made, 255 * brighter, atol=0.51)
    flat = values.mean((0, 1)) + 0.15 * (values - values.mean((0, 1)))
    np.testing.assert_allclose(corrupt(image, "contrast", 5, rng()), 255 * flat, atol=0.51)
    black = np.zeros((32, 32, 3), np.uint8)
    assert np.unique(corrupt(black, "brightness", 5, rng())) == round(0.3 * 255)
    half = np.kron(rng().integers(0, 256, (20, 20, 3), np.uint8), np.ones((2, 2, 1), np.uint8))
    # 20 of 32 columns are left at severity 5, so no image has more different ones.
    assert len(np.unique(corrupt(half[:32, :32], "pixelate", 5, rng()), axis=1)[0]) <= 20


def test_jpeg_is_that_of_pillow():
    image = photo(40, 1)
    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "JPEG", quality=58)
    made = corrupt(image, "jpeg_compression", 3, rng())
    np.testing.assert_array_equal(made[..., 0], np.asarray(Image.open(file)))


def test_clouds_fill_the_unit_interval_and_are_smooth():
    smooth, rough = fractal((37, 64), 3.0, rng()), fractal((37, 64), 1.3, rng())
    for each in (smooth, rough):
        assert each.shape == (37, 64)
        assert (each.min(), each.max()) == (0, pytest.approx(1))
    steps = [np.abs(np.diff(each, axis=1)).mean() for each in (smooth, rough)]
    assert steps[0] < 0.5 * steps[1]


def test_floats_are_rounded_to_bytes():
    image = photo(16)
    floats = image.astype(np.float32) / 255
    made = corrupt(floats, "fog", 2, rng())
    assert made.dtype == np.float32
    np.testing.assert_allclose(made * 255, corrupt(image, "fog", 2, rng()), atol=1e-4)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4, 2), np.uint8), r"uint8 of shape \(4, 4, 2\)"),
        (np.zeros((4, 4), np.uint8), r"of shape \(4, 4\)"),
        (np.zeros((4, 4, 3), np.int32), "not on int32"),
        (np.full((4, 4, 3), 2, np.float32), "values from 2 to 2"),
        (np.full((4, 4, 3), np.nan, np.float32), "values from nan"),
    ],
)
def test_other_arrays_are_refused(image, words):
    with pytest.raises(DataError, match=words):
        corrupt(image, "fog", 1, rng())


def test_unknown_names_and_severities_are_refused():
    image = photo(8)
    with pytest.raises(ConfigError, match="unknown corruption 'snwo'; did you mean 'snow'"):
        corrupt(image, "snwo", 1, rng())
    for severity in (0, 6, 2.5, True):
        with pytest.raises(ConfigError, match="severity is"):
            corrupt(image, "snow", severity, rng())


@given(height=st.integers(8, 30), width=st.integers(8, 30), grid=st.integers(1, 8))
@settings(max_examples=25, deadline=None)
def test_shuffled_patches_are_those_of_the_image(height, width, grid):
    image = rng(2).integers(0, 256, (height, width, 3), np.uint8)
    made = patch_shuffle(image, grid, rng(3))
    h, w = height // grid, width // grid

    def patches(of):
        return sorted(
            of[y * h : (y + 1) * h, x * w : (x + 1) * w].tobytes()
            for y in range(grid)
            for x in range(grid)
        )

    assert patches(made) == patches(image)
    np.testing.assert_array_equal(made[h * grid :], image[h * grid :])
    np.testing.assert_array_equal(made[:, w * grid :], image[:, w * grid :])
    if grid == 1:
        np.testing.assert_array_equal(made, image)


def test_hidden_patches_are_a_fraction_and_nested():
    image = np.full((28, 42, 1), 9, np.uint8)
    hidden = [drop_patches(image, fraction, 14, rng(4)) == 0 for fraction in (0, 0.3, 0.6, 1)]
    assert [np.mean(each) for each in hidden] == [0, 59 / 196, 118 / 196, 1]
    for fewer, more in itertools.pairwise(hidden):
        assert np.all(more[fewer])
    # Whole patches: 2 x 3 pixels.
    blocks = hidden[1].reshape(14, 2, 14, 3).swapaxes(1, 2).reshape(196, 6)
    assert np.all(blocks.all(1) | ~blocks.any(1))
    uneven = drop_patches(np.ones((7, 9, 3), np.float32), 0.5, 4, rng())
    assert uneven.dtype == np.float32


def test_a_grid_finer_than_pixels_is_refused():
    for function in (patch_shuffle, lambda x, grid, r: drop_patches(x, 0.5, grid, r)):
        with pytest.raises(ConfigError, match="must be from 1 to 5"):
            function(np.zeros((5, 8, 3), np.uint8), 6, rng())
    assert [occlusion_grid((side, side)) for side in (2, 32, 64, 224)] == [1, 8, 14, 14]


def test_corruptions_are_transforms():
    image = photo(20)
    pipeline = parse("corrupt('fog', 2)")
    again = pickle.loads(pickle.dumps(pipeline))
    made = again(Sample(image, mask=np.ones((20, 20), np.int32)), rng(5))
    np.testing.assert_array_equal(made.image, corrupt(image, "fog", 2, rng(5)))
    assert made.mask.all()
    drawn = parse("corrupt('contrast', (1, 5))")
    means = {drawn(Sample(image), rng(seed)).image.std().round(3) for seed in range(12)}
    assert len(means) > 2
    with pytest.raises(ConfigError, match=r"'fogg'; .*did you mean 'fog'"):
        parse("corrupt('fogg')")
    with pytest.raises(ConfigError, match="severity is 6"):
        parse("corrupt('fog', 6)")
    hidden = parse("drop_patches(0.5, 2)")(Sample(image), rng()).image
    assert np.mean(hidden == 0) > 0.45
    moved = parse("patch_shuffle(2)")
    assert np.any(moved(Sample(image), rng()).image != image)
    with pytest.raises(DataError, match="moves parts of images alone"):
        moved(Sample(image, mask=np.ones((20, 20), np.int32)), rng())
