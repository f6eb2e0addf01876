"""Maps of what a network looks at."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from model_variables import variables_of

from vitjax import models
from vitjax.analysis import attribution, lime
from vitjax.analysis.methods import METHODS
from vitjax.analysis.methods import method as chosen
from vitjax.core.errors import ConfigError
from vitjax.models import Model
from vitjax.training.progress import Progress

VIT = {"width": 8, "depth": 2, "num_heads": 2, "patch_size": 4, "num_classes": 3}
RESNET = {"stage_sizes": (1, 1), "width": 4, "stem": "cifar", "num_classes": 3}
UNET = {"filters": 2, "depth": 1, "num_classes": 3}
NETWORKS = {
    "resnet18": (RESNET, (8, 8, 3)),
    "vit_ti16": ({**VIT, "registers": 1}, (8, 12, 3)),
    "unet": (UNET, (8, 8, 3)),
    # Its last map has the resolution of the images.
    "resnet20": ({**RESNET, "stage_sizes": (1,)}, (6, 8, 3)),
}


@functools.cache
def made(name):
    fields, shape = NETWORKS[name]
    model = models.create(name, **fields)
    images = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    return model, variables_of(model, images), jnp.asarray(images)


def computed(method, name, target=1, **options):
    model, variables, images = made(name)
    function = functools.partial(getattr(attribution, method), model, target=target, **options)
    if method in ("cam", "score_cam"):  # they choose by values
        return np.asarray(function(variables, images))
    return np.asarray(jax.jit(lambda v, x: function(v, x))(variables, images))


def test_grad_cam_of_a_mean_and_a_dense_layer_is_cam():
    plain, by_gradient = computed("cam", "resnet20"), computed("grad_cam", "resnet20")
    # The gradient of a mean over pixels is the weight over their number.
    np.testing.assert_allclose(
        by_gradient * plain[0].size, nn.relu(plain), atol=1e-5 * np.abs(plain).max()
    )
    assert by_gradient.max() > 0


def test_the_mean_of_cam_is_the_logit():
    model, variables, images = made("resnet18")
    logits = model.apply(variables, images) - variables["params"]["head"]["bias"]
    targets = jnp.array([2, 0])
    maps = attribution.cam(model, variables, images, targets)
    # The last map has half of the resolution: enlarged, its mean is kept but at borders.
    name = attribution.Opened(model).default_layer()
    assert name == "stage2"
    _, values = attribution.Opened(model)(variables, images)
    kernel = variables["params"]["head"]["kernel"]
    expected = jnp.einsum("bhwc,cb->bhw", values[name], kernel[:, targets])
    np.testing.assert_allclose(
        expected.mean((1, 2)), [logits[0, 2], logits[1, 0]], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        maps, jax.image.resize(expected, maps.shape, "bilinear"), rtol=1e-5, atol=1e-5
    )


def test_cam_of_a_head_that_reads_no_mean_is_refused():
    model, variables, images = made("vit_ti16")
    with pytest.raises(ConfigError, match=r"CAM: the head of this ViT is not .* use grad_cam"):
        attribution.cam(model, variables, images, 1)


def test_integrated_gradients_sum_to_the_difference_of_scores():
    model, variables, images = made("resnet18")
    targets = np.array([2, 1])
    maps = computed("integrated_gradients", "resnet18", targets, steps=128)
    scores = attribution.scores(model.apply(variables, images), targets)
    start = attribution.scores(model.apply(variables, jnp.zeros_like(images)), targets)
    np.testing.assert_allclose(maps.sum((1, 2)), scores - start, rtol=0.01)


def test_the_gradient_is_that_of_the_score():
    model, variables, images = made("vit_ti16")
    expected = jax.grad(lambda x: model.apply(variables, x)[:, 1].sum())(images)
    np.testing.assert_allclose(
        computed("saliency", "vit_ti16"), jnp.abs(expected).max(-1), rtol=1e-4, atol=1e-6
    )


class Two(Model):
    """Two dense layers over pixels with ReLUs, and a sum."""

    num_classes: int = 2

    @nn.compact
    def __call__(self, x, train=False):
        x = jax.nn.relu(nn.Dense(5)(x))
        x = jnp.maximum(nn.Dense(4)(x), 0)
        return nn.Dense(self.num_classes, name="head")(x).sum((1, 2))


def test_guided_backpropagation_by_hand():
    model, images = Two(), np.random.default_rng(3).normal(size=(2, 3, 4, 3)).astype(np.float32)
    variables = variables_of(model, images)
    found = attribution.guided_backpropagation(model, variables, jnp.asarray(images), 1)
    first, second, head = (variables["params"][n] for n in ("Dense_0", "Dense_1", "head"))
    a = images @ first["kernel"] + first["bias"]
    b = np.maximum(a, 0) @ second["kernel"] + second["bias"]
    back = np.broadcast_to(np.asarray(head["kernel"])[:, 1], b.shape)
    back = np.where((b > 0) & (back > 0), back, 0) @ np.asarray(second["kernel"]).T
    back = np.where((a > 0) & (back > 0), back, 0) @ np.asarray(first["kernel"]).T
    np.testing.assert_allclose(found, np.abs(back).max(-1), rtol=1e-4, atol=1e-5)


def test_guided_backpropagation_wants_a_relu():
    with pytest.raises(ConfigError, match="a ViT has no ReLU"):
        computed("guided_backpropagation", "vit_ti16")


def test_occlusion_by_hand():
    model, variables, images = made("resnet18")
    found = computed("occlusion", "resnet18", size=5, stride=2)
    total, count = np.zeros((2, 8, 8)), np.zeros((8, 8))
    whole = model.apply(variables, images)[:, 1]
    for row in (0, 2, 3):
        for column in (0, 2, 3):
            hidden = np.array(images)
            hidden[:, row : row + 5, column : column + 5] = 0
            fall = whole - model.apply(variables, jnp.asarray(hidden))[:, 1]
            total[:, row : row + 5, column : column + 5] += np.asarray(fall)[:, None, None]
            count[row : row + 5, column : column + 5] += 1
    np.testing.assert_allclose(found, total / count, rtol=1e-3, atol=1e-4)


def test_score_cam_by_hand():
    model, variables, images = made("resnet18")
    found = computed("score_cam", "resnet18", batch_size=3)
    _, values = attribution.Opened(model)(variables, images)
    for image, maps, own in zip(images, values["stage2"], found, strict=True):
        expected = 0
        for channel in np.moveaxis(np.asarray(maps), -1, 0):
            large = jax.image.resize(channel, (8, 8), "bilinear")
            mask = (large - large.min()) / jnp.where(jnp.ptp(large) == 0, 1, jnp.ptp(large))
            likely = jax.nn.softmax(model.apply(variables, (image * mask[..., None])[None]))
            expected = expected + likely[0, 1] * large
        np.testing.assert_allclose(own, nn.relu(expected), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", ["score_cam", "lime"])
def test_what_takes_long_says_how_far_it_is(method, monkeypatch):
    module = attribution if method == "score_cam" else lime
    monkeypatch.setattr(module, "Progress", functools.partial(Progress, every=0))
    model, variables, images = made("resnet18")
    lines: list[str] = []
    chosen(method).of(model, lines.append, batch_size=4)(variables, images[:1], 0)
    assert lines
    assert re.fullmatch(rf"{method}: 1 of \d+ batches, about .* left", lines[0])


def options():
    return [(name, option) for name, each in METHODS.items() for option in each.options]


@pytest.mark.parametrize(("method", "option"), options())
def test_options_that_cannot_be_are_refused(method, option):
    model, _, _ = made("resnet18")
    wrong = 3 if option in ("layer", "masker") and method != "attention" else "many"
    with pytest.raises(ConfigError, match=rf"^{method}\.{option} is '?{wrong}"):
        chosen(method).of(model, **{option: wrong})
    if option not in ("layer", "head", "masker", "baseline", "fill"):
        with pytest.raises(
            ConfigError, match=rf"^{method}\.{option} is -1; it must be (at least|above)"
        ):
            chosen(method).of(model, **{option: -1})


@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_is_called_with_is_checked(method):
    """Also where it is called without `Method.of`."""
    model, variables, images = made("resnet18")
    function = METHODS[method].function

    def refused(words, images=images, target=0, **options):
        with pytest.raises(ConfigError, match=f"^{method}.*{words}"):
            function(model, variables, images, target, **options)

    if METHODS[method].of_class:
        refused("there is no class 3: the model has 3, from 0 to 2", target=jnp.array([0, 3]))
        refused("there is no class -1", target=-1)
        refused("target is 'cat'; it must be the number of a class", target="cat")
        refused("one for each of 2 images", target=[0, 1, 2])
    refused(r"images have the shape \(8, 8, 3\)", images[0])
    refused(r"images have the shape \(0, 8, 8, 3\)", images[:0])
    for option in METHODS[method].options:
        refused(rf"\.{option} is \{{1\}}; it must be", **{option: {1}})


def test_options_and_classes_may_be_arrays_and_traced():
    model, variables, images = made("resnet18")
    plain = computed("smooth_grad", "resnet18", samples=2, noise=0.3)

    @jax.jit
    def traced(noise, target):
        return attribution.smooth_grad(
            model, variables, images, [target, target], samples=2, noise=noise
        )

    np.testing.assert_allclose(traced(0.3, 1), plain, rtol=1e-4)
    black = jnp.full(images.shape[1:], -1.0)
    whole = computed("integrated_gradients", "resnet18", baseline=black, steps=4)
    number = computed("integrated_gradients", "resnet18", baseline=np.float32(-1), steps=4)
    np.testing.assert_allclose(whole, number, rtol=1e-5)
    first = attribution.gradient(model, variables, images, np.array([1]))
    np.testing.assert_array_equal(first, attribution.gradient(model, variables, images, [1, 1]))


def test_a_baseline_is_a_number_or_one_of_each_channel():
    black = computed("integrated_gradients", "resnet18", baseline=[-1.0, -0.5, -2.0], steps=512)
    model, variables, images = made("resnet18")
    start = jnp.broadcast_to(jnp.array([-1.0, -0.5, -2.0]), images.shape)
    fall = [attribution.scores(model.apply(variables, x), 1) for x in (images, start)]
    np.testing.assert_allclose(black.sum((1, 2)), fall[0] - fall[1], rtol=0.01)
    with pytest.raises(ConfigError, match=r"baseline has the shape \(2,\); it must be a number"):
        attribution.integrated_gradients(model, variables, images, 1, baseline=(0.0, 1.0))


@pytest.mark.parametrize("name", ["resnet18", "vit_ti16", "unet"])
@pytest.mark.parametrize("method", [n for n, m in METHODS.items() if m.compiled and m.of_class])
def test_every_method_gives_a_map_at_the_size_of_the_images(method, name):
    """Traced alone."""
    model, variables, images = made(name)
    lacking = {"guided_backpropagation": ["vit_ti16"], "relevance": ["resnet18", "unet"]}
    function = METHODS[method].of(model)
    if name in lacking.get(method, ()):
        with pytest.raises(ConfigError, match="has no"):
            jax.eval_shape(function, variables, images, jnp.array([0, 1]))
        return
    found = jax.eval_shape(function, variables, images, jnp.array([0, 1]))
    assert found.shape == images.shape[:3]


def test_a_segmentation_is_explained_by_the_pixels_of_a_class():
    model, variables, images = made("unet")
    outputs = model.apply(variables, images)
    chosen = jnp.argmax(outputs, -1) == 2
    expected = [
        outputs[i, :, :, 2][chosen[i]].mean() if chosen[i].any() else outputs[i, :, :, 2].mean()
        for i in range(2)
    ]
    np.testing.assert_allclose(attribution.scores(outputs, 2), expected, rtol=1e-5)
    assert max(computed("grad_cam", "unet", target).max() for target in range(3)) > 0


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="has no layer 'stage3'; did you mean 'stage2'"):
        computed("grad_cam", "resnet18", layer="stage3")
    with pytest.raises(ConfigError, match="'pooled' has the shape"):
        computed("grad_cam", "resnet18", layer="pooled")


def test_an_unknown_method_or_option_is_named():
    with pytest.raises(ConfigError, match="unknown method 'gradcam'; did you mean 'grad_cam'"):
        chosen("gradcam")
    with pytest.raises(ConfigError, match=r"'step'.*did you mean 'steps'"):
        chosen("integrated_gradients").of(made("resnet18")[0], step=3)


def test_lime_finds_the_superpixel_that_counts(monkeypatch):
    """One of nine cells decides: it alone has a coefficient, the fall of the probability."""

    class Corner(Model):
        num_classes: int = 2

        @nn.compact
        def __call__(self, x, train=False):
            # Without its pixels' differences a cell has its mean, which is 0.
            value = 4 * jnp.square(x[:, :8, :8]).mean((1, 2, 3))
            return jnp.stack([jnp.zeros_like(value), value], axis=1)

    rows, columns = np.mgrid[:24, :24]
    cells = rows // 8 * 3 + columns // 8
    monkeypatch.setattr(lime, "superpixels", lambda image, segments: cells)
    image = jnp.asarray(np.where((rows + columns) % 2, 1.0, -1.0)[None, :, :, None], jnp.float32)
    explain = functools.partial(lime.lime, Corner(), {}, image, 1, alpha=1e-6)
    found = np.asarray(explain(samples=200, batch_size=64)[0])
    expected = np.where(cells == 0, 1 / (1 + np.exp(-4)) - 0.5, 0)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    for batch_size in (7, 500):
        again = explain(samples=200, batch_size=batch_size)[0]
        np.testing.assert_allclose(again, found, atol=1e-5)


def test_superpixels_are_numbered_without_gaps():
    image = np.zeros((20, 30, 3), np.float32)
    image[:10, :15], image[10:, 15:], image[:10, 15:, 1] = 1.0, -1.0, 1.0
    found = lime.superpixels(image, 8)
    assert found.shape == (20, 30)
    assert set(found.flat) == set(range(found.max() + 1))
    assert found.max() > 2
