"""Probing from the command line: numbers, a picture, and what cannot be probed."""

import json

import numpy as np
import pytest
from PIL import Image

from vitjax import config as configs
from vitjax.cli import main

FEW_SHOT = """
from ml_collections import ConfigDict

def get_config():
    config = ConfigDict()
    config.model = dict(name="conv4", filters=2)
    config.data = dict(
        source="glyphs", image_size=28, classes=20, batch_size=2, episodes=dict(ways=2, shots=1)
    )
    config.objective = dict(name="protonet")
    config.optimizer = dict(name="sgd", learning_rate=1.0)
    config.train = dict(steps=1)
    return config
"""


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """A run's network in timm's format, and a config that starts from it."""
    folder = tmp_path_factory.mktemp("exported")
    weights = folder / "vit.safetensors"
    run = f"--workdir={trained[0]}"
    assert main(["export", run, "--format=timm", f"--output={weights}"]) == 0
    config = configs.from_json((trained[0] / "config.json").read_text())
    config.init = {"from_checkpoint": str(weights)}
    config.objective = {"name": "head_only"}
    config.data.train_transforms = ""
    path = folder / "imported.py"
    path.write_text(
        "from ml_collections import ConfigDict\n\n"
        f"def get_config():\n    return ConfigDict({config.to_dict()!r})\n"
    )
    return path


def probed(folder, method):
    return json.loads((folder / f"{method}.json").read_text())


def test_every_layer_of_two_networks_is_probed_and_drawn(capsys, trained, exported, tmp_path):
    arguments = ["--layers=all", "--method=few_shot", "--shots=1,5", f"--output={tmp_path}"]
    networks = [f"--workdir={trained[0]}", f"--config={exported}"]
    assert main(["probe", *networks, *arguments]) == 0
    output = capsys.readouterr().out
    found = probed(tmp_path, "few_shot")
    assert (found["method"], found["split"], found["shots"]) == ("few_shot", "test", [1, 5])
    run, imported = found["networks"]
    assert (run["name"], imported["name"]) == ("whole", "imported")
    assert run["step"] == 60
    assert imported["init"]["format"] == "timm"
    layers = ["tokens", *(f"encoder/block_{i}/after_mlp" for i in range(2)), "representation"]
    for network in (run, imported):
        assert [row["layer"] for row in network["layers"]] == layers
        depths = [row["depth"] for row in network["layers"]]
        assert depths == sorted(depths)
        assert depths[-1] == 1
        assert all(row["features"] == 16 for row in network["layers"])
        for row in network["layers"]:
            assert list(row["probes"]) == ["1-shot", "5-shot"]
            accuracy = row["probes"]["5-shot"]["accuracy"]
            assert f"5-shot {accuracy:.2%}" in output
    # What was written and read again is the same network.
    for one, other in zip(run["layers"], imported["layers"], strict=True):
        for shots in ("1-shot", "5-shot"):
            assert one["probes"][shots]["accuracy"] == pytest.approx(
                other["probes"][shots]["accuracy"], abs=0.012
            )
    # Sixty steps are few, and the last layer still tells more than guessing would.
    assert run["layers"][-1]["probes"]["5-shot"]["accuracy"] > 0.2
    with Image.open(tmp_path / "few_shot.png") as picture:
        assert min(picture.size) > 300
    # Once more, in the run's own folder, with the features that are there; and a single layer.
    assert main(["probe", networks[0], "--method=few_shot", "--shots=1,5", "--layers=all"]) == 0
    assert capsys.readouterr().out.count("Features of train: from") == 1
    again = probed(trained[0] / "probes", "few_shot")["networks"][0]["layers"]
    assert again == run["layers"]


@pytest.mark.parametrize(
    ("method", "kinds"), [("linear", ["linear"]), ("knn", ["k=10", "k=20", "k=100", "k=200"])]
)
def test_what_the_head_is_given_is_probed(capsys, trained, tmp_path, method, kinds):
    output = tmp_path / "probes"
    arguments = [f"--method={method}", f"--output={output}", "--split=val"]
    assert main(["probe", f"--workdir={trained[0]}", *arguments]) == 0
    (row,) = probed(output, method)["networks"][0]["layers"]
    assert row["layer"] == "representation"
    assert list(row["probes"]) == kinds
    # Linear on the representation is what the head is, trained to the end.
    summary = json.loads((trained[0] / "summary.json").read_text())
    assert row["probes"][kinds[0]]["accuracy"] > summary["val"]["accuracy"] - 0.1
    assert not (output / f"{method}.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method=liner"], "unknown probe 'liner'; did you mean 'linear'"),
        (["--method=knn", "--shots=5"], "unknown key 'shots'"),
        (["--method=knn", "--k=2000"], "--k=2000: must be at most 1437"),
        (["--method=few_shot", "--shots=500"], "--shots=500: class '"),
        (["--layers=after_mpl"], "'after_mpl' matches no layer; did you mean 'after_mlp'"),
        (["--pool=tokn"], "did you mean 'token'"),
        (["--split=tset"], "did you mean 'test'"),
        (["--checkpoint=7"], "no checkpoint of step 7"),
        (["--layer=all"], "did you mean '--layers'"),
        (["--config=nowhere.py"], "no config file 'nowhere.py'"),
    ],
)
def test_mistakes_are_named(capsys, trained, tmp_path, arguments, message):
    given = ["probe", f"--workdir={trained[0]}", f"--output={tmp_path / 'probes'}", *arguments]
    assert main(given) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "probes").exists()


def test_what_is_no_classifier_of_these_images_is_told(capsys, trained, exported, tmp_path):
    assert main(["probe"]) == 2
    assert "a probe needs the folder of a run (--workdir=DIR)" in capsys.readouterr().err
    assert main(["probe", f"--config={exported}", "--checkpoint=last"]) == 2
    assert "it needs the folder of a run (--workdir=DIR)" in capsys.readouterr().err
    few_shot = tmp_path / "few_shot.py"
    few_shot.write_text(FEW_SHOT)
    assert main(["probe", f"--config={few_shot}"]) == 2
    errors = capsys.readouterr().err
    assert "the objective ProtoNet has none;" in errors
    arrays = tmp_path / "other.npz"
    generator = np.random.default_rng(0)
    np.savez(
        arrays,
        **{f"x_{name}": generator.random((20, 8, 8, 1), np.float32) for name in ("train", "test")},
        **{f"y_{name}": np.arange(20) % 3 for name in ("train", "test")},
    )
    text = exported.read_text().replace("'digits'", f"'npz', 'path': {str(arrays)!r}")
    (tmp_path / "other.py").write_text(text)
    both = [f"--config={exported}", f"--config={tmp_path / 'other.py'}"]
    assert main(["probe", *both, f"--output={tmp_path}"]) == 2
    assert "have different data (10 classes: 0, 1, 2, ...; 3 classes" in capsys.readouterr().err
