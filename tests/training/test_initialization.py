"""What a run starts from: files of weights and other runs."""

import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from vitjax import models, weights
from vitjax.cli import main
from vitjax.core.errors import ConfigError
from vitjax.tasks.runs import evaluate_initial
from vitjax.training import experiment as experiments
from vitjax.training import initialization, loop, runs
from vitjax.training.checkpoint_files import CheckpointError
from vitjax.weights import WeightsError
from vitjax.weights.formats import files

RESNET = {"name": "resnet20", "stage_sizes": (1, 1), "width": 4}
VIT = {"name": "vit_ti16", "patch_size": 4, "width": 8, "depth": 2, "num_heads": 2, "mlp_width": 8}


def config(source=None, model=RESNET, image_size=8, **sections):
    chosen = {
        "model": dict(model),
        "data": {
            **{"source": "synthetic", "image_size": image_size, "num_classes": 10},
            **{"examples": 48, "batch_size": 16, "eval_batch_size": 48, "val_examples": 48},
        },
        "optimizer": {"name": "sgd", "learning_rate": 0.05},
        "train": {"steps": 2, "log_every_steps": 2, "evaluate_every_steps": 2},
        "parallel": {"devices": 1},
        **sections,
    }
    if source is not None:
        chosen["init"] = {"from_checkpoint": str(source)}
    return ConfigDict(chosen)


def start(chosen):
    """The model's variables that a run starts from, by name, and what was said."""
    built, said = experiments.build(chosen), []
    variables, _ = initialization.variables(built, said.append)
    return flat(built.objective.unwrap(variables)), "\n".join(said)


def flat(tree):
    return {name: np.asarray(leaf) for name, leaf in flatten_dict(dict(tree), sep="/").items()}


def written(path, model=RESNET, image_size=8, channels=3, seed=7, **fields):
    """A file of random weights, and the weights."""
    arguments = {key: value for key, value in model.items() if key != "name"}
    module = models.create(model["name"], **{"num_classes": 10, **arguments, **fields})
    shape = (image_size, image_size, channels)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *shape)))
    generator = np.random.default_rng(seed)
    variables = jax.tree.map(
        lambda leaf: generator.uniform(0.1, 1, leaf.shape).astype(np.float32), shapes
    )
    return weights.save(variables, module, path, input_shape=shape), flat(variables)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose moving average, kept checkpoints and last weights all differ."""
    folder = tmp_path_factory.mktemp("runs") / "source"
    chosen = config(checkpoint={"best": "val/loss", "keep": 1})
    chosen.train.update({"steps": 4, "ema_decay": 0.5, "evaluate_every_steps": 1})
    chosen.schedule = {"name": "step", "boundaries_steps": [2], "factor": -40.0}
    summary = loop.train(experiments.build(chosen), folder, say=lambda text: None)
    return folder, summary


def test_a_run_starts_from_the_average_of_another_s_best_checkpoint(run):
    folder, summary = run
    assert summary["checkpoint_step"] < summary["steps"]
    built, variables, step = runs.load(folder, say=lambda text: None)
    assert step == summary["checkpoint_step"]
    expected = flat(built.parallel.fetch(variables))
    found, said = start(config(folder))
    assert f"moving average of step {step}" in said
    assert found.keys() == expected.keys()
    for name, leaf in found.items():
        np.testing.assert_array_equal(leaf, expected[name], err_msg=name)


def test_another_number_of_classes_has_a_fresh_head(run):
    chosen = config(run[0])
    chosen.data.num_classes = 3
    found, said = start(chosen)
    assert "head is reinitialised" in said
    assert "10" in said
    assert "3" in said
    fresh = flat(experiments.build(chosen).initial_variables())
    np.testing.assert_array_equal(found["params/head/kernel"], fresh["params/head/kernel"])
    same, _ = start(config(run[0]))
    for name in found.keys() - {"params/head/kernel", "params/head/bias"}:
        np.testing.assert_array_equal(found[name], same[name])


def test_what_a_run_has_otherwise_is_told(run):
    chosen = config(run[0])
    chosen.data.update({"source": "digits", "mean": [0.3], "std": [0.4]})
    for key in ("image_size", "num_classes", "examples", "val_examples"):
        del chosen.data[key]
    _, said = start(chosen)
    assert "config.data.mean None -> [0.3]" in said
    assert "config.data.std None -> [0.4]" in said
    assert "its classes differ, but are equal in number" in said
    assert "from 3 to 1 channels" in said
    assert "otherwise" not in start(config(run[0]))[1]


def test_a_model_that_computes_otherwise_than_the_file_s_is_told(tmp_path):
    path, _ = written(tmp_path / "vit", VIT, gelu="tanh")
    _, said = start(config(path, VIT))
    assert "the file's network has gelu='tanh', the model 'exact'" in said
    assert "config.model.gelu" in said
    assert "config.model.gelu" not in start(config(path, {**VIT, "gelu": "tanh"}))[1]
    with pytest.raises(WeightsError, match="num_heads is 2 in the file and 4 in the model"):
        start(config(path, {**VIT, "num_heads": 4}))


def test_images_that_the_file_s_network_saw_otherwise_are_told(tmp_path):
    fields = {key: value for key, value in VIT.items() if key != "name"}
    module = models.create(VIT["name"], **fields, num_classes=10)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    weights.save(variables, module, tmp_path / "model.safetensors", "timm", say=str)
    images = {"mean": [0.5, 0.25, 0.5], "std": [0.5, 0.5, 0.5]}
    card = {"architecture": "vit_tiny_patch4_8", "pretrained_cfg": images}
    (tmp_path / "config.json").write_text(json.dumps(card))
    chosen = config(tmp_path, VIT)
    chosen.data.update({"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)})
    _, said = start(chosen)
    assert "config.data.mean [0.5, 0.25, 0.5] -> [0.5, 0.5, 0.5]" in said
    assert "config.data.std" not in said
    chosen = config(tmp_path, VIT)
    chosen.data.update({"mean": (0.5, 0.25, 0.5), "std": 0.5})  # one number for all channels
    assert "normalised differently" not in start(chosen)[1]


def test_a_run_s_model_that_computes_otherwise_is_told(run):
    _, said = start(config(run[0], {**RESNET, "standardize_epsilon": 1e-5}))
    assert "the file's network has standardize_epsilon=None, the model 1e-05" in said


def test_other_sizes_and_channels_are_adapted_and_scanned_blocks_stacked(tmp_path):
    path, file = written(tmp_path / "vit", VIT)
    chosen = config(path, {**VIT, "scan_layers": True}, image_size=16)
    found, said = start(chosen)
    assert "2 x 2" in said
    assert "4 x 4" in said
    assert found["params/position_embedding"].shape == (1, 4, 4, 8)
    np.testing.assert_array_equal(
        found["params/encoder/blocks/mlp/dense1/kernel"],
        np.stack([file[f"params/encoder/block_{i}/mlp/dense1/kernel"] for i in range(2)]),
    )
    grey = config(path, VIT)
    grey.data.channels = 1
    np.testing.assert_allclose(
        start(grey)[0]["params/patch_embedding/kernel"][..., 0, :],
        file["params/patch_embedding/kernel"].sum(axis=2),
        rtol=1e-5,
    )


def test_excluded_parameters_are_reinitialised_though_they_fit(tmp_path):
    path, file = written(tmp_path / "weights")
    chosen = config(path)
    chosen.init.exclude = ["^head/", "block1/conv2/"]
    found, said = start(chosen)
    fresh = flat(experiments.build(chosen).initial_variables())
    anew = {
        *("params/head/kernel", "params/head/bias"),
        *(f"params/stage{i}_block1/conv2/kernel" for i in (1, 2)),
    }
    assert "reinitialised, by config.init.exclude: " in said
    for name, leaf in found.items():
        np.testing.assert_array_equal(leaf, (fresh if name in anew else file)[name])


@pytest.mark.parametrize("head", ["lost", "NaN", "another form"])
def test_an_excluded_head_need_not_fit(tmp_path, head):
    # The narrowest network that the other project's code can make.
    model = {"name": "resnet20", "stage_sizes": (1, 1, 1)} if head == "another form" else RESNET
    path, variables = written(tmp_path / "weights", model)
    arrays = files.read(path)
    if head == "NaN":
        arrays["params/head/kernel"] = np.full_like(arrays["params/head/kernel"], np.nan)
    else:
        del arrays["params/head/bias"]
    files.write(path, arrays, metadata=files.metadata(path))
    if head == "another form":
        module = models.create("resnet20", stage_sizes=(1, 1, 1), num_classes=10)
        own = unflatten_dict(variables, sep="/")
        path = weights.save(own, module, tmp_path / "cifar", "pytorch-cifar", say=str)
        arrays = files.read(path)
        arrays["linear.1.weight"] = arrays.pop("linear.weight")
        arrays["linear.1.bias"] = arrays.pop("linear.bias")
        files.write(path, arrays)
    chosen = config(path, model)
    if head != "another form":
        with pytest.raises(WeightsError, match=r"head/bias .* is not in the file|NaN"):
            start(chosen)
    chosen.init.exclude = ("^head/",)
    found, said = start(chosen)
    assert "reinitialised, by config.init.exclude: head/bias, head/kernel" in said
    fresh = flat(experiments.build(chosen).initial_variables())
    for name in found:
        same = np.array_equal(found[name], fresh[name])
        assert same == ("head" in name), name


def test_arrays_of_a_file_can_be_left_out_and_nan_be_taken(tmp_path):
    path, _ = written(tmp_path / "weights")
    arrays = files.read(path)
    arrays["params/stem_norm/bias"] = np.full(4, np.nan, np.float32)
    arrays["params/neck/kernel"] = np.ones((2, 2), np.float32)
    files.write(path, arrays, metadata=files.metadata(path))
    chosen = config(path)
    with pytest.raises(WeightsError, match=r"the file's params/neck/kernel .* is not in the model"):
        start(chosen)
    chosen.init.ignore = "params/neck/"
    with pytest.raises(WeightsError, match="params/stem_norm/bias: 4 NaN of 4 numbers"):
        start(chosen)
    chosen.init.allow_nonfinite = True
    assert np.isnan(start(chosen)[0]["params/stem_norm/bias"]).all()


def test_the_size_of_the_data_decides_how_positions_are_read(tmp_path):
    """4 positions: 2 x 2 patches, or 1 x 3 and one of the class token."""
    path, _ = written(tmp_path / "vit", VIT, class_position=False)
    own = weights.open_weights(path)
    module = weights.module_of(own)
    timm = weights.save(weights.fit(own, module), module, tmp_path / "timm", "timm", say=str)
    files.write(tmp_path / "plain.safetensors", files.read(timm))
    with pytest.raises(WeightsError, match="several ways"):
        weights.open_weights(tmp_path / "plain.safetensors")
    found, said = start(config(tmp_path / "plain.safetensors", VIT))
    assert "its 4 positions are read as 2 x 2 patches" in said
    expected = flat(weights.fit(own, module))["params/position_embedding"]
    np.testing.assert_array_equal(found["params/position_embedding"], expected)


def test_the_encoder_of_a_segmentation_takes_a_classifier_s_weights(tmp_path):
    path, file = written(
        tmp_path / "weights", {**RESNET, "shortcut": "projection", "block": "basic"}
    )
    model = {
        **{"name": "unet_resnet18", "stage_sizes": (1, 1), "width": 4, "stem": "cifar"},
        "decoder_widths": (4,),
    }
    chosen = config(path, model)
    chosen.objective = {"name": "segmentation"}
    chosen.data = {"source": "cells", "size": 32, "train": 4, "val": 2, "test": 2, "batch_size": 2}
    found, said = start(chosen)
    assert "fills the model's encoder" in said
    fresh = flat(experiments.build(chosen).initial_variables())
    inside = {name for name in found if "/encoder/" in name}
    for name in inside - {"params/encoder/stem_conv/kernel"}:
        np.testing.assert_array_equal(found[name], file[name.replace("/encoder/", "/")])
    for name in found.keys() - inside:
        np.testing.assert_array_equal(found[name], fresh[name])


CONV4 = {"name": "conv4_omniglot", "filters": 4, "depth": 2}
EPISODES = {
    **{"source": "glyphs", "classes": 30, "image_size": 8, "batch_size": 2, "eval_batch_size": 2},
    "episodes": {"queries": 2, "val_episodes": 4, "test_episodes": 4},
}


@pytest.mark.parametrize("method", ["maml", "mamlpp", "reptile", "nearest_centroid", "protonet"])
def test_few_shot_methods_start_from_a_model_s_weights(tmp_path, method):
    path, file = written(tmp_path / "conv4", CONV4, channels=1, num_classes=5)
    objective = {"name": method}
    if method == "nearest_centroid":
        objective["transform_features"] = "center_l2"
    elif method != "protonet":
        objective.update(inner_steps=2, test_steps=2)
    chosen = config(path, CONV4, objective=objective, data=EPISODES)
    built = experiments.build(chosen)
    variables, _ = initialization.variables(built, lambda text: None)
    fresh = jax.eval_shape(built.initial_variables)
    assert jax.tree.structure(variables) == jax.tree.structure(fresh)
    own = flat(built.objective.unwrap(variables))
    assert {name for name in own if not name.startswith("params/head")} == {
        name for name in file if not name.startswith("params/head")
    }
    for name, leaf in own.items():
        if not name.startswith("params/head") or method != "nearest_centroid":
            np.testing.assert_array_equal(leaf, file[name])
    if method == "mamlpp":
        scale = variables["params"]["norm"]["norm1"]["scale"]
        np.testing.assert_array_equal(scale, [file["params/norm1/scale"]] * 2)


def test_a_run_goes_on_without_the_file_it_started_from(tmp_path):
    path, _ = written(tmp_path / "weights")
    chosen = config(path)
    first = loop.train(experiments.build(chosen), tmp_path / "run", say=lambda text: None)
    noted = first["init"]
    assert noted["from_checkpoint"] == str(path)
    assert noted["format"] == weights.OWN
    assert len(noted["sha256"]) == 64
    path.unlink()
    chosen.train.steps = 4
    last = loop.train(experiments.build(chosen), tmp_path / "run", say=lambda text: None)
    assert last["steps"] == 4
    assert last["init"] == noted
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["init"] == noted
    chosen.init.from_checkpoint = "elsewhere.safetensors"
    with pytest.raises(CheckpointError, match=r"config.init.from_checkpoint is .*elsewhere"):
        loop.train(experiments.build(chosen), tmp_path / "run", say=lambda text: None)


def test_weights_are_read_only_when_a_run_begins(monkeypatch):
    monkeypatch.setattr(initialization.files, "open_weights", None)
    built = experiments.build(config("nowhere.safetensors"))
    shapes = built.abstract_state()
    assert shapes.params["head"]["kernel"].shape == (8, 10)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"from_checkpoint": "gone.th"}, WeightsError, "gone.th"),
        ({"from_checkpiont": "a"}, ConfigError, "did you mean 'from_checkpoint'"),
        ({"format": "timmy"}, WeightsError, "unknown format 'timmy'; did you mean 'timm'"),
        ({"exclude": "haed"}, ConfigError, "config.init.exclude: 'haed' matches no parameter"),
        ({"exclude": ["("]}, ConfigError, "config.init.exclude: .* is not a regular expression"),
        ({"grid": [2]}, ConfigError, r"config.init.grid is \[2\]; it must be a list of 2 integers"),
        ({"position_interpolation": "cubic"}, ConfigError, "did you mean 'bicubic'"),
        ({"from_checkpoint": 3}, ConfigError, "from_checkpoint is 3; it must be a string"),
    ],
)
def test_mistakes_are_told_before_there_is_a_folder(tmp_path, change, error, message):
    path, _ = written(tmp_path / "weights")
    chosen = config(path)
    chosen.init = {**chosen.init, **change}
    with pytest.raises(error, match=message):
        loop.train(experiments.build(chosen), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_of_another_shape_are_told_before_there_is_a_folder(tmp_path):
    path, _ = written(tmp_path / "weights", {**RESNET, "width": 6})
    with pytest.raises(WeightsError, match="width is 6 in the file and 4 in the model"):
        loop.train(experiments.build(config(path)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_cannot_be_started_from_is_told(run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run[0], folder)
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(CheckpointError, match="the run has no checkpoint yet"):
        start(config(folder))
    chosen = config(run[0])
    chosen.init.format = "timm"
    with pytest.raises(ConfigError, match="format, grid, part and ignore are for files"):
        start(chosen)


def test_low_rank_updates_of_random_parameters_are_refused():
    lora = {"name": "classification", "lora": {}}
    with pytest.raises(
        ConfigError, match=r"set config\.init\.from_checkpoint to pretrained weights"
    ):
        experiments.build(config(model=VIT, objective=lora))


def test_frozen_layers_whose_statistics_would_move_are_told(run):
    chosen = config(run[0])
    chosen.optimizer.train_only = ["^head/"]
    with pytest.raises(ConfigError, match=r'5 batch .*frozen_statistics = "." keeps and uses'):
        experiments.build(chosen)
    chosen.optimizer.train_only = ["^head/", "^stage2_block1/"]
    with pytest.raises(ConfigError, match=r'3 batch .* such as "stage1_block1/norm1"'):
        experiments.build(chosen)
    for allowed in ((), "stem|stage1"):
        chosen["objective"] = {"name": "classification", "frozen_statistics": allowed}
        experiments.build(chosen)
    chosen["objective"] = {"name": "classification", "lora": {"kernels": r"conv\d/kernel"}}
    del chosen.optimizer.train_only
    with pytest.raises(ConfigError, match="5 batch normalisation layers are frozen"):
        experiments.build(chosen)


# --------------------------------------------------------------------------- a config's evaluation


def test_a_config_s_weights_are_evaluated_as_its_run_is(run):
    folder, summary = run
    _, values = evaluate_initial(config(folder), "val", say=lambda text: None)
    assert values == pytest.approx(summary["val"])
    with pytest.raises(ConfigError, match=r"split=vall: .*did you mean 'val'"):
        evaluate_initial(config(folder), "vall")


def renamed(path, names):
    """The section ``data`` of a file with the examples of `config`, and classes in another order.

    Args:
        path: the file.
        names: of its classes; one that `config` has not stands for the one that is missing.
    """
    data = experiments.build(config()).data
    own = [names.index(name) for name in data.class_names if name in names]
    labels = np.array(own if len(own) == len(names) else range(len(names)))
    arrays = {"class_names": np.array(names)}
    for split in ("train", "val"):
        arrays[f"x_{split}"] = [data.example(split, i) for i in range(data.num_examples(split))]
        arrays[f"y_{split}"] = labels[data.labels(split)]
    np.savez(path, **arrays)
    return {"source": "npz", "path": str(path), "batch_size": 16, "eval_batch_size": 48}


NAMES = [f"class {number}" for number in range(10)]


def test_classes_of_the_evaluated_data_are_matched_to_those_of_the_run(run, tmp_path):
    folder, summary = run
    chosen = config(folder)
    chosen.data = renamed(tmp_path / "reversed.npz", NAMES[::-1])
    said = []
    _, values = evaluate_initial(chosen, "val", say=said.append)
    assert values == pytest.approx(summary["val"])
    assert "in another order" in "\n".join(said)
    chosen.data = renamed(tmp_path / "other.npz", ["daisy", *NAMES[1:]])
    with pytest.raises(ConfigError, match="the run does not have 'daisy'"):
        evaluate_initial(chosen, "val", say=said.append)


def test_a_head_is_not_kept_for_the_same_classes_in_another_order(run, tmp_path):
    chosen = config(run[0])
    chosen.data = renamed(tmp_path / "reversed.npz", NAMES[::-1])
    with pytest.raises(ConfigError, match=r"in another order.*--config\.init\.exclude=\^head/"):
        start(chosen)
    # A probe does not use the head.
    initialization.variables(experiments.build(chosen), str, with_head=False)
    chosen.init.exclude = "^head/"
    assert "classes differ" not in start(chosen)[1]
    del chosen.init["exclude"]
    chosen.data = renamed(tmp_path / "other.npz", ["daisy", *NAMES[1:]])
    said = start(chosen)[1]
    assert "has 10 classes ('class 0', 'class 1'" in said
    assert "the data 10 classes ('daisy', 'class 1'" in said


FILE = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({config})
"""


def test_the_command_line_takes_a_run_or_a_config(run, tmp_path, capsys):
    folder, summary = run
    path = tmp_path / "mine.py"
    path.write_text(FILE.format(config=config().to_dict()))
    arguments = ["evaluate", f"--config={path}", "--split=val"]
    assert main([*arguments, f"--config.init.from_checkpoint={folder}"]) == 0
    said = capsys.readouterr().out
    assert f"val: accuracy {summary['val']['accuracy']:.2%}" in said
    assert f"of the run in {folder}" in said
    for wrong, message in (
        (["evaluate"], "--workdir=DIR, for a run, or --config=FILE, .* neither is given"),
        ([*arguments, f"--workdir={folder}"], "both are given"),
        ([*arguments, "--checkpoint=best"], "--checkpoint chooses among a run's checkpoints"),
        ([*arguments, "--ensemble=3"], "--ensemble chooses among a run's checkpoints"),
    ):
        assert main(wrong) == 2
        assert re.search(message, capsys.readouterr().err)
