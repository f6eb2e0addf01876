"""The networks of MAML's code, learn2learn and MetaOptNet."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_files import (
    check_activations,
    check_inference,
    check_round_trip,
    random_variables,
    read,
    written,
)

from vitjax import models, weights
from vitjax.weights import WeightsError
from vitjax.weights.formats import files

NAMES = (
    "maml_strided",
    "maml_pooled",
    "learn2learn_strided",
    "learn2learn_pooled",
    "resnet12_mean",
    "resnet12_flat",
)


@pytest.mark.parametrize("name", NAMES)
def test_activations_are_those_of_the_reference(name):
    check_activations(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_found_out_from_its_file(name):
    check_inference(name)


@pytest.mark.parametrize("name", NAMES[2:])
def test_written_again_a_file_has_the_same_arrays(name, tmp_path):
    check_round_trip(name, tmp_path)


@st.composite
def networks(draw):
    """A format, a network that it holds, and the size of its images."""
    format = draw(st.sampled_from(["maml", "learn2learn", "metaoptnet"]))
    classes = draw(st.sampled_from([1, 3]))
    if format == "metaoptnet":
        pooling = draw(st.sampled_from(["mean", "flatten"]))
        widths = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
        # More than one pixel has to be left, or pooling is nothing to tell apart.
        size = 2 << len(widths) if pooling == "flatten" else 84
        return format, models.ResNet12(classes, widths, pooling=pooling), size
    options = {"num_classes": classes, "filters": draw(st.integers(1, 3))}
    if format == "learn2learn":
        options |= {"depth": draw(st.integers(1, 4)), "norm_epsilon": 1e-5}
    if draw(st.booleans()):
        options |= {"downsample": "stride", "pooling": "mean"}
        options |= {"stride_padding": "pytorch"} if format == "learn2learn" else {}
        return format, models.Conv4(**options), 28
    return format, models.Conv4(**options), draw(st.sampled_from([2, 3])) << options.get("depth", 4)


@settings(max_examples=10)
@given(networks(), st.integers(1, 3))
def test_what_is_written_is_read(tmp_path_factory, network, channels):
    format, module, size = network
    variables = random_variables(module, (size, size, channels))
    for name, layer in variables["params"].items():
        if format == "maml" and name.startswith("norm"):
            layer["scale"][:] = 1
    path = written(variables, module, tmp_path_factory.mktemp("file") / "file", format)
    # Without the note that the writer left.
    plain = path.with_name(f"plain{path.suffix}")
    files.write(plain, files.read(path))
    opened = weights.open_weights(plain)
    assert opened.format == format
    assert weights.module_of(opened, say=lambda words: None) == module
    assert opened.description.input_shape == (size, size, channels)
    jax.tree.map(np.testing.assert_array_equal, weights.fit(opened, module), variables)


@pytest.mark.parametrize("name", NAMES[:2])
def test_files_of_maml_have_statistics_once_they_are_written(name, tmp_path):
    reference = read(name)
    module = reference.module()
    variables = weights.load(reference.file, module)
    path = written(variables, module, tmp_path / "again", "maml")
    before, after = files.read(reference.file), files.read(path)
    # The dict of weights, and what TensorFlow keeps beside it, as it starts.
    moments = {f"{i}/moving_{kind}" for i in range(4) for kind in ("mean", "variance")}
    assert set(after) == {*before, *moments}
    for key, array in before.items():
        np.testing.assert_array_equal(after[key], array)
    np.testing.assert_array_equal(after["3/moving_mean"], np.zeros(4))
    again = weights.load(path, module)
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_names_of_tensorflows_checkpoints(tmp_path):
    reference = read("maml_strided")
    arrays = files.read(reference.file)
    renamed = {}
    for name, array in arrays.items():
        # The code gives its biases no name, and TensorFlow counts them.
        unnamed = {"b1": "Variable", "b2": "Variable_1", "b3": "Variable_2", "b4": "Variable_3"}
        renamed[f"model/{unnamed.get(name, name)}"] = array
    renamed |= {"model/conv1/Adam": np.ones(3), "model/conv1/Adam_1": np.ones(3)}
    renamed |= {"beta1_power": np.ones(()), "beta2_power": np.ones(())}
    files.write(tmp_path / "checkpoint.npz", renamed)
    found = weights.load(tmp_path / "checkpoint.npz", reference.module())
    expected = weights.load(reference.file, reference.module())
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def expected_and_found(module, variables, path, images):
    """Logits of the model and of the file, by running statistics and by those of the batch."""
    opened = weights.open_weights(path)
    other = weights.module_of(opened, say=pytest.fail)
    again = weights.fit(opened, other, say=pytest.fail)

    def logits(train, module, variables):
        apply = functools.partial(module.apply, train=train, mutable=["batch_stats"])
        return jax.jit(apply)(variables, images)[0]

    for train in (False, True):
        yield logits(train, module, variables), logits(train, other, again)


@pytest.mark.parametrize(
    ("format", "fields", "shape"),
    [
        ("maml", {}, (84, 84, 3)),  # the stock networks of MAML: configs/maml/miniimagenet.py
        ("learn2learn", {}, (84, 84, 3)),
        ("maml", {"downsample": "stride", "pooling": "mean"}, (28, 28, 1)),  # and omniglot.py
        ("maml", {"pooling": "mean", "norm_epsilon": 1e-5}, (28, 28, 1)),
        ("maml", {"norm": "layer"}, (84, 84, 3)),
        ("learn2learn", {"pooling": "mean", "norm_epsilon": 0.1}, (28, 28, 1)),
    ],
)
def test_scales_and_epsilons_that_a_code_lacks_are_folded(format, fields, shape, tmp_path):
    """Independent of the reader: the scales are 1 and the epsilon is the code's, afterwards."""
    module, said = models.Conv4(filters=4, **fields), []
    variables = random_variables(module, shape)
    for name, layer in variables["params"].items():
        if name.startswith("norm"):
            layer["scale"] = 0.5 + np.abs(layer["scale"])
    path = weights.save(
        variables, module, tmp_path / "file", format, input_shape=shape, say=said.append
    )
    assert any("its gradients differ" in line for line in said)
    note = weights.module_of(weights.open_weights(path))
    own = {"learn2learn": 1e-5, "maml": 1e-12 if module.norm == "layer" else 1e-3}
    assert note.norm_epsilon == own[format]
    if format == "maml" and module.norm == "batch":
        assert not [name for name in files.read(path) if "gamma" in name]
    images = np.random.default_rng(0).normal(size=(6, *shape)).astype(np.float32)
    for expected, found in expected_and_found(module, variables, path, images):
        np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_scales_that_cannot_be_folded_are_counted(tmp_path):
    module = models.Conv4(filters=4)
    variables = random_variables(module, (84, 84, 3))
    for i in range(1, 5):
        variables["params"][f"norm{i}"]["scale"][:] = 1
    variables["params"]["norm3"]["scale"][:2] = (0, -1)
    words = r"of params/norm3/scale 2 of 4 are not above 0; formats that can hold .*learn2learn"
    with pytest.raises(WeightsError, match=words):
        weights.save(variables, module, tmp_path / "file", "maml")
    assert not list(tmp_path.iterdir())


def test_scales_of_one_change_nothing(tmp_path):
    module = models.Conv4(filters=4)
    variables = random_variables(module, (84, 84, 3))
    for i in range(1, 5):
        variables["params"][f"norm{i}"]["scale"][:] = 1
    path = weights.save(variables, module, tmp_path / "file", "maml")
    jax.tree.map(np.testing.assert_array_equal, weights.load(path, module), variables)


def test_layer_normalisation_of_maml(tmp_path):
    module = models.Conv4(filters=4, norm="layer", norm_epsilon=1e-12)
    variables = random_variables(module, (84, 84, 3))
    path = weights.save(variables, module, tmp_path / "file", "maml")
    files.write(tmp_path / "plain.npz", files.read(path))
    opened = weights.open_weights(tmp_path / "plain.npz")
    assert weights.module_of(opened, say=lambda words: None) == module
    jax.tree.map(np.testing.assert_array_equal, weights.fit(opened, module), variables)


def test_what_halves_the_images_is_guessed_and_said():
    opened = weights.open_weights(read("learn2learn_pooled").file)
    said = []
    assert weights.module_of(opened, say=said.append).downsample == "pool"
    assert "no array shows what halves the images; assumed: pooling" in said[0]
    strided = weights.module_of(opened, say=said.append, downsample="stride")
    assert strided.downsample == "stride"
    assert len(said) == 1


@pytest.mark.parametrize(
    ("module", "format", "words"),
    [
        (models.Conv4(activation="tanh"), "maml", "only activation='relu'"),
        (models.Conv4(norm="group"), "maml", "only norm='batch'"),
        (
            models.Conv4(downsample="stride", norm_epsilon=1e-5),
            "learn2learn",
            "only stride_padding='pytorch'",
        ),
        (models.Conv4(num_context=3), "maml", "only num_context=0"),
    ],
)
def test_formats_that_do_not_hold_a_network(tmp_path, module, format, words):
    with pytest.raises(WeightsError, match=words):
        weights.save(random_variables(module, (84, 84, 3)), module, tmp_path / "file", format)


def test_pixels_that_make_no_square(tmp_path):
    module = models.Conv4(filters=4, norm_epsilon=1e-5)
    variables = random_variables(module, (32, 48, 3))
    with pytest.raises(WeightsError, match="inputs of head form no square of pixels"):
        weights.save(variables, module, tmp_path / "file", "learn2learn")
