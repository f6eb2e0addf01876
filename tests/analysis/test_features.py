"""Features of every example: which layers there are, each example once, and a cache to trust."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from vitjax import models
from vitjax.analysis.activations import Activations
from vitjax.core.errors import ConfigError
from vitjax.training import experiment as experiments
from vitjax.training import features
from vitjax.training.features import Extractor

VIT = {"patch_size": 4, "width": 8, "depth": 2, "num_heads": 2, "mlp_width": 12, "num_classes": 3}


# ------------------------------------------------------------------------------------------ layers


def activations(name, **fields):
    """The layers of a network, the network, and shapes of its variables and images."""
    model = models.create(name, **fields)
    images = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return Activations(model, variables, images), model, variables, images


def all_sown(model, variables, images):
    _, state = jax.jit(lambda *given: model.apply(*given, mutable="intermediates"))(
        variables, images
    )
    return state["intermediates"]


def drawn(shapes):
    generator = np.random.default_rng(0)
    return jax.tree.map(lambda x: generator.normal(size=x.shape).astype(x.dtype) / 2, shapes)


OF_A_BLOCK = (
    *("attention/queries", "attention/keys", "attention/values"),
    *("after_attention", "mlp/hidden", "after_mlp"),
)


@pytest.mark.parametrize("form", [{}, {"scan_layers": True, "remat": "full"}])
def test_layers_of_a_vit_come_in_the_order_of_computation(form):
    found, *_ = activations("vit_ti16", **VIT, **form)
    blocks = [f"encoder/block_{i}/{name}" for i in range(2) for name in OF_A_BLOCK]
    expected = ["patches", "tokens", *blocks, "encoded", "representation"]
    assert [layer.name for layer in found.layers] == expected
    depths = [layer.depth for layer in found.layers]
    np.testing.assert_allclose(depths, np.linspace(0, 1, len(expected)))
    assert [layer.name for layer in found.chosen("all")] == [
        *("tokens", "encoder/block_0/after_mlp", "encoder/block_1/after_mlp", "representation")
    ]
    assert [layer.name for layer in found.chosen(None)] == ["representation"]
    assert [layer.name for layer in found.chosen("block_1/.*(keys|hidden)")] == [
        *("encoder/block_1/attention/keys", "encoder/block_1/mlp/hidden")
    ]


def test_layers_of_a_residual_network_come_in_the_order_of_computation():
    found, *_ = activations("resnet20", stage_sizes=(2, 1), width=4, num_classes=3)
    # What a stage hands on is its last block's output: one layer, not two.
    assert [layer.name for layer in found.layers] == [
        *("stem", "stage1_block1/output", "stage1", "stage2", "representation")
    ]
    assert found.chosen("all") == found.layers


@pytest.mark.parametrize("form", [{}, {"scan_layers": True}])
@pytest.mark.parametrize("pooling", ["mean", "token"])
def test_vectors_are_what_was_sown_pooled(form, pooling):
    fields = {**VIT, "registers": 2, "layer_scale": 0.5}
    found, model, *shapes = activations("vit_ti16", **fields, **form)
    variables, images = drawn(shapes)
    vectors = jax.jit(found.vectors(found.layers, pooling))(variables, images)
    sown = all_sown(model, variables, images)
    if form:
        sown = models.unstack_layers(sown)
    block = sown["encoder"]["block_1"]
    # Before the four patches stand the class token and two registers.
    (tokens,) = block["after_mlp"]
    expected = tokens[:, 3:].mean(axis=1) if pooling == "mean" else tokens[:, 0]
    np.testing.assert_allclose(vectors["encoder/block_1/after_mlp"], expected, atol=1e-5)
    keys = block["attention"]["keys"][0].reshape(2, 7, 8)
    expected = keys[:, 3:].mean(axis=1) if pooling == "mean" else keys[:, 0]
    np.testing.assert_allclose(vectors["encoder/block_1/attention/keys"], expected, atol=1e-5)
    (patches,) = sown["patches"]
    np.testing.assert_allclose(vectors["patches"], patches.mean(axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(vectors["representation"], sown["representation"][0], atol=1e-5)


def test_what_cannot_be_taken_is_told():
    found, *_ = activations("vit_ti16", **VIT, pooling="mean")
    with pytest.raises(ConfigError, match="'after_mpl' matches no layer; did you mean 'after_mlp'"):
        found.chosen("after_mpl")
    with pytest.raises(ConfigError, match=r"--layers: '\(' is not a regular expression"):
        found.chosen("(")
    with pytest.raises(ConfigError, match="matches no layer"):
        found.chosen("attention/map")
    with pytest.raises(ConfigError, match="no class token; use --pool=mean"):
        found.vectors(found.layers, "token")
    with pytest.raises(ConfigError, match=r"--pool is 'maen'.*did you mean 'mean'"):
        found.vectors(found.layers, "maen")


# ---------------------------------------------------------------------------------------- features

TRAIN, VAL = 21, 10


def config(**data):
    return ConfigDict(
        {
            "model": {"name": "resnet20", "stage_sizes": (1,), "width": 4},
            "data": {
                **{"source": "synthetic", "image_size": 8, "num_classes": 3, "examples": TRAIN},
                **{"val_examples": VAL, "batch_size": 8, "eval_batch_size": 6, **data},
            },
            "optimizer": {"name": "sgd", "learning_rate": 0.1},
            "train": {"steps": 1},
        }
    )


def extractor(chosen=None, seed=0, cache=None, say=print, pattern=None):
    """An extractor of the layers that ``pattern`` chooses, its experiment and the variables."""
    built = experiments.build(config() if chosen is None else chosen)
    objective, data = built.objective, built.data
    variables = jax.jit(objective.init_model)(jax.random.key(seed), data.example_batch())
    images = jax.eval_shape(objective.normalize, data.example_batch(evaluated=True)["image"])
    found = Activations(objective.model, variables, images)
    layers = found.chosen(pattern)
    about = {"layers": [layer.name for layer in layers], "pooling": "mean"}
    vectors = found.vectors(layers, "mean")
    return Extractor(built, variables, vectors, about, cache=cache, say=say), built, variables


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_every_example_has_its_features_once_and_in_order(mode):
    chosen = config()
    chosen.parallel = {
        "mode": mode
    }  # on eight devices, so in batches of eight, the last one padded
    taken, built, variables = extractor(chosen, pattern="all")
    for split, count in (("train", TRAIN), ("val", VAL)):
        found = taken.of(split)
        images = np.stack([built.data.example(split, index) for index in range(count)])
        model, inputs = built.objective.model, built.data.normalize(images)
        sown = all_sown(model, variables, inputs)
        expected = sown["stem"][0].mean(axis=(1, 2))
        np.testing.assert_allclose(found.layers["stem"], expected, atol=1e-5)
        expected = sown["pooled"][0]
        np.testing.assert_allclose(found.layers["representation"], expected, atol=1e-5)
        assert found.mask.all()
        assert found.mask.shape == (count,)


def test_an_image_that_cannot_be_read_keeps_its_place(tmp_path):
    for split in ("train", "val"):
        for label in ("a", "b"):
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(4):
                pixels = np.full((8, 8, 3), 30 * number + 7, np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / label / f"{number}.png")
    (tmp_path / "train/b/1.png").write_bytes(b"no image")
    chosen = config()
    chosen.data = {
        **{"source": "folder", "path": str(tmp_path), "on_corrupt": "skip"},
        **{"batch_size": 4, "eval_batch_size": 8},
    }
    for _ in ("computed", "from the cache"):
        taken, built, _ = extractor(chosen, cache=tmp_path / "features")
        found = taken.of("train")
        assert found.mask.tolist() == [True] * 5 + [False] + [True] * 2
        (name,) = built.data.skipped
        assert name.endswith("1.png")
        # Images of one grey are one in both classes.
        rows = found.layers["representation"]
        np.testing.assert_allclose(rows[[0, 2, 3]], rows[[4, 6, 7]], atol=1e-6)


# ------------------------------------------------------------------------------------------- cache


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_features_are_computed_once_for_what_they_depend_on(tmp_path, monkeypatch):
    said = []
    first = extractor(cache=tmp_path, say=said.append)[0].of("val")
    assert "computed in" in said[-1]
    again = extractor(config(batch_size=4, eval_batch_size=3), cache=tmp_path, say=said.append)[0]
    found = again.of("val")
    assert said[-1].startswith("Features of val: from ")
    np.testing.assert_array_equal(found.layers["representation"], first.layers["representation"])
    np.testing.assert_array_equal(found.mask, first.mask)
    for number, (chosen, how) in enumerate(
        [
            (config(), {"seed": 1}),
            (config(eval_transforms="resize(8)"), {}),
            (config(mean=0.5), {}),
            (config(), {"pattern": "all"}),
        ]
    ):
        extractor(chosen, cache=tmp_path, say=said.append, **how)[0].of("val")
        assert "computed in" in said[-1], (chosen, how)
        assert len(files(tmp_path)) == number + 2
    # Other images under the same config: a folder that was filled anew, say.
    other, built, _ = extractor(cache=tmp_path, say=said.append)
    built.data.source.split("val").images[0] += 1
    other.of("val")
    assert "computed in" in said[-1]


@pytest.mark.parametrize("how", ["bit", "cut", "empty", "others"])
def test_a_damaged_cache_is_made_again(tmp_path, how):
    said = []
    taken = extractor(cache=tmp_path, say=said.append)[0]
    whole = taken.of("val")
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    place = content.index(whole.layers["representation"].tobytes()) + 11
    content[place] ^= 1
    damaged = {"bit": content, "cut": content[:200], "empty": b"", "others": b"PK other things"}
    path.write_bytes(damaged[how])
    again = taken.of("val")
    assert any("is damaged" in line and path.name in line for line in said)
    np.testing.assert_array_equal(again.layers["representation"], whole.layers["representation"])
    said.clear()
    taken.of("val")
    assert [line.split(" from")[0] for line in said] == ["Features of val:"]


def test_a_file_of_features_is_whole_or_not_there(tmp_path, monkeypatch):
    taken = extractor(cache=tmp_path)[0]

    def full(file, **arrays):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(features.np, "savez", full)
    with pytest.raises(OSError, match="no space left"):
        taken.of("val")
    assert files(tmp_path) == []
