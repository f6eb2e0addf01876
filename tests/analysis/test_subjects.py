"""What is explained besides a run's model: files of weights, and few-shot runs."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import small_workdirs
from model_variables import variables_of
from PIL import Image

from vitjax import models, weights
from vitjax.analysis import explaining, subjects
from vitjax.analysis.explainer import Explainer
from vitjax.cli import main
from vitjax.core.errors import ConfigError
from vitjax.training.finite import NotFiniteError

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def network():
    model = models.create("lenet5")
    return model, variables_of(model, jnp.zeros((1, *models.input_shape("lenet5"))))


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "digits.safetensors"
    return weights.save(network[1], network[0], path, say=lambda text: None)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photos" / "seven.png"
    path.parent.mkdir()
    Image.fromarray(RNG.integers(0, 256, (40, 36), dtype=np.uint8)).save(path)
    return path


def explained(*arguments, **options):
    return explaining.explain(*arguments, say=lambda text: None, **options)


def test_a_file_of_weights_is_explained_with_the_model_s_own_preprocessing(
    file, network, photo, tmp_path, capsys
):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(["zero", "crane", *map(str, range(2, 9)), "crane"]) + "\n\n")
    arguments = [f"--model=lenet5 --checkpoint={file} --classes={names}".split(), str(photo)]
    output = tmp_path / "out"
    command = ["explain", *arguments[0], arguments[1], "--method=saliency", "--class=crane (9)"]
    assert main([*command, f"--output={output}"]) == 0
    assert "seven.png: crane (9) " in capsys.readouterr().out
    (found,) = json.loads((output / "explanations.json").read_text())
    # The shorter side becomes 32 pixels, and the middle is cut out.
    subject = subjects.of_file("lenet5", file, names, say=lambda text: None)
    read = subject.read(photo)
    assert read.shape == (32, 32, 1)
    facts = models.facts("lenet5")
    inputs = (read[None] / 255 - facts["mean"][0]) / facts["std"][0]
    np.testing.assert_allclose(subject.normalize(read[None]), inputs, rtol=1e-4, atol=1e-5)
    logits = np.asarray(network[0].apply(network[1], inputs.astype(np.float32))[0])
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    np.testing.assert_allclose(found["probability"], expected[9], rtol=1e-3, atol=1e-6)
    with np.load(output / "seven.npz") as maps:
        assert maps["saliency"].shape == (32, 32)


def test_what_does_not_name_one_model_is_refused(file, photo, tmp_path):
    def refused(words, workdir=None, **options):
        with pytest.raises(ConfigError, match=words):
            explained(workdir, photo, ["saliency"], tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()

    refused("give --workdir=DIR for a run, or --model=NAME and --checkpoint=FILE")
    refused("are both given", workdir=tmp_path, model="lenet5", checkpoint=file)
    refused("--model=lenet5 needs --checkpoint=FILE", model="lenet5")
    refused("did you mean 'lenet5'", model="lenet6", checkpoint=file)
    refused("--classes=a is for --model", workdir=tmp_path, classes="a")
    refused("--support is for a run", model="lenet5", checkpoint=file, support=tmp_path)
    names = tmp_path / "names.txt"
    refused("No such file", model="lenet5", checkpoint=file, classes=names)
    names.write_text("a\nb\n")
    refused(
        "names 2 classes, and .* has 10 outputs", model="lenet5", checkpoint=file, classes=names
    )
    names.write_text("a\n\nb\n")
    refused("line 2 is empty", model="lenet5", checkpoint=file, classes=names)
    names.write_bytes(b"\xff\xfe\x00")
    refused("no text in UTF-8", model="lenet5", checkpoint=file, classes=names)
    with pytest.raises(weights.WeightsError, match=r"none\.safetensors"):
        explained(None, photo, model="lenet5", checkpoint=tmp_path / "none.safetensors")


def test_a_model_of_one_s_own_is_explained(network):
    model, variables = network
    subject = subjects.of_model(model, variables, lambda image: image, list("0123456789"))
    image = RNG.normal(size=(32, 32, 1)).astype(np.float32)
    ((read, found),) = Explainer(subject, ["saliency"]).explanations(iter([image]), "3")
    np.testing.assert_array_equal(read, image)
    assert found.class_name == "3"
    assert found.maps["saliency"].shape == (32, 32)
    explainer = Explainer(subject, "saliency")
    explainer._explained[0].functions["saliency"] = lambda *_: np.full((1, 32, 32), np.nan)
    with pytest.raises(NotFiniteError, match="image 0: saliency gives values that are NaN"):
        next(explainer.explanations([image]))
    with pytest.raises(ConfigError, match="image 0: class=true is of files"):
        next(explainer.explanations([image], "true"))
    with pytest.raises(ConfigError, match="masks: 1 for 2 images"):
        next(explainer.explanations([image, image], masks=[np.ones((32, 32), bool)]))
    with pytest.raises(ConfigError, match="options is 'size'; it must be a dictionary"):
        Explainer(subject, "occlusion", options="size")
    with pytest.raises(ConfigError, match="class_names has 2 names, and the LeNet5 10 outputs"):
        subjects.of_model(model, variables, lambda image: image, ["a", "b"])
    broken = subjects.of_model(model, variables, lambda image: image * np.nan, list("0123456789"))
    image = np.zeros(models.input_shape("lenet5"), np.float32)
    with pytest.raises(NotFiniteError, match="the LeNet5 gives values that are NaN"):
        next(Explainer(broken, ["saliency"]).explanations([image]))


MAML = {"name": "maml", "inner_steps": 1, "inner_learning_rate": 0.5, "test_steps": 2}


@pytest.fixture
def support(tmp_path):
    for name in ("daisy", "lily"):
        folder = tmp_path / "support" / name
        folder.mkdir(parents=True)
        for n in range(2):
            pixels = RNG.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{n}.png")
    return tmp_path / "support"


@pytest.fixture
def query(support):
    return support / "lily" / "0.png"


def test_a_query_is_explained_before_and_after_adaptation(tmp_path, support, query, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    small_workdirs.make(folder, {**small_workdirs.FEW_SHOT, "objective": MAML})
    output = tmp_path / "out"
    command = ["explain", f"--workdir={folder}", f"--support={support}", str(query)]
    assert main([*command, "--method=saliency", "--class=true", f"--output={output}"]) == 0
    assert "lily" in capsys.readouterr().out
    with np.load(output / "0.npz") as maps:
        assert list(maps) == ["saliency_initial", "saliency_adapted"]
        assert not np.allclose(maps["saliency_initial"], maps["saliency_adapted"])
    (found,) = json.loads((output / "explanations.json").read_text())
    # The probability of the class is that of `vitjax predict`.
    assert found["initial_probability"] != found["probability"]
    assert main(["predict", *command[1:], "--json"]) == 0
    (predicted,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    likely = {each["class"]: each["probability"] for each in predicted["predictions"]}
    np.testing.assert_allclose(found["probability"], likely["lily"], rtol=1e-4)


def test_a_query_is_explained_by_its_distances_to_prototypes(tmp_path, support, query):
    folder = tmp_path / "run"
    folder.mkdir()
    small_workdirs.make(folder, small_workdirs.FEW_SHOT)
    (found,) = explained(
        folder, query, ["grad_cam"], support=support, target="lily", randomise=True
    )
    assert list(found.maps) == ["grad_cam"]
    assert [each.layers for each in found.randomised["grad_cam"]] == [0, 1]
    assert found.initial_probability is None
    with pytest.raises(ConfigError, match="give --support=DIR"):
        explained(folder, query)
    with pytest.raises(ConfigError, match="class 'rose' is none of the 2 classes"):
        explained(folder, query, support=support, target="rose")
    with pytest.raises(ConfigError, match="no such folder"):
        explained(folder, query, support=tmp_path / "none")
