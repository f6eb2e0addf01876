"""HMAX against an independent implementation in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax import models
from vitjax.core.errors import ConfigError
from vitjax.models.hmax import BANDS, gabor_filters, sample_prototypes
from vitjax.nn.inputs import ImageError

FIELDS = {"num_prototypes": 6, "patch_sizes": (2, 3), "num_classes": 3, "sharpness": 0.7}
WIDE = {"dtype": "float64", "param_dtype": "float64"}
# Serre et al. 2007, Table 1: sides, sigmas, wavelengths; windows of C1 and their overlap.
TABLE = """
7 9 2.8 3.6 3.5 4.6 8 4
11 13 4.5 5.4 5.6 6.8 10 5
15 17 6.3 7.3 7.9 9.1 12 6
19 21 8.2 9.2 10.3 11.5 14 7
23 25 10.2 11.3 12.7 14.1 16 8
27 29 12.3 13.4 15.4 16.8 18 9
31 33 14.6 15.8 18.2 19.7 20 10
35 37 17.0 18.2 21.2 22.8 22 11
"""


def filter_at(size, sigma, wavelength, angle):
    """One Gabor filter, pixel by pixel."""
    values, half = np.zeros((size, size)), size // 2
    for y in range(-half, half + 1):
        for x in range(-half, half + 1):
            along = x * np.cos(angle) + y * np.sin(angle)
            across = y * np.cos(angle) - x * np.sin(angle)
            if np.sqrt(x * x + y * y) <= size / 2:
                envelope = np.exp(-(along**2 + (0.3 * across) ** 2) / (2 * sigma**2))
                values[y + half, x + half] = envelope * np.cos(2 * np.pi / wavelength * along)
    values -= values.mean()
    return values / np.sqrt((values**2).sum())


def s1(image, size, sigma, wavelength):
    found, half = np.zeros((*image.shape, 4)), size // 2
    for number in range(4):
        kernel = filter_at(size, sigma, wavelength, number * np.pi / 4)
        for y in range(half, image.shape[0] - half):
            for x in range(half, image.shape[1] - half):
                window = image[y - half : y + half + 1, x - half : x + half + 1]
                norm = np.sqrt((window**2).sum())
                found[y, x, number] = abs((window * kernel).sum()) / norm if norm else 0
    return found


def c1(image):
    bands = []
    for row in TABLE.strip().splitlines():
        *numbers, window, overlap = map(float, row.split())
        first, second = zip(*(numbers[i : i + 2] for i in (0, 2, 4)), strict=True)
        both = np.maximum(
            s1(image, int(first[0]), *first[1:]), s1(image, int(second[0]), *second[1:])
        )
        step = int(window - overlap)
        bands.append(
            np.array(
                [
                    [
                        both[y : y + int(window), x : x + int(window)].max((0, 1))
                        for x in range(0, image.shape[1], step)
                    ]
                    for y in range(0, image.shape[0], step)
                ]
            )
        )
    return bands


def c2(bands, prototypes, sharpness):
    """The largest of the responses of all bands and positions."""
    size, best = prototypes.shape[0], np.zeros(prototypes.shape[-1])
    for band in bands:
        for y in range(band.shape[0] - size + 1):
            for x in range(band.shape[1] - size + 1):
                patch = band[y : y + size, x : x + size, :, None]
                distances = ((patch - prototypes) ** 2).sum((0, 1, 2))
                best = np.maximum(best, np.exp(-sharpness * 16 / size**2 * distances))
    return best


def test_the_filters_are_those_of_the_table():
    for band, row in zip(BANDS, TABLE.strip().splitlines(), strict=True):
        numbers = list(map(float, row.split()))
        assert [*band.sizes, *band.sigmas, *band.wavelengths] == numbers[:6]
        assert (2 * band.step, band.step) == tuple(numbers[6:])
        for scale in zip(band.sizes, band.sigmas, band.wavelengths, strict=True):
            filters = gabor_filters(*scale)
            for number in range(4):
                expected = filter_at(*scale, number * np.pi / 4)
                np.testing.assert_allclose(filters[:, :, 0, number], expected, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_all_layers_on_a_small_image(channels):
    with jax.enable_x64():
        images = np.random.default_rng(0).uniform(size=(2, 26, 21, channels))
        images[0, :12, :12] = 0  # nothing to divide by
        model = models.create("hmax", **FIELDS, **WIDE)
        variables = jax.jit(model.init)(jax.random.key(0), images)
        logits, state = jax.jit(lambda v, x: model.apply(v, x, mutable="intermediates"))(
            variables, images
        )
    logits, state, params = jax.device_get((logits, state, variables["params"]))
    seen = {name: each[0] for name, each in state["intermediates"].items()}
    gray = images @ np.array({1: [1], 2: [0.5, 0.5], 3: [0.299, 0.587, 0.114]}[channels])
    for i in range(2):
        np.testing.assert_allclose(seen["s1_size9"][i], s1(gray[i], 9, 3.6, 4.6), atol=1e-9)
        bands = c1(gray[i])
        for number, band in enumerate(bands, start=1):
            np.testing.assert_allclose(seen[f"c1_band{number}"][i], band, rtol=0, atol=1e-9)
        responses = [c2(bands, params[f"prototypes{n}"], 0.7) for n in (2, 3)]
        np.testing.assert_allclose(seen["pooled"][i], np.concatenate(responses), atol=1e-9)
        for size, expected in zip((2, 3), responses, strict=True):
            largest = [
                value[i].max((0, 1))
                for name, value in seen.items()
                if name.startswith("s2_") and name.endswith(f"patch{size}")
            ]
            np.testing.assert_allclose(np.max(largest, axis=0), expected, atol=1e-9)
    head = params["head"]
    np.testing.assert_allclose(logits, seen["pooled"] @ head["kernel"] + head["bias"], atol=1e-9)


def test_prototypes_are_patches_of_training_images():
    model = models.create("hmax", **FIELDS)
    images = jax.random.uniform(jax.random.key(1), (3, 40, 32, 1))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    sampled = sample_prototypes(model, variables, images, jax.random.key(2))
    maps = np.asarray(model.apply(variables, images, method="c1")[1])
    for size in (2, 3):
        shape = (size, size, 4)
        patches = np.lib.stride_tricks.sliding_window_view(maps, shape, axis=(1, 2, 3))
        patches = patches.reshape(-1, *shape)
        prototypes = np.moveaxis(np.asarray(sampled["params"][f"prototypes{size}"]), -1, 0)
        assert prototypes.shape == (3, *shape)
        for each in prototypes:
            assert (np.abs(patches - each).max((1, 2, 3)) == 0).any()
    assert sampled["params"]["head"] is variables["params"]["head"]
    # An image of which a prototype is a patch has its largest response.
    responses = jax.jit(model.headless().apply)(sampled, images)
    np.testing.assert_allclose(responses.max(0), 1, atol=1e-5)
    again = sample_prototypes(model, variables, images, jax.random.key(2))
    jax.tree.map(np.testing.assert_array_equal, again, sampled)
    with pytest.raises(ConfigError, match="band is 9; it must be in 1 to 8"):
        sample_prototypes(model, variables, images, jax.random.key(2), band=9)
    with pytest.raises(ImageError, match="40 x 32 pixels have 4 x 4 positions in band 7"):
        sample_prototypes(
            model.clone(patch_sizes=(2, 5)), variables, images, jax.random.key(2), band=7
        )


def test_contrast_does_not_matter_and_derivatives_are_finite():
    model = models.create("hmax", **FIELDS)
    images = jax.random.uniform(jax.random.key(1), (1, 16, 16, 1)).at[:, :10].set(0)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    apply = jax.jit(model.apply)
    np.testing.assert_allclose(apply(variables, images / 2), apply(variables, images), atol=1e-5)
    slopes = jax.jit(jax.grad(lambda v, x: apply(v, x).sum(), argnums=(0, 1)))(variables, images)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
    assert all(jnp.any(leaf) for leaf in jax.tree.leaves(slopes))


def test_prototypes_are_split_evenly():
    with pytest.raises(ConfigError, match="num_prototypes=10 cannot be split over 4 patch_sizes"):
        models.create("hmax", num_prototypes=10)
    with pytest.raises(ConfigError, match="patch_sizes has a size twice"):
        models.create("hmax", patch_sizes=(4, 4))
    assert models.create("hmax").smallest_image == 64
