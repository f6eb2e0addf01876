"""The configs that vitjax comes with can be built: every key is read, every shape fits."""

import runpy
from pathlib import Path

import pytest

from vitjax import config as configs
from vitjax import models
from vitjax.core.errors import ConfigError
from vitjax.models.convnet import ConvNet
from vitjax.training import experiment as experiments

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ALL = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.py"))

# What each config needs to be built without the data it is for: an argument after the colon, and
# overrides.
OMNIGLOT = [f"maml/omniglot.py:{ways}w{shots}s" for ways in (5, 20) for shots in (1, 5)]
MINIIMAGENET = [f"maml/miniimagenet.py:5w{shots}s" for shots in (1, 5)]
METHODS = [
    *("anil", "boil", "fine_tuning", "fomaml", "imaml", "mamlpp", "meta_sgd"),
    *("nearest_centroid", "proto_maml", "protonet", "reptile", "vit"),
]
SINUSOIDS = [name for name in ALL if name.startswith("maml/sinusoid")]
FEW_SHOT = [f"maml/{name}.py" for name in ("omniglot", "miniimagenet", "methods", "glyphs")]
SEGMENTATION = [name for name in ALL if name.startswith("segmentation/")]
DIGITS = [name for name in ALL if name.startswith("digits/")]
CUES = [name for name in ALL if name.startswith("cues/")]
OTHERS = {
    name
    for name in ALL
    if name.startswith(("cifar10/", "imagenet/", "folder/", "maml/folder", "transfer/"))
}


def build(name, *overrides):
    config = configs.load(CONFIGS / name)
    configs.override(config, [f"--config.{override}" for override in overrides])
    return experiments.build(config)


def test_every_config_is_of_one_of_these_kinds():
    assert sorted([*FEW_SHOT, *SINUSOIDS, *DIGITS, *CUES, *SEGMENTATION, *OTHERS]) == ALL


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("maml/omniglot.py:5w2s", r"omniglot\.py: .*unknown variant '5w2s'; did you mean '5w.s'"),
        ("maml/methods.py:prtonet", r"'prtonet'; did you mean 'protonet'\? \(known: anil, boil,"),
        ("maml/methods.py:anil,glyphs:3w", r"glyphs\.py: .*unknown variant '3w'"),
        ("cifar10/chronicle.py:vgg12", r"unknown variant 'vgg12'; did you mean 'vgg11'"),
    ],
)
def test_an_unknown_variant_is_named(name, words):
    with pytest.raises(ConfigError, match=words):
        configs.load(CONFIGS / name)


@pytest.mark.parametrize(
    "name",
    [
        *DIGITS,
        *(f"{name}:{network}" for name in CUES for network in ("vit", "resnet")),
        "maml/glyphs.py",
        *SINUSOIDS,
        *(f"{name}:5" for name in SINUSOIDS),
        *(f"maml/methods.py:{method},glyphs" for method in METHODS),
    ],
)
def test_a_config_whose_data_vitjax_has_is_built(name):
    built = build(name, *(["data.classes=120"] if "glyphs" in name else []))
    assert built.run.steps > 0
    assert built.objective.num_classes == built.data.num_classes
    if name.endswith(":5"):
        assert built.data.protocol("test")["shots"] == 5


@pytest.mark.parametrize("name", OMNIGLOT)
def test_a_config_of_omniglot_is_built(name, test_data):
    folder = test_data / "tfds"
    if not (folder / "omniglot").is_dir():
        pytest.skip(f"no omniglot in {folder}")
    built = build(name, f"data.data_dir={folder}", "data.episodes.in_memory=False")
    ways, shots = (int(part) for part in name.removesuffix("s").split(":")[-1].split("w"))
    protocol = built.data.protocol("test")
    assert (protocol["ways"], protocol["shots"]) == (ways, shots)
    assert built.objective.num_classes == ways
    assert built.data.image_shape == (28, 28, 1)
    assert built.data.num_train_classes % 4 == 0


@pytest.mark.parametrize("name", MINIIMAGENET)
def test_a_config_of_miniimagenet_is_built(name, test_data):
    folder = test_data / "miniimagenet"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    built = build(name, f"data.path={folder}")
    ways, shots = (int(part) for part in name.removesuffix("s").split(":")[-1].split("w"))
    protocol = built.data.protocol("val")
    assert (protocol["ways"], protocol["shots"]) == (ways, shots)
    assert built.data.num_train_classes == 64
    assert built.data.image_shape == (84, 84, 3)


@pytest.fixture
def photos(tmp_path):
    """A folder of tiny images: ``train``, ``val`` and ``test``, each with classes of its own."""
    image = pytest.importorskip("PIL.Image")
    for split in ("train", "val", "test"):
        for label in range(5):
            folder = tmp_path / split / f"{split} {label}"
            folder.mkdir(parents=True)
            for number in range(15):
                image.new("RGB", (10, 12), (number, label, 0)).save(folder / f"{number}.png")
    return tmp_path


def test_the_few_shot_config_of_a_folder_is_built(photos):
    built = build("maml/folder.py", f"data.path={photos}")
    assert built.checkpoint["best"] in ("val/accuracy_inductive", "val/accuracy")
    assert built.data.image_shape == (84, 84, 3)


@pytest.mark.parametrize(
    "name",
    [
        *sorted(OTHERS - {"maml/folder.py"}),
        *(f"transfer/comparison.py:{how}" for how in ("scratch", "head")),
        *(f"transfer/{name}.py:cifar10" for name in ("fine_tune", "higher_resolution")),
    ],
)
def test_the_other_configs_fit_synthetic_images(name):
    config = configs.load(CONFIGS / name)
    kept = set(config.data) - {"source", "dataset", "path", "data_dir", "splits"}
    kept -= {"val_examples", "val_fraction"}
    classes = 1000 if name.startswith("imagenet/") else 10
    config.data = {
        "source": "synthetic",
        "image_size": 32 if name.startswith("cifar10/") else 16,  # others are resized
        "num_classes": classes,
        "examples": 1024,
        "val_examples": 8,
        **{key: config.data[key] for key in kept},
        "batch_size": 8,  # or an epoch is too short for the warm-up
    }
    built = experiments.build(config)
    assert built.run.steps > 0
    assert built.objective.num_classes == classes


def test_every_network_of_the_chronicle_can_be_made():
    networks = runpy.run_path(str(CONFIGS / "cifar10" / "chronicle.py"))["NETWORKS"]
    for name, (size, _) in networks.items():
        config = configs.load(CONFIGS / f"cifar10/chronicle.py:{name}")
        fields = dict(config.model)
        model = models.create(fields.pop("name"), **fields, num_classes=10)
        assert not isinstance(model, ConvNet) or model.smallest_image <= size


@pytest.mark.parametrize("name", SEGMENTATION)
def test_a_config_of_segmentation_fits_made_up_cells(name):
    config = configs.load(CONFIGS / name)
    kept = set(config.data) & {"batch_size", "eval_batch_size", "train_transforms", "weight_map"}
    config.data = {
        **{key: config.data[key] for key in kept},
        **{"source": "cells", "size": 64, "train": 40, "val": 2, "test": 2, "batch_size": 4},
    }
    if "filters" in config.model:
        config.model.filters = 2
    built = experiments.build(config)
    assert built.run.steps > 0
    assert built.objective.num_classes == 2
    assert built.checkpoint["best"] == "val/iou"
