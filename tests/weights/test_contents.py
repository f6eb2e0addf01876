"""Files that have more than a network, or a network under other beginnings of its names.

Names are those that PyTorch's tutorials, torchvision's and Lightning's training scripts leave.
"""

from __future__ import annotations

import re

import jax
import numpy as np
import pytest
from reference_files import random_variables, written

from vitjax import models, weights
from vitjax.weights import WeightsError
from vitjax.weights.formats import files, unwrapping
from vitjax.weights.formats.limits import Budget
from vitjax.weights.formats.pickled import Storage, Tensor

RESNET = {"stage_sizes": (1, 1), "block": "basic", "width": 4}
VIT = {"width": 8, "depth": 1, "num_heads": 2, "mlp_width": 16, "patch_size": 4}
CASES = {
    "torchvision": (models.ResNet(**RESNET, num_classes=5), "fc"),
    "pytorch-cifar": (models.ResNet(**RESNET, stem="cifar", num_classes=5), "linear"),
    "timm": (models.ViT(**VIT, num_classes=5), "head"),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """A module, its variables, the arrays of its file, and the file's name of the head."""
    module, head = CASES[request.param]
    variables = random_variables(module, (16, 16, 3))
    folder = tmp_path_factory.mktemp("case")
    path = written(variables, module, folder / "file.npz", request.param)
    return module, variables, files.read(path), head


def put(path, arrays):
    files.write(path, {name: np.asarray(array) for name, array in arrays.items()})
    return path


def prefixed(prefix, arrays):
    return {f"{prefix}{name}": array for name, array in arrays.items()}


def ones(*shape):
    return np.ones(shape, np.float32)


def same_body(found, variables):
    """The variables without a head are the given ones."""
    for collection, tree in variables.items():
        own = {name: leaf for name, leaf in tree.items() if name != "head"}
        there = {name: leaf for name, leaf in found[collection].items() if name != "head"}
        jax.tree.map(np.testing.assert_array_equal, there, own)


# ------------------------------------------------------------------------------------------ heads


@pytest.mark.parametrize("layers", [{"1": (5, 9)}, {"0": (7, 9), "3": (5, 7)}, {"1.2": (5, 9)}])
def test_a_head_of_a_tutorial_is_named_and_left_out(case, layers, tmp_path):
    module, variables, arrays, head = case
    body = {name: array for name, array in arrays.items() if not name.startswith(f"{head}.")}
    for number, shape in layers.items():
        body |= {f"{head}.{number}.weight": ones(*shape), f"{head}.{number}.bias": ones(shape[0])}
    path, said = put(tmp_path / "file.npz", body), []
    opened = weights.open_weights(path, say=said.append)
    first = next(iter(layers))
    assert any(f"is left out: {head}.{first}.weight {layers[first]}" in line for line in said)
    headless = (
        weights.module_of(opened, num_heads=2) if head == "head" else weights.module_of(opened)
    )
    assert not headless.num_classes
    same_body(weights.fit(opened, headless, say=pytest.fail), variables)
    said.clear()
    same_body(weights.fit(opened, module, say=said.append), variables)
    assert len(said) == 1
    assert f"the head is reinitialised: the file's has another form ({head}.{first}" in said[0]


@pytest.mark.parametrize("shape", [(5, 9, 1, 1), (5,), (5, 2, 9)])
def test_a_head_of_another_form_under_its_own_name_is_left_out(case, shape, tmp_path):
    """Such as a 1 x 1 convolution."""
    module, variables, arrays, head = case
    path, said = put(tmp_path / "file.npz", {**arrays, f"{head}.weight": ones(*shape)}), []
    opened = weights.open_weights(path, say=said.append)
    assert set(opened.heads) == {f"{head}.weight {shape}", f"{head}.bias (5,)"}
    assert not opened.description.fields["num_classes"]
    assert f"is left out: {head}." in said[-1]
    same_body(weights.fit(opened, module, say=said.append), variables)
    assert "the head is reinitialised: the file's has another form" in said[-1]


def test_a_head_without_a_bias_is_told_with_the_way_to_leave_it_out(case, tmp_path):
    module, variables, arrays, head = case
    body = {name: array for name, array in arrays.items() if name != f"{head}.bias"}
    path = put(tmp_path / "file.npz", body)
    with pytest.raises(
        WeightsError, match=r"(?s)params/head/bias \(5,\) is not in the file.*--ignore"
    ):
        weights.load(path, module)
    found = weights.load(path, module, ignore=(rf"^{head}\.",), say=str)
    same_body(found, variables)


@pytest.mark.parametrize(
    "name", ["cls.weight", "cls_head.fc_cls.weight", "last_layer.weight", "arcface.weight"]
)
def test_a_further_head_is_left_out_in_words(case, name, tmp_path):
    module, variables, arrays, _ = case
    path, said = put(tmp_path / "file.npz", {**arrays, name: ones(5, 7)}), []
    found = weights.load(path, module, image_size=16, say=said.append)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    assert f"is left out: {name} (5, 7)" in said[0]


@pytest.mark.parametrize(
    "name", ["classifier", "fc", "head", "last_linear", "logits", "projector.0", "cls_head.fc"]
)
def test_a_head_under_another_name_is_left_out(case, name, tmp_path):
    _, variables, arrays, head = case
    body = {key: array for key, array in arrays.items() if not key.startswith(f"{head}.")}
    if name == head:
        return
    path = put(tmp_path / "file.npz", {**body, f"{name}.weight": ones(5, 3)})
    opened = weights.open_weights(path, say=str)
    assert opened.heads == (f"{name}.weight (5, 3)",)
    same_body(weights.fit(opened, case[0], say=str), variables)


# ----------------------------------------------------------------------------------------- extras

EXTRAS = {
    "criterion.weight": ones(5),
    "loss_fn.class_weights": ones(5),
    "train_metrics.accuracy.total": ones(3),
    "val_loss.weight": ones(3),
    "n_averaged": np.int64(3),
    "optimizer.state.0.exp_avg": ones(3, 3),
    "temperature": np.float32(1),
    "class_weights": ones(5),
    "_extra_state": ones(5),
    "conv1._extra_state": ones(5),
}


@pytest.mark.parametrize("name", EXTRAS)
def test_what_training_left_never_blocks_reading(case, name, tmp_path):
    module, variables, arrays, _ = case
    path, said = put(tmp_path / "file.npz", {**arrays, name: EXTRAS[name]}), []
    found = weights.load(path, module, image_size=16, say=said.append)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    assert said == [f"{path}: 1 arrays of training are skipped: {name}"]


def test_any_array_can_be_left_out_by_name(case, tmp_path):
    module, variables, arrays, _ = case
    path = put(tmp_path / "file.npz", {**arrays, "neck.0.weight": ones(3, 3), "neck.bias": ones(3)})
    with pytest.raises(WeightsError, match=r"left over in the file: neck\.0\.weight \(3, 3\)"):
        weights.load(path, module)
    found = weights.load(path, module, ignore=(r"^neck\.",), say=pytest.fail)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    with pytest.raises(WeightsError, match=r"ignore: 'nekc' matches no array of the file"):
        weights.load(path, module, ignore=("nekc",))


# --------------------------------------------------------------------------------------- prefixes


@pytest.mark.parametrize("prefix", ["net.", "model.", "backbone.", "module.", "_model.encoder."])
def test_a_network_under_one_prefix_is_read_beside_anything(case, prefix, tmp_path):
    module, variables, arrays, _ = case
    others = {"n_averaged": np.int64(2), "criterion.weight": ones(4), "neck.weight": ones(3, 3)}
    path, said = put(tmp_path / "file.npz", {**prefixed(prefix, arrays), **others}), []
    if prefix == "backbone.":  # a prefix that layouts know themselves
        others.pop("neck.weight")
        path = put(path, {**prefixed(prefix, arrays), **others})
    found = weights.load(path, module, say=said.append)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    assert len(said) == 1
    assert "skipped: n_averaged, criterion.weight" in said[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [("model.", "ema_model."), ("student.backbone.", "teacher.backbone."), ("net.", "ema.module.")],
)
def test_of_several_networks_the_parts_that_work_are_suggested(case, one, other, tmp_path):
    module, variables, arrays, _ = case
    twice = {name: 2 * array for name, array in arrays.items()}
    content = {**prefixed(one, arrays), **prefixed(other, twice), "step": np.int64(3)}
    path = put(tmp_path / "file.npz", content)
    with pytest.raises(WeightsError) as caught:
        weights.open_weights(path)
    parts = re.findall(r"part='(\S+)': a ", str(caught.value))
    assert len(parts) == 2
    for part in parts:
        factor = 1 if one.startswith(part) else 2
        found = weights.load(path, module, part=part, say=str)
        expected = jax.tree.map(lambda leaf, factor=factor: factor * leaf, variables)
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_part_of_a_network_that_is_not_here_is_only_suggested(case, tmp_path):
    """A hybrid network whose first layers are a network of their own."""
    module, variables, arrays, _ = case
    vit = models.ViT(**VIT, num_classes=5)
    path = weights.save(random_variables(vit, (16, 16, 3)), vit, tmp_path / "vit", "timm", say=str)
    hybrid = {n: a for n, a in files.read(path).items() if not n.startswith("patch_embed.proj")}
    path = put(tmp_path / "file.npz", hybrid | prefixed("patch_embed.backbone.", arrays))
    with pytest.raises(WeightsError, match=r"part='patch_embed(\.backbone)?': a ") as caught:
        weights.open_weights(path)
    assert "read as timm (ViT)" in str(caught.value)
    for part in re.findall(r"part='(\S+)': a ", str(caught.value)):
        found = weights.load(path, module, part=part, say=str)
        jax.tree.map(np.testing.assert_array_equal, found, variables)


# ------------------------------------------------------------------- dicts of training scripts


def stored(tree):
    """A tree of a pickle, with an unread tensor in place of every array."""
    if isinstance(tree, dict):
        return {key: stored(value) for key, value in tree.items()}
    if isinstance(tree, np.ndarray):
        return Tensor(Storage("0", "float32", tree.size), 0, tree.shape, (), "float32")
    return tree


NET = {"conv1.weight": ones(4, 3, 3, 3), "bn1.weight": ones(4), "bn1.running_mean": ones(4)}
# Of torch.optim's state_dict: numbers as keys.
OPTIMIZER = {"state": {0: {"exp_avg": ones(4, 3)}}, "param_groups": [{"lr": 0.1}]}
LIGHTNING = {
    "epoch": 3,
    "state_dict": prefixed("model.", NET) | {"criterion.weight": ones(5)},
    "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": {"best_model_score": ones()}},
    "optimizer_states": [OPTIMIZER],
    "hyper_parameters": {"class_weights": ones(5)},
    "loops": {"fit_loop": {"state": {"mean": ones(2, 2)}}},
}
SCRIPTS = {
    "lightning": (LIGHTNING, {"": LIGHTNING["state_dict"]}),
    "averaged": (NET | {"n_averaged": ones()}, {"": NET | {"n_averaged": ones()}}),
    "torchvision": (
        {
            "model": prefixed("module.", NET),
            "optimizer": OPTIMIZER,
            "lr_scheduler": {"best": ones(2, 2)},
            "scaler": {"scale": ones(1, 1)},
            "model_ema": {"n_averaged": ones(), **prefixed("module.", NET)},
        },
        {
            "model": prefixed("module.", NET),
            "model_ema.module": NET,
            "model_ema": {"n_averaged": ones(), **prefixed("module.", NET)},
        },
    ),
    "fastai": ({"model": NET, "opt": {"state": {"mean": ones(3, 3)}}}, {"": NET}),
    "timm": ({"state_dict": NET, "state_dict_ema": NET}, {"state_dict_ema": NET}),
    "a callback's tensors": (
        {"net": NET, "early_stopping": {"best": ones(), "history": ones(7)}},
        {"": NET},
    ),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_weights_in_the_dict_of_a_training_script_are_found(script):
    tree, parts = SCRIPTS[script]
    for part, expected in parts.items():
        found = unwrapping.state_dict(
            stored(tree), lambda tensor, name: ones(*tensor.shape), part or None, Budget(1000)
        )
        assert {n: x.shape for n, x in found.items()} == {n: x.shape for n, x in expected.items()}
    if "" not in parts:
        with pytest.raises(WeightsError, match=r"several sets of weights: .*part='(model|state_d)"):
            unwrapping.state_dict(
                stored(tree), lambda tensor, name: ones(*tensor.shape), None, Budget(1000)
            )


def test_a_part_that_two_separators_name_is_refused():
    arrays = {"ema.w": ones(1), "ema/w": ones(2), "model.w": ones(3)}
    with pytest.raises(WeightsError, match=r"names that begin with 'ema.' and the same with '/'"):
        unwrapping.of_part(arrays, "ema")
    assert unwrapping.of_part(arrays, "model")["w"].shape == (3,)
